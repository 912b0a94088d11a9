"""Incremental equals clean: after any changes to a corpus, its dataset is that of a clean build."""

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ft_assets.engine.graph import upstream
from ft_assets.engine.project import Project
from ft_assets.records import Chunk, Example
from ft_assets.stages import chunks, raw_documents
from ft_assets.stages.parsing.files import ParsedFile, Task
from ft_assets.stages.parsing.pool import parse_files
from ft_assets.tables import read_table
from ft_assets_tests.conftest import PROSE, Corpus, qa_records, sources, write_pdf

DATA_HALF = [*upstream("formatted_dataset"), "formatted_dataset"]

CONTENTS: dict[str, list[bytes]] = {
    ".txt": [
        PROSE.encode(),
        PROSE.replace("\n", "\r\n").encode(),  # other bytes, the same text
        b"A short note about the goat.",
        (PROSE * 3).encode(),
        b"\xff\xfe\x00",  # cannot be read
    ],
    ".json": [
        json.dumps(qa_records(7)).encode(),
        json.dumps(qa_records(7), indent=2).encode(),
        json.dumps([*qa_records(3), {"question": "no answer"}, *qa_records(12)]).encode(),
        json.dumps([{"text": "The quay is made of oak."}, *qa_records(2)]).encode(),
    ],
    ".jsonl": [
        b'{"question": "Whose goat?", "answer": "Crate 3 holds 21 pears."}\n' * 2,
        b'{"prompt": "Who pays?", "completion": "Musicians, in songs."}\n',
        gzip.compress(b'{"text": "Biscuit sleeps."}\n{"text": "The quay is wet."}\n', mtime=0),
        b'{"question": "Is it late?", "answer": "No.", "label": false, "id": 4}\n' * 2,
    ],
    ".csv": [
        b"question,answer,rank\nWhose goat?,The captain's.,1\nWhat is sold?,Tickets.,2\n",
        b"question;answer\nWhose goat?;The captain's.\n",
    ],
}
NAMES = [f"{name}{suffix}" for name in ("a", "b", "sub/c") for suffix in CONTENTS]
SETTINGS = [
    "data: {seed: 3}",
    "langchain: {chunk_size: 90, chunk_overlap: 20}",
    "langchain: {splitter: token, chunk_size: 24, chunk_overlap: 4}",
    "data: {template: alpaca, export_formats: [jsonl, txt]}",
    "data: {eval_fraction: 0.4, system_prompt: 'Be brief.'}",
    "data: {eval_fraction: 0.3, eval_unit: document}",
    "data: {eval_fraction: 0.3, eval_unit: section}\nlangchain: {chunk_size: 60, chunk_overlap: 20}",
    "training: {max_length: 48}",
    "augment: {normalize_whitespace: all}",
]

Step = Callable[[Corpus], object]


def _write(name: str, which: int) -> Step:
    contents = CONTENTS[Path(name).suffix]
    return lambda corpus: corpus.write(name, contents[which % len(contents)])


def _delete(name: str) -> Step:
    return lambda corpus: (corpus.folder / name).unlink(missing_ok=True)


def _rename(old: str, new: str) -> Step:
    def step(corpus: Corpus) -> None:
        target = corpus.folder / Path(new).with_suffix(Path(old).suffix)
        if (corpus.folder / old).exists():
            target.parent.mkdir(exist_ok=True)
            (corpus.folder / old).rename(target)

    return step


def _set(which: int) -> Step:
    return lambda corpus: corpus.settings(
        f"{corpus.folder.parent.joinpath('base').read_text()}\n{SETTINGS[which]}"
    )


NAME = st.sampled_from(NAMES)
STEPS = st.lists(
    st.one_of(
        st.builds(_write, NAME, st.integers(0, 4)),
        st.builds(_write, NAME, st.integers(0, 4)),
        st.builds(_delete, NAME),
        st.builds(_rename, NAME, NAME),
        st.builds(_set, st.integers(0, len(SETTINGS) - 1)),
    ),
    min_size=2,
    max_size=5,
)


def new_corpus(root: Path, base: Path) -> Corpus:
    made = Corpus(Project(root / "data", root / "storage"), "ferry")
    made.write("keeper.txt", "The keeper stays, whatever happens to the rest of the files.")
    made.write("../base", f"model: {{base: '{base}'}}")
    made.settings(f"model: {{base: '{base}'}}")
    return made


def build(corpus: Corpus) -> None:
    for asset in DATA_HALF:
        corpus.project.make(corpus.name, asset)


def artifact(project: Project, asset: str) -> dict[str, bytes]:
    """The bytes of the current artifact, without its manifest."""
    manifest = project.storage.current("ferry", asset)
    assert manifest
    folder = project.storage.folder("ferry", asset, manifest.version)
    return {name: (folder / name).read_bytes() for name in manifest.files}


def meaning(project: Project, asset: str) -> dict[str, Any]:
    """What the current manifest says about the content, without times, reasons and cost."""
    manifest = project.storage.current("ferry", asset)
    assert manifest
    return {name: getattr(manifest, name) for name in ("fingerprint", "counts", "checks", "inputs")}


def same_as_clean(corpus: Corpus, root: Path, make: Callable[[Corpus], None] = build) -> None:
    """Asserts that the corpus's artifacts are, byte for byte, those of a clean build."""
    clean = Corpus(Project(corpus.project.data, root / "clean"), corpus.name)
    build(clean)
    for asset in DATA_HALF:
        assert artifact(corpus.project, asset) == artifact(clean.project, asset), asset
        assert meaning(corpus.project, asset) == meaning(clean.project, asset), asset
    assert behind(corpus.project) == behind(clean.project)


def behind(project: Project) -> set[str | None]:
    """The texts behind the dataset. A second file with the same text ends at `raw_documents`."""
    manifest = project.storage.current("ferry", "formatted_dataset")
    assert manifest
    return {each.text_id for each in sources(project, manifest)}


def snapshot(root: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in root.rglob("*")
        if path.is_file() and ".cache" not in path.parts and path.name != ".guard"
    }


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS)
def test_any_sequence_of_changes_ends_in_the_bytes_of_a_clean_build(
    steps: list[Step], pico_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("sequence")
    try:
        corpus = new_corpus(root, pico_model)
        build(corpus)
        for step in steps:
            step(corpus)
            build(corpus)
        same_as_clean(corpus, root)
        before = snapshot(corpus.project.storage.root)
        build(corpus)
        assert snapshot(corpus.project.storage.root) == before
    finally:
        shutil.rmtree(root)


def _watch(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[Any]:
    """Records the first argument of each call of a function, which otherwise works as before."""
    calls: list[Any] = []
    function = getattr(module, name)

    def watched(first: Any, *rest: Any) -> Any:
        calls.append(first)
        return function(first, *rest)

    monkeypatch.setattr(module, name, watched)
    return calls


def _names(asked: list[list[Task]]) -> list[str]:
    """The files that were parsed, by any build."""
    return [task.path.name for tasks in asked for task in tasks]


def test_of_many_documents_the_edited_one_is_parsed_and_cut(
    corpus: Corpus, pico_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.settings(f"model: {{base: '{pico_model}'}}")
    for number in range(40):
        write_pdf(corpus.folder / f"{number}.pdf", [f"The goat ate ticket number {number}. " * 3])
    build(corpus)
    asked = _watch(monkeypatch, raw_documents, "parse_files")
    cut = _watch(monkeypatch, chunks, "split_text")
    write_pdf(corpus.folder / "7.pdf", ["The goat ate the timetable. " * 3])
    build(corpus)
    assert _names(asked) == ["7.pdf"]
    [pages] = cut
    assert "timetable" in pages[0].text


def test_what_was_rejected_stays_rejected_until_it_is_forced(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus.write("broken.pdf", b"%PDF-1.7 no more")
    corpus.project.make("ferry", "raw_documents")
    asked = _watch(monkeypatch, raw_documents, "parse_files")
    corpus.write("new.txt", "Something new on the quay.")
    corpus.project.make("ferry", "raw_documents")
    assert _names(asked) == ["new.txt"]
    corpus.project.make("ferry", "raw_documents", force=True)
    assert "broken.pdf" in _names(asked)


def test_a_change_taken_back_uses_the_earlier_version_again(
    corpus: Corpus, pico_model: Path
) -> None:
    base = f"model: {{base: '{pico_model}'}}\n"
    corpus.settings(base)
    build(corpus)
    first = corpus.project.storage.current("ferry", "formatted_dataset")
    corpus.settings(base + "data: {seed: 5, eval_fraction: 0.3}")
    build(corpus)
    corpus.settings(base)
    made = corpus.project.make("ferry", "formatted_dataset")
    assert made.reused
    assert made.manifest == first


def test_every_row_goes_back_to_a_document(corpus: Corpus, pico_model: Path) -> None:
    corpus.settings(f"model: {{base: '{pico_model}'}}")
    build(corpus)
    project = corpus.project
    raw = project.storage.current("ferry", "raw_documents")
    assert raw
    texts = {line.text_id: line.path for line in sources(project, raw)}
    folders = {
        asset: project.storage.folder("ferry", asset, manifest.version)
        for asset in DATA_HALF
        if (manifest := project.storage.current("ferry", asset))
    }
    cut = {chunk.chunk_id for chunk in read_table(folders["chunks"] / "chunks.parquet", Chunk)}
    for split in ("train", "eval"):
        for row in read_table(folders["formatted_dataset"] / f"{split}.parquet", Example):
            assert row.text_id in texts
            assert row.kind == "record" or row.origin_id in cut


def test_a_file_that_changes_under_the_reader_is_not_taken(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:

    def slow(tasks: list[Task]) -> Iterator[tuple[Task, ParsedFile]]:
        for task, parsed in parse_files(tasks):
            task.path.write_text("Half of somethi")
            yield task, parsed

    monkeypatch.setattr(raw_documents, "parse_files", slow)
    with pytest.raises(Exception, match="changed while it was read"):
        corpus.project.make("ferry", "raw_documents")
    assert corpus.project.storage.current("ferry", "raw_documents") is None
