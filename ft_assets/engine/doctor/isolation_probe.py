"""Tries each kind of isolation on itself and prints which worked; run by `isolation.py` in a child."""

import ctypes
import json
import os
import struct

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 38, 22, 2
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_RETURN, _ALLOW = 0x06, 0x7FFF0000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _in_child(libc: ctypes.CDLL, flags: int) -> bool:
    """Whether unshare with these flags works, in a child whose namespaces are then gone."""
    child = os.fork()
    if child == 0:
        os._exit(0 if libc.unshare(flags) == 0 else 1)
    return os.waitpid(child, 0)[1] == 0


def _filter(libc: ctypes.CDLL) -> bool:
    """Whether a system call filter (one that allows everything) can be set."""
    code = ctypes.create_string_buffer(struct.pack("HBBI", _RETURN, 0, 0, _ALLOW))
    program = _Program(1, ctypes.cast(code, ctypes.c_void_p))
    done: int = libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)
    return done == 0


def main() -> None:
    """Prints a JSON object: each kind and whether it worked."""
    libc = ctypes.CDLL(None, use_errno=True)
    user = _in_child(libc, _CLONE_NEWUSER)
    network = _in_child(libc, _CLONE_NEWNET) or _in_child(libc, _CLONE_NEWUSER | _CLONE_NEWNET)
    no_new_privs = libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    found = {"no_new_privs": no_new_privs, "seccomp": _filter(libc)}
    print(json.dumps({**found, "user namespaces": user, "network namespaces": network}))


if __name__ == "__main__":
    main()
