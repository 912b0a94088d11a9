"""A bad corpus affects only itself: forty kinds of bad corpora next to a good one."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from ft_assets.defs.corpus_sensor import look
from ft_assets.engine.project import Project
from ft_assets.files import local_name, portable_name, visible
from ft_assets_tests.conftest import PROSE, Corpus, RunCLI
from ft_assets_tests.test_config import HOSTILE

Make = Callable[[Path], object]
OWN = "finetune.yaml"


def _settings(text: str) -> Make:
    return lambda folder: (folder / OWN).write_text(text)


def _fifo(name: str) -> Make:
    return lambda folder: os.mkfifo(folder / name)


def _link(name: str, to: str) -> Make:
    return lambda folder: (folder / name).symlink_to(to)


def _deep(folder: Path) -> None:
    """1,300 nested folders, created from the inside, because their path is too long to name."""
    here = Path.cwd()
    try:
        os.chdir(folder)
        for _ in range(1_300):
            os.mkdir("d")  # noqa: PTH102
            os.chdir("d")
    finally:
        os.chdir(here)


def _template(text: str) -> Make:
    def make(folder: Path) -> None:
        (folder / "t.jinja").write_text(text)
        (folder / OWN).write_text("data: {template: t.jinja}")

    return make


KINDS: dict[str, Make] = {
    **{f"yaml-{number}": _settings(text) for number, text in enumerate(HOSTILE.values())},
    "large-settings": _settings("# " + "x" * 400_000),
    "settings-not-utf8": lambda folder: (folder / OWN).write_bytes(b"a: \xff"),
    "settings-fifo": _fifo(OWN),
    "settings-folder": lambda folder: (folder / OWN).mkdir(),
    "settings-link-to-itself": _link(OWN, OWN),
    "settings-link-to-fifo": lambda folder: (_fifo(".f")(folder), _link(OWN, ".f")(folder)),
    "settings-link-out": _link(OWN, "/etc/passwd"),
    "questions-fifo": _fifo("questions.jsonl"),
    "questions-link": _link("questions.jsonl", "/dev/zero"),
    "questions-nested": lambda folder: (folder / "questions.jsonl").write_text("[" * 100_000),
    "link-to-itself": _link("a.txt", "a.txt"),
    "link-to-a-fifo": lambda folder: (_fifo("f")(folder), _link("a.txt", "f")(folder)),
    "link-to-a-device": _link("a.txt", "/dev/zero"),
    "link-out": _link("a.txt", "/etc/passwd"),
    "folder-link-out": _link("all", "/"),
    "deep-folders": _deep,
    "owner-power": _settings("qa: {enabled: true, base_url: 'http://127.0.0.1:9'}"),
    "owner-cap": _settings("qa: {enabled: true, max_usd: 100000.0}"),
    "no-such-base": _settings("model: {base: 'pypi:none'}"),
    "template-without-field": _template("no field"),
    "template-broken": _template("{% if %}"),
    "template-link": _link("t.jinja", "/etc/passwd"),
    "prompt-gone": _settings("qa: {enabled: true, prompt: gone.jinja}"),
    "empty": lambda folder: None,
}
FINE = {"folder-link-out", "link-out", "link-to-itself", "link-to-a-fifo", "link-to-a-device"} | {
    "deep-folders",
    "empty",
    "template-link",
    "questions-nested",
    "no-such-base",
}
"""Kinds whose status can be computed: unreadable files are left out and named."""


@pytest.fixture
def beside(corpus: Corpus, pico_model: Path) -> Iterator[Corpus]:
    """The good corpus, with all kinds of bad ones next to it."""
    corpus.settings(f"model: {{base: '{pico_model}'}}")
    for name, make in KINDS.items():
        folder = corpus.project.data / name
        folder.mkdir()
        make(folder)
    yield corpus
    # Python's own removal is recursive, and so would be pytest's.
    subprocess.run(["rm", "-rf", str(corpus.project.data / "deep-folders")], check=True)


def test_status_tells_of_the_good_and_names_the_bad(beside: Corpus, cli: RunCLI) -> None:
    done = cli("status", "--json")
    said = json.loads(done.stdout)
    assert done.returncode == 1
    assert said["corpora"]["ferry"]["raw_documents"]["state"] == "missing"
    assert set(said["errors"]) | set(said["corpora"]) == {*KINDS, "ferry"}
    assert not set(said["errors"]) & FINE
    assert set(said["errors"]) >= {*KINDS} - FINE - {"template-broken"}
    assert all("Traceback" not in error for error in said["errors"].values())


@pytest.mark.slow
def test_the_good_one_is_refreshed_among_them(beside: Corpus, cli: RunCLI) -> None:
    """One command refreshes all of them, and names each bad one with its reason."""
    done = cli("refresh", "--until", "chunks")
    assert done.returncode in (1, 3), done.stderr
    assert beside.project.status("ferry")["chunks"].state == "fresh"
    assert "Traceback" not in done.stderr
    assert all(f"{kind}: " in done.stderr for kind in {*KINDS} - FINE - {"template-broken"})


def test_ten_ticks_of_the_sensor_ask_for_the_good_and_name_the_bad(
    beside: Corpus, tmp_path: Path
) -> None:
    asked: list[str] = []
    told: dict[str, int] = {}
    with dg.instance_for_test(temp_dir=str(tmp_path)) as instance:
        cursor = None
        for _ in range(10):
            context = dg.build_sensor_context(instance=instance, cursor=cursor)
            result = look(context, beside.project)
            cursor = result.cursor
            asked += [request.partition_key or "" for request in result.run_requests or []]
            for event in result.asset_events:
                if "refused" in event.metadata:
                    told[event.partition or ""] = told.get(event.partition or "", 0) + 1
    assert "ferry" in asked
    assert set(told) >= {*KINDS} - FINE - {"template-broken"}
    assert set(told.values()) == {1}  # said once, not at every tick


def test_a_name_that_is_not_utf8_works(corpus: Corpus, cli: RunCLI) -> None:
    path = os.fsencode(corpus.folder) + b"/caf\xe9.txt"
    with open(path, "w") as file:  # noqa: PTH123 (the name is bytes)
        file.write("The café opens at six.")
    made = corpus.project.make("ferry", "raw_documents")
    names = {row.path for row in corpus.project.storage.sources(made.manifest)}
    assert names == {"ferry.txt", "crates.json", "caf\\xe9.txt"}
    assert os.fsencode(local_name("caf\\xe9.txt")) == b"caf\xe9.txt"
    assert corpus.project.status("ferry")["raw_documents"].state == "fresh"
    done = cli("lineage", "ferry")
    assert done.returncode == 0, done.stderr
    assert "caf\\xe9.txt" in done.stdout


@pytest.mark.parametrize("name", ["a.txt", "caf\udce9", "a\\xe9", "a\\b", "\udcff\\\udc80", "日本"])
def test_names_are_kept_reversibly(name: str) -> None:
    assert local_name(portable_name(name)) == name
    assert portable_name(name).isprintable()


def test_control_and_bidi_characters_are_shown_escaped(corpus: Corpus, cli: RunCLI) -> None:
    corpus.write("red\x1b[31m\u202etxt.bin", "x")
    done = cli("validate", "ferry")
    assert "\x1b[31m" not in done.stderr + done.stdout
    assert "\\x1b[31m\\u202etxt" in done.stderr
    assert visible("a\tb\nc 👩‍🚒") == "a\tb\nc 👩‍🚒"


def test_a_corpus_that_takes_long_is_left_for_the_next_look(project: Project) -> None:
    corpus = Corpus(project, "slow")
    for number in range(50):
        corpus.write(f"{number}.txt", PROSE)
    with pytest.raises(Exception, match="takes more than 0 s"):
        project.observed("slow", seconds=0.0)
    assert project.observed("slow", seconds=60.0)
