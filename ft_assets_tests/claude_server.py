"""A faithful Anthropic API on loopback: Messages, Message Batches and count_tokens.

In a test: `with ClaudeServer(Behaviour(latency=0.1)) as server: … server.url, server.billed()`. As a
process of its own, which lives on while clients are killed: `with running(behaviour, folder) as
server`, the same to talk to; by hand `python -m ft_assets_tests.claude_server PORT RECORD [JSON]`.
A request is told from another by `key_of(body)`. RECORD gets a JSON line for each request.
"""

import json
import os
import secrets
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

from ft_assets_tests.claude import faults, openai_peer, rules
from ft_assets_tests.claude.answers import Answerer, Maker
from ft_assets_tests.claude.batches import Batches, Times
from ft_assets_tests.claude.limits import Bucket, Limits, RetryAfter
from ft_assets_tests.claude.messages import Cache, cost, key_of, make_message
from ft_assets_tests.claude.rules import ApiError

KEY = "sk-ant-test-key"
VERSIONS = ("2023-06-01", "2026-10-21")
DAY = 24 * 3600.0


@dataclass
class Behaviour:
    """How the server behaves; every field can be changed while it runs."""

    api_key: str = KEY
    latency: float = 0.0
    """Seconds from request to answer."""
    per_minute: dict[str, float] = field(default_factory=dict)
    """Limits of requests, input_tokens, output_tokens."""
    burst_seconds: float = 60.0
    """A full bucket holds what comes in so many seconds."""
    faults: dict[str, float] = field(default_factory=dict)
    """The rate of each fault, as `claude.faults` names them."""
    first: list[str] = field(default_factory=list)
    """The faults of the first requests, in the order in which they come; "" is none."""
    rigged: dict[str, str] = field(default_factory=dict)
    """The fault of each request whose body holds this text."""
    seed: int = 0
    retry_after: float = 1.0
    """What a `rate_limited` fault says."""
    slow_seconds: float = 5.0
    credit_usd: float | None = None
    """Once so much was billed, every request is refused for want of credit."""
    gullible: str = ""
    fence_tag: str | None = None
    batch_seconds: float = 0.0
    batch_hidden_seconds: float = 0.0
    batch_expires_seconds: float = DAY


@dataclass
class Call:
    """What became of one request; a request inside a batch is a call of its own."""

    key: str
    method: str
    path: str
    headers: dict[str, str]
    body: Any
    at: float = field(default_factory=time.time)
    request_id: str = field(default_factory=lambda: f"req_{secrets.token_hex(12)}")
    fault: str = ""
    status: int = 0
    """0: the connection closed without an answer."""
    billed: bool = False
    usage: dict[str, Any] | None = None
    usd: float = 0.0
    batch_id: str = ""
    custom_id: str = ""
    error: str = ""


class Record:
    """What the server saw: the same in this process and out of it."""

    def calls(self) -> list[Call]:
        """All requests so far, in the order in which they ended."""
        raise NotImplementedError

    def violations(self) -> list[str]:
        """Requests that came back before their retry-after was over."""
        raise NotImplementedError

    def obeyed(self) -> list[str]:
        """The orders that a gullible model has followed."""
        raise NotImplementedError

    def billed(self) -> Counter[str]:
        """How often an answer was made and billed for each key, whether or not it arrived."""
        return Counter(call.key for call in self.calls() if call.billed)

    def usd(self) -> float:
        """What all this costs."""
        return sum(call.usd for call in self.calls())

    def sent(self) -> list[Call]:
        """The calls that ask a model: messages, also those in batches, and chat completions."""
        return [call for call in self.calls() if call.custom_id or call.path in ASKING]


ASKING = {"/v1/messages", "/v1/chat/completions"}


class ClaudeServer(Record):
    """The server in this process; `url` is the base URL for a client."""

    def __init__(
        self,
        behaviour: Behaviour | None = None,
        maker: Maker | None = None,
        port: int = 0,
        record: Path | None = None,
    ) -> None:
        self.behaviour = behaviour or Behaviour()
        self.lock = threading.RLock()
        self.answerer = Answerer(maker=maker)
        self.cache = Cache()
        self.retry_after = RetryAfter()
        self.batches = Batches(self._process)
        self._calls: list[Call] = []
        self._attempts: Counter[str] = Counter()
        self._limits: tuple[object, Limits] = (None, Limits({}))
        self._spent = 0.0
        self._file = record.open("a", encoding="utf-8") if record else None
        self.http = _Http(("127.0.0.1", port), _Handler)
        self.http.api = self
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def calls(self) -> list[Call]:
        with self.lock:
            self.batches.settle()
            return list(self._calls)

    def violations(self) -> list[str]:
        return list(self.retry_after.violations)

    def obeyed(self) -> list[str]:
        return list(self.answerer.obeyed)

    def limits(self) -> Limits:
        """The buckets; full ones whenever the limits change."""
        said = (self.behaviour.per_minute.copy(), self.behaviour.burst_seconds)
        if self._limits[0] != said:
            share = self.behaviour.burst_seconds / 60
            buckets = {name: Bucket(rate, max(1.0, rate * share)) for name, rate in said[0].items()}
            self._limits = (said, Limits(buckets))
        return self._limits[1]

    def fault(self, call: Call, allowed: set[str]) -> str:
        """What goes wrong with a call: said for the first ones, rigged, or drawn."""
        with self.lock:
            self._attempts[call.key] += 1
            attempt = self._attempts[call.key]
            if self.behaviour.first and not call.custom_id:
                return self.behaviour.first.pop(0)
        text = json.dumps(call.body, ensure_ascii=False)
        for needle, name in self.behaviour.rigged.items():
            if name in allowed and needle in text:
                return name
        return faults.draw(self.behaviour.faults, allowed, self.behaviour.seed, call.key, attempt)

    def charge(self, call: Call, usage: dict[str, Any], usd: float) -> None:
        """Bills an answer that was made."""
        with self.lock:
            call.billed, call.usage, call.usd = True, usage, usd
            self._spent += usd
            self.limits().charge("output_tokens", usage["output_tokens"])

    def check_credit(self) -> None:
        """Raises 400 where the credit is used up."""
        credit = self.behaviour.credit_usd
        if credit is not None and self._spent >= credit:
            raise ApiError(400, faults.NO_CREDIT)

    def note(self, call: Call) -> None:
        """Keeps what became of a call."""
        with self.lock:
            self._calls.append(call)
            if self._file:
                self._file.write(json.dumps(asdict(call)) + "\n")
                self._file.flush()

    def message(self, call: Call, fault: str, tier: str) -> dict[str, Any]:
        """Answers and bills a request for a message."""
        model = rules.check_request(call.body)
        with self.lock:
            self.answerer.tag = self.behaviour.fence_tag
            self.answerer.gullible = self.behaviour.gullible
            made = make_message(call.body, model, self.answerer, self.cache, fault, tier)
        self.charge(call, made["usage"], cost(made["usage"], model))
        return made

    def _process(self, batch_id: str, request: dict[str, Any]) -> dict[str, Any]:
        params = request["params"]
        call = Call(key_of(params), "POST", "/v1/messages", {}, params, batch_id=batch_id)
        call.custom_id = request["custom_id"]
        call.fault = self.fault(call, faults.CONTENT | faults.IN_BATCH)
        try:
            self.check_credit()
            if call.fault == "batch_expired":
                return {"type": "expired"}
            if call.fault == "batch_errored":
                raise ApiError(500, "Internal server error")
            message = self.message(call, call.fault, "batch")
            call.status = 200
        except ApiError as error:
            call.status, call.error = error.status, error.message
            return {"type": "errored", "error": {**error.body, "request_id": call.request_id}}
        finally:
            self.note(call)
        return {"type": "succeeded", "message": message}


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512
    api: ClaudeServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Lost(Exception):
    """The connection is to close without a whole answer; `half` of one is sent first."""

    def __init__(self, half: bytes = b"") -> None:
        self.half = half


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Http

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the record has it all."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    @property
    def api(self) -> ClaudeServer:
        return self.server.api

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = urlsplit(self.path).path
        if path.startswith("/_"):
            self._answer(200, _control(self.api, path, body))
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call("", self.command, path, headers, None)
        try:
            answer = self._api_answer(call, body)
            call.status = 200
        except ApiError as error:
            call.status, call.error = error.status, error.message
            self.api.retry_after.told(call.key, error.retry_after)
            answer = error
        except _Lost as lost:
            self.api.note(call)
            self._lose(lost.half)
            return
        self.api.note(call)
        self._write(call, answer)

    def _write(self, call: Call, answer: Any) -> None:
        headers = {"request-id": call.request_id, **self.api.limits().headers()}
        if isinstance(answer, ApiError):
            if answer.retry_after is not None:
                headers["retry-after"] = f"{answer.retry_after:g}"
            body = openai_peer.error(answer) if call.path == openai_peer.PATH else answer.body
            answer = (
                body if call.path == openai_peer.PATH else {**body, "request_id": call.request_id}
            )
        self._answer(call.status, answer, headers)

    def _answer(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
        body, kind = _encoded(answer)
        self.send_response(status)
        for name, value in {**(headers or {}), "content-type": kind}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self._headers_buffer: list[bytes]
        self._headers_buffer.append(b"\r\n" + body)
        self.flush_headers()

    def _lose(self, half: bytes) -> None:
        self.close_connection = True
        if half:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(2 * len(half)))
            self._headers_buffer.append(b"\r\n" + half)
            self.flush_headers()

    def _api_answer(self, call: Call, body: bytes) -> Any:
        self._check_headers(call)
        limit = rules.BATCH_BODY_LIMIT if "/batches" in call.path else rules.BODY_LIMIT
        if len(body) > limit:
            raise ApiError(413, f"Request exceeds the maximum size of {limit} bytes")
        call.body = rules.parse_json(body) if body else {}
        call.key = key_of(call.body) if body else f"{call.method} {call.path}"
        self.api.retry_after.came(call.key)
        if call.path in ASKING:
            return self._asked(call)
        call.fault = self.api.fault(call, faults.TRANSPORT)
        return self._under(call, lambda: self._other(call))

    def _check_headers(self, call: Call) -> None:
        given = call.headers.get("x-api-key")
        bearer = call.headers.get("authorization", "").removeprefix("Bearer ")
        if not (given or bearer):
            raise ApiError(401, "x-api-key header is required")
        if (given or bearer) != self.api.behaviour.api_key:
            raise ApiError(401, "invalid x-api-key")
        if call.path != openai_peer.PATH and call.headers.get("anthropic-version") not in VERSIONS:
            raise ApiError(400, f"anthropic-version: header is required: {' or '.join(VERSIONS)}")
        if call.method == "POST" and int(call.headers.get("content-length") or 0):
            kind = call.headers.get("content-type", "")
            if not kind.startswith("application/json"):
                raise ApiError(400, f"content-type: must be application/json, not {kind!r}")

    def _asked(self, call: Call) -> Any:
        """A request to a model: checked, limited, then answered under its fault."""
        api = self.api
        to_openai = call.path == openai_peer.PATH
        tokens = openai_peer.check(call.body) if to_openai else _checked_tokens(call.body)
        api.check_credit()
        with api.lock:
            api.limits().take({"requests": 1, "input_tokens": tokens, "output_tokens": 1})
        call.fault = api.fault(call, faults.TRANSPORT | faults.CONTENT)
        if to_openai:
            return self._under(call, lambda: openai_peer.complete(api, call))
        return self._under(call, lambda: api.message(call, call.fault, "standard"))

    def _under(self, call: Call, make: Any) -> Any:
        """Makes an answer unless the call's fault comes before, and loses it if one comes after."""
        behaviour = self.api.behaviour
        if call.fault in faults.LOST_BEFORE:
            time.sleep(behaviour.slow_seconds if call.fault == "timeout_before" else 0)
            raise _Lost
        faults.refuse(call.fault, behaviour.retry_after)
        time.sleep(behaviour.latency if call.path in ASKING else 0)
        answer = make()
        if call.fault in ("slow", "timeout_after"):
            time.sleep(behaviour.slow_seconds)
        if call.fault in faults.LOST_AFTER:
            whole = _encoded(answer)[0]
            raise _Lost(whole[: len(whole) // 2] if call.fault == "half_answer" else b"")
        return answer

    def _other(self, call: Call) -> Any:
        if (call.method, call.path) == ("POST", "/v1/messages/count_tokens"):
            rules.check_request(call.body, counted=True)
            return {"input_tokens": rules.input_tokens(call.body)}
        with self.api.lock:
            return self._batches(call)

    def _batches(self, call: Call) -> Any:
        batches, url = self.api.batches, self.api.url
        match call.method, call.path.removeprefix("/v1/messages/batches").split("/")[1:]:
            case "POST", []:
                said = self.api.behaviour
                times = Times(
                    said.batch_seconds, said.batch_hidden_seconds, said.batch_expires_seconds
                )
                self.api.check_credit()
                batch = batches.create(rules.check_batch(call.body), times)
                call.batch_id = batch.id
                return batch.written(url)
            case "GET", []:
                return batches.page(dict(parse_qsl(urlsplit(self.path).query)), url)
            case "GET", [batch_id]:
                return batches.get(batch_id).written(url)
            case "GET", [batch_id, "results"]:
                return batches.results(batch_id)
            case "POST", [batch_id, "cancel"]:
                return batches.cancel(batch_id).written(url)
            case "DELETE", [batch_id]:
                return batches.delete(batch_id)
        raise ApiError(404, "Not Found")


def _checked_tokens(request: dict[str, Any]) -> int:
    rules.check_request(request)
    return rules.input_tokens(request)


def _encoded(answer: Any) -> tuple[bytes, str]:
    if isinstance(answer, str):
        return answer.encode(), "application/binary"
    return json.dumps(answer, ensure_ascii=False).encode(), "application/json"


def _control(api: ClaudeServer, path: str, body: bytes) -> Any:
    """What a test asks of a server that runs as a process of its own."""
    if path == "/_behaviour":
        for name, value in json.loads(body).items():
            setattr(api.behaviour, name, value)
    return {
        "calls": [asdict(call) for call in api.calls()] if path == "/_record" else [],
        "violations": api.violations(),
        "obeyed": api.obeyed(),
    }


class Remote(Record):
    """A server in a process of its own."""

    def __init__(self, url: str) -> None:
        self.url = url

    def behave(self, **fields: Any) -> None:
        """Changes fields of its behaviour."""
        self._ask("/_behaviour", fields)

    def calls(self) -> list[Call]:
        return [Call(**call) for call in self._ask("/_record")["calls"]]

    def violations(self) -> list[str]:
        return list(self._ask("/_state")["violations"])

    def obeyed(self) -> list[str]:
        return list(self._ask("/_state")["obeyed"])

    def _ask(self, path: str, fields: dict[str, Any] | None = None) -> dict[str, Any]:
        data = json.dumps(fields).encode() if fields is not None else None
        with urllib.request.urlopen(f"{self.url}{path}", data, timeout=60) as answer:
            return dict(json.load(answer))


@contextmanager
def running(behaviour: Behaviour, folder: Path) -> Iterator[Remote]:
    """A server in a process of its own until the block ends; its record is `folder/calls.jsonl`."""
    command = [sys.executable, "-m", __name__, "0", str(folder / "calls.jsonl")]
    command.append(json.dumps(asdict(behaviour)))
    root = Path(__file__).parent.parent
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    try:
        yield Remote(process.stdout.readline().strip())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def main(arguments: list[str]) -> None:
    """Serves until killed; prints the URL once it listens."""
    behaviour = Behaviour(**json.loads(arguments[2])) if len(arguments) > 2 else Behaviour()
    with ClaudeServer(behaviour, port=int(arguments[0]), record=Path(arguments[1])) as server:
        print(server.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1:])
