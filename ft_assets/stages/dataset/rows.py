"""From sources to rendered rows with their tokens counted, or to the reason that there is no row."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ft_assets.records import DroppedRow, Example
from ft_assets.stages.dataset.augmentation import DataAugmenter
from ft_assets.stages.dataset.sources import Batch, conversation_of
from ft_assets.stages.templates.prompt_templates import (
    CannotRenderError,
    PromptTemplateManager,
    Rendered,
)
from ft_assets.stages.templates.tokenization import tokenize
from ft_assets.tables import batched

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BATCH = 1_000
FAULT = "the template renders it with a fault"
"""What the reason of a row begins with whose token ids are not as they should be."""


@dataclass(frozen=True)
class _Unit:
    """One source, or a variant of it, as it is to be rendered."""

    source_id: str
    variant: int
    rendered: Rendered


class RowMaker:
    """Makes the rows of sources by one template, for one base model."""

    def __init__(
        self,
        manager: PromptTemplateManager,
        augmenter: DataAugmenter,
        tokenizer: "PreTrainedTokenizerBase",
        max_length: int,
    ) -> None:
        self._manager, self._augmenter = manager, augmenter
        self._tokenizer, self._max_length = tokenizer, max_length

    def rows_of(self, batch: Batch, groups: dict[str, int]) -> Iterator[Example | DroppedRow]:
        """The rows of those sources of a batch that `groups` has, each with its split group."""
        for some in batched(self._units(batch, _once(batch, set(groups))), _BATCH):
            yield from self._counted(batch, some, groups)

    def _units(
        self, batch: Batch, named: Iterable[tuple[str, Any]]
    ) -> Iterator[_Unit | DroppedRow]:
        for source_id, source in named:
            if batch.kind == "text":
                yield _Unit(source_id, 0, self._manager.text(source.text))
                continue
            messages, context = conversation_of(batch.kind, source)
            context = self._augmenter.normalize(context) if context else context
            for variant, turns in enumerate(self._augmenter.variants(messages, source_id)):
                try:
                    yield _Unit(source_id, variant, self._manager.format(turns, context))
                except CannotRenderError as reason:
                    yield _dropped(batch, source_id, variant, str(reason))

    def _counted(
        self, batch: Batch, units: list[_Unit | DroppedRow], groups: dict[str, int]
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
                reason = f"its prompt alone fills training.max_length ({self._max_length} tokens)"
            if reason:
                yield _dropped(batch, unit.source_id, unit.variant, reason, total)
            else:
                yield self._example(batch, unit, groups[unit.source_id], len(prompt), total)

    def _example(self, batch: Batch, unit: _Unit, group: int, prompt: int, total: int) -> Example:
        rendered, kept = unit.rendered, min(total, self._max_length)
        text = f"{rendered.prompt}\0{rendered.completion}\0{unit.source_id}"
        return Example(
            example_id=hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32],
            kind=batch.kind,
            prompt=rendered.prompt,
            completion=rendered.completion,
            text_id=batch.text_id,
            source_id=unit.source_id,
            variant=unit.variant,
            split_group=f"{group:016x}",
            tokens=kept,
            trained_tokens=kept - prompt,
            cut_tokens=total - kept,
            escaped=rendered.escaped,
        )


def _once(batch: Batch, wanted: set[str]) -> Iterator[tuple[str, Any]]:
    """The wanted sources with their ids; a record that stands there twice is taken once."""
    for source_id, source in zip(batch.source_ids(), batch.sources(), strict=True):
        if source_id in wanted:
            wanted.remove(source_id)
            yield source_id, source


def _dropped(
    batch: Batch, source_id: str, variant: int, reason: str, tokens: int = 0
) -> DroppedRow:
    return DroppedRow(batch.text_id, source_id, variant, batch.kind, reason, None, tokens)
