"""Reuses the rows of a previous dataset for the origins that still exist."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ft_assets.tables import Rows, read_runs


class PreviousTable:
    """The rows of a table (empty if `path` is None), read in the order of texts and their origins.

    `columns` are the columns whose values will be read from the rows.
    """

    def __init__(self, path: Path | None, columns: tuple[str, ...] = ()) -> None:
        self._runs: Iterator[tuple[str, Rows]] = (
            read_runs(path, ("origin_id", *columns)) if path else iter(())
        )
        self._next = next(self._runs, None)
        self._ids: list[str] | None = None

    def take(self, text_id: str, origin_ids: set[str]) -> list[Rows]:
        """The next rows of a text, up to the first that does not belong to `origin_ids`."""
        found = []
        while self._next and self._next[0] <= text_id:
            of, rows = self._next
            if of == text_id:
                self._ids = self._ids or rows.values("origin_id")
                count = _leading(self._ids, origin_ids)
                if count:
                    found.append(rows.piece(0, count))
                if count < len(rows):
                    self._next, self._ids = (of, rows.piece(count, len(rows))), self._ids[count:]
                    break
            self._next, self._ids = next(self._runs, None), None
        return found


def _leading(ids: list[str], wanted: set[str]) -> int:
    """How many of `ids` from the start are in `wanted`, up to the first that is not."""
    return next((place for place, each in enumerate(ids) if each not in wanted), len(ids))


_ROWS = (
    *("variant", "turn", "tokens", "trained_tokens", "cut_tokens", "escaped", "normalized"),
    *("reasoning_trained", "reasoning_unused"),
)
COUNTED = {"train": _ROWS, "eval": _ROWS, "dropped": ("variant", "turn", "tokens", "reason")}
"""The columns of each table that are counted over all rows."""


@dataclass
class SidedRows:
    """The rows of some origins of one text: training rows, eval rows, and dropped rows."""

    train: list[Rows] = field(default_factory=list)
    eval: list[Rows] = field(default_factory=list)
    dropped: list[Rows] = field(default_factory=list)


class PreviousDataset:
    """The rows of a previous dataset that was rendered with the same settings; `reused` counts those taken.

    `chosen` are the reasons for dropping origins before rendering. Rows dropped for them are not
    reused, because these decisions may have changed since.
    """

    def __init__(self, folder: Path | None, chosen: Collection[str]) -> None:
        self._train, self._eval, self._dropped = (
            PreviousTable(folder / f"{name}.parquet" if folder else None, COUNTED[name])
            for name in ("train", "eval", "dropped")
        )
        self._chosen = chosen
        self.reused = 0

    def take(self, text_id: str, origin_ids: set[str], kept: dict[str, bool]) -> SidedRows | None:
        """The rows of the origins in `kept`, in order, each on the side that `kept` says (True: eval).

        `origin_ids` are all origins that come next. None if an origin in `kept` has no row.
        """
        found = SidedRows(
            self._train.take(text_id, origin_ids),
            self._eval.take(text_id, origin_ids),
            _not_for(self._dropped.take(text_id, origin_ids), self._chosen),
        )
        having = (*found.train, *found.eval, *found.dropped)
        if not {each for rows in having for each in rows.values("origin_id")} >= kept.keys():
            return None
        found.dropped = _of(found.dropped, kept)
        sided = ((found.train, False), (found.eval, True))
        if all(kept.get(each) is side for some, side in sided for each in _ids(some)):
            return found
        return _sorted_anew(found, kept)


def _ids(some: list[Rows]) -> Iterator[str]:
    return (each for rows in some for each in rows.values("origin_id"))


def _pick(some: list[Rows], places: list[int]) -> list[Rows]:
    """The rows at `places`, counted through all of `some`."""
    import pyarrow as pa

    return (
        [Rows.of(pa.concat_tables([rows.table() for rows in some]).take(places))] if places else []
    )


def _not_for(some: list[Rows], reasons: Collection[str]) -> list[Rows]:
    said = [reason for rows in some for reason in rows.values("reason")]
    return _pick(some, [place for place, reason in enumerate(said) if reason not in reasons])


def _of(some: list[Rows], kept: dict[str, bool]) -> list[Rows]:
    return _pick(some, [place for place, each in enumerate(_ids(some)) if each in kept])


def _sorted_anew(found: SidedRows, kept: dict[str, bool]) -> SidedRows:
    """The rows of both sides, each moved to the side on which its origin is now."""
    some = [*found.train, *found.eval]
    order = {origin_id: place for place, origin_id in enumerate(kept)}
    variants = [variant for rows in some for variant in rows.values("variant")]
    places: dict[bool, list[tuple[int, int, int]]] = {False: [], True: []}
    for place, (each, variant) in enumerate(zip(_ids(some), variants, strict=True)):
        if each in kept:
            places[kept[each]].append((order[each], variant, place))
    train, held_out = ([place for *_, place in sorted(of)] for of in places.values())
    return SidedRows(_pick(some, train), _pick(some, held_out), found.dropped)
