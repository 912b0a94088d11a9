"""Whenever a process dies, no partial artifact is read; a run that lost its lease publishes nothing."""

import ctypes
import fcntl
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psutil
import pytest

from ft_assets import files, tables
from ft_assets.engine import storage
from ft_assets.engine.graph import GRAPH
from ft_assets.engine.lease import LostLeaseError, holder
from ft_assets.engine.project import Project, RunStage
from ft_assets.engine.storage import Storage
from ft_assets.engine.verify import verify
from ft_assets.errors import StageError
from ft_assets.files import hash_file
from ft_assets.manifest import MANIFEST
from ft_assets.stages import raw_documents
from ft_assets.stages.job import Job, Outcome
from ft_assets.stages.loaders.formats import engines_of, preload
from ft_assets.stages.parsing import text_quality
from ft_assets.stages.parsing.files import ParsedFile, Task, parse
from ft_assets.stages.templates import prompt_templates
from ft_assets.stages.templates.process import _done
from ft_assets.worker import JOB_FILE
from ft_assets_tests.conftest import PROSE, Corpus, qa_records
from ft_assets_tests.engine.test_incremental import DATA_HALF
from ft_assets_tests.kills import EVERY_KILL, chosen, served

if TYPE_CHECKING:
    import dagster as dg

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def damage_in(project: Project) -> list[str]:
    """All damage in any version that a reader can see."""
    return [line for verdict in verify(project.storage, "ferry") for line in verdict.damage]


def leftovers(project: Project) -> list[str]:
    """Files in the artifacts' folders other than versions, `current` and the lock file."""
    found = project.storage.root.glob("ferry/*/.*")
    return [str(path) for path in found if path.name != ".guard"]


def wait_until(is_so: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"{what}: not after {seconds} s"
        time.sleep(0.05)


# A process is killed at each call that changes the disk, without Dagster.

Step = Callable[[Corpus], object]


def begin(corpus: Corpus) -> None:
    for number in range(1, 4):
        corpus.write(f"{number}.txt", f"{number} goats wait. {PROSE}")
    corpus.write("crates.json", json.dumps(qa_records(6)))
    choose("")(corpus)


def edit(corpus: Corpus) -> None:
    corpus.write("3.txt", "The goats left with the musicians.")


def edit_remove_and_rename(corpus: Corpus) -> None:
    edit(corpus)
    (corpus.folder / "1.txt").unlink()
    (corpus.folder / "2.txt").rename(corpus.folder / "two.txt")


def choose(settings: str) -> Step:
    """Sets the corpus's settings; its base model is the one that `data/base` names."""
    return lambda corpus: corpus.settings(
        f"model: {{base: '{(corpus.project.data / 'base').read_text()}'}}\n{settings}"
    )


OTHER_SETTINGS = """\
data: {seed: 3, export_formats: [jsonl, txt]}
langchain: {chunk_size: 90, chunk_overlap: 20}
"""


def damage_the_dataset(corpus: Corpus) -> None:
    manifest = corpus.project.storage.current(corpus.name, "formatted_dataset")
    assert manifest
    folder = corpus.project.storage.folder(corpus.name, manifest.asset, manifest.version)
    (folder / "eval.jsonl").write_text("half of a li")


def change_nothing(corpus: Corpus) -> None:
    pass


@dataclass(frozen=True)
class Scenario:
    """The steps that lead to the killed build: each step is built, except the last.

    `force` are the assets that the killed build rebuilds even if fresh, `resume_force` those of the
    build that resumes it.
    """

    steps: tuple[Step, ...]
    force: tuple[str, ...] = ()
    resume_force: tuple[str, ...] = ()


_DATASET = ("formatted_dataset",)
SCENARIOS = {
    "first build": Scenario((begin,)),
    "other files": Scenario((begin, edit_remove_and_rename)),
    "other settings": Scenario((begin, choose(OTHER_SETTINGS))),
    "the same again": Scenario((begin, change_nothing), force=("raw_documents",)),
    "a change taken back": Scenario((begin, edit, begin)),
    "damage repaired": Scenario((begin, damage_the_dataset), force=_DATASET, resume_force=_DATASET),
}


@dataclass
class Sweep:
    """How many calls could be killed at, how many were tried, and what was wrong after which call."""

    points: int
    tried: int = 0
    problems: list[str] = field(default_factory=list)


def make_all(corpus: Corpus, force: tuple[str, ...]) -> None:
    for asset in DATA_HALF:
        corpus.project.make(corpus.name, asset, force=asset in force)


def prepare(scenario: Scenario, root: Path, base: str) -> Corpus:
    corpus = Corpus(Project(root / "data", root / "storage"), "ferry")
    corpus.project.storage.root.mkdir(parents=True)
    corpus.write("../base", base)
    for number, step in enumerate(scenario.steps):
        if number:
            make_all(corpus, ())
        step(corpus)
    return corpus


def copy(corpus: Corpus, root: Path) -> Corpus:
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(corpus.project.data.parent, root)
    return Corpus(Project(root / "data", root / "storage"), corpus.name)


def contents(project: Project) -> dict[str, str]:
    """The sha256 of every file of the current artifacts, except the manifests."""
    found: dict[str, str] = {}
    for asset in DATA_HALF:
        manifest = project.storage.current("ferry", asset)
        assert manifest, asset
        folder = project.storage.folder("ferry", asset, manifest.version)
        found |= {f"{asset}/{name}": hash_file(folder / name) for name in manifest.files}
    return found


def in_a_fork(work: Callable[[], object]) -> int:
    """Starts `work` in a fork of this process, which exits with 0 unless it raises."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def calls_of(corpus: Corpus, force: tuple[str, ...]) -> int:
    """Builds in its own process, and counts the changes to the disk."""
    counted = corpus.project.data.parent / "calls"

    def build() -> None:
        shim = ctypes.CDLL(None)
        shim.crash_arm(ctypes.c_long(sys.maxsize))
        make_all(corpus, force)
        calls = shim.crash_calls()
        shim.crash_arm(ctypes.c_long(0))
        counted.write_text(str(calls))

    assert exit_code(in_a_fork(build)) == 0
    return int(counted.read_text())


def is_killed_at(call: int, corpus: Corpus, force: tuple[str, ...]) -> bool:
    """Builds in a process that dies just before its `call`-th change to the disk, if it has one."""

    def build() -> None:
        ctypes.CDLL(None).crash_arm(ctypes.c_long(call))
        make_all(corpus, force)

    code = exit_code(in_a_fork(build))
    assert code in (0, -signal.SIGKILL), f"the build ended with {code}"
    return code != 0


def wrong_once_resumed(corpus: Corpus, scenario: Scenario, wanted: dict[str, str]) -> list[str]:
    project = Project(corpus.project.data, corpus.project.storage.root)
    try:
        make_all(Corpus(project, corpus.name), scenario.resume_force)
    except Exception as error:
        return [f"the resumed build failed: {error}"]
    found = damage_in(project)
    if contents(project) != wanted:
        found.append("the resumed build has other files than an uninterrupted one")
    return found + [f"{path} was left behind" for path in leftovers(project)]


def known_damage(project: Project) -> list[str]:
    """The damage in an artifact; it may also be missing, because a repair replaces it in two steps."""
    found = []
    for verdict in verify(project.storage, "ferry"):
        if verdict.damage:
            found += [*verdict.damage, f"{verdict.asset}: version {verdict.version} is missing"]
    return found


def sweep(name: str, root: Path, base: str) -> Sweep:
    """Kills the build of a scenario at its calls, one after the other, and resumes it each time."""
    scenario = SCENARIOS[name]
    prepared = prepare(scenario, root / "prepared", base)
    whole = copy(prepared, root / "whole")
    make_all(whole, scenario.force)  # fills the caches of this process and of the machine
    wanted = contents(whole.project)
    found = Sweep(calls_of(copy(prepared, root / "counted"), scenario.force))
    for call in chosen(found.points, name):
        corpus = copy(prepared, root / "killed")
        known = known_damage(corpus.project)
        # Threads write at the same time, so that a build can have a call less than the one counted.
        found.tried += is_killed_at(call, corpus, scenario.force)
        problems = [line for line in damage_in(corpus.project) if line not in known]
        problems += wrong_once_resumed(corpus, scenario, wanted)
        found.problems += [f"call {call}: {line}" for line in problems]
    return found


def parse_here(tasks: list[Task]) -> Iterator[tuple[Task, ParsedFile]]:
    """Parses in this process, because each of a thousand forks would have to start a pool."""
    for task in tasks:
        yield task, parse(replace(task, engine=engines_of(task.media_type, task.settings)[0]))


def render_here(kind: str, common: Any, pieces: Any, most_harm: int = 0) -> list[Any]:
    """Renders in this process, as `parse_here` parses."""
    return [_done(kind, common, piece, sys.maxsize) for piece in pieces]


def serve() -> None:
    """Sweeps the scenario in each line of standard input: its folder, base model, name."""
    sys.modules["torch"] = None  # type: ignore[assignment]  # not needed, and a fork copies it
    import pyarrow as pa

    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    tables._PART_ROWS = 1  # so that tables of a small corpus have several parts
    raw_documents.parse_files = parse_here  # type: ignore[attr-defined]
    prompt_templates.ask = render_here  # type: ignore[attr-defined]
    preload("text")
    preload("json")
    text_quality.preload()
    for line in sys.stdin:
        root, base, name = json.loads(line)
        print(json.dumps(asdict(sweep(name, Path(root), base))), flush=True)


Server = Callable[[Path, Path, str], Sweep]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`serve` in a process that has the shim: everything is imported once, and then forked."""
    with served(__name__, tmp_path_factory.mktemp("shim")) as ask:
        yield lambda root, base, name: Sweep(**ask(str(root), str(base), name))


@pytest.fixture
def quick_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory if possible: a kill is not a power failure, so fsync does not matter."""
    memory = Path("/dev/shm")
    where = memory if os.access(memory, os.W_OK) else tmp_path
    with tempfile.TemporaryDirectory(dir=where) as folder:
        yield Path(folder)


def test_killed_at_any_call_nothing_half_made_is_read_and_a_build_resumes(
    server: Server, quick_disk: Path, pico_model: Path
) -> None:
    found = {name: server(quick_disk / name, pico_model, name) for name in SCENARIOS}
    print({name: f"{one.tried} of {one.points}" for name, one in found.items()})
    assert not {name: one.problems for name, one in found.items() if one.problems}
    assert sum(one.points for one in found.values()) >= 500
    assert all(one.tried >= 0.9 * len(chosen(one.points, "")) for one in found.values())


# A process continues after its run lost the lease.


STOPS = [
    "before staging",
    "before writing",
    "after writing",
    "before publishing",
    "once hashed",
    "before using again",
]
NEWCOMERS = ["made another", "made the same", "is at work", "failed"]


FROZEN_BEFORE = {
    "before staging": "staging",
    "before publishing": "publish",
    "before using again": "use_again",
}


def freeze() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def freeze_before(owner: Any, name: str) -> None:
    """Makes this process stop once, before it calls a function."""
    function = getattr(owner, name)

    def stopping(*arguments: Any) -> Any:
        setattr(owner, name, function)
        freeze()
        return function(*arguments)

    setattr(owner, name, stopping)


def freeze_once_hashed() -> None:
    """Makes this process stop after it has written a new manifest, before it publishes it."""
    write = files.write_atomically

    def stopping(path: Path, text: str) -> None:
        write(path, text)
        if path.name == MANIFEST:
            freeze()

    storage.write_atomically = stopping  # type: ignore[attr-defined]


class Frozen:
    """A process that stops itself halfway; it is killed at the end if it still runs."""

    def __init__(self, work: Callable[[], object]) -> None:
        self._child = in_a_fork(work)
        self._wait()

    def _wait(self) -> None:
        assert os.WIFSTOPPED(os.waitpid(self._child, os.WUNTRACED)[1])

    def go_on(self) -> None:
        """Continues the process until it stops again."""
        os.kill(self._child, signal.SIGCONT)
        self._wait()

    def end(self) -> None:
        """Continues the process to its end, and asserts that it succeeds."""
        os.kill(self._child, signal.SIGCONT)
        child, self._child = self._child, 0
        assert exit_code(child) == 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._child:
            os.kill(self._child, signal.SIGKILL)
            exit_code(self._child)


def writing(content: bytes) -> RunStage:
    """A stage that writes two files."""

    def stage(job: Job) -> Outcome:
        (job.output / "documents.parquet").write_bytes(content)
        (job.output / "records.parquet").write_bytes(content)
        return Outcome()

    return stage


def come_late(project: Project, stop: str) -> None:
    """Builds `raw_documents` for the run `old`, stops halfway, and finds its lease lost."""
    if name := FROZEN_BEFORE.get(stop):
        freeze_before(Storage, name)
    if stop == "once hashed":
        freeze_once_hashed()

    def stage(job: Job) -> Outcome:
        if stop == "before writing":
            freeze()
        outcome = writing(b"late")(job)
        if stop == "after writing":
            freeze()
        return outcome

    force = stop != "before using again"
    with pytest.raises(LostLeaseError):
        project.make("ferry", "raw_documents", stage, force=force, run_id="old")


def published(project: Project, asset: str = "raw_documents") -> dict[str, bytes]:
    """Everything that a reader can see of the artifact, and its lease; the logs of trainings are no part of it."""
    home = project.storage.home("ferry", asset)
    return {
        str(path): path.read_bytes()
        for path in home.rglob("*")
        if path.is_file()
        if path.relative_to(home).parts[0] != "runs" and path.relative_to(home).parts[0][0] != "."
    }


def content_of(project: Project) -> bytes:
    """The content of the current `raw_documents`, which is the same in both of its files."""
    manifest = project.storage.current("ferry", "raw_documents")
    assert manifest
    folder = project.storage.folder("ferry", "raw_documents", manifest.version)
    [content] = {(folder / name).read_bytes() for name in manifest.files}
    assert len(manifest.files) == 2
    return content


@pytest.mark.parametrize("newcomer", NEWCOMERS)
@pytest.mark.parametrize("stop", STOPS)
def test_an_orphan_publishes_nothing(corpus: Corpus, stop: str, newcomer: str) -> None:
    project = corpus.project
    make = partial(project.make, "ferry", "raw_documents")
    make(writing(b"first"))
    first = corpus.write("ferry.txt", "Changed.")
    make(writing(b"second"))
    first.write_text(PROSE)  # so that the first version could be used again
    with Frozen(lambda: come_late(project, stop)) as orphan:

        def let_it_try() -> None:
            before = published(project)
            orphan.end()
            assert published(project) == before

        def stage(job: Job) -> Outcome:
            outcome = writing(content)(job)
            if newcomer == "is at work":
                let_it_try()
            if newcomer == "failed":
                raise StageError("no luck")
            return outcome

        content = b"late" if newcomer == "made the same" else b"third"
        with suppress(StageError):
            make(stage, force=True, run_id="new", is_over=lambda run_id: run_id == "old")
        if newcomer != "is at work":
            let_it_try()
    assert content_of(project) == (b"second" if newcomer == "failed" else content)
    assert not damage_in(project)
    assert not leftovers(project)


def test_who_was_slow_to_begin_is_not_taken_for_dead(corpus: Corpus) -> None:
    project = corpus.project
    make = partial(project.make, "ferry", "raw_documents", force=True)

    def stage(job: Job) -> Outcome:
        freeze()
        return writing(b"slow")(job)

    def begin() -> None:
        freeze_before(fcntl, "flock")
        make(stage)

    with Frozen(begin) as slow:
        make(writing(b"quick"))
        slow.go_on()
        assert holder(project.storage.home("ferry", "raw_documents"))
        slow.end()
    assert content_of(project) == b"slow"


# `ft-assets refresh` with a real training is frozen, and killed.

SETTINGS = """\
model: {{base: "{base}", lora: {{r: 8, lora_alpha: 16}}}}
data: {{seed: {seed}}}
training: {{num_train_epochs: {epochs}, learning_rate: {rate}, per_device_train_batch_size: 4,
           max_length: 128}}
evaluation: {{max_new_tokens: {answer}}}
export: {{gguf: {gguf}}}
"""
FORMATS = ("[f16, Q8_0]", "[f16]", "[Q8_0]", "[Q8_0, f16]")


class Refreshes:
    """One corpus, and processes that refresh it."""

    def __init__(self, root: Path, base: Path) -> None:
        self.project = Project(root / "data", root / "storage")
        self.home = root / "dagster"
        self.epochs = 20
        self._root, self._base = root, base
        self._turns = Counter[str]()
        self._started = 0
        (root / "tmp").mkdir()
        self._environment = {
            **os.environ,
            "FT_ASSETS_DATA": str(self.project.data),
            "FT_ASSETS_STORAGE": str(self.project.storage.root),
            "DAGSTER_HOME": str(self.home),
            "TMPDIR": str(
                root / "tmp"
            ),  # files that a killed worker leaves are removed with the test
            "OMP_NUM_THREADS": "1",  # on a busy machine two threads wait for each other
        }
        corpus = Corpus(self.project, "ferry")
        corpus.write("ferry.txt", PROSE)
        corpus.write("crates.json", json.dumps(qa_records()))
        corpus.write(
            "questions.jsonl", json.dumps({"question": "Whose goat?", "key_fact": "pears"})
        )
        self.change()

    def change(self, asset: str = "") -> None:
        """Changes a setting that `asset`, or one of its inputs, reads."""
        self._turns[asset] += 1
        text = SETTINGS.format(
            base=self._base,
            epochs=self.epochs,
            seed=self._turns["formatted_dataset"],
            rate=1e-3 * (1 + self._turns["adapter"] + self._turns["merged_model"]),
            answer=4 + self._turns["evaluation"],
            gguf=FORMATS[self._turns["gguf"] % len(FORMATS)],
        )
        Corpus(self.project, "ferry").settings(text)

    def is_fresh(self, asset: str) -> bool:
        return self.project.status("ferry")[asset].state == "fresh"

    @contextmanager
    def refresh(self, until: str = "gguf") -> Iterator["subprocess.Popen[bytes]"]:
        """Runs `ft-assets refresh` in its own process group, which is killed afterwards."""
        command = [sys.executable, "-m", "ft_assets.cli", "refresh", "ferry", "--until", until]
        self._started += 1
        with self._log.open("w") as log:
            process = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=log, process_group=0, cwd=ROOT
            )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    @property
    def _log(self) -> Path:
        return self._root / f"log-{self._started}"

    def said(self) -> str:
        """The output of the last refresh."""
        return self._log.read_text()

    def workers(self) -> dict[str, psutil.Process]:
        """The living workers of this corpus, by the asset that they build."""
        found = {}
        for process in psutil.process_iter():
            with suppress(psutil.Error, OSError):
                command = process.cmdline()
                scratch = [part for part in command if part.startswith(str(self._root))]
                if "ft_assets.worker" in command and scratch:
                    found[asset_of(Path(scratch[0]))] = process
        return found

    def freeze(self, process: "subprocess.Popen[bytes]") -> None:
        """Stops a refresh and its worker, but not while one of Dagster's databases is locked."""
        os.killpg(process.pid, signal.SIGSTOP)
        while any(map(is_locked, self.home.rglob("*.db"))):
            os.killpg(process.pid, signal.SIGCONT)
            time.sleep(0.02)
            os.killpg(process.pid, signal.SIGSTOP)

    @contextmanager
    def instance(self) -> Iterator["dg.DagsterInstance"]:
        import dagster as dg

        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            yield instance


def is_locked(database: Path) -> bool:
    with closing(sqlite3.connect(database, timeout=0)) as connection:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            return True
    return False


def asset_of(scratch: Path) -> str:
    """The asset of the worker in a scratch folder; "" once its parent has removed the folder."""
    try:
        return str(json.loads((scratch / JOB_FILE).read_text())["asset"])
    except (OSError, ValueError):
        return ""


@pytest.fixture
def refreshes(tmp_path: Path, nano_model: Path) -> Refreshes:
    return Refreshes(tmp_path, nano_model)


def test_a_frozen_refresh_whose_run_was_canceled_publishes_nothing(refreshes: Refreshes) -> None:
    with refreshes.refresh("adapter") as frozen:
        wait_until(lambda: "step 1/" in refreshes.said(), "training begins")
        refreshes.freeze(frozen)
        with refreshes.instance() as instance:
            [run] = instance.get_runs()
            instance.report_run_canceled(run)
        refreshes.change("adapter")
        with refreshes.refresh("adapter") as second:
            assert second.wait(timeout=120) == 0, refreshes.said()
        before = published(refreshes.project, "adapter")
        os.killpg(frozen.pid, signal.SIGCONT)
        assert frozen.wait(timeout=120) == 3
    assert published(refreshes.project, "adapter") == before
    assert refreshes.is_fresh("adapter")


def test_a_worker_ends_whose_refresh_is_killed_as_it_starts(refreshes: Refreshes) -> None:
    refreshes.epochs = 900
    refreshes.change()
    with refreshes.refresh("adapter") as process:
        wait_until(lambda: bool(refreshes.workers()), "the worker starts")
        process.kill()
        wait_until(lambda: not refreshes.workers(), "the worker has ended", 20)


MOMENTS = [
    *4 * [("formatted_dataset", "", 5.0)],
    *3 * [("adapter", "", 5.0)],
    *3 * [("adapter", "step 1/", 3.0)],
    *2 * [("evaluation", "", 4.0)],
    *2 * [("evaluation", "held-out rows", 3.0)],
    *3 * [("merged_model", "", 4.0)],
    *2 * [("gguf", "", 4.0)],
    *1 * [("gguf", ".gguf: ", 3.0)],
]
"""When a refresh is killed: the asset that it builds, its last output, and at most how many seconds
later."""
if not EVERY_KILL:
    MOMENTS = list(dict.fromkeys(MOMENTS))  # one of each kind


def test_many_kills_cost_no_more_than_the_work_in_hand(refreshes: Refreshes) -> None:
    chance = random.Random(20)
    for number, (asset, mark, spread) in enumerate(MOMENTS):
        if refreshes.is_fresh(asset):
            refreshes.change(asset)
        victims = ["refresh", "group", "worker"] if GRAPH[asset].heavy else ["refresh", "group"]
        victim = victims[number % len(victims)]
        print(f"{asset} {mark}: the {victim} is killed")
        kill_one(refreshes, asset, mark, victim, chance.uniform(0, spread))
        assert not damage_in(refreshes.project)
        assert_only_the_newest_run_is_open(refreshes)
    with refreshes.refresh() as process:
        assert process.wait(timeout=180) == 0, refreshes.said()
    assert all(map(refreshes.is_fresh, GRAPH))
    assert not damage_in(refreshes.project)
    assert_all_is_closed(refreshes)


def kill_one(refreshes: Refreshes, asset: str, mark: str, victim: str, seconds: float) -> None:
    """Starts a refresh, and kills one or all of its processes; its worker ends soon after."""
    with refreshes.refresh() as process:
        if GRAPH[asset].heavy:
            wait_until(lambda: asset in refreshes.workers(), f"{asset} is being made", 120)
            wait_until(lambda: mark in refreshes.said(), f"{asset} is at {mark}", 120)
        time.sleep(seconds)
        if victim == "group":
            os.killpg(process.pid, signal.SIGKILL)
        if victim == "worker":
            for made, worker in refreshes.workers().items():
                if made:  # else it is at its end
                    kill_worker(refreshes, process, made, worker)
        process.kill()
        process.wait()
        wait_until(lambda: not refreshes.workers(), "no worker is left", 20)


def kill_worker(
    refreshes: Refreshes, process: "subprocess.Popen[bytes]", asset: str, worker: psutil.Process
) -> None:
    """Kills a worker; then its refresh fails, unless the worker had finished."""
    with suppress(psutil.NoSuchProcess):
        worker.kill()
    wait_until(
        lambda: process.poll() is not None or refreshes.is_fresh(asset), f"{asset} has failed"
    )
    assert process.poll() == 3 or refreshes.is_fresh(asset), refreshes.said()


def assert_only_the_newest_run_is_open(refreshes: Refreshes) -> None:
    with refreshes.instance() as instance:
        runs = instance.get_runs()
        assert [run.run_id for run in runs[1:] if not run.is_finished] == []


def assert_all_is_closed(refreshes: Refreshes) -> None:
    from ft_assets.defs.tags import WORKER_POOL

    with refreshes.instance() as instance:
        assert [run.run_id for run in instance.get_runs() if not run.is_finished] == []
        pool = instance.event_log_storage.get_concurrency_info(WORKER_POOL)
        assert pool.active_slot_count == 0
