"""A partial artifact is never current, and only what changed is rebuilt."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from ft_assets.engine.graph import GRAPH, upstream
from ft_assets.engine.prune import prune
from ft_assets.engine.storage import Storage
from ft_assets.errors import StageError
from ft_assets.files import hash_file
from ft_assets.manifest import MANIFEST, SOURCES, Manifest, Verdict
from ft_assets.stages.job import Job, Outcome
from ft_assets_tests.conftest import PROSE, Corpus, RunCLI, sources

DATA_HALF = ["raw_documents", "chunks", "qa_pairs", "formatted_dataset"]

BAD = Verdict(passed=False, blocking=True, message="they are not")


def _make_all(corpus: Corpus, until: str = "formatted_dataset") -> list[str]:
    """Builds everything up to `until`; returns what was really built."""
    project = corpus.project
    names = [*upstream(until), until]
    return [name for name in names if not project.make(corpus.name, name).reused]


def test_an_unchanged_corpus_is_not_made_again(corpus: Corpus) -> None:
    assert _make_all(corpus) == DATA_HALF
    before = {path: path.stat().st_mtime_ns for path in corpus.project.storage.root.rglob("*.*")}
    assert _make_all(corpus) == []
    after = {path: path.stat().st_mtime_ns for path in corpus.project.storage.root.rglob("*.*")}
    assert {k: v for k, v in before.items() if ".cache" not in str(k)} == {
        k: v for k, v in after.items() if ".cache" not in str(k)
    }


@pytest.mark.parametrize(
    ("settings", "made"),
    [
        ("# only a comment\ntraining: {}", []),
        ("training: {learning_rate: 1.0e-3}", []),
        ("data: {seed: 18}", ["formatted_dataset"]),
        (
            "langchain: {chunk_size: 90, chunk_overlap: 0}",
            ["chunks", "qa_pairs", "formatted_dataset"],
        ),
        ("data: {loaders: {pdf: pypdf}}", ["raw_documents"]),
    ],
)
def test_a_setting_makes_again_just_what_reads_it(
    corpus: Corpus, settings: str, made: list[str]
) -> None:
    _make_all(corpus)
    corpus.settings(settings)
    # An empty table of pairs stays the same empty table, and stops there.
    assert _make_all(corpus) == made


def test_a_rename_ends_at_the_raw_documents(corpus: Corpus) -> None:
    _make_all(corpus)
    (corpus.folder / "ferry.txt").rename(corpus.folder / "boat.txt")
    [cause] = corpus.project.status("ferry")["raw_documents"].causes
    assert cause == "ferry.txt was renamed to boat.txt"
    assert _make_all(corpus) == ["raw_documents"]
    manifest = corpus.project.storage.current("ferry", "raw_documents")
    assert manifest
    assert {line.path for line in sources(corpus.project, manifest)} == {"boat.txt", "crates.json"}


def test_causes_in_words(corpus: Corpus) -> None:
    _make_all(corpus)
    corpus.write("ferry.txt", PROSE + " More.")
    corpus.write("new.md", "# New")
    corpus.settings("data: {seed: 18}")
    states = corpus.project.status("ferry")
    assert states["raw_documents"].causes == ["new.md is new", "ferry.txt changed"]
    assert states["chunks"].causes == ["input changed: raw_documents"]
    assert "inputs changed: raw_documents, chunks, qa_pairs" in states["formatted_dataset"].causes
    assert not states["chunks"].own
    assert "data.seed 17 → 18" in states["formatted_dataset"].causes
    assert states["adapter"].state == "missing"


def test_a_failed_gate_blocks_what_would_be_built_on_it(corpus: Corpus) -> None:
    _make_all(corpus)

    def failing(job: Job) -> Outcome:
        (job.output / "train.parquet").write_bytes(b"")
        return Outcome(checks={"rows_are_good": BAD})

    corpus.project.make("ferry", "formatted_dataset", failing, force=True)
    state = corpus.project.status("ferry")["adapter"]
    assert state.state == "blocked"
    assert "they are not" in state.causes[0]
    states = corpus.project.status("ferry")
    for asset in ("evaluation", "merged_model", "gguf"):
        assert states[asset].state == "blocked"
        assert states[asset].causes == ["blocked with adapter"]
    with pytest.raises(StageError, match=r"blocked: .*they are not"):
        corpus.project.make("ferry", "adapter")


def test_a_change_of_the_base_model_is_said_once_and_in_words(
    corpus: Corpus, pico_model: Path, tmp_path: Path
) -> None:
    model = shutil.copytree(pico_model, tmp_path / "own")
    corpus.settings(f"model: {{base: '{model}'}}")
    _make_all(corpus)
    (model / "notes.txt").write_text("another file")
    assert "the base model's files changed" in _why(corpus)
    corpus.settings(f"model: {{base: '{pico_model}'}}")
    [cause] = [each for each in _why(corpus) if "base" in each or "identity" in each]
    assert cause.startswith("model.base ")


def _why(corpus: Corpus) -> list[str]:
    return corpus.project.status("ferry")["formatted_dataset"].causes


def test_a_corpus_without_documents_says_so(corpus: Corpus) -> None:
    for path in corpus.folder.iterdir():
        path.unlink()
    states = corpus.project.status("ferry")
    assert states["raw_documents"].causes == ["no documents yet"]
    assert states["chunks"].causes == ["never built"]


def test_a_forced_artifact_stays_in_use_past_the_gate(corpus: Corpus) -> None:
    _make_all(corpus, "raw_documents")

    def failing(job: Job) -> Outcome:
        (job.output / "chunks.parquet").write_bytes(b"x")
        return Outcome(checks={"fine": BAD})

    corpus.project.make("ferry", "chunks", failing, force=True)
    with pytest.raises(StageError, match="blocked"):
        corpus.project.make("ferry", "qa_pairs")
    assert not corpus.project.make("ferry", "qa_pairs", force=True).reused
    assert corpus.project.make("ferry", "qa_pairs").reused
    assert corpus.project.status("ferry")["qa_pairs"].state == "fresh"


def test_inputs_made_from_different_versions_are_not_mixed(corpus: Corpus) -> None:
    _make_all(corpus)
    corpus.write("ferry.txt", PROSE + " More.")
    corpus.project.make("ferry", "raw_documents")
    with pytest.raises(StageError, match="different versions of raw_documents"):
        corpus.project.make("ferry", "formatted_dataset")
    assert _make_all(corpus)[-1] == "formatted_dataset"


def test_a_stage_that_fails_leaves_the_last_version_current(corpus: Corpus) -> None:
    _make_all(corpus)
    before = corpus.project.storage.current("ferry", "chunks")
    corpus.settings("langchain: {chunk_size: 50, chunk_overlap: 0}")

    def dying(job: Job) -> Outcome:
        (job.output / "chunks.parquet").write_bytes(b"half")
        raise StageError("no luck")

    with pytest.raises(StageError, match="no luck"):
        corpus.project.make("ferry", "chunks", dying)
    assert corpus.project.storage.current("ferry", "chunks") == before
    home = corpus.project.storage.root / "ferry" / "chunks"
    assert not list(home.glob(".staging-*"))


_FULL_DISK = """
    import resource, sys
    from pathlib import Path
    from ft_assets.errors import StageError
    from ft_assets.engine.project import Project

    project = Project(Path(sys.argv[1]), Path(sys.argv[2]))
    project.files("ferry")
    import signal
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))
    try:
        project.make("ferry", "raw_documents")
    except StageError as error:
        print(error)
        sys.exit(3)
"""


def test_a_disk_that_fills_up_costs_nothing_that_was_there(corpus: Corpus) -> None:
    project = corpus.project
    _make_all(corpus)
    before = project.storage.current("ferry", "raw_documents")
    corpus.write("long.txt", os.urandom(40_000).hex())
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(_FULL_DISK), project.data, project.storage.root],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3, done.stderr
    assert "no space left on device" in done.stdout
    assert project.storage.current("ferry", "raw_documents") == before
    assert "raw_documents" in _make_all(corpus)


def test_a_process_killed_while_publishing_leaves_nothing_in_the_way(corpus: Corpus) -> None:
    code = """
        import os, sys
        from pathlib import Path
        from ft_assets.engine.project import Project
        def killed(job):
            (job.output / "documents.parquet").write_bytes(b"half")
            os.kill(os.getpid(), 9)
        Project(Path(sys.argv[1]), Path(sys.argv[2])).make("ferry", "raw_documents", killed)
    """
    project = corpus.project
    paths = [str(project.data), str(project.storage.root)]
    command = [sys.executable, "-c", textwrap.dedent(code), *paths]
    assert subprocess.run(command).returncode == -9
    assert project.storage.current("ferry", "raw_documents") is None
    assert _make_all(corpus) == DATA_HALF
    assert not list((project.storage.root / "ferry" / "raw_documents").glob(".staging-*"))


def test_the_manifest_says_what_the_artifact_is(corpus: Corpus) -> None:
    _make_all(corpus)
    manifest = corpus.project.storage.current("ferry", "formatted_dataset")
    assert manifest
    folder = corpus.project.storage.folder("ferry", "formatted_dataset", manifest.version)
    for name, item in manifest.files.items():
        assert hash_file(folder / name) == item["sha256"]
    on_disk = json.loads((folder / "manifest.json").read_text())
    assert on_disk["inputs"].keys() == set(GRAPH["formatted_dataset"].inputs)
    assert on_disk["settings"]["training.max_length"] == 1024
    assert on_disk["forced"] is False
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pkl")]


@pytest.mark.parametrize("current", ["v1\n", "0123456789abcdef0123", "0123456789abcdef0123\n"])
def test_a_damaged_manifest_is_said_so(tmp_path: Path, current: str) -> None:
    home = tmp_path / "c" / "chunks"
    version = home / "0123456789abcdef0123"
    version.mkdir(parents=True)
    (home / "current").write_text(current)
    (version / "manifest.json").write_text("{")
    with pytest.raises(StageError, match=r"manifest\.json is damaged|does not hold a version"):
        Storage(tmp_path).current("c", "chunks")


def test_a_file_changed_within_one_tick_is_seen(corpus: Corpus) -> None:
    path = corpus.write("a.txt", "one")
    first = corpus.project.files("ferry")
    stat = path.stat()
    path.write_text("two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    second = corpus.project.files("ferry")
    assert {f.path: f.sha256 for f in first}["a.txt"] != {f.path: f.sha256 for f in second}["a.txt"]


def test_making_an_asset_without_its_inputs_says_what_to_do(corpus: Corpus) -> None:
    with pytest.raises(StageError, match="ft-assets refresh ferry --until chunks"):
        corpus.project.make("ferry", "chunks")


def test_a_manifest_reads_back_as_written(corpus: Corpus) -> None:
    made = corpus.project.make("ferry", "raw_documents").manifest
    assert type(made).from_json(made.to_json()) == made
    assert type(made).from_json(replace(made, reason="x").to_json()).reason == "x"


def _whole(corpus: Corpus) -> dict[str, Manifest]:
    found = {asset: corpus.project.storage.current("ferry", asset) for asset in DATA_HALF}
    return {asset: manifest for asset, manifest in found.items() if manifest}


def test_equal_lists_of_documents_are_one_file(corpus: Corpus) -> None:
    _make_all(corpus)
    storage = corpus.project.storage
    made = _whole(corpus)
    files = {
        asset: (storage.folder("ferry", asset, manifest.version) / SOURCES).stat().st_ino
        for asset, manifest in made.items()
    }
    assert files["raw_documents"] == files["chunks"] == files["qa_pairs"]
    assert files["formatted_dataset"] != files["chunks"]  # it says how many rows each gave
    assert made["chunks"].sources == made["raw_documents"].sources


def test_manifests_do_not_grow_with_the_corpus(corpus: Corpus) -> None:
    _make_all(corpus)
    few = {asset: len(manifest.to_json()) for asset, manifest in _whole(corpus).items()}
    for number in range(300):
        corpus.write(f"note {number}.txt", f"Note {number} is about crate {number * 7}.")
    _make_all(corpus)
    many = {asset: len(manifest.to_json()) for asset, manifest in _whole(corpus).items()}
    assert all(many[asset] < few[asset] + 600 for asset in DATA_HALF), (few, many)


def test_documents_that_changed_on_disk_are_damage(corpus: Corpus) -> None:
    _make_all(corpus)
    storage, manifest = corpus.project.storage, _whole(corpus)["formatted_dataset"]
    path = storage.folder("ferry", "formatted_dataset", manifest.version) / SOURCES
    path.write_bytes(path.read_bytes()[:-1])
    assert [line for line in storage.damage(manifest) if SOURCES in line]
    corpus.project.make("ferry", "formatted_dataset", force=True)
    assert not storage.damage(_whole(corpus)["formatted_dataset"])


def test_what_an_earlier_version_of_the_project_made_counts_as_never_made(
    corpus: Corpus, cli: RunCLI
) -> None:
    _make_all(corpus)
    storage = corpus.project.storage
    for asset, manifest in _whole(corpus).items():
        path = storage.folder("ferry", asset, manifest.version) / MANIFEST
        path.write_text(replace(manifest, schema=2).to_json())
        (path.parent / SOURCES).unlink()
    states = corpus.project.status("ferry")
    for asset in DATA_HALF:
        assert states[asset].state == "missing"
        [why] = states[asset].causes
        assert "earlier version of ft-assets" in why
    corpus.write("ferry.txt", PROSE + " Now there is more.")
    old = {path: path.read_bytes() for path in storage.root.rglob("*.parquet") if path.is_file()}
    assert _make_all(corpus) == DATA_HALF
    assert {state.state for state in list(corpus.project.status("ferry").values())[:4]} == {"fresh"}
    assert prune(storage, "ferry", keep=1, dry_run=False) == []
    assert {path: path.read_bytes() for path in old} == old
    done = cli("verify", "ferry")
    assert done.returncode == 0, done.stderr
    assert "not checked" in done.stdout
