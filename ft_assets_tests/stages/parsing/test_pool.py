"""The pool of parser processes: what dies is replaced, and nothing outlives whoever started it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from ft_assets.errors import StageError
from ft_assets.files import hash_file
from ft_assets.records import Document
from ft_assets.stages.job import CorpusFile
from ft_assets.stages.parsing import pool as parser_pool
from ft_assets.stages.parsing.files import Task
from ft_assets.stages.parsing.pool import ParserPool
from ft_assets.stages.parsing.row_spool import spooled_rows
from ft_assets.stages.raw_documents import load_documents
from ft_assets.tables import from_rows
from ft_assets_tests.conftest import write_pdf
from ft_assets_tests.stages.loaders.read_file import settings
from ft_assets_tests.stages.parsing.test_limits import nested_forms


def below(pid: int) -> list[psutil.Process]:
    """The parser processes that a process has: the host and its workers."""
    found = psutil.Process(pid).children(recursive=True)
    return [each for each in found if "ft_assets.stages.parsing.process" in each.cmdline()]


def wait_for(ready: "object", seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not ready():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.02)


def tasks(folder: Path, count: int, **changed: int) -> list[Task]:
    made = []
    for number in range(count):
        path = folder / f"{number}.txt"
        path.write_text(f"Ferry number {number} leaves the quay at {number}.")
        made.append(Task(path, "text", settings(**changed), folder))
    return made


def hanging(folder: Path, seconds: int) -> Task:
    path = nested_forms(folder / "hangs.pdf")
    return Task(path, "pdf", settings(max_seconds=seconds), folder)


def test_no_process_is_started_without_a_file_to_parse(tmp_path: Path) -> None:
    pool = ParserPool()
    assert list(pool.parse([])) == []
    assert pool._host is None


def test_no_more_workers_than_files_and_they_are_used_again(tmp_path: Path) -> None:
    pool = ParserPool(workers=3)
    try:
        before = set(below(os.getpid()))
        assert len(list(pool.parse(tasks(tmp_path, 1)))) == 1
        assert len(set(below(os.getpid())) - before) == 2  # the host and one worker
        assert len(list(pool.parse(tasks(tmp_path, 20)))) == 20
        started = set(below(os.getpid())) - before
        assert len(started) == 4
        assert len(list(pool.parse(tasks(tmp_path, 20)))) == 20
        assert set(below(os.getpid())) - before == started
    finally:
        pool.close()
    assert set(below(os.getpid())) == before


def test_a_worker_that_is_killed_is_replaced_and_its_file_read(tmp_path: Path) -> None:
    pool = ParserPool(workers=2)
    try:
        list(pool.parse(tasks(tmp_path, 2)))
        for worker in pool._idle:
            os.kill(worker.pid, signal.SIGKILL)
        assert all(parsed.text_id for _, parsed in pool.parse(tasks(tmp_path, 10)))
    finally:
        pool.close()


def test_the_host_may_be_killed_too(tmp_path: Path) -> None:
    """With workers idle, and with files under way."""
    pool = ParserPool(workers=2)
    try:
        list(pool.parse(tasks(tmp_path, 2)))
        for number in range(3):
            (tmp_path / str(number)).mkdir()
            parsing = pool.parse(tasks(tmp_path / str(number), 30))
            found = [next(parsing)] if number % 2 else []
            assert pool._host
            pool._host._process.kill()
            found += parsing
            assert all(parsed.text_id for _, parsed in found)
    finally:
        pool.close()


def test_a_file_whose_worker_is_killed_twice_is_rejected(tmp_path: Path) -> None:
    pool = ParserPool(workers=1)
    pool.parse(tasks(tmp_path, 1))
    done: list[str] = []

    def parse() -> None:
        done.extend(
            reason
            for _, parsed in pool.parse([hanging(tmp_path, 60)])
            for reason in parsed.rejected
        )

    before = set(below(os.getpid()))
    thread = threading.Thread(target=parse)
    thread.start()
    try:
        for _ in range(2):
            wait_for(lambda: len(set(below(os.getpid())) - before) == 2)
            time.sleep(0.3)
            [worker] = [
                each for each in set(below(os.getpid())) - before if each.ppid() != os.getpid()
            ]
            worker.kill()
            worker.wait()
        thread.join(30)
    finally:
        pool.close()
    assert "SIGKILL" in done[0]


def test_a_pool_that_cannot_start_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(StageError, match="does not start"):
        list(ParserPool().parse(tasks(tmp_path, 1)))


def test_many_threads_share_a_pool(tmp_path: Path) -> None:
    pool = ParserPool(workers=2)
    counts: list[int] = []

    def parse(folder: Path) -> None:
        folder.mkdir()
        counts.append(sum(bool(p.text_id) for _, p in pool.parse(tasks(folder, 30))))

    threads = [threading.Thread(target=parse, args=(tmp_path / str(n),)) for n in range(4)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert counts == [30] * 4
        assert len(pool._idle) <= 2
    finally:
        pool.close()


def test_a_parse_that_is_broken_off_leaves_no_worker_at_it(tmp_path: Path) -> None:
    pool = ParserPool(workers=2)
    try:
        parsing = pool.parse([*tasks(tmp_path, 1), hanging(tmp_path, 60)])
        next(parsing)
        parsing.close()  # type: ignore[attr-defined]
        assert len(pool._idle) == 1
        assert all(parsed.text_id for _, parsed in pool.parse(tasks(tmp_path, 3)))
    finally:
        pool.close()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_outlives_a_process_that_is_killed(tmp_path: Path, how: signal.Signals) -> None:
    """While one worker is stuck in a file and another is idle."""
    nested_forms(tmp_path / "hangs.pdf")
    (tmp_path / "a.txt").write_text("Ferry")
    code = (
        "from pathlib import Path\n"
        "from ft_assets_tests.stages.loaders.read_file import settings\n"
        "from ft_assets.stages.parsing.files import Task\n"
        "from ft_assets.stages.parsing.pool import ParserPool\n"
        f"folder = Path({str(tmp_path)!r})\n"
        "files = [('a.txt', 'text'), ('hangs.pdf', 'pdf')]\n"
        "tasks = [Task(folder / name, kind, settings(), folder) for name, kind in files]\n"
        "for task, _ in ParserPool(workers=2).parse(tasks): print(task.path, flush=True)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout
    assert b"a.txt" in parent.stdout.readline()
    family = below(parent.pid)
    assert len(family) == 3
    parent.send_signal(how)
    parent.wait(10)
    wait_for(lambda: not any(each.is_running() for each in family))
    parent.stdout.close()


def test_a_fork_of_this_process_has_a_pool_of_its_own(tmp_path: Path) -> None:
    [(_, parsed)] = parser_pool.parse_files(tasks(tmp_path, 1))
    pid = os.fork()
    if pid == 0:
        try:
            ok = parser_pool._POOL._host is None
            [(_, parsed)] = parser_pool.parse_files(tasks(tmp_path, 1))
            parser_pool._POOL.close()
            os._exit(0 if ok and parsed.text_id else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    [(_, again)] = parser_pool.parse_files(tasks(tmp_path, 1))
    assert again.text_id == parsed.text_id


def test_rows_left_by_a_worker_that_died_are_passed_over(tmp_path: Path) -> None:
    pool = ParserPool(workers=1)
    try:
        [(_, parsed)] = pool.parse(tasks(tmp_path, 1))
        [batch] = parsed.batches["documents"]
        with Path(batch.path).open("ab") as file:
            file.write(b"half a batch")
        [(task, parsed)] = pool.parse(tasks(tmp_path, 1))
        rows = spooled_rows(str(parsed.text_id), parsed.batches["documents"], Document)
        assert [row.text for row in from_rows(rows, Document)] == [task.path.read_text()]
    finally:
        pool.close()


ENVIRONMENTS = [
    {"PYTHONHASHSEED": "1"},
    {"PYTHONHASHSEED": "77", "TZ": "Asia/Kathmandu"},
    {"LC_ALL": "C", "LANG": "C"},
    {"LC_ALL": "tr_TR.UTF-8", "PYTHONUTF8": "0"},
]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
def test_the_same_bytes_in_any_environment_and_with_any_number_of_workers(
    tmp_path: Path, workers: int
) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for number in range(6):
        write_pdf(source / f"{number}.pdf", [f"Ferry {number}\nleaves the north quay at six"] * 3)
        (source / f"{number}.txt").write_text(f"Grüße {number} aus Köln, 東京. " * 30)
    (source / "a.json").write_text(json.dumps([{"question": "Q", "answer": "Ä"}, 17]))
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ft_assets.stages import raw_documents\n"
        "from ft_assets.stages.parsing import pool as parser_pool\n"
        "from ft_assets.files import hash_file\n"
        "from ft_assets.stages.job import CorpusFile\n"
        "from ft_assets.stages.raw_documents import load_documents\n"
        "from ft_assets_tests.stages.loaders.read_file import settings\n"
        f"parser_pool._POOL.size = {workers}\n"
        "source, output = map(Path, sys.argv[1:])\n"
        "names = sorted(path.name for path in source.iterdir())\n"
        f"names = names[::-1] if {workers} > 1 else names\n"
        "files = [CorpusFile(name, 0, hash_file(source / name)) for name in names]\n"
        "load_documents(files, source, output, settings(), lambda line: None)\n"
    )
    made = []
    for number, environment in enumerate(ENVIRONMENTS):
        output = tmp_path / f"out-{number}"
        output.mkdir()
        command = [sys.executable, "-c", code, str(source), str(output)]
        subprocess.run(command, check=True, env={**os.environ, **environment})
        made.append(_bytes(output))
    here = tmp_path / "here"
    here.mkdir()
    files = [CorpusFile(path.name, 0, hash_file(path)) for path in sorted(source.iterdir())]
    load_documents(files, source, here, settings(), lambda line: None)
    assert all(each == _bytes(here) for each in made)


def _bytes(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
