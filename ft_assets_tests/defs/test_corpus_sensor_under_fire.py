"""The sensor under load: its daemon is killed again and again while files are being written."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

import dagster as dg
import psutil
import pytest

from ft_assets.defs.instance import dagster_home
from ft_assets.defs.tags import SETTLED_TAG
from ft_assets.engine.data_folder import files_version
from ft_assets.engine.graph import CORPUS_FILES, upstream
from ft_assets.engine.project import Project
from ft_assets.manifest import Manifest
from ft_assets.records import Document
from ft_assets.tables import read_table
from ft_assets_tests.conftest import Corpus

pytestmark = pytest.mark.slow

CORPORA = ("harbour", "lighthouse")
FILES = 150
"""In each corpus."""
BURST = 15
"""New files that are written at the same time."""
SETTLE_SECONDS = 2
LULL_SECONDS = 5
"""Longer than two ticks, so that files settle and a run starts."""
LIFE_SECONDS = 20
"""The longest life of a daemon that does not reach the point at which it is to be killed."""
DATA_HALF = [*upstream("formatted_dataset"), "formatted_dataset"]
SIGNS = (
    "Instance is configured",
    "raw_documents of",
    "Checking for new runs",
    "Creating new run",
    "qa_pairs of",
    "Launching run for",
    "raw_documents of",
    r"Launched \d runs",
    "Checking for new runs",
    "chunks of",
)
"""The log lines after which a daemon is killed, from its start to the end of a run."""
DEFINITIONS = f"""\
from ft_assets.definitions import build_definitions
from ft_assets.engine.project import Project

defs = build_definitions(project=Project.from_environment(settle_seconds={SETTLE_SECONDS}))
"""
# Dagster itself closes a run that was killed before it started only after some minutes.
DAGSTER_SETTINGS = """\
run_queue: {dequeue_interval_seconds: 1}
run_monitoring:
  start_timeout_seconds: 20
  poll_interval_seconds: 5
"""
# The daemon checks every five seconds which sensors are due, however short their interval.
DAEMON = """\
from dagster._daemon import sensor
from dagster._daemon.cli import main

sensor.MIN_INTERVAL_LOOP_TIME = 0.5
main()
"""


@dataclass
class Writer:
    """Drops files into a corpus, and remembers every complete content."""

    folder: Path
    chance: random.Random
    whole: set[str] = field(default_factory=set)
    dropped: int = 0
    bursts: int = 0

    def write_until(self, over: Event) -> None:
        """Writes bursts with pauses between them; the last new files are written afterwards."""
        while not over.is_set():
            self.burst(min(BURST, FILES - BURST - self.dropped))
            over.wait(LULL_SECONDS)

    def write_the_rest(self) -> None:
        while self.dropped < FILES:
            self.burst(min(BURST, FILES - self.dropped))

    def burst(self, new: int) -> None:
        """Writes new files and changes old ones, all at the same time, each in steps."""
        old = self.chance.sample(range(self.dropped), min(self.dropped, BURST // 3))
        self.bursts += 1
        waiting = deque(self._change(number, self.bursts) for number in old)
        waiting.extend(self._drop(self.dropped + number) for number in range(new))
        self.dropped += new
        while waiting:
            file = waiting.popleft()
            if next(file, "done") != "done":
                waiting.append(file)
            time.sleep(0.02)

    def _drop(self, number: int) -> Iterator[None]:
        """A new file under its own name, a temporary name, or a name that it has for a while."""
        path = self.folder / f"file-{number}.txt"
        name = self.chance.choice(
            [path.name, path.name, f"{path.name}.part", f".{path.name}", f"draft-{number}.txt"]
        )
        yield from self._write(path.with_name(name), self._content(number, 0), "wb")
        path.with_name(name).rename(path)

    def _change(self, number: int, version: int) -> Iterator[None]:
        [path] = self.folder.glob(f"*file-{number}.txt")
        content = self._content(number, version)
        how = self.chance.choice(["over", "in place", "replaced", "renamed"])
        if how == "renamed":
            path.rename(path.with_name(f"moved-{path.name}"))
        elif how == "replaced":
            yield from self._write(path.with_suffix(".tmp"), content, "wb")
            path.with_suffix(".tmp").rename(path)
        else:
            yield from self._write(path, content, "wb" if how == "over" else "r+b")

    def _content(self, number: int, version: int) -> str:
        """A text of the same length in every version, so that a file's size says nothing."""
        chance = random.Random(f"{self.folder.name} {number} {version}")
        words = " ".join(f"{chance.getrandbits(32):08x}" for _ in range(20 + number % 7 * 60))
        return f"file {number} of {self.folder.name} version {version:03} {words} END"

    def _write(self, path: Path, content: str, mode: str) -> Iterator[None]:
        """Writes in steps. Content that was unchanged for the settling time may rightly be read."""
        data = content.encode()
        size = len(data) // self.chance.randint(4, 12) + 1
        with path.open(mode, buffering=0) as file:
            for start in range(0, len(data), size):
                file.write(data[start : start + size])
                wrote = time.monotonic()
                yield
                if time.monotonic() - wrote > SETTLE_SECONDS - 0.5:
                    self.whole.add(path.read_text())
        self.whole.add(content)


@pytest.fixture
def root(
    tmp_path: Path, project: Project, pico_model: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder with definitions for a daemon, its instance, and the corpora without documents."""
    monkeypatch.setenv("FT_ASSETS_DATA", str(project.data))
    monkeypatch.setenv("FT_ASSETS_STORAGE", str(project.storage.root))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    settings = dagster_home() / "dagster.yaml"
    settings.write_text(settings.read_text().replace("run_monitoring:\n", DAGSTER_SETTINGS))
    (tmp_path / "defs.py").write_text(DEFINITIONS)
    for name in CORPORA:
        Corpus(project, name).settings(f"model: {{base: '{pico_model}'}}")
    return tmp_path


@contextmanager
def daemon(root: Path) -> Iterator[Path]:
    """A daemon with its code server and its runs, all killed at the end. Yields its log."""
    log = root / f"daemon-{time.monotonic_ns()}.log"
    command = [sys.executable, "-W", "ignore", "-c", DAEMON, "run", "-f", "defs.py"]
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=root, stdout=output, stderr=subprocess.STDOUT, process_group=0
        )
    try:
        yield log
        assert process.poll() is None, log.read_text()
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert wait_until(lambda: not processes_of(root), 20), processes_of(root)


def processes_of(root: Path) -> list[psutil.Process]:
    """Every living process that was started for the instance below `root`."""
    found = []
    for process in psutil.process_iter():
        try:
            home = process.environ().get("DAGSTER_HOME", "")
            if home.startswith(str(root)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:  # somebody else's, or gone by now
            continue
    return found


def wait_until(is_so: Callable[[], object], seconds: float) -> bool:
    """Waits until a condition is true; returns whether it became true."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def wait_for(sign: str, log: Path, seconds: float) -> bool:
    return wait_until(lambda: re.search(sign, log.read_text()), seconds)


def is_settled(project: Project, instance: dg.DagsterInstance) -> bool:
    """Whether everything requested is built, and no run is open."""
    states = [project.status(corpus)[asset].state for corpus in CORPORA for asset in DATA_HALF]
    return set(states) == {"fresh"} and all(run.is_finished for run in instance.get_runs())


def texts(project: Project, manifest: Manifest) -> list[str]:
    folder = project.storage.folder(manifest.corpus, manifest.asset, manifest.version)
    return [row.text for row in read_table(folder / "documents.parquet", Document)]


def check_documents(project: Project, writer: Writer) -> int:
    """Asserts that the current artifacts match the files, and that no partial file was ever read.

    Returns the number of versions.
    """
    corpus, storage = writer.folder.name, project.storage
    contents = Counter(path.read_text() for path in writer.folder.glob("*.txt"))
    assert len(contents) == contents.total() == FILES
    current = storage.current(corpus, "raw_documents")
    assert current
    assert current.inputs[CORPUS_FILES] == files_version(project.files(corpus))
    assert Counter(texts(project, current)) == contents
    history = list(storage.history(corpus, "raw_documents"))
    assert len(history) == len(storage.versions(corpus, "raw_documents"))
    for manifest in history:
        assert not storage.damage(manifest)
        assert not [text[:60] for text in texts(project, manifest) if text not in writer.whole]
    return len(history)


def published(writer: Writer) -> bool:
    """Whether a version of a writer's documents was built."""
    project = Project.from_environment()
    return bool(project.storage.versions(writer.folder.name, "raw_documents"))


def check_runs(project: Project, instance: dg.DagsterInstance) -> None:
    """Asserts that each state was requested once, and that everything a run built still exists."""
    [sensor] = [
        state
        for state in instance.all_instigator_state()
        if state.instigator_name == "corpus_sensor"
    ]
    ticks = instance.get_ticks(sensor.instigator_origin_id, sensor.selector_id)
    asked = [request.run_key for tick in ticks for request in tick.run_requests or []]
    runs = instance.get_runs()
    assert {run.tags["dagster/run_key"] for run in runs} == set(asked)
    assert len(runs) == len(set(asked))
    for run in runs:
        if run.status == dg.DagsterRunStatus.SUCCESS:
            assert made_by(project, instance, run) == DATA_HALF
    for corpus in CORPORA:
        last = next(run for run in runs if run.tags["dagster/partition"] == corpus)
        assert last.tags[SETTLED_TAG] == files_version(project.files(corpus))


def made_by(project: Project, instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    """The assets that a run materialized, in versions that exist in the storage."""
    found = []
    kind = dg.DagsterEventType.ASSET_MATERIALIZATION
    for record in instance.get_records_for_run(run.run_id, of_type=kind).records:
        event = record.asset_materialization
        assert event
        assert event.partition
        asset = event.asset_key.to_user_string()
        version = (event.tags or {})["dagster/data_version"]
        if version in project.storage.versions(event.partition, asset):
            found.append(asset)
    return found


def test_what_was_killed_loses_nothing_and_reads_nothing_half_written(
    root: Path, project: Project
) -> None:
    chance, over = random.Random(17), Event()
    writers = [Writer(project.data / name, random.Random(name)) for name in CORPORA]
    with ThreadPoolExecutor(len(writers)) as pool:
        writing = [pool.submit(writer.write_until, over) for writer in writers]
        try:
            for sign in SIGNS:
                with daemon(root) as log:
                    wait_for(sign, log, LIFE_SECONDS)
                    time.sleep(chance.uniform(0, 0.7))
            over.set()
            with daemon(root):  # on a slow machine none of the others may have lived to publish
                assert wait_until(lambda: any(map(published, writers)), 120)
        finally:
            over.set()
        for future in writing:
            future.result()
    with dg.DagsterInstance.from_config(str(root / "dagster")) as instance:
        with daemon(root) as log:
            for writer in writers:
                writer.write_the_rest()
            assert wait_until(lambda: is_settled(project, instance), 120), log.read_text()
        versions = sum(check_documents(project, writer) for writer in writers)
        assert versions > len(writers)  # not only after the fire
        check_runs(project, instance)


@pytest.mark.parametrize("sign", [r"Launched \d runs", "raw_documents of"])
def test_what_a_killed_run_was_to_make_is_asked_for_again(
    root: Path, project: Project, sign: str
) -> None:
    for name in CORPORA:
        Writer(project.data / name, random.Random(name)).burst(BURST)
    with daemon(root) as log:
        assert wait_for(sign, log, 60), log.read_text()
    with dg.DagsterInstance.from_config(str(root / "dagster")) as instance, daemon(root) as log:
        assert wait_until(lambda: is_settled(project, instance), 120), log.read_text()
