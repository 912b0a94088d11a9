"""Only one `ft-assets ui` at a time uses a port and an instance folder."""

import os
import socket
from pathlib import Path

import pytest

from ft_assets.errors import UserError
from ft_assets.web.claims import claim_port, claimed_instance
from ft_assets.web.launch import launch


def test_a_port_is_taken_once_and_its_holder_is_named() -> None:
    with claim_port("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(UserError, match=rf"port {port} .* process {os.getpid()} \(.*--port"):
            claim_port("127.0.0.1", port)
    claim_port("127.0.0.1", port).close()


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 70_000), ("no.such.host.invalid", 0)])
def test_an_address_that_is_not_there(host: str, port: int) -> None:
    with pytest.raises(UserError, match=str(port)):
        claim_port(host, port)


def test_an_instance_is_locked_and_its_server_named(tmp_path: Path) -> None:
    with claimed_instance(tmp_path, "http://127.0.0.1:3000"):
        named = rf"process {os.getpid()}\) on http://127.0.0.1:3000.*DAGSTER_HOME"
        with pytest.raises(UserError, match=named), claimed_instance(tmp_path, "another"):
            pass
    with claimed_instance(tmp_path, "http://127.0.0.1:3001"):
        pass


def test_a_lock_file_that_says_nothing_of_use(tmp_path: Path) -> None:
    with claimed_instance(tmp_path, "http://127.0.0.1:3000"):
        (tmp_path / "ui.lock").write_text("[1]")
        with pytest.raises(UserError, match="another ft-assets ui"), claimed_instance(tmp_path, ""):
            pass


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "ui.example.org"])
def test_beyond_loopback_only_behind_a_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_server", lambda *_, **__: pytest.fail("it listens"))
    with pytest.raises(UserError, match=r"TLS and a login .*--behind-proxy"):
        launch(host, 3000, [])
