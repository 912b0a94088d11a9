"""Children get nothing that they do not need, and run nothing from the user's working directory."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, get_args

import psutil
import pytest

from ft_assets import children
from ft_assets.children import Role, environment, here, isolation, launched, python, run
from ft_assets.stages.parsing import pool as parser_pool
from ft_assets.stages.parsing.files import Task
from ft_assets.stages.parsing.pool import ParserPool
from ft_assets.stages.templates import renderer
from ft_assets.stages.templates.renderer import HarmError, Renderer
from ft_assets_tests.conftest import PROSE, Corpus, qa_records
from ft_assets_tests.stages.loaders.read_file import settings

CANARIES = {
    "ANTHROPIC_API_KEY": "canary-anthropic",
    "OPENAI_API_KEY": "canary-openai",
    "AWS_SECRET_ACCESS_KEY": "canary-aws",
    "MY_COMPANY_PASSWORD": "canary-company",
    "HF_TOKEN": "canary-hub",
    "WANDB_API_KEY": "canary-tracking",
}
FOR_TRAINING = {"HF_TOKEN", "WANDB_API_KEY"}

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plants keys in this process's environment that its children must not get."""
    for name, value in CANARIES.items():
        monkeypatch.setenv(name, value)


def held(variables: dict[str, str]) -> set[str]:
    """The planted keys in an environment, under any name."""
    return {name for name, value in CANARIES.items() if value in variables.values()}


def environment_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.mark.parametrize("role", get_args(Role))
def test_a_role_gets_the_keys_it_needs(role: Role, planted: None) -> None:
    wanted = {"trainer": FOR_TRAINING, "tracker": FOR_TRAINING, "refresh": set(CANARIES)}.get(
        role, set()
    )
    assert held(environment(role)) == wanted
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    done = run(role, launched(role, [sys.executable, "-P", "-c", code]))
    assert held(json.loads(done.stdout)) == wanted


def test_proxies_and_pip_s_settings_are_for_those_with_a_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    monkeypatch.setenv("PIP_INDEX_URL", "http://index:1")
    having = {role for role in get_args(Role) if "HTTPS_PROXY" in environment(role)}
    assert having == {"trainer", "tracker", "fetcher", "refresh"}
    having = {role for role in get_args(Role) if "PIP_INDEX_URL" in environment(role)}
    assert having == {"fetcher", "refresh"}


def test_relative_folders_are_made_absolute_or_dropped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"lib:{tmp_path}/there:")
    monkeypatch.setenv("PATH", ":bin:/usr/bin")
    monkeypatch.setenv("FT_ASSETS_STORAGE", "store")
    found = environment("trainer")
    assert found["PYTHONPATH"].split(":")[0] == f"{tmp_path}/there"
    assert all(Path(folder).is_absolute() for folder in found["PYTHONPATH"].split(":"))
    assert found["PATH"] == "/usr/bin"
    assert found["FT_ASSETS_STORAGE"] == str(tmp_path / "store")
    assert found["FT_ASSETS_HERE"] == str(tmp_path)
    monkeypatch.setenv("FT_ASSETS_HERE", "/somewhere")
    assert here() == Path("/somewhere")


def test_a_child_imports_this_package_wherever_it_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    code = "import ft_assets; print(ft_assets.__file__)"
    done = run("parser", [sys.executable, "-P", "-c", code])
    assert Path(done.stdout.strip()).parent == Path(children.__file__).parent


def test_a_command_that_is_not_there_is_named() -> None:
    done = run("ocr", launched("ocr", ["no-such-program"]))
    assert done.returncode == 1
    assert done.stderr.strip() == "cannot run no-such-program: No such file or directory"
    assert "usage" in run("ocr", python("ft_assets.children", "nobody", "--", "true")).stderr


_TRIES = """\
import ctypes, json, os, resource, socket, sys
from ft_assets.children import restrict
BECOME
restrict(sys.argv[1])
def tried(work):
    try:
        work()
    except OSError as error:
        return error.errno
def io_uring():
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(425, 1, ctypes.create_string_buffer(256)) < 0:
        raise OSError(ctypes.get_errno(), "")
tries = {
    "inet": lambda: socket.socket(),
    "udp6": lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM),
    "unix": lambda: socket.socket(socket.AF_UNIX),
    "pair": lambda: socket.socketpair(),
    "io_uring": io_uring,
}
found = {name: tried(work) for name, work in tries.items()}
status = open("/proc/self/status").read()
found["privileges"] = int(status.split("NoNewPrivs:")[1].split()[0])
print(json.dumps(found))
"""


@on_linux
@pytest.mark.parametrize("user", ["", "nobody"])
def test_who_reads_untrusted_data_has_no_network(user: str) -> None:
    if user and os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    become = f"import pwd; os.setuid(pwd.getpwnam({user!r}).pw_uid)" if user else ""
    tries = _TRIES.replace("BECOME", become)
    for role in ("parser", "template", "ocr"):
        done = run(role, [sys.executable, "-P", "-c", tries, role])
        assert done.returncode == 0, done.stderr
        refused = dict.fromkeys(("inet", "udp6", "unix", "io_uring"), errno.EPERM)
        assert json.loads(done.stdout) == {**refused, "pair": None, "privileges": 1}


@on_linux
@pytest.mark.parametrize("role", ["trainer", "tracker", "converter", "fetcher"])
def test_the_others_have_one_and_gain_no_privileges(role: Role) -> None:
    found = json.loads(
        run(role, [sys.executable, "-P", "-c", _TRIES.replace("BECOME", ""), role]).stdout
    )
    assert found["inet"] is None
    assert found["privileges"] == 1


@on_linux
def test_what_this_machine_offers_is_found_by_trying(monkeypatch: pytest.MonkeyPatch) -> None:
    found = isolation()
    assert found["no_new_privileges"]
    assert found["file_size"]
    assert found["no_network"] == (os.uname().machine in ("x86_64", "aarch64"))


def test_a_process_that_burns_its_cpu_time_is_ended() -> None:
    code = "from ft_assets.children import limit_cpu\nlimit_cpu(60)\nlimit_cpu(1)\nwhile True: pass"
    assert run("template", [sys.executable, "-P", "-c", code]).returncode == -signal.SIGXCPU


def test_a_file_cannot_grow_beyond_the_limit(tmp_path: Path) -> None:
    code = (
        "import sys; from ft_assets.children import restrict; restrict('template')\n"
        "with open(sys.argv[1], 'wb') as file:\n    file.write(bytes(1 << 22))"
    )
    done = run("template", [sys.executable, "-P", "-c", code, str(tmp_path / "big")])
    assert "File too large" in done.stderr
    assert (tmp_path / "big").stat().st_size == 1 << 20


_EVIL_PARSER = """\
import os, resource, signal, socket, sys
from ft_assets.stages.parsing import process
from ft_assets.stages.parsing.row_spool import DiskError
def evil(task):
    what = task.path.read_text()
    if what == "socket":
        socket.create_connection(("127.0.0.1", 9))
    if what == "write":
        try:
            with open(task.scratch / f"documents-{task.owner}", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, 10 << 30)
        except OSError as error:
            raise DiskError(error)
    if what == "spin":
        while True:
            pass
    if what == "cpu":
        os.kill(os.getpid(), signal.SIGXCPU)
    raise process.UnreadableError(f"cpu {resource.getrlimit(resource.RLIMIT_CPU)[0]}")
def refused(task):
    try:
        return evil(task)
    except PermissionError as error:
        raise process.UnreadableError(f"refused: {error.strerror}")
process.parse = refused
process.main()
"""


def _reason(pool: ParserPool, folder: Path, what: str, **changed: int) -> str:
    (folder / "a.txt").write_text(what)
    [(_, parsed)] = pool.parse([Task(folder / "a.txt", "text", settings(**changed), folder)])
    return parsed.rejected[0]


@on_linux
def test_a_parser_that_turned_evil_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "evil.py"
    script.write_text(_EVIL_PARSER)
    monkeypatch.setattr(
        parser_pool, "python", lambda module, *more: [sys.executable, "-P", str(script), *more]
    )
    pool = ParserPool(workers=1)
    try:
        assert "refused: Operation not permitted" in _reason(pool, tmp_path, "socket")
        assert "larger than its size" in _reason(pool, tmp_path, "write")
        late = "took longer than 1 s: data.loaders.max_seconds"
        assert late in _reason(pool, tmp_path, "spin", max_seconds=1)
        assert "took longer than 7 s" in _reason(pool, tmp_path, "cpu", max_seconds=7)
        first = _reason(pool, tmp_path, "limit", max_seconds=7)
        later = _reason(pool, tmp_path, "limit", max_seconds=9)
        assert int(later.split()[1]) - int(first.split()[1]) >= 2
        assert int(first.split()[1]) >= 7
    finally:
        pool.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 4 << 30


_EVIL_TEMPLATES = """\
import os, socket
from ft_assets.stages.templates import process
def evil(common, text):
    if text == "socket":
        socket.create_connection(("127.0.0.1", 9))
    if text == "write":
        with open(common["folder"] + "/big", "wb") as file:
            file.write(bytes(1 << 22))
    while text == "spin":
        pass
    os.kill(os.getpid(), int(text))
process._KINDS["evil"] = evil
process.main()
"""


@on_linux
def test_a_template_process_that_turned_evil_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "evil.py"
    script.write_text(_EVIL_TEMPLATES)
    monkeypatch.setattr(
        renderer, "python", lambda module, *more: [sys.executable, "-P", str(script), *more]
    )
    evil = Renderer()
    try:
        answers = evil.ask("evil", {"folder": str(tmp_path)}, ["socket", "write"])
        assert "Operation not permitted" in answers[0]["error"]
        assert "File too large" in answers[1]["error"]
        with pytest.raises(HarmError, match="takes more than 3 CPU seconds"):
            evil.ask("evil", {}, ["spin"])
        with pytest.raises(HarmError, match="crashes the process"):
            evil.ask("evil", {}, [str(int(signal.SIGSEGV))])
    finally:
        evil.close()


@on_linux
def test_the_environment_of_the_processes_that_parse_and_render(
    tmp_path: Path, planted: None
) -> None:
    pool, rendering = ParserPool(workers=1), Renderer()
    try:
        (tmp_path / "a.txt").write_text(PROSE)
        assert list(pool.parse([Task(tmp_path / "a.txt", "text", settings(), tmp_path)]))
        assert rendering.ask("fields", {}, ["{{ a }}"])[0]["fields"] == ["a"]
        assert pool._host
        assert rendering._process
        pids = [pool._host._process.pid, pool._idle[0].pid, rendering._process._process.pid]
        for pid in pids:
            assert held(environment_of(pid)) == set()
            assert psutil.Process(pid).cwd() == "/"
    finally:
        pool.close()
        rendering.close()


@contextmanager
def watching(pid: int, seen: dict[str, set[str]]) -> Iterator[None]:
    """Records the planted keys of all descendants of a process, by the module that each runs."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            for process in psutil.Process(pid).children(recursive=True):
                with suppress(psutil.Error, OSError):
                    line = process.cmdline()
                    if "ft_assets.children" not in line and line:
                        seen.setdefault(_what(line), set()).update(held(process.environ()))

    def watch_until_gone() -> None:
        with suppress(psutil.Error):
            watch()

    thread = threading.Thread(target=watch_until_gone)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _what(line: list[str]) -> str:
    return next(
        (part.rpartition("/")[2] for part in line if "ft_assets." in part or part.endswith(".py")),
        line[0],
    )


_PLANTED = "from pathlib import Path\nPath({marker!r}).write_text(__file__)\n"


@on_linux
@pytest.mark.slow
def test_a_whole_refresh_leaks_no_key_and_runs_nothing_planted(
    tmp_path: Path, nano_model: Path, project: Any
) -> None:
    """Runs in a folder full of traps, with relative paths for the data, the storage and the model."""
    stands = tmp_path / "stands"
    stands.mkdir()
    (stands / "nano").symlink_to(nano_model)
    for name in ("ft_assets", "torch", "yaml", "sitecustomize", "jinja2", "gguf", "pip"):
        (stands / f"{name}.py").write_text(_PLANTED.format(marker=str(tmp_path / f"ran-{name}")))
    for name in ("ferry", "second"):
        corpus = Corpus(project, name)
        corpus.write("ferry.txt", PROSE)
        corpus.write("crates.json", json.dumps(qa_records()))
        corpus.settings(
            "model: {base: ./nano, lora: {r: 8, lora_alpha: 16}}\n"
            "training: {num_train_epochs: 1, max_length: 128}\n"
            "evaluation: {max_new_tokens: 4}\nexport: {gguf: [f16]}\n"
        )
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "ft_assets.cli", "refresh", "--jobs", "2", "--json"],
        cwd=stands,
        env={
            **os.environ,
            **CANARIES,
            "FT_ASSETS_DATA": "../data",
            "FT_ASSETS_STORAGE": "../storage",
            "DAGSTER_HOME": str(tmp_path / "dagster"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    seen: dict[str, set[str]] = {}
    with watching(process.pid, seen):
        said, errors = process.communicate()
    failed = json.loads(said)["failed"] if said else errors
    assert not failed
    assert seen.pop("ft_assets.cli") == set(CANARIES)
    assert seen.pop("ft_assets.worker") == FOR_TRAINING
    assert seen.keys() >= {
        "ft_assets.stages.parsing.process",
        "ft_assets.stages.templates.process",
        "ft_assets.stages.export.converter",
    }
    seen.pop("file", None)  # the system's own, of Python's platform module, which Dagster asks
    assert {name for name, keys in seen.items() if keys} == set()
    assert [path.name for path in tmp_path.glob("ran-*")] == []
