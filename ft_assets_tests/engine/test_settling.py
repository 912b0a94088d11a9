"""A run that the sensor started reads files only after they have settled."""

import threading
import time
from pathlib import Path

import pytest

from ft_assets.engine.data_folder import files_version
from ft_assets.engine.project import Project
from ft_assets.errors import StageError
from ft_assets.records import Document
from ft_assets.tables import read_table
from ft_assets_tests.conftest import PROSE, Corpus


@pytest.fixture
def quick(tmp_path: Path) -> Corpus:
    """A corpus whose files count as settled after half a second."""
    made = Corpus(Project(tmp_path / "data", tmp_path / "storage", settle_seconds=0.5), "ferry")
    made.write("ferry.txt", PROSE)
    return made


def _texts(corpus: Corpus) -> set[str]:
    manifest = corpus.project.storage.current("ferry", "raw_documents")
    assert manifest
    folder = corpus.project.storage.folder("ferry", "raw_documents", manifest.version)
    return {row.text for row in read_table(folder / "documents.parquet", Document)}


def test_a_file_that_is_being_written_is_waited_for(quick: Corpus) -> None:
    asked = files_version(quick.project.files("ferry"))
    lines = [f"Line {number} of the goat's diary." for number in range(12)]

    def write_slowly() -> None:
        for count in range(1, len(lines) + 1):
            quick.write("diary.txt", "\n".join(lines[:count]))
            time.sleep(0.1)

    writer = threading.Thread(target=write_slowly)
    writer.start()
    time.sleep(0.2)
    quick.project.make("ferry", "raw_documents", settled=asked)
    writer.join()
    assert _texts(quick) == {PROSE, "\n".join(lines)}
    assert len(quick.project.storage.versions("ferry", "raw_documents")) == 1


def test_files_that_are_as_they_were_asked_for_are_taken_at_once(quick: Corpus) -> None:
    began = time.monotonic()
    asked = files_version(quick.project.files("ferry"))
    quick.project.settle_seconds = 60
    quick.project.make("ferry", "raw_documents", settled=asked)
    assert time.monotonic() - began < 30


def test_files_that_never_settle_are_said_so(
    quick: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick.project.settle_seconds = 0
    versions = iter(range(1_000))
    monkeypatch.setattr(
        "ft_assets.engine.data_folder.files_version", lambda files: str(next(versions))
    )
    with pytest.raises(StageError, match="keep changing"):
        quick.project.make("ferry", "raw_documents", settled="asked")


def test_who_asks_by_hand_does_not_wait(quick: Corpus) -> None:
    quick.project.settle_seconds = 60
    quick.write("ferry.txt", "Just saved.")
    quick.project.make("ferry", "raw_documents")
    assert _texts(quick) == {"Just saved."}
