"""Saves a tokenizer as transformers loads it: `python -P -m ft_assets.stages.models.saved_tokenizer MODEL FOLDER`.

Run in a process of its own, once for each tokenizer and version of transformers: it takes a second and
100 MB, which the caller does not need. The folder is read by `light_tokenizer`.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ft_assets.children import restrict
from ft_assets.errors import UserError
from ft_assets.stages.models.light_tokenizer import FACTS, SAVED, Facts, LightTokenizer
from ft_assets.stages.models.tokenizer import tokenizer_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

REFUSED = 4
"""The exit code if the tokenizer cannot be used; why is on standard output."""
_TRIED = (
    "",
    " two  words \n\n\tand 3,000.5 more…",
    "cafe\u0301 \u1100\u1161\u11a8 \ufb01 \u2460 \u0130\u0131",  # decomposed, folded by some
    "\u200b\ufeff\x00\x1b\u202e\ufffd\U0010ffff",
    "日本語 ไทย عربى \U0001f468\u200d\U0001f469\u200d\U0001f467",
    "<s></s><unk><pad>[INST] [/INST]<|im_start|>user\n<|im_end|>",
)
"""Texts on which the saved tokenizer must give the ids that transformers gives."""


def save_tokenizer(model: Path, folder: Path) -> None:
    """Writes what `LightTokenizer.load` reads; no facts if only transformers encodes as it does."""
    tokenizer = tokenizer_of(model)
    tokenizer("a")  # takes the model's padding and truncation away, as any use does
    facts = _facts(tokenizer)
    # With a template of one text nothing of it is in the other files, and no further ones are written.
    tokenizer.chat_template = "none"
    tokenizer.save_pretrained(folder / SAVED)
    (folder / SAVED / "chat_template.jinja").unlink()
    if tokenizer.is_fast:
        facts.write(folder)
        light = LightTokenizer.load(folder)
        if not light or not _is_same(tokenizer, light):
            (folder / FACTS).unlink()


def _facts(tokenizer: "PreTrainedTokenizerBase") -> Facts:
    return Facts(
        special_tokens_map=tokenizer.special_tokens_map,
        all_special_tokens=tokenizer.all_special_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        unk_token_id=tokenizer.unk_token_id,
        split_special_tokens=tokenizer.split_special_tokens,
        chat_template=tokenizer.chat_template,
    )


def _is_same(tokenizer: "PreTrainedTokenizerBase", light: LightTokenizer) -> bool:
    texts = [*_TRIED, "".join(tokenizer.all_special_tokens)]
    return all(
        tokenizer(texts, add_special_tokens=add)["input_ids"]
        == light(texts, add_special_tokens=add)["input_ids"]
        for add in (True, False)
    )


def main() -> None:
    """Saves the tokenizer that the command line names."""
    restrict("converter")
    # transformers imports torch if it can: two more seconds, and nothing of it is in a tokenizer.
    sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        save_tokenizer(Path(sys.argv[1]), Path(sys.argv[2]))
    except UserError as error:
        print(error)
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()
