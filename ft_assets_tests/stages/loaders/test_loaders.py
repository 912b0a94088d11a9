"""Reading PDF, DOCX, text and Markdown: reading order, headings, words, scans."""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
from docx import Document as DocxFile
from PIL import Image, ImageDraw, ImageFont
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen.canvas import Canvas

from ft_assets.engine.validation import problems
from ft_assets.errors import UserError
from ft_assets.records import Quality, RejectedDocument
from ft_assets.tables import read_table
from ft_assets_tests.conftest import PROSE, Corpus, sources, write_docx, write_pdf
from ft_assets_tests.stages.loaders.read_file import read
from ft_assets_tests.stages.parsing.test_limits import BODY, DOCUMENT, docx

LINES = PROSE.replace(". ", ".\n")


def picture(words: str = "") -> ImageReader:
    image = Image.new("L", (1200, 300), 255)
    ImageDraw.Draw(image).text((40, 100), words, fill=0, font=ImageFont.load_default(60))
    return ImageReader(image)


def write_scan(path: Path, pages: list[str | None], words: str = "The goat sleeps here") -> None:
    """A PDF whose None pages are pictures of words."""
    canvas = Canvas(str(path), invariant=1)
    for text in pages:
        if text is None:
            canvas.drawImage(picture(words), 50, 500, 500, 125)
        for number, line in enumerate((text or "").split("\n")):
            canvas.drawString(72, 760 - 16 * number, line[:90])
        canvas.showPage()
    canvas.save()


def test_a_scan_is_rejected_and_its_pages_named(tmp_path: Path) -> None:
    write_scan(tmp_path / "a.pdf", [None] * 3)
    reason = read(tmp_path / "a.pdf").reason
    assert reason.startswith("pages 1-3 (all of its 3) hold a picture and no text: a scan?")
    assert "data.loaders.ocr" in reason


@pytest.mark.parametrize("engine", ["pypdfium2", "pypdf"])
def test_pages_that_are_pictures_are_named_and_the_rest_is_read(
    tmp_path: Path, engine: str
) -> None:
    write_scan(tmp_path / "a.pdf", [LINES, "", None, LINES, None, None, "7", LINES])
    found = read(tmp_path / "a.pdf", pdf=engine)
    assert len(found.documents) == 8
    [rejected] = found.parsed.rejected
    assert rejected.startswith("pages 3, 5-6 (of 8) hold a picture and no text")
    assert found.parsed.pages_without_text == 3
    assert found.quality[0].empty_pages == 5


@pytest.mark.skipif(not shutil.which("ocrmypdf"), reason="ocrmypdf is not installed")
def test_ocr_reads_a_scan(tmp_path: Path) -> None:
    write_scan(tmp_path / "a.pdf", [LINES, None])
    found = read(tmp_path / "a.pdf", ocr=True)
    assert found.parsed.engine == "ocrmypdf+pypdfium2"
    assert "goat sleeps here" in found.documents[1].text
    assert found.documents[0].text.split() == LINES.split()
    assert not found.parsed.rejected


def test_ocr_that_is_not_installed_is_asked_for_by_name(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.settings("data: {loaders: {ocr: true}}")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"data\.loaders\.ocr: .*apt-get install ocrmypdf"):
        corpus.project.make("ferry", "raw_documents")
    [problem] = [
        each for each in problems(corpus.project, "ferry") if each.key == "data.loaders.ocr"
    ]
    assert problem.line == 1


def write_broken_words(path: Path, pages: list[list[str]]) -> None:
    write_pdf(path, ["\n".join(lines) for lines in pages])


@pytest.mark.parametrize("engine", ["pypdfium2", "pypdf"])
def test_broken_words_are_joined_and_hyphens_that_belong_to_words_stay(
    tmp_path: Path, engine: str
) -> None:
    page = [
        "The captain is improv-",
        "ing the well-known ferry, which is well-",
        "known in the harbour, for all 32-",
        "bit machines of the FHS-",
        "compliant kind.",
    ]
    write_broken_words(tmp_path / "a.pdf", [page])
    words = read(tmp_path / "a.pdf", pdf=engine).text.split()
    for word in ("improving", "well-known", "32-bit", "FHS-compliant"):
        assert word in words, word
    assert words.count("well-known") == 2
    apart = read(tmp_path / "a.pdf", pdf=engine, dehyphenate=False).text
    assert "improv-\ning" in apart


def test_running_lines_are_stripped_when_asked_for(tmp_path: Path) -> None:
    pages = [
        f"The Ferry Handbook {n}\nRope {'abcde'[n]}\n{LINES}\nOil {'abcde'[n]}\nPage {n} of 5"
        for n in range(5)
    ]
    write_pdf(tmp_path / "a.pdf", pages)
    assert "Handbook" in read(tmp_path / "a.pdf").text
    found = read(tmp_path / "a.pdf", strip_headers=True)
    assert "Handbook" not in found.text
    assert "Page" not in found.text
    assert found.documents[0].text.split() == ["Rope", "a", *LINES.split(), "Oil", "a"]


@pytest.mark.parametrize("engine", ["pypdfium2", "pypdf"])
def test_the_outline_gives_headings_where_their_titles_stand(tmp_path: Path, engine: str) -> None:
    canvas = Canvas(str(tmp_path / "a.pdf"), invariant=1)
    for page, (title, level) in enumerate([("The ferry", 0), ("Its goat", 1), ("Not on it", 1)]):
        canvas.bookmarkPage(str(page))
        canvas.addOutlineEntry(title, str(page), level)
        canvas.drawString(72, 760, f"Words before the heading of page {page}")
        canvas.drawString(72, 700, f"{page}.1 {title}" if page < 2 else "Nothing")
        canvas.drawString(72, 640, f"And what it says: {title}")
        canvas.showPage()
    canvas.save()
    found = read(tmp_path / "a.pdf", pdf=engine)
    assert found.headings[:2] == [(1, "The ferry", "0.1 The f"), (2, "Its goat", "1.1 Its ")]
    assert found.documents[2].headings[0]["start"] == found.documents[2].start + (
        found.documents[2].text.index("Not on it")
    )


def test_a_pdf_that_pdfium_cannot_open_is_read_by_pypdf(tmp_path: Path) -> None:
    write_pdf(tmp_path / "a.pdf", [LINES])
    content = (tmp_path / "a.pdf").read_bytes()
    (tmp_path / "a.pdf").write_bytes(content.replace(b"/Kids", b"/Kid_"))
    assert (
        "cannot" in read(tmp_path / "a.pdf").reason or "no pages" in read(tmp_path / "a.pdf").reason
    )


W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
MC = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'


def body(content: str) -> str:
    return f"<w:document {W} {MC}><w:body>{content}</w:body></w:document>"


def paragraph(text: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


def test_a_docx_is_read_in_order_and_everything_once(tmp_path: Path) -> None:
    box = f"<w:txbxContent>{paragraph('In a box')}</w:txbxContent>"
    content = (
        paragraph("Before")
        + f"<w:p><w:r><w:t>Anchor</w:t><mc:AlternateContent><mc:Choice>{box}</mc:Choice>"
        f"<mc:Fallback>{box}</mc:Fallback></mc:AlternateContent></w:r></w:p>"
        + "<w:p><w:r><w:t>kept</w:t></w:r><w:del><w:r><w:delText>gone</w:delText></w:r></w:del>"
        "<w:ins><w:r><w:t> added</w:t></w:r></w:ins>"
        "<w:moveFrom><w:r><w:t>moved</w:t></w:r></w:moveFrom></w:p>"
        + f"<w:tbl><w:tr><w:tc>{paragraph('day')}</w:tc><w:tc>{paragraph('fare')}{paragraph('in pears')}"
        f"</w:tc></w:tr><w:tr><w:sdt><w:sdtContent><w:tc>{paragraph('Monday')}</w:tc></w:sdtContent>"
        f"</w:sdt><w:tc>{paragraph('3')}</w:tc></w:tr></w:tbl>"
        + f"<w:sdt><w:sdtContent>{paragraph('After')}</w:sdtContent></w:sdt>"
    )
    note = f"<w:footnotes {W}><w:footnote>{paragraph('A note')}</w:footnote></w:footnotes>"
    parts: dict[str, str | bytes] = {
        "word/footnotes.xml": note,
        "word/footer1.xml": f"<w:ftr {W}>{paragraph('Foot')}</w:ftr>",
        "word/footer2.xml": f"<w:ftr {W}>{paragraph('Foot')}</w:ftr>",
        "word/header1.xml": f"<w:hdr {W}>{paragraph('Head')}</w:hdr>",
        "../../../etc/passwd": "never opened",
        DOCUMENT: body(content),
    }
    expected = [
        "Head",
        "Before",
        "Anchor",
        "In a box",
        "kept added",
        "day | fare in pears\nMonday | 3",
        "After",
        "A note",
        "Foot",
    ]
    assert read(docx(tmp_path / "a.docx", parts)).text.split("\n\n") == expected


def test_the_styles_of_a_docx_give_headings(tmp_path: Path) -> None:
    file = DocxFile()
    file.sections[0].header.paragraphs[0].text = "A header before it all"
    file.add_heading("The ferry", 0)
    file.add_heading("Its goat", 1)
    file.add_paragraph("It sleeps in the wheelhouse.")
    file.add_heading("Its  fare", 3)
    own = file.styles.add_style("Shout", 1)
    own.base_style = file.styles["Heading 2"]
    file.add_paragraph("Loud", style=own)
    file.save(str(tmp_path / "a.docx"))
    found = read(tmp_path / "a.docx").headings
    assert [heading[:2] for heading in found] == [
        (1, "The ferry"),
        (1, "Its goat"),
        (3, "Its fare"),
        (2, "Loud"),
    ]
    assert [heading[2] for heading in found] == ["The ferry", "Its goat", "Its  far", "Loud"]


def test_a_docx_that_lxml_cannot_read_is_read_by_docx2txt_or_rejected(tmp_path: Path) -> None:
    path = docx(tmp_path / "a.docx", {DOCUMENT: BODY.format("A goat.")[:-20]})
    assert "damaged" in read(path).reason
    with zipfile.ZipFile(tmp_path / "b.docx", "w") as archive:
        archive.writestr(DOCUMENT, BODY.format("A goat."))
        archive.writestr("word/footnotes.xml", "<broken")
    found = read(tmp_path / "b.docx")
    assert found.parsed.engine == "docx2txt"
    assert found.text == "A goat."


MARKDOWN = """---
title: none of # this
---
# The ferry #
words
```sh
# a comment, no heading
```
Its goat
--------
- item
---
### Fare ###
~~~
# code
```
~~~
    # code too
#no heading
The *end*
===
"""


def test_markdown_headings_of_both_kinds_but_not_in_code(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text(MARKDOWN)
    found = read(tmp_path / "a.md").headings
    assert [heading[:2] for heading in found] == [
        (1, "The ferry"),
        (2, "Its goat"),
        (3, "Fare"),
        (1, "The *end*"),
    ]
    assert [heading[2] for heading in found] == ["# The fer", "Its goat", "### ", "The *end*"]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_wide_text_without_a_mark_is_read(tmp_path: Path, encoding: str) -> None:
    text = "Grüße aus Köln, 東京. The goat sleeps.\n" * 20
    (tmp_path / "a.txt").write_bytes(text.encode(encoding))
    found = read(tmp_path / "a.txt")
    assert found.text == text
    assert found.parsed.encoding == encoding
    line = json.dumps({"question": "Größe?", "answer": "東京"}, ensure_ascii=False)
    (tmp_path / "a.jsonl").write_bytes(f"{line}\n{line}\n".encode(encoding))
    assert len(read(tmp_path / "a.jsonl").records) == 2


def test_a_few_bad_bytes_spoil_no_text(tmp_path: Path) -> None:
    text = "Grüße aus Köln, 東京. " * 50
    (tmp_path / "a.txt").write_bytes(text.encode() + b"\xff\xfe and \0 more\r\nend\r")
    found = read(tmp_path / "a.txt")
    assert found.parsed.encoding == "utf-8"
    assert found.text == f"{text}\ufffd\ufffd and  more\nend\n"


WORDS = "The ferry leaves the quay at six and its captain keeps a goat in the wheelhouse. " * 20


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (WORDS, None),
        (
            ("Die Donaudampfschifffahrtsgesellschaft fährt heute. " + "Sie legt um sechs ab. " * 20)
            * 5,
            None,
        ),
        ("船は六時に埠頭を出る。船長は山羊を飼っている。" * 40, None),
        ("เรือข้ามฟากออกจากท่าเวลาหกโมงเช้าทุกวัน" * 40, None),
        (WORDS.replace(" the ", "the").replace(" a ", "a").replace(" ", "", 200), "glued"),
        (" ".join(WORDS), "torn apart"),
        (WORDS.replace("e", "\ufffd"), "none that text has"),
        (WORDS.replace("ferry", "(cid:17)(cid:4)"), "none that text has"),
        (WORDS.replace("s", "\ue017"), "none that text has"),
        ("the cap-\ntain keeps a go-\nat in the wheel-\n" * 30, "broken word"),
    ],
)
def test_damaged_text_is_told_from_sound_text(
    tmp_path: Path, text: str, problem: str | None
) -> None:
    (tmp_path / "a.txt").write_text(text)
    [quality] = read(tmp_path / "a.txt").quality
    assert quality.problem is None if problem is None else problem in str(quality.problem)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (WORDS, "en"),
        ("Die Fähre verlässt den Kai um sechs Uhr, und der Kapitän hält eine Ziege.", "de"),
        (
            "船は六時に埠頭を出る。船長は操舵室で眠る山羊を飼っている。切符はパン屋が売っている。",
            "ja",
        ),
        ("1 2 3", None),
    ],
)
def test_the_language_is_told(tmp_path: Path, text: str, language: str | None) -> None:
    (tmp_path / "a.txt").write_text(text)
    [quality] = read(tmp_path / "a.txt").quality
    assert quality.language == language


def test_a_long_text_is_judged_by_samples_which_it_alone_decides(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(WORDS * 600)
    [first], [again] = (read(tmp_path / "a.txt").quality for _ in range(2))
    assert first == again
    assert first.characters == len(WORDS) * 600
    assert first.mean_word_length == pytest.approx(4.0, abs=0.5)


def test_the_asset_tells_of_scans_and_damaged_text(corpus: Corpus) -> None:
    write_scan(corpus.folder / "mixed.pdf", [LINES, None])
    write_scan(corpus.folder / "scan.pdf", [None])
    corpus.write("glued.txt", WORDS.replace(" ", ""))
    corpus.write("odd.txt", WORDS.replace("e", "\ufffd"))
    made = corpus.project.make("ferry", "raw_documents")
    folder = corpus.project.storage.folder("ferry", "raw_documents", made.manifest.version)
    rejected = list(read_table(folder / "rejected.parquet", RejectedDocument))
    assert {each.whole for each in rejected if each.media_type == "pdf"} == {True, False}
    checks: dict[str, Any] = made.manifest.checks
    assert not checks["every_file_read"]["passed"]
    assert "mixed.pdf: page 2 (of 2) holds a picture" in checks["every_file_read"]["message"]
    assert not checks["text_is_sound"]["passed"]
    assert "odd.txt: " in checks["text_is_sound"]["message"]
    assert not any(verdict["blocking"] for verdict in checks.values())
    assert made.manifest.counts["unsound_texts"] == 2
    assert made.manifest.counts["pages_without_text"] == 2
    quality = list(read_table(folder / "quality.parquet", Quality))
    texts = {each.text_id for each in sources(corpus.project, made.manifest) if each.text_id}
    assert {row.text_id for row in quality} == texts
    assert len(quality) == len(texts)


def test_headings_are_a_part_of_what_a_text_is(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("# The ferry")
    (tmp_path / "a.txt").write_text("# The ferry")
    assert read(tmp_path / "a.md").parsed.text_id != read(tmp_path / "a.txt").parsed.text_id


def test_a_docx_saved_anew_is_the_same_text(tmp_path: Path) -> None:
    for name in ("a.docx", "b.docx"):
        write_docx(tmp_path / name, [PROSE], [["day", "fare"]], "Foot")
    with zipfile.ZipFile(tmp_path / "b.docx", "a") as archive:
        archive.writestr("docProps/more.xml", "<more/>")
    assert read(tmp_path / "a.docx").parsed.text_id == read(tmp_path / "b.docx").parsed.text_id
