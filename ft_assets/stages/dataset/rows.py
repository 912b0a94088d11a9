"""Renders origins to rows and counts their tokens, or gives the reason why there is no row."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from ft_assets.records import DroppedRow, Example, Segment
from ft_assets.stages.dataset.augmentation import DataAugmenter
from ft_assets.stages.dataset.origins import OriginGroup, conversation_of
from ft_assets.stages.templates.conversations import CannotRenderError, Conversation, TrainOn
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager
from ft_assets.stages.templates.rendered import Rendered
from ft_assets.stages.templates.tokenization import answer_by_answer, are_asked_so, tokenize
from ft_assets.tables import batched

if TYPE_CHECKING:
    from ft_assets.stages.models.light_tokenizer import AnyTokenizer

_BATCH = 1_000
_TOKEN_CHARACTERS = 128
"""The characters of the longest tokens of known vocabularies: more than this times the limit is too long,
whatever the text."""
FAULT = "the template renders it incorrectly"
"""The start of the reason of a row whose token ids are wrong."""
TOO_LONG = "its prompt alone fills training.max_length"
"""The start of the reason of a row without room for an answer."""


@dataclass(frozen=True)
class _Asked:
    """One origin, or a variant of it, before it is rendered."""

    origin_id: str
    variant: int
    conversation: Conversation
    normalized: bool


@dataclass(frozen=True)
class _Unit:
    """One row of an origin, or of a variant of it, after rendering and before tokenization."""

    origin_id: str
    variant: int
    rendered: Rendered
    normalized: bool


@dataclass(frozen=True)
class _Row:
    """A row after tokenization: with the token ids of its segments."""

    unit: _Unit
    segments: list[Segment]
    ids: list[list[int]]


class RowMaker:
    """Makes the rows of origins by one template, for one base model.

    `train_on` says which answers of a conversation are trained.
    """

    def __init__(
        self,
        manager: PromptTemplateManager,
        augmenter: DataAugmenter,
        tokenizer: "AnyTokenizer",
        max_length: int,
        train_on: TrainOn = "all",
    ) -> None:
        self._manager, self._augmenter = manager, augmenter
        self._tokenizer, self._max_length = tokenizer, max_length
        self._train_on: TrainOn = train_on

    def rows_of(
        self, origins: OriginGroup, groups: dict[str, int]
    ) -> Iterator[Example | DroppedRow]:
        """The rows of the group's origins that are in `groups`, which maps them to split groups."""
        named = _once(origins, set(groups))
        units = self._texts(named) if origins.kind == "text" else self._formatted(origins, named)
        # The rows of one origin and variant follow each other: their number is counted here.
        place, turn = ("", 0), 0
        for each in self._tokenized(units):
            unit = each.unit if isinstance(each, _Row) else each
            turn = turn + 1 if place == (unit.origin_id, unit.variant) else 0
            place = (unit.origin_id, unit.variant)
            if isinstance(each, _Row):
                yield self._counted(origins, each, turn, groups)
            else:
                yield replace(each, turn=turn) if turn else each

    def _texts(self, named: Iterable[tuple[str, Any]]) -> Iterator[_Unit | DroppedRow]:
        for origin_id, origin in named:
            text = self._augmenter.normalize_prose(origin.text)
            yield _Unit(origin_id, 0, self._manager.text(text), text != origin.text)

    def _formatted(
        self, origins: OriginGroup, named: Iterable[tuple[str, Any]]
    ) -> Iterator[_Unit | DroppedRow]:
        limit = _TOKEN_CHARACTERS * self._max_length
        for some in batched(self._asked(origins, named), _BATCH):
            found = self._manager.rows([each.conversation for each in some], limit)
            for each, rows in zip(some, found, strict=True):
                if isinstance(rows, CannotRenderError):
                    yield _dropped(origins, (each.origin_id, each.variant, 0), str(rows))
                    continue
                place = (each.origin_id, each.variant)
                yield from (_Unit(*place, row, each.normalized) for row in rows.rows)
                for _ in range(rows.beyond):
                    yield _dropped(origins, (*place, 0), self._too_long())

    def _asked(self, origins: OriginGroup, named: Iterable[tuple[str, Any]]) -> Iterator[_Asked]:
        for origin_id, origin in named:
            messages, given = conversation_of(origins.kind, origin)
            context = self._augmenter.normalize(given) if given else given
            normalized = context != given or self._augmenter.changes(messages)
            tools = getattr(origin, "tools", None)
            for variant, turns in enumerate(self._augmenter.variants(messages, origin_id)):
                # A variant differs in its last question, so only that is learned once more.
                train_on: TrainOn = "last" if variant else self._train_on
                conversation = Conversation(turns, context, tools, train_on)
                yield _Asked(origin_id, variant, conversation, normalized)

    def _tokenized(self, units: Iterable[_Unit | DroppedRow]) -> Iterator[_Row | DroppedRow]:
        """The units with their token ids; answer by answer where the ids of a whole conversation are not
        those that the model is asked with."""
        for some in batched(units, _BATCH):
            rows = [unit.rendered.segments for unit in some if isinstance(unit, _Unit)]
            ids = tokenize(self._tokenizer, rows)
            found = zip(rows, ids, are_asked_so(self._tokenizer, rows, ids), strict=True)
            for unit in some:
                if isinstance(unit, DroppedRow):
                    yield unit
                    continue
                segments, row_ids, asked_so = next(found)
                if asked_so:
                    yield _Row(unit, segments, row_ids)
                    continue
                parts = answer_by_answer(segments)
                its_ids = tokenize(self._tokenizer, parts)
                reasoning = unit.rendered.reasoning or (None,) * len(parts)
                for part, part_ids, each in zip(parts, its_ids, reasoning, strict=True):
                    rendered = replace(unit.rendered, segments=part, reasoning=(each,))
                    yield _Row(replace(unit, rendered=rendered), part, part_ids)

    def _counted(
        self, origins: OriginGroup, row: _Row, turn: int, groups: dict[str, int]
    ) -> Example | DroppedRow:
        """The row, or why there is none."""
        unit = row.unit
        fault = self._manager.row_faults(row.ids, [each["trained"] for each in row.segments])
        reason = f"{FAULT}: {fault}" if fault else None
        if fault is None and not _trained_tokens(row, self._max_length):
            reason = self._too_long()
        if reason:
            place = (unit.origin_id, unit.variant, turn)
            return _dropped(origins, place, reason, sum(map(len, row.ids)))
        return self._example(origins, row, turn, groups[unit.origin_id])

    def _too_long(self) -> str:
        return f"{TOO_LONG} ({self._max_length} tokens)"

    def _example(self, origins: OriginGroup, row: _Row, turn: int, group: int) -> Example:
        unit, total = row.unit, sum(map(len, row.ids))
        kept = min(total, self._max_length)
        text = "\0".join([*(each["text"] for each in row.segments), unit.origin_id])
        return Example(
            example_id=hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:32],
            kind=origins.kind,
            segments=row.segments,
            text_id=origins.text_id,
            origin_id=unit.origin_id,
            variant=unit.variant,
            turn=turn,
            split_group=f"{group:016x}",
            tokens=kept,
            trained_tokens=_trained_tokens(row, self._max_length),
            cut_tokens=total - kept,
            escaped=unit.rendered.escaped,
            normalized=unit.normalized,
            reasoning_trained=unit.rendered.reasoning.count(True),
            reasoning_unused=unit.rendered.reasoning.count(False),
        )


def _trained_tokens(row: _Row, max_length: int) -> int:
    """The number of trained tokens among the first `max_length`."""
    starts = accumulate(map(len, row.ids), initial=0)
    return sum(
        max(0, min(start + len(ids), max_length) - start)
        for piece, ids, start in zip(row.segments, row.ids, starts, strict=False)
        if piece["trained"]
    )


def _once(origins: OriginGroup, wanted: set[str]) -> Iterator[tuple[str, Any]]:
    """The wanted origins with their ids; a record that occurs twice is taken once."""
    for origin_id, origin in zip(origins.origin_ids(), origins.origins(), strict=True):
        if origin_id in wanted:
            wanted.remove(origin_id)
            yield origin_id, origin


def _dropped(
    origins: OriginGroup, place: tuple[str, int, int], reason: str, tokens: int = 0
) -> DroppedRow:
    """A dropped row; `place` is its origin, variant and turn."""
    return DroppedRow(origins.text_id, *place, origins.kind, reason, None, tokens)
