"""What an interrupted build left is given to the next one of the same fingerprint, and to no other."""

import threading
from pathlib import Path

import pytest

from ft_assets.engine.project import Project
from ft_assets.engine.prune import prune
from ft_assets.errors import StageError
from ft_assets.stages.job import Job, Outcome, Report
from ft_assets_tests.conftest import Corpus, RunCLI

OTHER = "data: {loaders: {pdf: pypdf}}"


class Stage:
    """A stage that leaves a checkpoint and fails, or notes what was left to it."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def fail(self, job: Job) -> Outcome:
        assert job.checkpoints
        (job.checkpoints / "step-1").mkdir(parents=True)
        raise StageError("interrupted")

    def succeed(self, job: Job) -> Outcome:
        assert job.checkpoints
        self.found = [path.name for path in job.checkpoints.glob("*")]
        (job.output / "text").write_text("made")
        return Outcome()


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.fixture
def interrupted(corpus: Corpus, stage: Stage) -> Corpus:
    with pytest.raises(StageError, match="interrupted"):
        corpus.project.make("ferry", "raw_documents", stage.fail)
    return corpus


def left(corpus: Corpus) -> list[Path]:
    return corpus.project.storage.left_checkpoints("ferry", "raw_documents")


def test_the_same_work_goes_on_and_then_they_are_gone(interrupted: Corpus, stage: Stage) -> None:
    assert interrupted.project.storage.versions("ferry", "raw_documents") == []
    interrupted.project.make("ferry", "raw_documents", stage.succeed)
    assert stage.found == ["step-1"]
    assert left(interrupted) == []
    assert not list(interrupted.project.storage.root.glob("ferry/*/checkpoints"))


@pytest.mark.parametrize("changed", ["data", "settings"])
def test_other_work_does_not_see_them_and_says_so(
    interrupted: Corpus, stage: Stage, changed: str
) -> None:
    if changed == "data":
        interrupted.write("ferry.txt", "The ferry has sunk.")
    else:
        interrupted.settings(OTHER)
    notices: list[str] = []
    project = Project(
        interrupted.project.data,
        interrupted.project.storage.root,
        on_notice=lambda asset, line: notices.append(line),
    )
    project.make("ferry", "raw_documents", stage.succeed)
    assert stage.found == []
    assert notices == ["a checkpoint of other data or settings is not used; it is removed"]
    assert left(interrupted) == []


def test_a_version_that_is_used_again_leaves_none(corpus: Corpus, stage: Stage) -> None:
    corpus.project.make("ferry", "raw_documents", stage.succeed)
    corpus.settings(OTHER)
    with pytest.raises(StageError):
        corpus.project.make("ferry", "raw_documents", stage.fail)
    assert left(corpus)
    corpus.settings("{}")
    assert corpus.project.make("ferry", "raw_documents", stage.succeed).reused
    assert left(corpus) == []


def test_prune_removes_those_that_no_refresh_would_use(interrupted: Corpus, cli: RunCLI) -> None:
    assert cli("prune").returncode == 0
    assert len(left(interrupted)) == 1
    interrupted.settings(OTHER)
    assert prune(interrupted.project.storage, "ferry", 1, dry_run=False) == []
    assert "ferry/raw_documents/checkpoints/" in cli("prune", "--dry-run").stdout
    assert len(left(interrupted)) == 1
    assert "ferry/raw_documents/checkpoints/" in cli("prune").stdout
    assert left(interrupted) == []


def test_who_waits_for_another_run_says_for_which(corpus: Corpus, stage: Stage) -> None:
    said: list[str] = []
    asked, go_on = threading.Event(), threading.Event()

    def report(line: str) -> None:
        said.append(line)
        go_on.set()

    def first(job: Job) -> Outcome:
        asked.set()
        assert go_on.wait(30)
        return stage.succeed(job)

    def second(say: Report) -> bool:
        return corpus.project.make(
            "ferry",
            "raw_documents",
            stage.fail,
            report=say,
            describe=lambda run_id: f"run {run_id} (terminal, since 14:02)",
        ).reused

    maker = threading.Thread(
        target=corpus.project.make, args=("ferry", "raw_documents", first), kwargs={"run_id": "one"}
    )
    maker.start()
    assert asked.wait(30)
    assert second(report)
    maker.join()
    assert said == [
        "waiting for run one (terminal, since 14:02), which is making raw_documents of ferry"
    ]


def test_the_logs_of_a_training_stay_as_long_as_what_it_made(corpus: Corpus, cli: RunCLI) -> None:
    times = iter("123456")

    def logging(job: Job) -> Outcome:
        assert job.runs
        log = job.runs / next(times)
        log.mkdir(parents=True)
        (log / "events").write_text(job.corpus)
        (job.output / "text").write_text(str(job.settings["data.loaders.pdf"]))
        return Outcome()

    def logs() -> list[str]:
        runs = corpus.project.storage.home("ferry", "raw_documents") / "runs"
        return sorted(path.parent.name for path in runs.glob("*/*/events"))

    make = corpus.project.make
    first = make("ferry", "raw_documents", logging).manifest
    make("ferry", "raw_documents", logging, force=True)
    corpus.settings(OTHER)
    second = make("ferry", "raw_documents", logging).manifest
    assert set(corpus.project.storage.versions("ferry", "raw_documents")) == {
        first.version,
        second.version,
    }
    assert first.version != second.version
    assert first.files.keys() == {"text"}
    assert logs() == ["1", "2", "3"]
    assert cli("prune", "--keep", "5").returncode == 0
    assert logs() == ["2", "3"]
    said = cli("prune", "--keep", "1").stdout
    assert f"ferry/raw_documents/runs/{first.fingerprint[:20]}" in said
    assert logs() == ["3"]
    assert cli("verify").returncode == 0
