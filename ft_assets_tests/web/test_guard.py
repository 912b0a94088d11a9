"""The guard in front of Dagster's real web application: attacks that worked there are refused."""

import json
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.types import ASGIApp

from ft_assets.defs.internals import web_application
from ft_assets.web.guard import MAX_BODY, Guard

TOKEN = "the-token-of-this-start"
HOST = "127.0.0.1:3000"
OWN = f"http://{HOST}"
SOCKET = f"ws://{HOST}/graphql"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
MUTATION = 'mutation { setConcurrencyLimit(concurrencyKey: "attacked", limit: 7) }'
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def instance(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path_factory.mktemp("home"))) as made:
        yield made


@pytest.fixture(scope="module")
def dagsters(instance: dg.DagsterInstance) -> Iterator[ASGIApp]:
    with web_application(instance, None) as app:
        yield app


@pytest.fixture
def client(dagsters: ASGIApp) -> TestClient:
    """A client without a token."""
    return _client(Guard(dagsters, TOKEN, 3000))


@pytest.fixture
def owner(client: TestClient) -> TestClient:
    """A browser that has opened the address with the token."""
    client.get(f"/?token={TOKEN}")
    return client


@pytest.fixture(autouse=True)
def _nothing_is_changed(instance: dg.DagsterInstance) -> Iterator[None]:
    yield
    changed = instance.event_log_storage.get_concurrency_keys()
    instance.event_log_storage.delete_concurrency_limit("attacked")
    assert "attacked" not in changed


def _client(app: ASGIApp, base_url: str = OWN) -> TestClient:
    return TestClient(app, base_url=base_url, follow_redirects=False)


def _mutate(client: TestClient, headers: dict[str, str]) -> Any:
    return client.post("/graphql", content=json.dumps({"query": MUTATION}), headers=headers)


def test_without_the_guard_dagster_is_open_to_all(
    dagsters: ASGIApp, instance: dg.DagsterInstance
) -> None:
    bare = _client(dagsters, "http://evil.example")
    foreign = {"Origin": "http://evil.example", "Accept": "*/*"}
    assert bare.get("/graphql", params={"query": MUTATION}, headers=foreign).status_code == 200
    assert "attacked" in instance.event_log_storage.get_concurrency_keys()
    instance.event_log_storage.delete_concurrency_limit("attacked")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_mutation_by_get(owner: TestClient, method: str) -> None:
    for path in ("/graphql", "/graphql/", f"{OWN}//graphql"):
        answer = owner.request(method, path, params={"query": MUTATION})
        assert answer.status_code == 405
    assert "by POST" in owner.get("/graphql", params={"query": MUTATION}).text


@pytest.mark.parametrize(
    "kind",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "text/plain; application/json",
        "application/graphql",
        "",
    ],
)
def test_a_post_that_a_form_can_send(owner: TestClient, kind: str) -> None:
    for headers in ({}, {"Origin": OWN}, {"Origin": "http://127.0.0.1:9999"}):
        answer = owner.post(
            f"/graphql?query={MUTATION}",
            content=json.dumps({"query": MUTATION}),
            headers={**headers, "content-type": kind},
        )
        assert answer.status_code in (403, 415)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "http://localhost:3000"},  # another name than the request's own
        {"Origin": f"https://{HOST}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": OWN},
    ],
)
def test_a_page_of_another_origin(owner: TestClient, headers: dict[str, str]) -> None:
    assert _mutate(owner, {**headers, **JSON}).status_code == 403
    answer = owner.get("/", headers=headers)
    assert answer.status_code == 403
    assert "from a page of another site" in answer.text


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:3000", "127.0.0.1", "127.0.0.1:3001", "", "127.0.0.1.x"]
)
def test_a_foreign_host(owner: TestClient, host: str) -> None:
    for headers in ({"Host": host}, {"Host": host, **BEARER}):
        answer = owner.get("/", headers=headers)
        assert answer.status_code == 403
        assert OWN in answer.text
    assert _mutate(owner, {"Host": host, **BEARER, **JSON}).status_code == 403


def test_two_hosts_are_no_host(dagsters: ASGIApp) -> None:
    client = _client(Guard(dagsters, TOKEN, 3000))
    request = client.build_request("GET", "/", headers=[("Host", HOST), ("Host", HOST)])
    request.headers["Authorization"] = BEARER["Authorization"]
    assert client.send(request).status_code == 403


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]", "LocalHost"])
def test_the_names_of_this_machine(dagsters: ASGIApp, name: str) -> None:
    client = _client(Guard(dagsters, TOKEN, 3000), f"http://{name}:3000")
    assert client.get("/server_info", headers=BEARER).status_code == 200


def test_no_token(client: TestClient) -> None:
    for path in ("/", "/server_info", "/graphql", "/logs/x", "/favicon.png", "/runs"):
        answer = client.get(path)
        assert answer.status_code == 401
        assert "Open the address with the token" in answer.text
        assert "dagster" not in answer.text.lower()
    assert _mutate(client, JSON).status_code == 401


@pytest.mark.parametrize("wrong", ["wrong", "", TOKEN[:-1], f"{TOKEN}x", "ñ"])
def test_a_wrong_token(client: TestClient, wrong: str) -> None:
    assert client.get("/", params={"token": wrong}).status_code == 401
    bearer = {b"Authorization": f"Bearer {wrong}".encode()}
    assert client.get("/", headers=bearer).status_code == 401
    cookie = {b"Cookie": f"ft_assets_3000={wrong}".encode()}
    assert client.get("/", headers=cookie).status_code == 401


def test_another_servers_cookie_is_none_of_ours(client: TestClient) -> None:
    assert client.get("/", headers={"Cookie": f"ft_assets_3001={TOKEN}"}).status_code == 401


def test_a_cookie_that_another_port_adds_locks_nobody_out(client: TestClient) -> None:
    both = f"ft_assets_3000=junk; ft_assets_3000={TOKEN}; ft_assets_3000=more"
    assert client.get("/server_info", headers={"Cookie": both}).status_code == 200


def test_the_token_moves_from_the_address_into_a_cookie(client: TestClient) -> None:
    answer = client.get("/runs", params={"q[0]": "a b", "token": TOKEN})
    assert (answer.status_code, answer.headers["location"]) == (303, "/runs?q%5B0%5D=a+b")
    cookie = answer.headers["set-cookie"].lower()
    assert cookie.startswith("ft_assets_3000=")
    assert {"httponly", "samesite=strict", "path=/"} <= set(cookie.split("; "))
    assert "secure" not in cookie
    assert client.get("/server_info").status_code == 200


def test_the_way_in_leads_nowhere_else(client: TestClient) -> None:
    answer = client.get(f"{OWN}//evil.example/\\x?token={TOKEN}")
    assert answer.headers["location"] == "/evil.example/%5Cx"


@pytest.mark.parametrize("what", ["asset_materialization", "asset_check", "asset_observation"])
def test_reported_events(owner: TestClient, what: str) -> None:
    for headers in (JSON, {**JSON, **BEARER}):
        answer = owner.post(f"/report_{what}/adapter", content="{}", headers=headers)
        assert answer.status_code == 403
        assert "reported by runs only" in answer.text


def test_no_page_may_frame_or_read_an_answer(owner: TestClient, client: TestClient) -> None:
    for answer in (owner.get("/"), owner.get("/server_info"), _client(client.app).get("/")):
        assert answer.headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers
    assert "script-src" in owner.get("/").headers["content-security-policy"]  # Dagster's own stays


@pytest.mark.parametrize("method", ["OPTIONS", "PUT", "DELETE", "TRACE"])
def test_methods_that_nobody_needs(owner: TestClient, method: str) -> None:
    assert owner.request(method, "/graphql").status_code == 405


def test_a_body_has_a_limit(owner: TestClient) -> None:
    sent = []

    def parts() -> Iterator[bytes]:
        for _ in range(2 * MAX_BODY // 65_536):
            sent.append(1)
            yield b" " * 65_536

    assert owner.post("/graphql", content=parts(), headers=JSON).status_code == 413


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"Origin": "http://evil.example"}, "another site"),
        ({"Origin": "http://127.0.0.1:9999"}, "another site"),
        ({"Origin": "null"}, "another site"),
        ({}, "without an Origin"),
        ({"Origin": OWN, "Host": "evil.example"}, "for the host 'evil.example'"),
        ({"Origin": "http://evil.example", "Host": "evil.example"}, "for the host"),
        ({"Origin": OWN, "Sec-Fetch-Site": "same-site"}, "another site"),
    ],
)
def test_a_foreign_websocket(owner: TestClient, headers: dict[str, str], why: str) -> None:
    with (
        pytest.raises(WebSocketDenialResponse) as refused,
        owner.websocket_connect(SOCKET, ["graphql-ws"], headers=headers),
    ):
        pass
    assert refused.value.status_code == 403
    assert why in refused.value.text


def test_a_websocket_without_a_token(client: TestClient) -> None:
    for address in (SOCKET, f"{SOCKET}?token={TOKEN}"):
        with (
            pytest.raises(WebSocketDenialResponse) as refused,
            client.websocket_connect(address, ["graphql-ws"], headers={"Origin": OWN}),
        ):
            pass
        assert refused.value.status_code == 401


def test_the_owners_page(owner: TestClient) -> None:
    page = {"Origin": OWN, "Sec-Fetch-Site": "same-origin"}
    assert "window.__webpack_public_path__" in owner.get("/").text
    answer = owner.post("/graphql", json={"query": "{ version }"}, headers=page)
    assert answer.json()["data"]["version"] == dg.__version__
    with owner.websocket_connect(SOCKET, ["graphql-ws"], headers=page) as socket:
        socket.send_json({"type": "connection_init"})
        assert socket.receive_json() == {"type": "connection_ack"}


def test_a_script(client: TestClient) -> None:
    answer = client.post("/graphql", json={"query": "{ version }"}, headers=BEARER)
    assert answer.json()["data"]["version"] == dg.__version__
    with client.websocket_connect(SOCKET, ["graphql-ws"], headers=BEARER) as socket:
        socket.send_json({"type": "connection_init"})
        assert socket.receive_json() == {"type": "connection_ack"}


def test_behind_a_proxy(dagsters: ASGIApp) -> None:
    proxied = _client(Guard(dagsters, TOKEN, 3000, ["UI.example.org"]), "https://ui.example.org")
    assert proxied.get("/").status_code == 401
    cookie = proxied.get("/", params={"token": TOKEN}).headers["set-cookie"].lower()
    assert {"secure", "httponly", "samesite=strict"} <= set(cookie.split("; "))
    for origin, status in (("https://ui.example.org", 200), ("http://ui.example.org", 403)):
        answer = proxied.post("/graphql", json={"query": "{ version }"}, headers={"Origin": origin})
        assert answer.status_code == status
    assert proxied.get("/", headers={"Host": "other.example.org"}).status_code == 403


def test_the_application_gets_the_body_as_it_was_sent() -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        await PlainTextResponse(message["body"])(scope, receive, send)

    client = _client(Guard(echo, TOKEN, 3000))
    parts = (part for part in [b"[1,", b" 2]"])
    assert client.post("/x", content=parts, headers={**BEARER, **JSON}).text == "[1, 2]"
