"""Which documents are held out for evaluation, and how much of each."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from ft_assets.records import Kind
from ft_assets.stages.dataset.origins import Origins
from ft_assets.stages.dataset.split import Decisions
from ft_assets.stages.words import listed

ENOUGH_ROWS = 20
"""With fewer eval rows a loss is chance: no gate goes by it."""
_KINDS: dict[Kind, str] = {"text": "chunks", "record": "records", "qa": "pairs"}


@dataclass
class _Document:
    """The origins of a document by kind: those held out, and all that are in the dataset."""

    held_out: Counter[Kind] = field(default_factory=Counter)
    kept: Counter[Kind] = field(default_factory=Counter)

    @property
    def whole(self) -> bool:
        """Whether nothing of it is trained on."""
        return self.held_out == self.kept

    def __str__(self) -> str:
        if self.whole:
            return "all of it"
        kind: Kind = (
            "text" if self.held_out["text"] else "record" if self.held_out["record"] else "qa"
        )
        sections = "sections: " if kind == "text" else ""
        return f"{sections}{self.held_out[kind]:,} of {self.kept[kind]:,} {_KINDS[kind]}"


class HeldOut:
    """The documents of which something is held out, those with most of it first."""

    def __init__(self, origins: Origins, decisions: Decisions) -> None:
        documents: dict[int, _Document] = {}
        texts = origins.texts()
        for kind in _KINDS:
            kept = origins.are(kind) & (decisions.reason == 0)
            for text, count in Counter(texts[kept & decisions.held_out].tolist()).items():
                documents.setdefault(text, _Document()).held_out[kind] = count
            for text, count in Counter(texts[kept].tolist()).items():
                documents.setdefault(text, _Document()).kept[kind] = count
        found = [(text, each) for text, each in documents.items() if each.held_out]
        self._found = sorted(found, key=lambda item: -item[1].held_out.total())
        self._text_ids = origins.text_ids

    @property
    def whole(self) -> int:
        """The number of documents of which nothing is trained on."""
        return sum(each.whole for _, each in self._found)

    @property
    def in_part(self) -> int:
        """The number of documents of which a part is held out."""
        return len(self._found) - self.whole

    def named(self, name: Callable[[str], str], most: int) -> str:
        """The documents by name, given their text's id, and what of each; at most so many of them."""
        return listed(
            [f"{name(self._text_ids[text])} ({each})" for text, each in self._found], most
        )
