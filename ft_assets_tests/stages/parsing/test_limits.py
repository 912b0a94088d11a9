"""Files made to hurt: each is a row with a reason that names the limit, and hurts nobody."""

import io
import json
import random
import time
import zipfile
import zlib
from pathlib import Path

import psutil
import pytest

from ft_assets.files import hash_file
from ft_assets.stages.job import CorpusFile
from ft_assets.stages.raw_documents import load_documents, read_files
from ft_assets.tables import read_batches
from ft_assets_tests.conftest import PROSE, write_docx, write_pdf
from ft_assets_tests.stages.loaders.read_file import read, settings

DOCUMENT = "word/document.xml"
BODY = (
    '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>'
    "<w:p><w:r><w:t>{}</w:t></w:r></w:p></w:body></w:document>"
)


def docx(path: Path, parts: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def pdf(path: Path, objects: dict[int, bytes]) -> Path:
    """A PDF of these objects; the first is its catalog."""
    content, places = b"%PDF-1.7\n", {}
    for number, body in objects.items():
        places[number] = len(content)
        content += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % places[number] for number in sorted(places))
    start = len(content)
    content += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    content += b"trailer\n<< /Root 1 0 R /Size %d >>\n" % (len(objects) + 1)
    path.write_bytes(content + b"startxref\n%d\n%%%%EOF\n" % start)
    return path


def stream(content: bytes, more: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(content), more, content)


def one_page(path: Path, contents: bytes, more: dict[int, bytes], resources: bytes) -> Path:
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R %s >>" % resources
    tree = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        2: b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
    }
    return pdf(path, {**tree, 3: page, 4: contents, **more})


def nested_forms(path: Path, depth: int = 24) -> Path:
    """Two kilobytes that draw 2**depth forms."""
    forms = {}
    for number in range(depth):
        below = b"/Resources << /XObject << /X %d 0 R >> >>" % (number + 6)
        kind = b"/Type /XObject /Subtype /Form /BBox [0 0 9 9] %s"
        drawn = b"/X Do " * 30 if number < depth - 1 else b"0 0 m 9 9 l S "
        forms[number + 5] = stream(drawn, kind % (below if number < depth - 1 else b""))
    resources = b"/Resources << /XObject << /X 5 0 R >> >>"
    return one_page(path, stream(b"/X Do /X Do"), forms, resources)


def flate_bomb(path: Path, megabytes: int) -> Path:
    """A page whose contents unpack to a thousand times their size."""
    packed = zlib.compress(zlib.compress(b" " * megabytes * 2**20, 9), 9)
    filters = b"/Filter [/FlateDecode /FlateDecode]"
    return one_page(path, stream(packed, filters), {}, b"")


def test_a_pdf_that_runs_for_ever_is_stopped(tmp_path: Path) -> None:
    began = time.monotonic()
    reason = read(nested_forms(tmp_path / "a.pdf"), max_seconds=1).reason
    assert reason.startswith("pypdfium2 took longer than 1 s: data.loaders.max_seconds")
    assert time.monotonic() - began < 20


def test_a_pdf_that_swells_is_held_to_its_memory(tmp_path: Path) -> None:
    path = flate_bomb(tmp_path / "a.pdf", 1_500)
    assert path.stat().st_size < 20_000
    reason = read(path, max_memory_mb=256, max_seconds=20).reason
    assert "pypdfium2" in reason
    assert "256 MB of memory: data.loaders.max_memory_mb" in reason or "no text" in reason


def test_the_text_of_a_pdf_is_held_to_its_size(tmp_path: Path) -> None:
    """One page of a megabyte that stands in the page tree three times."""
    words = b"BT /F 1 Tf 1 1 Td " + b"(goat goat goat goat goat goat goat ) Tj " * 12_000 + b"ET"
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600000 800] /Contents 4 0 R %s >>"
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    objects = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        2: b"<< /Type /Pages /Count 3 /Kids [3 0 R 3 0 R 3 0 R] >>",
        3: page % b"/Resources << /Font << /F 5 0 R >> >>",
        4: stream(words),
        5: font,
    }
    reason = read(pdf(tmp_path / "a.pdf", objects), max_unpacked_mb=1).reason
    assert reason == "its text is more than 1 MB: data.loaders.max_unpacked_mb"


def test_a_docx_with_entities_is_refused_in_any_encoding(tmp_path: Path) -> None:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    contents: list[str | bytes]
    bomb = f'<!DOCTYPE d [<!ENTITY l0 "ha">{laughs}]><d>&l9;</d>'
    late = "<!-- " + "x" * 10_000 + " -->" + bomb
    contents = [bomb, late, ("\ufeff" + bomb).encode("utf-16-le")]
    for number, content in enumerate(contents):
        for name in (DOCUMENT, "word/footnotes.xml"):
            parts: dict[str, str | bytes] = {DOCUMENT: BODY.format("A goat."), name: content}
            for engine in ("lxml", "docx2txt"):
                path = docx(tmp_path / f"{number}.docx", parts)
                assert "DOCTYPE" in read(path, docx=engine).reason


@pytest.mark.parametrize("engine", ["lxml", "docx2txt"])
def test_a_docx_is_held_to_what_it_unpacks_to(tmp_path: Path, engine: str) -> None:
    big = BODY.format("goat " * 500_000)
    reason = read(docx(tmp_path / "a.docx", {DOCUMENT: big}), docx=engine, max_unpacked_mb=1).reason
    assert reason == "it unpacks to more than 1 MB: data.loaders.max_unpacked_mb"
    reason = read(docx(tmp_path / "a.docx", {DOCUMENT: big}), docx=engine, max_expansion=10).reason
    assert "more than 10: data.loaders.max_expansion" in reason
    many: dict[str, str | bytes] = {f"media/{number}": "" for number in range(20)}
    path = docx(tmp_path / "a.docx", {DOCUMENT: BODY.format("A goat."), **many})
    assert read(path, docx=engine).text == "A goat."
    reason = read(path, docx=engine, max_archive_members=10).reason
    assert reason == "it has 21 members, more than 10: data.loaders.max_archive_members"


def test_a_docx_that_lies_about_its_size_is_refused(tmp_path: Path) -> None:
    path = docx(tmp_path / "a.docx", {DOCUMENT: BODY.format("goat " * 500_000)})
    content = path.read_bytes()
    real = len(BODY.format("goat " * 500_000)).to_bytes(4, "little")
    path.write_bytes(content.replace(real, (5_000).to_bytes(4, "little")))
    assert "damaged" in read(path).reason


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('[{"question": "Q", "answer": "A", "more": ' + "[" * 100 + "]" * 100 + "}]", "64 levels"),
        ('[{"question": "Q", "answer": "A", "answer": "B"}]', "the key 'answer' stands twice"),
        ('[{"question": "Q", "answer": "A", "score": NaN}]', "NaN is not JSON"),
        ('[{"question": "Q", "answer": "A", "score": -Infinity}]', "-Infinity is not JSON"),
        (
            '[{"question": "Q", "answer": 1' + "0" * 5_000 + "}]",
            "a number of 5,001 digits: write it as a string",
        ),
        ('[{"question": "Q", "answer": "' + "x" * (17 * 2**20) + '"}]', "longer than 16 Mi"),
    ],
)
def test_json_that_is_no_json_is_named(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "a.json").write_text(content)
    reason = read(tmp_path / "a.json").reason
    assert reason.startswith("line 1, record 1: ")
    assert says in reason


def test_a_line_of_100_mb_spoils_no_other(tmp_path: Path) -> None:
    good = json.dumps({"question": "Whose goat?", "answer": "The captain's."})
    with (tmp_path / "a.jsonl").open("w") as file:
        file.write(f"{good}\n")
        for _ in range(100):
            file.write("x" * 2**20)
        file.write(f"\n{good}\n")
    found = read(tmp_path / "a.jsonl", max_memory_mb=256)
    assert [record.number for record in found.records] == [1, 3]
    assert found.parsed.rejected == ["line 2, record 2: longer than 16 Mi characters: no record is"]


def test_reasons_of_one_file_are_counted_rather_than_kept(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("17\n" * 5_000)
    rejected = read(tmp_path / "a.jsonl").parsed.rejected
    assert len(rejected) == 1_001
    assert rejected[-1] == "and 4,000 more parts cannot be used"


def test_strings_that_are_no_text_become_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(r'[{"question": "A\ud800?", "answer": "B\u0000\ud83d\ude00"}]')
    [record] = read(tmp_path / "a.json").records
    assert [turn["content"] for turn in record.messages] == ["A\ufffd?", "B😀"]


@pytest.mark.slow
def test_a_million_records_take_no_memory(tmp_path: Path) -> None:
    import pyarrow as pa

    with (tmp_path / "a.jsonl").open("w") as written:
        for number in range(1_000_000):
            written.write(f'{{"question": "In crate {number}?", "answer": "{number} pears"}}\n')
    output = tmp_path / "out"
    output.mkdir()
    file = CorpusFile("a.jsonl", 0, hash_file(tmp_path / "a.jsonl"))
    read(tmp_path / "a.jsonl", max_seconds=1)  # whatever is loaded once
    how = settings(max_memory_mb=256, max_seconds=600)
    before = psutil.Process().memory_info().rss
    [line] = load_documents([file], tmp_path, output, how, print)
    grown = psutil.Process().memory_info().rss - before
    most = pa.default_memory_pool().max_memory() or 0
    print(f"parent grew by {grown >> 20} MB, Arrow held {most >> 20} MB at most")
    assert line.records == 1_000_000
    assert most < 64 * 2**20
    assert grown < 128 * 2**20
    rows = sum(len(batch) for batch in read_batches(output / "records.parquet", ["number"]))
    assert rows == 1_000_000


def _mutate(content: bytes, draw: random.Random) -> bytes:
    """Some bytes changed, a piece cut out, a piece doubled, or the end cut off."""
    changed = bytearray(content)
    how = draw.randrange(4)
    start = draw.randrange(len(content))
    end = min(len(content), start + draw.choice([1, 8, 200, 4_000]))
    if how == 0:
        for _ in range(draw.choice([1, 10, 300])):
            changed[draw.randrange(len(content))] = draw.randrange(256)
    elif how == 1:
        del changed[start:end]
    elif how == 2:
        changed[start:start] = content[start:end]
    else:
        del changed[start:]
    return bytes(changed)


def _originals(folder: Path) -> list[Path]:
    write_pdf(folder / "a.pdf", [PROSE.replace(". ", ".\n")] * 3)
    write_docx(folder / "a.docx", [PROSE, "A goat."], [["day", "fare"]], "The footer")
    records = [{"question": f"Question {n}?", "answer": f"Answer {n} ü"} for n in range(20)]
    (folder / "a.json").write_text(json.dumps(records, indent=1, ensure_ascii=False))
    (folder / "a.txt").write_text(f"{PROSE}\n{'Grüße aus Köln, 東京. ' * 20}")
    return [folder / f"a.{ending}" for ending in ("pdf", "docx", "json", "txt")]


@pytest.mark.slow
def test_of_5000_damaged_files_each_has_text_or_a_reason(tmp_path: Path) -> None:
    originals = _originals(tmp_path)
    how = settings(max_seconds=10, max_memory_mb=512)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    states, memory = {"text": 0, "reason": 0}, []
    slowest = 0.0
    for number in range(0, 5_000, 250):
        files = []
        for offset in range(250):
            draw = random.Random(number + offset)
            original = originals[(number + offset) % len(originals)]
            path = tmp_path / f"{number + offset}{original.suffix}"
            path.write_bytes(_mutate(original.read_bytes(), draw))
            files.append(CorpusFile(path.name, path.stat().st_size, hash_file(path)))
        began = time.monotonic()
        for file, parsed in read_files(files, tmp_path, how, scratch):
            slowest, began = max(slowest, time.monotonic() - began), time.monotonic()
            assert parsed.text_id or parsed.rejected, file.path
            assert not parsed.text_id or parsed.records or parsed.characters, file.path
            states["text" if parsed.text_id else "reason"] += 1
            (tmp_path / file.path).unlink()
        memory.append(psutil.Process().memory_info().rss)
    assert sum(states.values()) == 5_000
    assert slowest < 2 * 10 + 5
    assert memory[-1] - memory[1] < 24 * 2**20
    print(states, f"slowest {slowest:.2f} s, grown {memory[-1] - memory[1] >> 10} KB")


def test_an_archive_of_nothing_is_no_word_document(tmp_path: Path) -> None:
    body = io.BytesIO()
    zipfile.ZipFile(body, "w").close()
    (tmp_path / "a.docx").write_bytes(body.getvalue())
    assert "without a Word document" in read(tmp_path / "a.docx").reason
