"""Tries to enter new namespaces and prints which worked; run by `isolation.py` in a child."""

import ctypes
import json
import os

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def _in_child(libc: ctypes.CDLL, flags: int) -> bool:
    """Whether unshare with these flags works, in a child whose namespaces are then gone."""
    child = os.fork()
    if child == 0:
        os._exit(0 if libc.unshare(flags) == 0 else 1)
    return os.waitpid(child, 0)[1] == 0


def main() -> None:
    """Prints a JSON object: each kind and whether it worked."""
    libc = ctypes.CDLL(None, use_errno=True)
    user = _in_child(libc, _CLONE_NEWUSER)
    network = _in_child(libc, _CLONE_NEWNET) or _in_child(libc, _CLONE_NEWUSER | _CLONE_NEWNET)
    print(json.dumps({"user namespaces": user, "network namespaces": network}))


if __name__ == "__main__":
    main()
