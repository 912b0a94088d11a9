"""Whenever a process dies, nothing half-made is read; a run that was given up publishes nothing."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from ft_assets import records
from ft_assets.resources.project import Project
from ft_assets.stages.job import hash_file
from ft_assets.upkeep import verify
from ft_assets_tests.conftest import PROSE, Corpus, qa_records
from ft_assets_tests.test_incremental import DATA_HALF

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


def damage_in(project: Project) -> list[str]:
    """All that is damaged of any version that a reader can see."""
    return [line for verdict in verify(project.storage, "ferry") for line in verdict.damage]


# A process killed at every call that changes the disk, without Dagster.


Step = Callable[[Corpus], object]


def begin(corpus: Corpus) -> None:
    for number in range(4):
        corpus.write(f"{number}.txt", f"{number} goats wait. {PROSE}")
    corpus.write("crates.json", json.dumps(qa_records(6)))
    choose("")(corpus)


def edit(corpus: Corpus) -> None:
    corpus.write("3.txt", "The goats left with the musicians.")


def edit_remove_rename(corpus: Corpus) -> None:
    edit(corpus)
    (corpus.folder / "1.txt").unlink()
    (corpus.folder / "2.txt").rename(corpus.folder / "two.txt")


def choose(settings: str) -> Step:
    """Sets the corpus's settings; the base model is that of `data/base`."""
    return lambda corpus: corpus.settings(
        f"model: {{base: '{(corpus.project.data / 'base').read_text()}'}}\n{settings}"
    )


OTHER_SETTINGS = """\
data: {seed: 3, export_formats: [jsonl, txt]}
langchain: {chunk_size: 90, chunk_overlap: 20}
"""


def damage(corpus: Corpus) -> None:
    manifest = corpus.project.storage.current(corpus.name, "formatted_dataset")
    assert manifest
    folder = corpus.project.storage.folder(corpus.name, manifest.asset, manifest.version)
    (folder / "eval.jsonl").write_text("half of a li")


def nothing(corpus: Corpus) -> None:
    pass


@dataclass(frozen=True)
class Scenario:
    """What leads to the build that is killed: each step is built but for the last.

    `force` are the assets that it makes whether stale or not; `resume_force` those of the build
    after it.
    """

    steps: tuple[Step, ...]
    force: tuple[str, ...] = ()
    resume_force: tuple[str, ...] = ()


SCENARIOS = {
    "first build": Scenario((begin,)),
    "other files": Scenario((begin, edit_remove_rename)),
    "other settings": Scenario((begin, choose(OTHER_SETTINGS))),
    "same again": Scenario((begin, nothing), force=("raw_documents",)),
    "taken back": Scenario((begin, edit, begin)),
    "repaired": Scenario(
        (begin, damage), force=("formatted_dataset",), resume_force=("formatted_dataset",)
    ),
}


@dataclass
class Sweep:
    """How many calls there were to be killed at, and what was wrong after which."""

    points: int = 0
    problems: list[str] = field(default_factory=list)


def make_all(corpus: Corpus, force: tuple[str, ...]) -> None:
    for asset in DATA_HALF:
        corpus.project.make(corpus.name, asset, force=asset in force)


def copy(corpus: Corpus, root: Path) -> Corpus:
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(corpus.project.data.parent, root)
    return Corpus(Project(root / "data", root / "storage"), corpus.name)


def prepare(scenario: Scenario, root: Path, base: str) -> Corpus:
    corpus = Corpus(Project(root / "data", root / "storage"), "ferry")
    corpus.write("../base", base)
    corpus.project.storage.root.mkdir()
    for number, step in enumerate(scenario.steps):
        if number:
            make_all(corpus, ())
        step(corpus)
    return corpus


def contents(project: Project) -> dict[str, str]:
    """The sha256 of every file of the current artifacts, their manifests apart."""
    found = {}
    for asset in DATA_HALF:
        manifest = project.storage.current("ferry", asset)
        assert manifest, asset
        folder = project.storage.folder("ferry", asset, manifest.version)
        found |= {f"{asset}/{name}": hash_file(folder / name) for name in manifest.files}
    return found


def killed_at(call: int, corpus: Corpus, force: tuple[str, ...]) -> bool:
    """Builds in a process that dies just before its `call`-th change to the disk, if it has one."""
    child = os.fork()
    if not child:
        code = 1
        try:
            ctypes.CDLL(None).crash_arm(ctypes.c_long(call))
            make_all(corpus, force)
            code = 0
        except BaseException:
            ctypes.CDLL(None).crash_arm(ctypes.c_long(0))
            traceback.print_exc()
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), f"the build ended with {code}"
    return code != 0


def wrong_after(corpus: Corpus, scenario: Scenario, wanted: dict[str, str]) -> Iterator[str]:
    """What is not as it should be, once resumed."""
    fresh = Project(corpus.project.data, corpus.project.storage.root)
    try:
        make_all(Corpus(fresh, corpus.name), scenario.resume_force)
    except Exception as error:
        yield f"the resumed build failed: {error}"
        return
    yield from damage_in(fresh)
    if contents(fresh) != wanted:
        yield "the resumed build has other files"
    left = [path for path in fresh.storage.root.glob("ferry/*/.*") if path.name != ".guard"]
    yield from (f"{path} was left behind" for path in left)


def sweep(scenario: Scenario, root: Path, base: str) -> Sweep:
    """Kills the build of a scenario at each of its calls in turn, and resumes it each time."""
    prepared = prepare(scenario, root / "prepared", base)
    whole = copy(prepared, root / "whole")
    make_all(whole, scenario.force)
    wanted = contents(whole.project)
    found = Sweep()
    while True:
        corpus = copy(prepared, root / "killed")
        before = damage_in(corpus.project)
        if not killed_at(found.points + 1, corpus, scenario.force):
            return found
        found.points += 1
        problems = [line for line in damage_in(corpus.project) if line not in before]
        problems += wrong_after(corpus, scenario, wanted)
        found.problems += [f"call {found.points}: {line}" for line in problems]


def serve() -> None:
    """Sweeps the scenario that each line of standard input names: folder, base model, name."""
    import pyarrow as pa

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    records._PART_ROWS = 1  # so that a small corpus has tables of several parts
    for line in sys.stdin:
        root, base, name = json.loads(line)
        print(json.dumps(asdict(sweep(SCENARIOS[name], Path(root), base))), flush=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["subprocess.Popen[str]"]:
    """`serve` in a process that can be killed at a call: all is imported once, then forked."""
    shim = tmp_path_factory.mktemp("shim") / "crash_shim.so"
    source = Path(__file__).with_name("crash_shim.c")
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", shim, source, "-ldl"], check=True)
    code = "from ft_assets_tests.test_crashes import serve; serve()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": str(shim), "TOKENIZERS_PARALLELISM": "false"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process


def test_killed_at_every_call(
    server: "subprocess.Popen[str]", tmp_path: Path, pico_model: Path
) -> None:
    assert server.stdin
    assert server.stdout
    found = {}
    import time

    for number, name in enumerate(SCENARIOS):
        t = time.time()
        server.stdin.write(json.dumps([str(tmp_path / str(number)), str(pico_model), name]) + "\n")
        server.stdin.flush()
        found[name] = Sweep(**json.loads(server.stdout.readline()))
        print(name, found[name].points, len(found[name].problems), round(time.time() - t, 1))
        for x in found[name].problems:
            print("    ", x)
    assert sum(one.points for one in found.values()) >= 500
    assert not any(one.problems for one in found.values())
