"""The worker alone: it reads a job file and always writes an outcome or an error."""

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from ft_assets import worker
from ft_assets.compute.local import read_outcome
from ft_assets.errors import StageError, UserError
from ft_assets.manifest import Verdict
from ft_assets.stages.job import CorpusFile, Job, Outcome
from ft_assets_tests.conftest import made_of

OK = Verdict(passed=True, blocking=True, message="yes")


def _job(tmp_path: Path) -> Job:
    files = [CorpusFile("a.txt", 1, "ab")]
    inputs = {"chunks": tmp_path}
    return Job(
        "adapter",
        "c",
        tmp_path,
        tmp_path,
        {"a.b": 2e-4},
        inputs,
        {"chunks": made_of("c", "chunks")},
        files,
    )


def test_a_job_reads_back_as_written(tmp_path: Path) -> None:
    job = _job(tmp_path)
    job.dump(tmp_path / "job.json")
    assert Job.load(tmp_path / "job.json") == job


def _run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: Any) -> Outcome:
    monkeypatch.setattr(worker, "run_stage", stage)
    _job(tmp_path).dump(tmp_path / worker.JOB_FILE)
    worker.run_job(tmp_path)
    return read_outcome(json.loads((tmp_path / worker.OUTCOME_FILE).read_text()))


def test_an_outcome_comes_back_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Outcome({"rows": 3}, {"ok": OK}, {"s": 1.5}, {"torch": "2"})
    assert _run(tmp_path, monkeypatch, lambda job, report: made) == made


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (UserError("wrong input"), UserError, "wrong input"),
        (StageError("no luck"), StageError, "no luck"),
        (OSError(errno.ENOSPC, "No space left on device"), StageError, "no space left on device: "),
        (KeyError("surprise"), StageError, "KeyError: 'surprise'"),
    ],
)
def test_an_error_comes_back_as_one_message(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    kind: type[Exception],
    says: str,
) -> None:
    def failing(job: Job, report: Any) -> Outcome:
        raise error

    with pytest.raises(kind, match=says):
        _run(tmp_path, monkeypatch, failing)
