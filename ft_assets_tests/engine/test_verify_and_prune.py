"""Damage on disk is found and refused by consumers; old versions are removed, needed ones kept."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from ft_assets.engine.graph import GRAPH, upstream
from ft_assets.engine.project import Project
from ft_assets.engine.prune import prune
from ft_assets.engine.storage import DamagedError
from ft_assets.engine.verify import verify
from ft_assets.errors import StageError
from ft_assets.stages.job import Job, Outcome
from ft_assets_tests.conftest import PROSE, Corpus, RunCLI

DATA_HALF = [*upstream("formatted_dataset"), "formatted_dataset"]


@pytest.fixture
def built(corpus: Corpus, pico_model: Path) -> Corpus:
    corpus.settings(f"model: {{base: '{pico_model}'}}")
    _build(corpus)
    return corpus


def _build(corpus: Corpus) -> None:
    for asset in DATA_HALF:
        corpus.project.make("ferry", asset)


def damaged(project: Project) -> list[str]:
    return [line for verdict in verify(project.storage, "ferry") for line in verdict.damage]


def flips(files: list[Path], count: int) -> Iterator[tuple[Path, int, int]]:
    """Bytes to change, drawn evenly over all files: file, position, the bits to flip."""
    draw = random.Random(17)
    for number in range(count):
        path = files[number % len(files)]
        yield path, draw.randrange(path.stat().st_size), draw.randrange(1, 256)


def flip(path: Path, place: int, bits: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ bits]))


def published(root: Path) -> list[Path]:
    """Every file of every artifact: its content, its manifest, and the file that names the version; not the
    logs of trainings."""
    return sorted(
        path
        for path in root.rglob("*")
        if path.is_file() and path.stat().st_size and not path.name.startswith(".")
        if ".cache" not in path.parts and "runs" not in path.parts
    )


def test_every_flipped_byte_is_found(built: Corpus) -> None:
    assert not damaged(built.project)
    for path, place, bits in flips(published(built.project.storage.root), 100):
        flip(path, place, bits)
        assert damaged(built.project), (path, place)
        flip(path, place, bits)
    assert not damaged(built.project)


def test_files_that_come_or_go_are_damage(built: Corpus) -> None:
    [part, *_] = built.project.storage.root.glob("ferry/chunks/*/chunks.parquet/*.parquet")
    extra = part.with_name("part-99999.parquet")
    extra.write_bytes(b"x")
    assert "is not in the manifest" in damaged(built.project)[0]
    extra.unlink()
    part.unlink()
    assert "is missing" in damaged(built.project)[0]


def test_a_consumer_refuses_a_damaged_input_and_a_forced_remake_mends_it(built: Corpus) -> None:
    project = built.project
    before = project.storage.current("ferry", "chunks")
    [part, *_] = project.storage.root.glob("ferry/chunks/*/chunks.parquet/*.parquet")
    flip(part, 100, 1)
    built.settings((built.folder / "finetune.yaml").read_text() + "\ndata: {seed: 5}")
    with pytest.raises(DamagedError, match="--until chunks --force"):
        project.make("ferry", "formatted_dataset")
    project.make("ferry", "chunks", force=True)
    assert not damaged(project)
    after = project.storage.current("ferry", "chunks")
    assert before
    assert after
    assert after.version == before.version
    project.make("ferry", "formatted_dataset")


def test_rows_are_not_taken_from_a_damaged_version(built: Corpus) -> None:
    project = built.project
    [part, *_] = project.storage.root.glob("ferry/raw_documents/*/documents.parquet/*.parquet")
    flip(part, 100, 1)
    built.write("new.txt", "Something new on the quay.")
    made = project.make("ferry", "raw_documents").manifest
    assert not project.storage.damage(made)


def test_a_damaged_manifest_counts_as_missing_and_is_made_again(built: Corpus) -> None:
    project = built.project
    version = project.storage.current_version("ferry", "chunks")
    assert version
    flip(project.storage.folder("ferry", "chunks", version) / "manifest.json", 40, 1)
    project = Project(project.data, project.storage.root)
    state = project.status("ferry")["chunks"]
    assert state.state == "missing"
    assert "manifest.json is damaged" in state.causes[0]
    assert not project.make("ferry", "chunks").reused
    assert project.status("ferry")["chunks"].state == "fresh"


def test_prune_keeps_what_is_current_and_what_it_was_made_from(built: Corpus) -> None:
    project = built.project
    for number in range(4):
        built.write("ferry.txt", f"{PROSE} Edition {number}.")
        _build(built)
    first = project.storage.current("ferry", "raw_documents")
    built.write("ferry.txt", f"{PROSE} Last edition.")
    project.make("ferry", "raw_documents")  # the rest is still made from the one before
    assert first
    would_go = prune(project.storage, "ferry", 1, dry_run=True)
    assert len(project.storage.versions("ferry", "raw_documents")) == 6
    gone = prune(project.storage, "ferry", 1, dry_run=False)
    assert gone
    assert gone == would_go
    assert sum(item.bytes for item in gone) > 0
    assert first.version in project.storage.versions("ferry", "raw_documents")
    assert len(project.storage.versions("ferry", "raw_documents")) == 2
    assert len(project.storage.versions("ferry", "formatted_dataset")) == 1
    assert not damaged(project)
    _build(built)
    assert {project.status("ferry")[asset].state for asset in DATA_HALF} == {"fresh"}


def test_prune_leaves_a_corpus_alone_in_which_something_is_being_made(built: Corpus) -> None:
    built.write("ferry.txt", "Another text, about the goat.")
    seen = []

    def making(job: Job) -> Outcome:
        seen.append(prune(built.project.storage, "ferry", 1, dry_run=False))
        raise StageError("that will do")

    with pytest.raises(StageError, match="that will do"):
        built.project.make("ferry", "raw_documents", making)
    assert seen == [None]


def test_what_prune_frees_is_what_only_the_old_version_has(built: Corpus) -> None:
    project = built.project
    old = project.storage.current("ferry", "raw_documents")
    built.write("more.txt", "A little more.")
    _build(built)
    assert old
    [gone] = [
        item
        for item in prune(project.storage, "ferry", 1, dry_run=False) or []
        if item.asset == "raw_documents"
    ]
    files = sum(file["bytes"] for file in old.files.values())
    assert 0 < gone.bytes <= files + 10_000


def test_the_commands(built: Corpus, cli: RunCLI) -> None:
    done = cli("verify")
    assert done.returncode == 0, done.stderr
    assert "4 artifacts" in done.stdout
    [part, *_] = built.project.storage.root.glob("ferry/chunks/*/chunks.parquet/*.parquet")
    flip(part, 100, 1)
    done = cli("verify", "ferry", "--json")
    assert done.returncode == 3
    [verdict] = json.loads(done.stdout)["damaged"]
    assert verdict["asset"] == "chunks"
    assert str(part) in done.stderr.replace("\n", "")
    assert cli("verify", "nowhere").returncode == 1
    flip(part, 100, 1)
    for number in range(3):
        built.write("ferry.txt", f"Edition {number}, about the goat.")
        _build(built)
    said = json.loads(cli("prune", "--keep", "1", "--dry-run", "--json").stdout)
    done = cli("prune", "--keep", "1")
    assert f"removed {len(said['removed'])} versions and freed " in done.stdout
    assert set(GRAPH) >= {item["asset"] for item in said["removed"]}
