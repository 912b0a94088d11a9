"""Renders origins to rows and counts their tokens, or gives the reason why there is no row."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ft_assets.records import DroppedRow, Example, Message
from ft_assets.stages.dataset.augmentation import DataAugmenter
from ft_assets.stages.dataset.origins import OriginGroup, conversation_of
from ft_assets.stages.templates.prompt_templates import (
    CannotRenderError,
    PromptTemplateManager,
    Rendered,
)
from ft_assets.stages.templates.tokenization import tokenize
from ft_assets.tables import batched

if TYPE_CHECKING:
    from ft_assets.stages.models.light_tokenizer import AnyTokenizer

_BATCH = 1_000
FAULT = "the template renders it with a fault"
"""The start of the reason of a row whose token ids are wrong."""
TOO_LONG = "its prompt alone fills training.max_length"
"""The start of the reason of a row without room for an answer."""


@dataclass(frozen=True)
class _Conversation:
    """One origin, or a variant of it, before it is rendered."""

    origin_id: str
    variant: int
    turns: Sequence[Message]
    context: str | None
    normalized: bool


@dataclass(frozen=True)
class _Unit:
    """One origin, or a variant of it, after rendering and before tokenization."""

    origin_id: str
    variant: int
    rendered: Rendered
    normalized: bool


class RowMaker:
    """Makes the rows of origins by one template, for one base model."""

    def __init__(
        self,
        manager: PromptTemplateManager,
        augmenter: DataAugmenter,
        tokenizer: "AnyTokenizer",
        max_length: int,
    ) -> None:
        self._manager, self._augmenter = manager, augmenter
        self._tokenizer, self._max_length = tokenizer, max_length

    def rows_of(
        self, origins: OriginGroup, groups: dict[str, int]
    ) -> Iterator[Example | DroppedRow]:
        """The rows of the group's origins that are in `groups`, which maps them to split groups."""
        named = _once(origins, set(groups))
        units = self._texts(named) if origins.kind == "text" else self._formatted(origins, named)
        for some in batched(units, _BATCH):
            yield from self._counted(origins, some, groups)

    def _texts(self, named: Iterable[tuple[str, Any]]) -> Iterator[_Unit | DroppedRow]:
        for origin_id, origin in named:
            text = self._augmenter.normalize_prose(origin.text)
            yield _Unit(origin_id, 0, self._manager.text(text), text != origin.text)

    def _formatted(
        self, origins: OriginGroup, named: Iterable[tuple[str, Any]]
    ) -> Iterator[_Unit | DroppedRow]:
        for some in batched(self._asked(origins, named), _BATCH):
            rows = self._manager.format_all([(each.turns, each.context) for each in some])
            for each, row in zip(some, rows, strict=True):
                if isinstance(row, CannotRenderError):
                    yield _dropped(origins, each.origin_id, each.variant, str(row))
                else:
                    yield _Unit(each.origin_id, each.variant, row, each.normalized)

    def _asked(
        self, origins: OriginGroup, named: Iterable[tuple[str, Any]]
    ) -> Iterator[_Conversation]:
        for origin_id, origin in named:
            messages, given = conversation_of(origins.kind, origin)
            context = self._augmenter.normalize(given) if given else given
            normalized = context != given or self._augmenter.changes(messages)
            for variant, turns in enumerate(self._augmenter.variants(messages, origin_id)):
                yield _Conversation(origin_id, variant, turns, context, normalized)

    def _counted(
        self, origins: OriginGroup, units: list[_Unit | DroppedRow], groups: dict[str, int]
    ) -> Iterator[Example | DroppedRow]:
        tokenized = iter(
            tokenize(self._tokenizer, [unit.rendered for unit in units if isinstance(unit, _Unit)])
        )
        for unit in units:
            if isinstance(unit, DroppedRow):
                yield unit
                continue
            prompt, completion = next(tokenized)
            total = len(prompt) + len(completion)
            fault = self._manager.row_faults(prompt, completion)
            reason = f"{FAULT}: {fault}" if fault else None
            if fault is None and len(prompt) >= self._max_length:
                reason = f"{TOO_LONG} ({self._max_length} tokens)"
            if reason:
                yield _dropped(origins, unit.origin_id, unit.variant, reason, total)
            else:
                yield self._example(origins, unit, groups[unit.origin_id], len(prompt), total)

    def _example(
        self, origins: OriginGroup, unit: _Unit, group: int, prompt: int, total: int
    ) -> Example:
        rendered, kept = unit.rendered, min(total, self._max_length)
        text = f"{rendered.prompt}\0{rendered.completion}\0{unit.origin_id}"
        return Example(
            example_id=hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32],
            kind=origins.kind,
            prompt=rendered.prompt,
            completion=rendered.completion,
            text_id=origins.text_id,
            origin_id=unit.origin_id,
            variant=unit.variant,
            split_group=f"{group:016x}",
            tokens=kept,
            trained_tokens=kept - prompt,
            cut_tokens=total - kept,
            escaped=rendered.escaped,
            normalized=unit.normalized,
        )


def _once(origins: OriginGroup, wanted: set[str]) -> Iterator[tuple[str, Any]]:
    """The wanted origins with their ids; a record that occurs twice is taken once."""
    for origin_id, origin in zip(origins.origin_ids(), origins.origins(), strict=True):
        if origin_id in wanted:
            wanted.remove(origin_id)
            yield origin_id, origin


def _dropped(
    origins: OriginGroup, origin_id: str, variant: int, reason: str, tokens: int = 0
) -> DroppedRow:
    return DroppedRow(origins.text_id, origin_id, variant, origins.kind, reason, None, tokens)
