"""Starts the guarded server, in processes that end with this one."""

import ipaddress
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ft_assets.defs.instance import dagster_home
from ft_assets.errors import UserError
from ft_assets.web.claims import claim_port, claimed_instance
from ft_assets.web.keeper import keep


def launch(host: str, port: int, proxied: Sequence[str]) -> int:
    """Serves the project that the environment names until interrupted; returns an exit code.

    `proxied` are the host names under which the user's proxy serves it. Raises UserError if the port or
    the instance is taken, or if other machines could reach the port without a proxy.
    """
    if not (_is_loopback(host) or proxied):
        raise UserError(
            f"--host {host} lets other machines reach this server, and anyone who reads its traffic gets "
            "its token. Put a proxy with TLS and a login in front of it, and name the proxy's host: "
            "--behind-proxy ui.example.org"
        )
    home = dagster_home()
    with claim_port(host, port) as listening:
        address = f"http://{host}:{listening.getsockname()[1]}"
        with claimed_instance(home, address) as lock:
            _settle_environment(home)
            handle = listening.detach()
            command = [sys.executable, "-P", "-W", "ignore", "-m", "ft_assets.web.server"]
            return keep([*command, str(handle), *proxied], [handle], [lock.fileno()])


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _settle_environment(home: Path) -> None:
    """Makes the environment of the processes started later independent of the working directory."""
    for name, default in (("FT_ASSETS_DATA", "data"), ("FT_ASSETS_STORAGE", "storage")):
        os.environ[name] = str(Path(os.environ.get(name, default)).absolute())
    os.environ.setdefault("FT_ASSETS_HERE", str(Path.cwd()))  # the base of other relative paths
    os.environ["PYTHONSAFEPATH"] = "1"
