"""DOCX: text in reading order, tables as rows, headers, footers, notes, text boxes and headings.

Nothing is unpacked to disk. The XML parser expands no entities and opens nothing outside the file.
"""

import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from lxml import etree

from ft_assets.stages.loaders.interface import Notes, Page, UnreadableError, clean

if TYPE_CHECKING:
    from ft_assets.config import LoaderSettings

_TEXT_PARTS = re.compile(r"word/(document|header|footer|footnotes|endnotes)(\d*)\.xml")
_STYLES = "word/styles.xml"
_ORDER = ("header", "document", "footnotes", "endnotes", "footer")
_MB = 2**20


def load_docx(path: Path, settings: "LoaderSettings", notes: Notes) -> Iterator[Page]:
    """Yields the whole document as one page."""
    try:
        parts = dict(_parts(path, settings))
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError) as error:
        raise UnreadableError(f"it is damaged or not a DOCX file ({error})") from error
    page = _by_docx2txt(path) if notes.engine == "docx2txt" else _by_lxml(parts)
    if not page.text.strip():
        raise UnreadableError("it has no text")
    yield page


def _parts(path: Path, settings: "LoaderSettings") -> Iterator[tuple[str, bytes]]:
    """The parts with text, in reading order, then the styles.

    Raises UnreadableError if the archive exceeds the limits: first by the sizes that it declares, then
    by what is really unpacked, because a zip bomb declares false sizes.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > settings.max_archive_members:
            raise UnreadableError(
                f"it has {len(members):,} members, more than {settings.max_archive_members:,}: "
                "data.loaders.max_archive_members",
                final=True,
            )
        found = {_place(member.filename): member for member in members}
        found.pop(None, None)
        if not any(member.filename.startswith("word/document") for member in found.values()):
            raise UnreadableError("it is a zip archive without a Word document in it", final=True)
        left = settings.max_unpacked_mb * _MB
        for _, member in sorted((place, member) for place, member in found.items() if place):
            content = _unpack(archive, member, left, settings)
            left -= len(content)
            yield member.filename, content


def _place(name: str) -> tuple[int, int] | None:
    """The position of a part in reading order; the styles are last, None for all other parts."""
    if name == _STYLES:
        return len(_ORDER), 0
    found = _TEXT_PARTS.fullmatch(name)
    return (_ORDER.index(found[1]), int(found[2] or 0)) if found else None


def _unpack(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, left: int, settings: "LoaderSettings"
) -> bytes:
    with archive.open(member) as file:
        content = b"" if member.file_size > left else file.read(left + 1)
    if member.file_size > left or len(content) > left:
        raise UnreadableError(
            f"it unpacks to more than {settings.max_unpacked_mb} MB: data.loaders.max_unpacked_mb",
            final=True,
        )
    packed = min(member.compress_size, Path(str(archive.filename)).stat().st_size)
    expansion = len(content) / max(1, packed)
    if len(content) > _MB and expansion > settings.max_expansion:
        raise UnreadableError(
            f"{member.filename} unpacks to {expansion:.0f} times its size, more than "
            f"{settings.max_expansion}: data.loaders.max_expansion",
            final=True,
        )
    if any(mark in content for mark in _DOCTYPES):
        raise UnreadableError(
            f"{member.filename} has a DOCTYPE, which no Word document has", final=True
        )
    return content


_DOCTYPES = tuple("<!DOCTYPE".encode(encoding) for encoding in ("utf-8", "utf-16-le", "utf-16-be"))


def _by_lxml(parts: dict[str, bytes]) -> Page:
    """The text of all parts; headers and footers with the same text are kept once."""
    styles = _heading_styles(parts.pop(_STYLES, b""))
    page, seen = Page(""), set()
    for name, content in parts.items():
        blocks = list(_blocks(_root(content, name), styles))
        key = (name.startswith("word/document"), tuple(block.text for block in blocks))
        if key in seen:
            continue
        seen.add(key)
        _append(page, blocks)
    return page


@dataclass(frozen=True)
class _Block:
    """A paragraph or the rows of a table; `level` is the heading level, 0 if it is not a heading."""

    text: str
    level: int = 0


def _append(page: Page, blocks: list[_Block]) -> None:
    pieces, length = [page.text] if page.text else [], len(page.text)
    for block in blocks:
        start = length + 2 if pieces else 0
        if block.level:
            title = " ".join(block.text.split())
            page.headings.append({"start": start, "level": block.level, "title": title})
        pieces.append(block.text)
        length = start + len(block.text)
    page.text = "\n\n".join(pieces)


def _root(content: bytes, name: str) -> etree._Element:
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(content, parser)
    except etree.XMLSyntaxError as error:
        raise UnreadableError(f"{name} is damaged ({error})") from error
    if root.getroottree().docinfo.internalDTD is not None:
        raise UnreadableError(f"{name} has a DOCTYPE, which no Word document has", final=True)
    return root


@lru_cache(1_000)
def _kind(tag: object) -> str:
    """The name of an element without its namespace, because Word uses two namespaces."""
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


_LEFT_OUT = {"del", "moveFrom", "Fallback", "rt", "instrText", "delText"}
"""Deleted text, moved text at its old place, copies of text boxes, ruby readings, field codes."""


def _blocks(element: etree._Element, styles: dict[str, int]) -> Iterator[_Block]:
    """The paragraphs and tables below an element, in reading order."""
    for child in element:
        kind = _kind(child.tag)
        if kind == "p":
            yield from _paragraph(child, styles)
        elif kind == "tbl":
            if text := "\n".join(_rows(child)):
                yield _Block(text)
        elif kind not in _LEFT_OUT:
            yield from _blocks(child, styles)


def _paragraph(paragraph: etree._Element, styles: dict[str, int]) -> Iterator[_Block]:
    """A paragraph, then the text boxes anchored in it."""
    boxes: list[etree._Element] = []
    text = clean("".join(_runs(paragraph, boxes))).strip()
    if text:
        yield _Block(text, _level(paragraph, styles))
    for box in boxes:
        yield from _blocks(box, styles)


_CHARACTERS = {"tab": "\t", "ptab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}


def _runs(element: etree._Element, boxes: list[etree._Element]) -> Iterator[str]:
    """The text below a paragraph; text boxes are added to `boxes`."""
    for child in element:
        kind = _kind(child.tag)
        if kind == "t":
            yield child.text or ""
        elif kind in _CHARACTERS:
            yield _CHARACTERS[kind]
        elif kind == "txbxContent":
            boxes.append(child)
        elif kind not in _LEFT_OUT and kind not in ("pPr", "rPr"):
            yield from _runs(child, boxes)


def _rows(table: etree._Element) -> Iterator[str]:
    """The rows of a table, cells separated by bars; a table in a cell is read in place."""
    for row in _below(table, "tr"):
        if any(_kind(mark.tag) == "del" for mark in row.iterfind("{*}trPr/*")):
            continue
        cells = [
            " ".join(" ".join(block.text.split("\n")) for block in _blocks(cell, {}))
            for cell in _below(row, "tc")
        ]
        if any(cells):
            yield " | ".join(cells)


def _below(element: etree._Element, kind: str) -> Iterator[etree._Element]:
    """The rows of a table or the cells of a row, including those in content controls."""
    for child in element:
        if _kind(child.tag) == kind:
            yield child
        elif _kind(child.tag) in ("sdt", "sdtContent", "customXml", "ins"):
            yield from _below(child, kind)


def _level(paragraph: etree._Element, styles: dict[str, int]) -> int:
    """The level of a heading, by its own outline level or its style; 0 for other paragraphs."""
    own = paragraph.find("{*}pPr/{*}outlineLvl")
    if own is not None:
        return _outline_level(own)
    style = paragraph.find("{*}pPr/{*}pStyle")
    return styles.get(_value(style), 0) if style is not None else 0


def _outline_level(element: etree._Element) -> int:
    value = _value(element)
    return int(value) + 1 if value.isdecimal() and int(value) < 9 else 0


def _value(element: etree._Element | None) -> str:
    """The `val` attribute, which has the namespace of its element."""
    if element is None:
        return ""
    return next((str(value) for name, value in element.items() if _kind(name) == "val"), "")


def _heading_styles(content: bytes) -> dict[str, int]:
    """The levels of heading styles by id, including styles based on them."""
    if not content:
        return {}
    levels: dict[str, int] = {}
    based: dict[str, str] = {}
    for style in _root(content, _STYLES).iterfind("{*}style"):
        name = next((str(v) for k, v in style.items() if _kind(k) == "styleId"), "")
        based[name] = _value(style.find("{*}basedOn"))
        title = _value(style.find("{*}name")).lower()
        outline = style.find("{*}pPr/{*}outlineLvl")
        if found := re.fullmatch(r"heading ([1-9])", title):
            levels[name] = int(found[1])
        elif title == "title":
            levels[name] = 1
        elif outline is not None:
            levels[name] = _outline_level(outline)
    return {name: level for name in based if (level := _inherited(name, levels, based))}


_MAX_STYLES_DEEP = 16
"""The most styles followed by `basedOn`, which may be a cycle."""


def _inherited(name: str, levels: dict[str, int], based: dict[str, str]) -> int:
    for _ in range(_MAX_STYLES_DEEP):
        if name in levels or name not in based:
            break
        name = based[name]
    return levels.get(name, 0)


def _by_docx2txt(path: Path) -> Page:
    """The second engine: it flattens tables, loses footnotes, and has no headings."""
    import docx2txt

    try:
        return Page(clean(docx2txt.process(str(path))).strip())
    except Exception as error:  # docx2txt lets any error of zipfile and ElementTree through
        raise UnreadableError(f"docx2txt cannot read it ({error})") from error
