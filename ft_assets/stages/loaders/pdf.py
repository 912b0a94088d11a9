"""PDF: pages, headings from the outline, and pages that are pictures.

pypdfium2 is the faster engine, and correct on TeX files in which pypdf joins words; pypdf repairs some
files that pdfium refuses.
"""

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pypdfium2
import pypdfium2.raw

from ft_assets.stages.loaders.interface import Notes, Page, UnreadableError, clean
from ft_assets.stages.loaders.ocr import text_layer
from ft_assets.stages.loaders.pdf_text import (
    Mark,
    dehyphenated,
    placed_headings,
    tidy,
    without_running_lines,
)

if TYPE_CHECKING:
    from ft_assets.config import LoaderSettings

PAGE_CHARACTERS = 16
"""A page with fewer visible characters has no real text, only a page number or a stamp."""
_MAX_HEADINGS = 20_000
"""The most bookmarks that are read: a damaged outline may be endless."""
_MAX_DAMAGED = 100
_SHOWN_PAGES = 12


@dataclass
class _Extract:
    """What an engine extracted from a PDF; page numbers count from 1."""

    texts: list[str] = field(default_factory=list)
    outline: list[Mark] = field(default_factory=list)
    pictures: list[int] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)

    def visible(self) -> int:
        """The number of characters that are not white space."""
        return sum(len("".join(text.split())) for text in self.texts)


def load_pdf(path: Path, settings: "LoaderSettings", notes: Notes) -> Iterator[Page]:
    """Yields one Page for each page. Pages with a picture and no text are read by OCR if it is on, else
    rejected.
    """
    extract = _ENGINES[notes.engine](path, settings)
    if extract.pictures and settings.ocr:
        with text_layer(path, notes.scratch) as with_text:
            extract = _by_pdfium(with_text, settings)
        notes.engine = "ocrmypdf+pypdfium2"
    _judge(extract, settings, notes)
    texts = dehyphenated(extract.texts, join=settings.dehyphenate)
    if settings.strip_headers:
        texts = without_running_lines(texts)
    for text, headings in zip(texts, placed_headings(extract.outline, texts), strict=True):
        yield Page(text, headings)


def _judge(extract: _Extract, settings: "LoaderSettings", notes: Notes) -> None:
    """Rejects pages without text; raises UnreadableError if the file has almost no text."""
    pages = len(extract.texts)
    notes.pages_without_text = len(extract.pictures)
    if extract.pictures:
        of_all = f" (all of its {pages})" if len(extract.pictures) == pages else f" (of {pages})"
        reason = (
            f"{page_ranges(extract.pictures)}{of_all} {_hold(extract.pictures)} a picture and no "
            f"text: a scan? {_ocr_hint(settings)}"
        )
        if extract.visible() < PAGE_CHARACTERS * pages:
            scans = len(extract.pictures)
            raise UnreadableError(reason, final=True, pages_without_text=scans)
        notes.reject(reason)
    if not any(map(str.strip, extract.texts)):
        raise UnreadableError(f"it has no text on its {pages} pages")
    if extract.damaged:
        notes.reject(f"{page_ranges(extract.damaged)} cannot be read: damaged")


def _hold(pages: list[int]) -> str:
    return "holds" if len(pages) == 1 else "hold"


def _ocr_hint(settings: "LoaderSettings") -> str:
    if settings.ocr:
        return "OCR found none either"
    return "Set data.loaders.ocr, or add a text layer (ocrmypdf in.pdf out.pdf)"


def page_ranges(pages: list[int]) -> str:
    """Page numbers in words: `page 3`, `pages 3, 7-9`; of many, the first dozen ranges."""
    ranges: list[list[int]] = []
    for page in pages:
        if ranges and ranges[-1][-1] == page - 1:
            ranges[-1] = [ranges[-1][0], page]
        else:
            ranges.append([page])
    shown = ", ".join("-".join(map(str, ends)) for ends in ranges[:_SHOWN_PAGES])
    more = ", …" if len(ranges) > _SHOWN_PAGES else ""
    return f"{'page' if len(pages) == 1 else 'pages'} {shown}{more}"


class _Budget:
    """The limit on the text of a file: `data.loaders.max_unpacked_mb`."""

    def __init__(self, settings: "LoaderSettings") -> None:
        self._mb = settings.max_unpacked_mb
        self._left = self._mb * 2**20

    def take(self, text: str) -> None:
        """Counts `text`; raises UnreadableError above the limit."""
        self._left -= len(text)
        if self._left < 0:
            reason = f"its text is more than {self._mb} MB: data.loaders.max_unpacked_mb"
            raise UnreadableError(reason, final=True)


ENCRYPTED = "it is encrypted: save a copy without a password (qpdf --decrypt) in its place"


def _by_pdfium(path: Path, settings: "LoaderSettings") -> _Extract:
    try:
        pdf = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise UnreadableError(ENCRYPTED) from error
        raise UnreadableError(f"pdfium cannot open it ({error})") from error
    extract, budget = _Extract(), _Budget(settings)
    with pdf:
        for number in range(1, len(pdf) + 1):
            try:
                text = _page_by_pdfium(pdf, number, extract)
            except pypdfium2.PdfiumError:
                extract.damaged.append(number)
                text = ""
            _check_damage(extract, len(pdf))
            budget.take(text)
            extract.texts.append(text)
        extract.outline = list(_outline_by_pdfium(pdf))
    return extract


def _check_damage(extract: _Extract, pages: int) -> None:
    """Raises UnreadableError if most pages fail: a damaged file may claim a huge number of pages."""
    damaged = len(extract.damaged)
    if damaged == pages or damaged > _MAX_DAMAGED + len(extract.texts) / 2:
        raise UnreadableError(f"{page_ranges(extract.damaged)} cannot be read: damaged")


def _page_by_pdfium(pdf: Any, number: int, extract: _Extract) -> str:
    page = pdf[number - 1]
    try:
        textpage = page.get_textpage()
        try:
            text = tidy(textpage.get_text_bounded())
        finally:
            textpage.close()
        if _is_bare(text) and _has_picture(page):
            extract.pictures.append(number)
    finally:
        page.close()
    return text


def _is_bare(text: str) -> bool:
    return len(text) < 50 * PAGE_CHARACTERS and len("".join(text.split())) < PAGE_CHARACTERS


def _has_picture(page: Any) -> bool:
    pictures = page.get_objects(filter=[pypdfium2.raw.FPDF_PAGEOBJ_IMAGE], max_depth=4)
    return next(pictures, None) is not None


def _outline_by_pdfium(pdf: Any) -> Iterator[Mark]:
    """The outline's entries that lead to a page.

    Bookmarks are compared by pointer, so that a cyclic outline ends.
    """
    raw = pypdfium2.raw
    waiting = [(raw.FPDFBookmark_GetFirstChild(pdf, None), 1)]
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_HEADINGS:
        bookmark, level = waiting.pop()
        if not bookmark:
            continue
        address = ctypes.addressof(bookmark.contents)
        if address in seen:
            continue
        seen.add(address)
        waiting.append((raw.FPDFBookmark_GetNextSibling(pdf, bookmark), level))
        waiting.append((raw.FPDFBookmark_GetFirstChild(pdf, bookmark), level + 1))
        entry = pypdfium2.PdfBookmark(bookmark, pdf, level)
        target = entry.get_dest()
        page = target.get_index() if target else None
        title = " ".join(clean(entry.get_title()).split())
        if page is not None and title:
            yield Mark(page, level, title)


def _by_pypdf(path: Path, settings: "LoaderSettings") -> _Extract:
    import pypdf

    extract, budget = _Extract(), _Budget(settings)
    try:
        reader = pypdf.PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise UnreadableError(ENCRYPTED)
        for number, page in enumerate(reader.pages, start=1):
            text = tidy(page.extract_text())
            budget.take(text)
            extract.texts.append(text)
            if _is_bare(text) and _pypdf_has_picture(page):
                extract.pictures.append(number)
    except (UnreadableError, MemoryError):
        raise
    except Exception as error:  # pypdf raises bare AttributeError and ValueError on damage
        raise UnreadableError(f"pypdf cannot read it ({type(error).__name__}: {error})") from error
    if not extract.texts:
        raise UnreadableError("it has no pages")
    extract.outline = _outline_by_pypdf(reader)
    return extract


def _pypdf_has_picture(page: Any) -> bool:
    try:
        objects = page["/Resources"]["/XObject"].values()
        return any(each.get_object()["/Subtype"] == "/Image" for each in objects)
    except (KeyError, TypeError, AttributeError, ValueError):
        return False


def _outline_by_pypdf(reader: Any) -> list[Mark]:
    """The outline's entries; damaged ones are skipped, because that loses no text."""
    marks: list[Mark] = []
    waiting = [(entry, 1) for entry in reversed(_entries(reader))]
    while waiting and len(marks) < _MAX_HEADINGS:
        entry, level = waiting.pop()
        if isinstance(entry, list):
            waiting += [(below, level + 1) for below in reversed(entry)]
            continue
        try:
            page = reader.get_destination_page_number(entry)
            title = " ".join(clean(str(entry.title)).split())
        except Exception:  # noqa: S112 (whatever pypdf raises on damage)
            continue
        if page is not None and page >= 0 and title:
            marks.append(Mark(page, level, title))
    return marks


def _entries(reader: Any) -> list[Any]:
    try:
        return list(reader.outline)
    except Exception:
        return []


_ENGINES: "dict[str, Callable[[Path, LoaderSettings], _Extract]]" = {
    "pypdfium2": _by_pdfium,
    "pypdf": _by_pypdf,
}
