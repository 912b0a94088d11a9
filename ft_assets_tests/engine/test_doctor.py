"""The doctor's report: what is installed, what is missing, and what does not work without it."""

import os
from pathlib import Path

import pytest

from ft_assets.engine.doctor import isolation, machine, report
from ft_assets.engine.doctor.caches import model_cache
from ft_assets.engine.doctor.file_system import storage_files
from ft_assets.engine.doctor.line import Line
from ft_assets.engine.doctor.programs import compiler, ocrmypdf
from ft_assets.engine.doctor.settings import dagster_folder, keys
from ft_assets.stages.models.sealed import REPAIR, Origin, sealed_folder


def _program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the only one on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)
    return folder


def test_everything_that_is_not_ok_says_what_it_costs() -> None:
    lines = report.report()
    assert len(lines) == len(report.LINES)
    assert [line.name for line in lines if line.state != "ok" and not line.cost] == []


def test_a_line_that_fails_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Line:
        raise OSError("no such thing")

    monkeypatch.setattr(report, "LINES", (broken, machine.python))
    first, second = report.report()
    assert first == Line("broken", "note", "could not be checked (OSError: no such thing)")
    assert second.name == "Python"


def test_only_a_missing_essential_thing_is_too_little() -> None:
    assert report.is_enough([Line("a", "missing", ""), Line("b", "note", "", "", True)])
    assert not report.is_enough([Line("a", "missing", "", "", essential=True)])


def test_the_verdict_names_what_is_missing() -> None:
    fine = [Line("a", "ok", ""), Line("b", "note", ""), Line("c", "optional", "")]
    assert report.verdict(fine) == "everything needed is there"
    less = [*fine, Line("extras", "missing", "")]
    assert report.verdict(less).endswith("works here, but something is missing: extras")
    assert "cannot work here: d" in report.verdict([*less, Line("d", "missing", "", "", True)])


def test_programs_are_found_or_missed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ft_assets.engine.doctor.programs.missing", lambda extra: ["llama_cpp"])
    assert (ocrmypdf().state, compiler().state) == ("optional", "missing")
    monkeypatch.setattr("ft_assets.engine.doctor.programs.missing", lambda extra: [])
    assert compiler().state == "optional"
    assert "scanned PDFs are rejected" in ocrmypdf().cost
    _program(path, "ocrmypdf", "echo 16.0")
    _program(path, "g++", "exit 3")
    assert ocrmypdf() == Line("ocrmypdf", "ok", f"16.0 ({path / 'ocrmypdf'})")
    assert compiler().found == f"{path / 'g++'} does not run"


@pytest.mark.parametrize(
    ("script", "torch", "state"),
    [
        ("echo 'NVIDIA H100, 81559 MiB, 570.1'", "torch 2.13.0", "ok"),
        ("echo 'NVIDIA H100, 81559 MiB, 570.1'", "torch 2.13.0+cpu", "note"),
        ('echo "couldn\'t communicate with the driver"; exit 9', "torch 2.13.0", "note"),
        (None, "torch 2.13.0", "optional"),
    ],
)
def test_a_gpu_counts_with_its_driver_and_a_torch_that_can_use_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, torch: str, state: str
) -> None:
    monkeypatch.setattr(machine, "_torch", lambda: torch)
    if script:
        _program(path, "nvidia-smi", script)
    assert machine.gpu().state == state
    assert state == "ok" or "training runs on the CPU" in machine.gpu().cost


def test_the_file_system_is_tried_and_left_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FT_ASSETS_STORAGE", str(tmp_path / "not" / "there"))
    assert storage_files().state == "ok"
    assert list(tmp_path.iterdir()) == []


def test_a_file_system_without_locks_is_too_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setenv("FT_ASSETS_STORAGE", str(tmp_path))
    monkeypatch.setattr("fcntl.flock", refuse)
    line = storage_files()
    assert "no file locks (Operation not supported)" in line.found
    assert not report.is_enough([line])


def test_a_file_system_without_links_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setenv("FT_ASSETS_STORAGE", str(tmp_path))
    monkeypatch.setattr(Path, "hardlink_to", refuse)
    assert storage_files().state == "note"
    assert "no hard links (Operation not supported)" in storage_files().found


def test_what_a_kernel_does_not_offer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = dict.fromkeys(isolation.offered(), True)
    assert {"no_new_privs", "seccomp", "user namespaces", "network namespaces"} == kinds.keys()
    for without, state in [("seccomp", "missing"), ("network namespaces", "note")]:
        monkeypatch.setattr(isolation, "offered", lambda kind=without: {**kinds, kind: False})
        assert isolation.isolation().state == state
        assert f"no {without}" in isolation.isolation().found


def test_keys_are_named_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.endswith("_API_KEY") or name == "HF_TOKEN"]:
        monkeypatch.delenv(name)
    assert keys().state == "note"
    monkeypatch.setenv("HF_TOKEN", "hf_canary")
    monkeypatch.setenv("MISTRAL_API_KEY", "canary")
    monkeypatch.setenv("OPENAI_API_KEY", " ")
    assert keys() == Line("keys", "ok", "HF_TOKEN, MISTRAL_API_KEY")


def test_the_instance_is_looked_at_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "home"))
    assert dagster_folder().state == "note"
    assert not (tmp_path / "home").exists()


def test_a_damaged_cache_names_its_repair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert model_cache().state == "note"
    folder = tmp_path / "ft-assets" / "models" / "pebble"
    sealed_folder(folder, Origin("pebble", "1", ""), lambda to: (to / "a.txt").touch())
    assert model_cache().state == "ok"
    (folder.parent / "boulder").mkdir()
    assert model_cache().state == "note"
    assert "1 folder of an earlier version" in model_cache().cost
    (folder / "a.txt").write_text("more")
    assert "pebble: the content of a.txt was changed" in model_cache().found
    assert REPAIR in model_cache().cost
