"""The pieces of a text, by the rules of LangChain's splitters.

LangChain is not imported, because that takes 0.2 s of CPU time, more than the rest of `chunks`. A test
compares the pieces with LangChain's.
"""

from collections.abc import Iterator

_SEPARATORS = ("\n\n", "\n", " ", "")


def paragraphs(text: str) -> list[str]:
    """The paragraphs of a text, each with the blank line after it."""
    *ended, last = text.split("\n\n")
    return [piece for piece in (*(f"{each}\n\n" for each in ended), last) if piece]


def recursive_pieces(
    text: str, size: int, separators: tuple[str, ...] = _SEPARATORS
) -> Iterator[list[str]]:
    """The pieces of a text in order, each shorter than `size` and with the separator before it.

    A text is split at the first of `separators` that it contains; a piece that is too long is split at
    the following ones. Adjacent pieces of the same level are in one list.
    """
    if not separators:
        yield [text]
        return
    place = next(place for place, each in enumerate(separators) if each in text)
    short: list[str] = []
    for piece in _parted(text, separators[place]):
        if len(piece) < size:
            short.append(piece)
            continue
        if short:
            yield short
        short = []
        yield from recursive_pieces(piece, size, separators[place + 1 :])
    if short:
        yield short


def _parted(text: str, separator: str) -> list[str]:
    if not separator:
        return list(text)
    first, *others = text.split(separator)
    return [piece for piece in (first, *(f"{separator}{each}" for each in others)) if piece]
