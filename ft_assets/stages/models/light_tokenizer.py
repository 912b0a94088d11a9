"""A tokenizer as transformers would load it, used without transformers.

transformers changes a tokenizer while it loads it, so the `tokenizer.json` of a model is not the whole
truth. What it comes to is saved once by `saved_tokenizer` and read from then on by the `tokenizers`
library alone: 0.1 seconds, not 3.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerBase

    AnyTokenizer: TypeAlias = "PreTrainedTokenizerBase | LightTokenizer"

FACTS = "facts.json"
SAVED = "saved"
"""Where `save_pretrained` put its files, all but the chat template."""


@dataclass(frozen=True)
class Facts:
    """What transformers knows of a tokenizer beyond its `tokenizer.json`."""

    special_tokens_map: dict[str, str]
    all_special_tokens: list[str]
    bos_token_id: int | None
    eos_token_id: int | None
    unk_token_id: int | None
    split_special_tokens: bool
    chat_template: str | dict[str, str] | None

    def write(self, folder: Path) -> None:
        """Writes them into the folder of a saved tokenizer."""
        (folder / FACTS).write_text(json.dumps(asdict(self)))


class LightTokenizer:
    """Gives the ids that transformers' tokenizer gives. Has those of its attributes that we use.

    `chat_template` may be set; `save_pretrained` then writes what transformers would.
    """

    is_fast = True

    def __init__(self, folder: Path, facts: Facts, backend: "Tokenizer") -> None:
        self._folder, self._facts = folder, facts
        self.backend_tokenizer = backend
        backend.no_truncation()
        backend.no_padding()
        backend.encode_special_tokens = facts.split_special_tokens
        self.split_special_tokens = facts.split_special_tokens
        self.all_special_tokens = facts.all_special_tokens
        self.special_tokens_map = facts.special_tokens_map
        self.chat_template = facts.chat_template
        self.bos_token = facts.special_tokens_map.get("bos_token")
        self.eos_token = facts.special_tokens_map.get("eos_token")
        self.bos_token_id, self.eos_token_id = facts.bos_token_id, facts.eos_token_id
        self.unk_token_id = facts.unk_token_id

    @classmethod
    def load(cls, folder: Path) -> "LightTokenizer | None":
        """The tokenizer saved in `folder`; None if only transformers can encode as it does."""
        from tokenizers import Tokenizer

        if not (folder / FACTS).is_file():
            return None
        facts = Facts(**json.loads((folder / FACTS).read_text()))
        return cls(folder, facts, Tokenizer.from_file(str(folder / SAVED / "tokenizer.json")))

    def __call__(
        self, text: str | list[str], *, add_special_tokens: bool = True, **ignored: bool
    ) -> dict[str, Any]:
        """The token ids of a text, or of each text in a list, as `input_ids`."""
        texts = [text] if isinstance(text, str) else text
        found = self.backend_tokenizer.encode_batch(texts, add_special_tokens=add_special_tokens)
        ids = [each.ids for each in found]
        return {"input_ids": ids[0] if isinstance(text, str) else ids}

    @property
    def added_tokens_decoder(self) -> "dict[int, AddedToken]":
        """The tokens that were added to the vocabulary, by id."""
        return self.backend_tokenizer.get_added_tokens_decoder()

    def convert_tokens_to_ids(self, token: str) -> int | None:
        """The id of a token, or of the unknown one if there is no such token."""
        found = self.backend_tokenizer.token_to_id(token)
        return self.unk_token_id if found is None else found

    def save_pretrained(self, folder: Path) -> None:
        """Writes the folder that transformers would, with the chat template as it is now."""
        # Copies, not links: the cache must not change with a dataset that somebody edits.
        shutil.copytree(self._folder / SAVED, folder)
        if isinstance(self.chat_template, str):
            (folder / "chat_template.jinja").write_text(self.chat_template, encoding="utf-8")
