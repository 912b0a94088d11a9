"""The only way to start a child process: it gets what its role needs, and nothing else.

A child has an environment from an allow-list, a neutral working directory that Python does not import
from, and no way to gain privileges. A child that reads untrusted data (documents, templates) also has
no network, and limits on CPU time and on the size of the files that it writes. Our own children call
`restrict` before they read untrusted data; other programs are started through a launcher that does it
for them: `python -P -m ft_assets.children ROLE -- COMMAND…`.

Some of this is available only on Linux on x86-64 and arm64; `isolation` says what works here.
"""

import json
import math
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

Role = Literal[
    "parser", "template", "trainer", "tracker", "converter", "fetcher", "ocr", "server", "refresh"
]
"""The purpose of a child. `fetcher` is pip, `trainer` is `worker.py`, `tracker` is the worker's child that
sends a training's metrics to an experiment tracker, `server` is the web application
and the daemon behind `ft-assets ui`, and `refresh` is the user's own command, run again."""

NEUTRAL = "/"
"""The working directory of a child that does not need one."""
_HERE = "FT_ASSETS_HERE"

_COMMON = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "TEMP", "TMP"),
    *("XDG_CACHE_HOME", "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH"),
    *("PYTHONPATH", "PYTHONHASHSEED", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONDONTWRITEBYTECODE"),
    *("PYTHONPYCACHEPREFIX", "PYTHONWARNINGS", "PYTHONFAULTHANDLER", "PYTHONMALLOC", "MALLOC_*"),
    *("OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "VECLIB_*", "NUMEXPR_*", "RAYON_*"),
    *("TOKENIZERS_PARALLELISM", "ARROW_*", "FT_ASSETS_DEBUG", _HERE),
)
_NETWORK = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
)
_MODELS = (
    *("HF_*", "HUGGINGFACE_*", "HUGGING_FACE_*", "TRANSFORMERS_*", "SAFETENSORS_*", "GGML_*"),
    *("TORCH_*", "TORCHINDUCTOR_*", "PYTORCH_*", "TRITON_*", "BNB_*", "CC", "CXX"),
    *("CUDA_*", "CUBLAS_*", "CUDNN_*", "NVIDIA_*", "NCCL_*", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
    *("ROCM_*", "ROCR_*", "HIP_*", "HSA_*", "AMD_*", "GPU_*", "MIOPEN_*", "PYTORCH_ROCM_*"),
)
_TRACKING = (
    *("WANDB_*", "MLFLOW_*", "TRACKIO_*", "COMET_*", "CLEARML_*", "NEPTUNE_*", "SWANLAB_*"),
    *("DVCLIVE_*", "TENSORBOARD_*", "ACCELERATE_*", "TRL_*", "PEFT_*"),
)
_OURS = ("FT_ASSETS_DATA", "FT_ASSETS_STORAGE", "FT_ASSETS_LLAMA_CPP")
_OCR = ("TESSDATA_PREFIX", "GS_LIB", "GS_FONTPATH", "FONTCONFIG_*", "XDG_DATA_DIRS")

_ALLOWED: dict[Role, tuple[str, ...]] = {
    "parser": (*_COMMON, *_OCR),
    "ocr": (*_COMMON, *_OCR),
    "template": _COMMON,
    "trainer": (*_COMMON, *_NETWORK, *_MODELS, *_TRACKING, *_OURS, "DAGSTER_PIPES_*"),
    "tracker": (*_COMMON, *_NETWORK, *_TRACKING, "HF_*", "XDG_CONFIG_HOME"),
    "converter": (*_COMMON, *_MODELS),
    "fetcher": (*_COMMON, *_NETWORK, "PIP_*"),
    "server": (*_COMMON, *_OURS, "DAGSTER_*", "PG*"),
    "refresh": ("*",),
}
_SPIN = {"GOMP_SPINCOUNT": "10000"}
"""How long torch's threads spin before they sleep. By default they spin so long that, on a busy machine, they
take the core from the thread that they wait for: a training step took 1.3 seconds there, and 0.4 with this."""
_HOLDS_SECRETS: set[Role] = {"trainer", "tracker", "fetcher", "refresh"}
_SECRET = re.compile(r"(^|_)(TOKENS?|KEYS?|SECRETS?|PASSWORDS?|CREDENTIALS?)(_|$)")
"""Variables with these words in their names are not passed to the other roles, even if allow-listed."""

_SEARCHED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH")
"""Search paths: relative folders are dropped, because they would depend on the working directory."""
_FOLDERS = (*_OURS, "XDG_CACHE_HOME", "TMPDIR", "TEMP", "TMP", "HF_HOME", "HF_HUB_CACHE")

_UNTRUSTED: set[Role] = {"parser", "template", "ocr"}
_FILE_BYTES: dict[Role, int] = {"ocr": 4 << 30, "template": 1 << 20}
"""The largest file that a child may write, in bytes. A parser's limits depend on the file it parses."""


def here() -> Path:
    """The base of relative paths: the folder in which the user started the first of our processes."""
    try:
        return Path(os.environ.get(_HERE) or Path.cwd())
    except FileNotFoundError:  # the working directory was removed
        return Path(NEUTRAL)


def environment(role: Role, **more: str) -> dict[str, str]:
    """The environment of a child: the variables that its role may have, and `more`.

    Relative folders are made absolute; in search paths they are dropped.
    """
    allowed = re.compile("|".join(_pattern(name) for name in _ALLOWED[role]))
    found = {
        name: value
        for name, value in os.environ.items()
        if allowed.fullmatch(name) and (role in _HOLDS_SECRETS or not _SECRET.search(name))
    }
    if role == "trainer" and "OMP_WAIT_POLICY" not in found:
        found = _SPIN | found
    found[_HERE] = str(here())
    found |= {name: str(here() / found[name]) for name in _FOLDERS if found.get(name)}
    found |= {name: _absolute(found[name]) for name in _SEARCHED if name in found}
    found["PYTHONPATH"] = _with_this_package(found.get("PYTHONPATH", ""))
    return {**found, "PYTHONSAFEPATH": "1", **more}


def _pattern(name: str) -> str:
    return re.escape(name).replace(r"\*", ".*")


def _absolute(folders: str) -> str:
    return os.pathsep.join(each for each in folders.split(os.pathsep) if Path(each).is_absolute())


def _with_this_package(folders: str) -> str:
    """A PYTHONPATH with which a child imports this same package, even if it is not installed."""
    root = str(Path(__file__).resolve().parent.parent)
    known = [*folders.split(os.pathsep), *(sysconfig.get_path(of) for of in ("purelib", "platlib"))]
    return folders if root in known else os.pathsep.join(filter(None, [folders, root]))


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs one of our modules; with -P Python does not import from the working
    directory.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def launched(role: Role, command: Sequence[str]) -> list[str]:
    """The command that restricts itself to `role`, then replaces itself with `command`."""
    return python("ft_assets.children", role, "--", *command)


def start(
    role: Role,
    command: Sequence[str],
    cwd: str = NEUTRAL,
    more: Mapping[str, str] | None = None,
    **options: Any,
) -> "subprocess.Popen[Any]":
    """Starts a child with the environment of its role and `more`; `options` go to `subprocess.Popen`.

    Our own modules call `restrict` themselves; other commands need `launched`.
    """
    return subprocess.Popen(command, env=environment(role, **(more or {})), cwd=cwd, **options)


def run(
    role: Role, command: Sequence[str], cwd: str = NEUTRAL, **more: str
) -> "subprocess.CompletedProcess[str]":
    """Runs a child to its end and captures its output; `more` is added to its environment.

    Our own modules call `restrict` themselves; other commands need `launched`.
    """
    return subprocess.run(
        command,
        env=environment(role, **more),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )


def restrict(role: Role) -> None:
    """Removes what the role does not need from this process and from all processes that it starts.

    They can no longer gain privileges. A role that reads untrusted data also loses the network, and the
    size of the files that it writes is limited. Call this before the first thread is started (the
    filter applies to the calling thread) and before untrusted data is read.
    """
    _no_new_privileges()
    if role not in _UNTRUSTED:
        return
    _no_network()
    with suppress(ImportError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if role in _FILE_BYTES:
            limit_file_size(_FILE_BYTES[role])


def limit_cpu(seconds: int) -> None:
    """Makes the system end this process (SIGXCPU) after `seconds` more of CPU time.

    Call it again before each piece of work.
    """
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + seconds)


def limit_file_size(size: int) -> None:
    """Limits files that this process writes to `size` bytes; beyond, writing raises OSError (EFBIG)."""
    import resource

    _limit(resource.RLIMIT_FSIZE, size)


def limit_memory(size: int | None) -> None:
    """Limits this process to `size` bytes of memory more than it has now; None removes the limit.

    Linux enforces this. Other systems may not; then only the limit on CPU time applies.
    """
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    _limit(resource.RLIMIT_AS, hard if size is None else _memory_now() + size)


def _memory_now() -> int:
    """The size of this process's address space in bytes."""
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # as on macOS
        import psutil

        return int(psutil.Process().memory_info().vms)


def _limit(kind: int, most: int) -> None:
    """Sets the soft value of a system limit; it can be raised again, up to the hard value."""
    import resource

    _, hard = resource.getrlimit(kind)
    if most != resource.RLIM_INFINITY and hard != resource.RLIM_INFINITY:
        most = min(most, hard)
    with suppress(*(() if sys.platform == "linux" else (OSError, ValueError))):
        resource.setrlimit(kind, (most, hard))


_PR_SET_NO_NEW_PRIVS = 38
_PR_GET_NO_NEW_PRIVS = 39
_PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06  # instructions of the filter
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4  # offsets in the kernel's seccomp_data
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # the second fails the call with EPERM
_X32 = 0x40000000
_IO_URING_SETUP = 425
_SOCKET = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""For each architecture: its audit number in the kernel, and the number of the call `socket`."""


def _no_new_privileges() -> bool:
    return _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0


def _no_network() -> bool:
    """Makes the kernel refuse new sockets, and io_uring, which could create sockets past the filter.

    socketpair stays allowed: its sockets reach only each other. False if this system has no filter.
    """
    machine = os.uname().machine
    if sys.platform != "linux" or machine not in _SOCKET or sys.maxsize < 2**32:
        return False
    import ctypes

    program = b"".join(
        code.to_bytes(2, sys.byteorder) + bytes([yes, no]) + value.to_bytes(4, sys.byteorder)
        for code, yes, no, value in _filter(*_SOCKET[machine])
    )
    instructions = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))

    loaded = Program(len(program) // 8, ctypes.addressof(instructions))
    return _prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(loaded), 0, 0) == 0


def _filter(architecture: int, socket: int) -> list[tuple[int, int, int, int]]:
    """BPF instructions: code, instructions to skip if true and if false, value.

    Calls with another architecture's numbers, or x32's, are refused, because the filter could not
    recognise them.
    """
    return [
        (_LOAD, 0, 0, _ARCHITECTURE_AT),
        (_EQUAL, 0, 5, architecture),
        (_LOAD, 0, 0, _NUMBER_AT),
        (_AT_LEAST, 3, 0, _X32),
        (_EQUAL, 2, 0, socket),
        (_EQUAL, 1, 0, _IO_URING_SETUP),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _REFUSE),
    ]


def _prctl(*arguments: int) -> int:
    """The result of the Linux call `prctl`; -1 on other systems."""
    import ctypes

    try:
        call = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return -1
    return int(call(*map(ctypes.c_ulong, arguments)))


def isolation() -> dict[str, bool]:
    """Which restrictions on untrusted children work on this machine, tried out in a child; {} if the
    child fails.
    """
    done = run("template", python("ft_assets.children", "template", "--", "try"))
    return json.loads(done.stdout) if done.returncode == 0 else {}


def _tried() -> dict[str, bool]:
    import resource
    import socket

    found = {"no_new_privileges": _prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1}
    found["file_size"] = resource.getrlimit(resource.RLIMIT_FSIZE)[0] != resource.RLIM_INFINITY
    try:
        socket.socket().close()
        found["no_network"] = False
    except PermissionError:
        found["no_network"] = True
    return found


def main(arguments: list[str]) -> None:
    """The launcher: restricts this process to a role, then replaces it with the command after `--`."""
    roles: dict[str, Role] = {role: role for role in get_args(Role)}
    if len(arguments) < 3 or arguments[0] not in roles or arguments[1] != "--":
        raise SystemExit("usage: python -m ft_assets.children ROLE -- COMMAND…")
    role, command = roles[arguments[0]], arguments[2:]
    restrict(role)
    if command == ["try"]:
        print(json.dumps(_tried()))
        return
    try:
        os.execvpe(command[0], command, environment(role))  # noqa: S606 (no shell is wanted)
    except OSError as error:
        raise SystemExit(f"cannot run {command[0]}: {error.strerror}") from error


if __name__ == "__main__":
    main(sys.argv[1:])
