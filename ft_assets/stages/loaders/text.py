"""Plain text and Markdown, in any encoding."""

import codecs
import re
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from ft_assets.records import Heading
from ft_assets.stages.loaders.interface import Notes, Page, UnreadableError, clean

if TYPE_CHECKING:
    from ft_assets.config import LoaderSettings

_MAGIC = {b"%PDF": "a PDF", b"PK\x03\x04": "a zip archive or an Office file", b"\x89PNG": "a PNG"}
_BOMS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_SAMPLE = 1 << 16
_BLOCK = 1 << 20

Opens = Callable[[], BinaryIO]
"""Opens the bytes of a file at their start."""


def encoding_of(opens: Opens) -> str:
    """The encoding of a text, read a block at a time.

    The first that applies: a byte-order mark, the positions of zero bytes (UTF-16 and UTF-32), UTF-8
    with few errors, charset-normalizer's best guess. Raises UnreadableError if the bytes are not text.
    """
    with opens() as file:
        head = file.read(_SAMPLE)
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            reason = f"it is {what} under another name: give it its own ending"
            raise UnreadableError(reason, final=True)
    encoding = next((name for bom, name in _BOMS.items() if head.startswith(bom)), None)
    encoding = encoding or _by_zeros(head) or _by_utf8(opens) or _by_guess(opens)
    sample = head.decode(encoding, errors="ignore")
    wrong = head.decode(encoding, errors="replace").count("\ufffd") - sample.count("\ufffd") - 1
    if len(_CONTROL.findall(sample)) + wrong > len(sample) // 100:
        raise UnreadableError("it is binary, not text", final=True)
    return encoding


def _by_zeros(head: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte-order mark: zero bytes are in the same positions throughout."""
    zeros = [head[place::4].count(0) for place in range(4)]
    total = sum(zeros)
    if total < len(head) // 50 or total == 0:
        return None
    if zeros[0] <= total // 50 and min(zeros[2:]) > len(head) // 4.5:
        return "utf-32-le"
    if zeros[3] <= total // 50 and min(zeros[:2]) > len(head) // 4.5:
        return "utf-32-be"
    if zeros[0] + zeros[2] <= total // 50:
        return "utf-16-le"
    if zeros[1] + zeros[3] <= total // 50:
        return "utf-16-be"
    return None


def _by_utf8(opens: Opens) -> str | None:
    """UTF-8 if at most one non-ASCII character is wrong for ten that are right, else None."""
    right = wrong = 0
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    with opens() as file:
        while block := file.read(_BLOCK):
            if block.isascii():
                wrong += decoder.decode(block[:1])[:1] == "\ufffd"
                continue
            text = decoder.decode(block)
            bad = max(0, text.count("\ufffd") - block.count("\ufffd".encode()))
            wrong += bad
            right += (len(text.encode()) - len(text)) // 2 - bad
    wrong += len(decoder.decode(b"", final=True))
    return "utf-8" if wrong <= right // 10 else None


def _by_guess(opens: Opens) -> str:
    from charset_normalizer import from_bytes

    guess = from_bytes(_around_first_foreign_byte(opens)).best()
    if guess is None:
        raise UnreadableError("it is binary, or text in no known encoding", final=True)
    return guess.encoding


def _around_first_foreign_byte(opens: Opens) -> bytes:
    """A sample around the first non-ASCII byte, because ASCII alone says nothing about the encoding."""
    with opens() as file:
        before = b""
        while (block := file.read(_BLOCK)) and block.isascii():
            before = block[-_SAMPLE // 4 :]
        foreign = re.search(rb"[\x80-\xff]", block)
        around = before + block + file.read(_SAMPLE)
        start = max(0, len(before) + (foreign.start() if foreign else 0) - _SAMPLE // 4)
        return around[start : start + _SAMPLE]


def _decode_file(path: Path, notes: Notes) -> str:
    """The whole text of a file; undecodable bytes become U+FFFD. Records the encoding in `notes`."""
    notes.encoding = encoding_of(lambda: path.open("rb"))
    return path.read_bytes().decode(notes.encoding, errors="replace")


def load_text(path: Path, settings: "LoaderSettings", notes: Notes) -> Iterator[Page]:
    """Yields the whole file as one page."""
    yield Page(_whole(path, notes))


def load_markdown(path: Path, settings: "LoaderSettings", notes: Notes) -> Iterator[Page]:
    """Yields the whole file as one page, with its headings."""
    text = _whole(path, notes)
    yield Page(text, list(markdown_headings(text)))


def _whole(path: Path, notes: Notes) -> str:
    text = clean(_decode_file(path, notes))
    if not text.strip(f"{string.whitespace}\ufffd"):
        raise UnreadableError("it has no text", final=True)
    return text


_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_ATX = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))??(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*$")
_NO_PARAGRAPH = re.compile(r" {4}|\t| {0,3}(?:[-*+>|]|\d+[.)])(?:\s|$)| {0,3}\|")


def markdown_headings(text: str) -> Iterator[Heading]:
    """The ATX and setext headings of a Markdown text; code and front matter have none."""
    fence, start, before = "", 0, ""
    in_front_matter = text.startswith("---\n") and "\n---\n" in text[3:]
    for number, line in enumerate(text.split("\n")):
        if in_front_matter:
            in_front_matter = number == 0 or line != "---"
            line_is_heading = None
        else:
            fence, line_is_heading = _read_line(line, before, fence)
        if line_is_heading:
            level, title, is_above = line_is_heading
            yield {
                "start": start - len(before) - 1 if is_above else start,
                "level": level,
                "title": title,
            }
        before = "" if line_is_heading or fence or in_front_matter else line
        start += len(line) + 1


def _read_line(line: str, before: str, fence: str) -> tuple[str, tuple[int, str, bool] | None]:
    """The code fence that is open after a line, and the heading that the line ends: its level, its
    title, and whether the title is on the line above.
    """
    if mark := _FENCE.match(line):
        if not fence:
            return mark[1], None
        closes = mark[1].startswith(fence) and not line.strip().strip(fence[0])
        return ("" if closes else fence), None
    if fence:
        return fence, None
    if found := _ATX.match(line):
        title = (found[2] or "").strip()
        return "", (len(found[1]), title, False) if title else None
    if before.strip() and not _NO_PARAGRAPH.match(before) and (found := _UNDERLINE.match(line)):
        return "", (1 if found[1][0] == "=" else 2, before.strip(), True)
    return "", None
