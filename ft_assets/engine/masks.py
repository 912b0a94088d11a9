"""Masks: which rows of an Arrow table are wanted, computed by column."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ft_assets.engine.table_view import Mask

if TYPE_CHECKING:
    import pyarrow as pa

_SEPARATORS = {"": "\n", "text": "", "content": "\n", "reasoning": "\n", "tool_calls": "\n"}
"""The fields of lists that are searched, and what is put between two items; segments are one text."""


def _compute() -> Any:
    """pyarrow's functions; its stubs do not know all combinations of types."""
    import pyarrow.compute

    return pyarrow.compute


def contains(columns: list[str], grep: str) -> Mask:
    """The rows with a text in one of these columns, whatever its case."""

    def mask(table: "pa.Table") -> Any:
        pc = _compute()
        found: Any = None
        for text in (text for name in columns for text in _texts(table[name].combine_chunks())):
            hits = pc.fill_null(pc.match_substring(text, grep, ignore_case=True), False)
            found = hits if found is None else pc.or_(found, hits)
        return found

    return mask


def _texts(column: Any) -> Iterator[Any]:
    """The texts of a column, one a row: those of a list are joined."""
    import pyarrow as pa

    pc = _compute()
    if not pa.types.is_list(column.type):
        yield column
        return
    inner, offsets = column.flatten(), _offsets(column)
    named = {"": inner}
    if pa.types.is_struct(inner.type):
        named = {each.name: pc.struct_field(inner, each.name) for each in inner.type}
    for name, texts in named.items():
        if name in _SEPARATORS:
            lists = pa.ListArray.from_arrays(offsets, pc.fill_null(texts, ""))
            yield pc.binary_join(lists, _SEPARATORS[name])


def _offsets(column: Any) -> Any:
    """Where the items of each list start, counted from the first item."""
    import pyarrow as pa

    pc = _compute()
    lengths = pc.cast(pc.fill_null(pc.list_value_length(column), 0), pa.int32())
    ends = pc.cumulative_sum(lengths)
    return pa.concat_arrays([pa.array([0], pa.int32()), ends])


def has(column: str, wanted: set[str]) -> Mask:
    """The rows with one of these values."""

    def mask(table: "pa.Table") -> Any:
        import pyarrow as pa

        pc = _compute()
        return pc.is_in(table[column], pa.array(sorted(wanted), pa.string()))

    return mask


def every(masks: list[Mask]) -> Mask:
    """The rows that all masks want."""
    return _combined(masks, "and_")


def either(*masks: Mask) -> Mask:
    """The rows that at least one mask wants."""
    return _combined(list(masks), "or_")


def _combined(masks: list[Mask], by: str) -> Mask:
    def mask(table: "pa.Table") -> Any:
        pc = _compute()
        combine: Callable[[Any, Any], Any] = getattr(pc, by)
        first, *others = (each(table) for each in masks)
        for other in others:
            first = combine(first, other)
        return first

    return mask


def not_empty(column: str) -> Mask:
    """The rows whose list in this column has an item."""
    return lambda table: _compute().greater(_compute().list_value_length(table[column]), 0)
