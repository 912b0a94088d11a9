"""The one way to start a child process: it gets what its role needs, and no more.

A child has an environment from an allow-list, a neutral working directory that Python does not import
from, and no way to gain privileges. One that reads what others wrote (documents, templates) also has
no network, and limits on CPU time and on the size of the files it writes. Our own children call
`restrict` before they see such data; foreign programs are started through a launcher that does it for
them: `python -P -m ft_assets.children ROLE -- COMMAND…`.

On systems other than Linux on x86-64 and arm64 some of this is not available; `isolation` says what is.
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

Role = Literal["parser", "template", "trainer", "converter", "fetcher", "ocr", "server", "refresh"]
"""What a child is for. `fetcher` is pip, `trainer` is `worker.py`, `server` is the web application and
the daemon behind `ft-assets ui`, and `refresh` is the user's own command run again."""

NEUTRAL = "/"
"""The working directory of a child that needs none."""
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
    "converter": (*_COMMON, *_MODELS),
    "fetcher": (*_COMMON, *_NETWORK, "PIP_*"),
    "server": (*_COMMON, *_OURS, "DAGSTER_*", "PG*"),
    "refresh": ("*",),
}
_HOLDS_SECRETS: set[Role] = {"trainer", "fetcher", "refresh"}
_SECRET = re.compile(r"(^|_)(TOKENS?|KEYS?|SECRETS?|PASSWORDS?|CREDENTIALS?)(_|$)")
"""A variable with such a name is kept from the other roles, even if it matches their list."""

_SEARCHED = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LD_PRELOAD", "DYLD_LIBRARY_PATH")
"""Lists of folders: relative ones would be looked up in whatever the working directory is."""
_FOLDERS = (*_OURS, "XDG_CACHE_HOME", "TMPDIR", "TEMP", "TMP", "HF_HOME", "HF_HUB_CACHE")

_UNTRUSTED: set[Role] = {"parser", "template", "ocr"}
_FILE_BYTES: dict[Role, int] = {"ocr": 4 << 30, "template": 1 << 20}
"""The largest file that a child may write. A parser's limits hang on the file that it parses."""


def here() -> Path:
    """The folder that relative paths hang from: where the user started the first of our processes."""
    try:
        return Path(os.environ.get(_HERE) or Path.cwd())
    except FileNotFoundError:  # somebody removed it
        return Path(NEUTRAL)


def environment(role: Role, **more: str) -> dict[str, str]:
    """The environment of a child: what its role may have of this process's own, and `more`.

    Relative folders in it are made absolute, and dropped from search paths.
    """
    allowed = re.compile("|".join(_pattern(name) for name in _ALLOWED[role]))
    found = {
        name: value
        for name, value in os.environ.items()
        if allowed.fullmatch(name) and (role in _HOLDS_SECRETS or not _SECRET.search(name))
    }
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
    """A PYTHONPATH with which a child imports this very package, also if it is not installed."""
    root = str(Path(__file__).resolve().parent.parent)
    known = [*folders.split(os.pathsep), *(sysconfig.get_path(of) for of in ("purelib", "platlib"))]
    return folders if root in known else os.pathsep.join(filter(None, [folders, root]))


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours: Python does not import from the working directory."""
    return [sys.executable, "-P", "-m", module, *arguments]


def launched(role: Role, command: Sequence[str]) -> list[str]:
    """The command that restricts itself and its environment to `role`, then becomes `command`."""
    return python("ft_assets.children", role, "--", *command)


def start(
    role: Role,
    command: Sequence[str],
    cwd: str = NEUTRAL,
    more: Mapping[str, str] | None = None,
    **options: Any,
) -> "subprocess.Popen[Any]":
    """A child with the environment of its role and `more`: `subprocess.Popen` with these options.

    Our own modules call `restrict` themselves; other commands need `launched`.
    """
    return subprocess.Popen(command, env=environment(role, **(more or {})), cwd=cwd, **options)


def run(
    role: Role, command: Sequence[str], cwd: str = NEUTRAL, **more: str
) -> "subprocess.CompletedProcess[str]":
    """Runs a child to its end and keeps what it says; `more` is added to its environment.

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
    """Takes from this process, and from all that it starts, what its role does not need.

    No privileges can be gained any more. A role that reads what others wrote also loses the network,
    and the files that it writes are limited. Called before the first thread is started and before
    such data is read.
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
    """Has the system end this process (SIGXCPU) once it burns so much more CPU time than by now.

    Called again before each piece of work.
    """
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + seconds)


def limit_file_size(size: int) -> None:
    """Lets no file that this process writes grow beyond `size` bytes: an OSError with EFBIG."""
    import resource

    _limit(resource.RLIMIT_FSIZE, size)


def limit_memory(size: int | None) -> None:
    """Lets this process take so much memory on top of what it has now; None takes the limit away.

    Linux holds it to that. Other systems may refuse: then only the limit on time is left.
    """
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    _limit(resource.RLIMIT_AS, hard if size is None else _memory_now() + size)


def _memory_now() -> int:
    """The bytes of address space that this process has."""
    try:
        with open("/proc/self/statm") as file:  # noqa: PTH123
            return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:  # as on macOS
        import psutil

        return int(psutil.Process().memory_info().vms)


def _limit(kind: int, most: int) -> None:
    """Sets one of the system's limits; it can be raised again, but never beyond what was given."""
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
_NUMBER_AT, _ARCHITECTURE_AT = 0, 4  # offsets in what the kernel shows it
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # the second: fail with EPERM
_X32 = 0x40000000
_IO_URING_SETUP = 425
_SOCKET = {"x86_64": (0xC000003E, 41), "aarch64": (0xC00000B7, 198)}
"""Of each architecture: how the kernel calls it, and the number of the system call."""


def _no_new_privileges() -> bool:
    return _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0


def _no_network() -> bool:
    """Has the kernel refuse new sockets, and io_uring, which could make them unseen.

    Pairs of sockets that are connected to each other stay allowed. False if this system cannot.
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
    """Instructions with how many to skip if they hold and if not, and a value.

    Calls by another architecture's numbers, or by x32's, are refused: they would go unseen.
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
    """The answer of the Linux system call; -1 on other systems."""
    import ctypes

    try:
        call = ctypes.CDLL(None).prctl
    except (OSError, AttributeError):
        return -1
    return int(call(*map(ctypes.c_ulong, arguments)))


def isolation() -> dict[str, bool]:
    """What a child that reads untrusted data is kept from on this machine, as one finds out by trying."""
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
    """The launcher: restricts this process to a role, then becomes the command behind `--`."""
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
        raise SystemExit(f"{command[0]} cannot be run: {error.strerror}") from error


if __name__ == "__main__":
    main(sys.argv[1:])
