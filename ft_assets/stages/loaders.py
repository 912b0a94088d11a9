"""LangChain document loaders over maintained engines: PDF, DOCX, text and Markdown.

A loader yields one `langchain_core.documents.Document` a page or section, with `page`, `engine`
and (text) `encoding` in its metadata. It raises `UnreadableError` with a reason a person can act on.
Imports LangChain, so it is itself imported inside functions only.
"""

import io
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from charset_normalizer import from_bytes
from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document as Page
from lxml import etree

MEDIA_TYPES = {
    ".pdf": "pdf",
    ".docx": "docx",
    ".txt": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".json": "json",
    ".jsonl": "jsonl",
}
"""The file endings that are read, and what each is called in the tables."""

SCAN_CHARACTERS = 16
"""Visible characters a page has on average below which a PDF counts as a scan."""


class UnreadableError(Exception):
    """A file has no usable text; the message says why and what to do."""


class FileLoader(BaseLoader):
    """A loader of one file."""

    def __init__(self, path: Path) -> None:
        self.path = path


def clean(text: str) -> str:
    """Line ends become newlines and NUL characters go; nothing else is touched."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


class PDFiumLoader(FileLoader):
    """PDF through pypdfium2: the faster engine, and right on TeX files where pypdf glues words."""

    def lazy_load(self) -> Iterator[Page]:
        """Yields one page each."""
        import pypdfium2

        try:
            pdf = pypdfium2.PdfDocument(self.path)
        except pypdfium2.PdfiumError as error:
            if "password" in str(error).lower():
                raise UnreadableError(ENCRYPTED) from error
            raise UnreadableError(f"pdfium cannot open it ({error})") from error
        with pdf:
            for number in range(len(pdf)):
                try:
                    text = pdf[number].get_textpage().get_text_bounded()
                except pypdfium2.PdfiumError as error:
                    raise UnreadableError(f"page {number + 1}: pdfium failed ({error})") from error
                metadata = {"page": number + 1, "engine": "pypdfium2"}
                yield Page(page_content=clean(text), metadata=metadata)


class PyPDFLoader(FileLoader):
    """PDF through pypdf: the second engine, which repairs some files that pdfium refuses."""

    def lazy_load(self) -> Iterator[Page]:
        """Yields one page each."""
        import pypdf

        try:
            reader = pypdf.PdfReader(self.path)
            if reader.is_encrypted and not reader.decrypt(""):
                raise UnreadableError(ENCRYPTED)
            for number, page in enumerate(reader.pages, start=1):
                metadata = {"page": number, "engine": "pypdf"}
                yield Page(page_content=clean(page.extract_text()), metadata=metadata)
        except UnreadableError:
            raise
        except Exception as error:  # pypdf raises bare AttributeError and ValueError on damage
            raise UnreadableError(
                f"pypdf cannot read it ({type(error).__name__}: {error})"
            ) from error


ENCRYPTED = "it is encrypted: save a copy without a password (qpdf --decrypt) in its place"

_W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_DOCX_PARTS = re.compile(r"word/(document|header\d*|footer\d*|footnotes|endnotes)\.xml$")
_DOCX_ORDER = ("header", "document", "footnotes", "endnotes", "footer")
_MAX_PART = 64 * 2**20
"""Bytes an unpacked part of a DOCX file may have: far above real text, far below a bomb."""


class DocxLoader(FileLoader):
    """DOCX through lxml: paragraphs, tables as rows, headers, footers and notes.

    The parser expands no entities and opens nothing outside the file.
    """

    def lazy_load(self) -> Iterator[Page]:
        """Yields the whole document as page 1."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                names = [name for name in archive.namelist() if _DOCX_PARTS.match(name)]
                names.sort(key=lambda name: (_docx_rank(name), name))
                if "word/document.xml" not in names:
                    raise UnreadableError("it is a zip archive without a Word document in it")
                parts = [_docx_part(archive, name) for name in names]
        except (zipfile.BadZipFile, EOFError, OSError, etree.XMLSyntaxError) as error:
            raise UnreadableError(f"it is damaged or not a DOCX file ({error})") from error
        text = "\n\n".join(part for part in parts if part)
        yield Page(page_content=clean(text), metadata={"page": 1, "engine": "lxml"})


def _docx_rank(name: str) -> int:
    return next(i for i, kind in enumerate(_DOCX_ORDER) if name.startswith(f"word/{kind}"))


def _docx_part(archive: zipfile.ZipFile, name: str) -> str:
    """The text of one XML part."""
    if archive.getinfo(name).file_size > _MAX_PART:
        raise UnreadableError(f"{name} unpacks to more than {_MAX_PART >> 20} MiB")
    content = archive.read(name)
    if b"<!DOCTYPE" in content[:4096]:
        raise UnreadableError(f"{name} has a DOCTYPE, which no Word document has")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)
    root = etree.parse(io.BytesIO(content), parser).getroot()
    blocks = [_docx_block(block) for block in _docx_blocks(root)]
    return "\n\n".join(block for block in blocks if block)


def _docx_blocks(element: etree._Element) -> Iterator[etree._Element]:
    """The outermost paragraphs and tables, in reading order."""
    for child in element:
        if child.tag in (f"{_W}p", f"{_W}tbl"):
            yield child
        else:
            yield from _docx_blocks(child)


def _docx_block(block: etree._Element) -> str:
    if block.tag == f"{_W}p":
        return _docx_paragraph(block)
    rows = []
    for row in block.iter(f"{_W}tr"):
        cells = [
            " ".join(_docx_paragraph(paragraph) for paragraph in cell.iter(f"{_W}p"))
            for cell in row.iter(f"{_W}tc")
        ]
        rows.append(" | ".join(cells))
    return "\n".join(rows)


_DOCX_CHARACTERS = {f"{_W}tab": "\t", f"{_W}br": "\n", f"{_W}cr": "\n"}


def _docx_paragraph(paragraph: etree._Element) -> str:
    pieces = []
    for element in paragraph.iter(f"{_W}t", *_DOCX_CHARACTERS):
        pieces.append(_DOCX_CHARACTERS.get(str(element.tag)) or element.text or "")
    return "".join(pieces).strip()


class Docx2txtLoader(FileLoader):
    """DOCX through docx2txt, the second engine: flattens tables and loses footnotes."""

    def lazy_load(self) -> Iterator[Page]:
        """Yields the whole document as page 1."""
        import docx2txt

        try:
            text = docx2txt.process(str(self.path))
        except Exception as error:  # docx2txt raises whatever zipfile and ElementTree raise
            raise UnreadableError(f"docx2txt cannot read it ({error})") from error
        yield Page(page_content=clean(text), metadata={"page": 1, "engine": "docx2txt"})


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


def decode(content: bytes) -> tuple[str, str]:
    """The text of `content` and the name of its encoding.

    A byte-order mark decides, else UTF-8 where it fits, else charset-normalizer's best guess.
    Raises UnreadableError for bytes that are not text.
    """
    for magic, what in _MAGIC.items():
        if content.startswith(magic):
            raise UnreadableError(f"it is {what} under another name: give it its own ending")
    encoding = next((name for bom, name in _BOMS.items() if content.startswith(bom)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        guess = from_bytes(content[:_SAMPLE]).best()
        if guess is None:
            raise UnreadableError("it is binary, or text in no known encoding") from None
        encoding = guess.encoding
        text = content.decode(encoding, errors="replace")
    sample = text[:_SAMPLE]
    if len(_CONTROL.findall(sample)) > len(sample) // 100:
        raise UnreadableError("it is binary, not text")
    return text, encoding


class TextLoader(FileLoader):
    """Plain text and Markdown, in whatever encoding."""

    def lazy_load(self) -> Iterator[Page]:
        """Yields the whole file as page 1."""
        text, encoding = decode(self.path.read_bytes())
        metadata = {"page": 1, "engine": "text", "encoding": encoding}
        yield Page(page_content=clean(text), metadata=metadata)


_ENGINES: dict[str, dict[str, Callable[[Path], FileLoader]]] = {
    "pdf": {"pypdfium2": PDFiumLoader, "pypdf": PyPDFLoader},
    "docx": {"lxml": DocxLoader, "docx2txt": Docx2txtLoader},
}


def load_pages(path: Path, media_type: str, loaders: dict[str, str]) -> list[Page]:
    """The pages of one file, through the first engine that gets text out of it.

    `loaders` maps a media type to the engine tried first. Raises UnreadableError with the first
    engine's reason where all of them fail.
    """
    engines = _ENGINES.get(media_type)
    if engines is None:
        return _with_text(TextLoader(path).load())
    first = loaders[media_type]
    order = [engines[first], *(engine for name, engine in engines.items() if name != first)]
    reasons = []
    for engine in order:
        try:
            return _with_text(engine(path).load())
        except UnreadableError as reason:
            reasons.append(reason)
    raise reasons[0]


def _with_text(pages: list[Page]) -> list[Page]:
    """`pages` as they are; raises UnreadableError where they hold no text to speak of."""
    visible = sum(len("".join(page.page_content.split())) for page in pages)
    if len(pages) > 1 or (pages and pages[0].metadata["engine"].startswith("pypdf")):
        if visible < SCAN_CHARACTERS * len(pages):
            raise UnreadableError(
                f"{visible} characters on {len(pages)} pages: it looks like a scan; "
                "add a text layer first (ocrmypdf in.pdf out.pdf)"
            )
    elif not visible:
        raise UnreadableError("it has no text")
    return pages
