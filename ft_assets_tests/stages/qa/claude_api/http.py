"""The HTTP side: keys, headers, routes, and connections that close when they should not."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from ft_assets_tests.stages.qa.claude_api import faults, openai_peer, rules
from ft_assets_tests.stages.qa.claude_api.batches import BATCH_BODY_LIMIT
from ft_assets_tests.stages.qa.claude_api.errors import ApiError
from ft_assets_tests.stages.qa.claude_api.messages import key_of
from ft_assets_tests.stages.qa.claude_api.record import ASKING, CHAT, MESSAGES, Call

if TYPE_CHECKING:
    from ft_assets_tests.stages.qa.claude_server import ClaudeServer

BATCHES = f"{MESSAGES}/batches"


class LostError(Exception):
    """Raised to close the connection without a complete answer; `half` of one is sent first."""

    def __init__(self, half: bytes = b"") -> None:
        self.half = half


class HttpServer(ThreadingHTTPServer):
    """A thread for each connection."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 512
    api: "ClaudeServer"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores clients that have disconnected."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: HttpServer
    _headers_buffer: list[bytes]

    def log_message(self, *_: Any) -> None:
        """Logs nothing: the record has everything."""

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    @property
    def api(self) -> "ClaudeServer":
        return self.server.api

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        path = urlsplit(self.path).path
        if path.startswith("/_"):
            self._write(200, self._control(path, body), {})
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call("", self.command, path, headers, None)
        with self.api.serving():
            answer, extra = self._outcome(call, body)
            self.api.note(call)
        if isinstance(answer, LostError):
            self._lose(answer.half)
            return
        extra |= {"request-id": call.request_id, **self.api.limit_headers()}
        self._write(call.status, answer, extra)

    def _outcome(self, call: Call, body: bytes) -> tuple[Any, dict[str, str]]:
        """The body of an answer and its headers. Raises LostError if no answer is to be sent."""
        try:
            answer = self._answer(call, body)
            call.status = 200
        except ApiError as error:
            call.status, call.error = error.status, error.message
            return self._error(call, error)
        except LostError as lost:
            return lost, {}
        return answer, {}

    def _error(self, call: Call, error: ApiError) -> tuple[Any, dict[str, str]]:
        said = {**error.body, "request_id": call.request_id}
        body = openai_peer.error(error) if call.path == CHAT else said
        if error.retry_after is None:
            return body, {}
        self.api.retry_after.told(call.key, error.retry_after)
        return body, {"retry-after": f"{error.retry_after:g}"}

    def _write(self, status: int, answer: Any, headers: dict[str, str]) -> None:
        body, kind = encoded(answer)
        self._send(status, {**headers, "content-type": kind, "content-length": len(body)}, body)

    def _lose(self, half: bytes) -> None:
        self.close_connection = True
        if half:
            head = {"content-type": "application/json", "content-length": 2 * len(half)}
            self._send(200, head, half)

    def _send(self, status: int, headers: dict[str, Any], body: bytes) -> None:
        """Sends head and body in one write, so that neither is delayed."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self._headers_buffer.append(b"\r\n" + body)
        self.flush_headers()

    def _answer(self, call: Call, body: bytes) -> Any:
        self._check_headers(call)
        limit = BATCH_BODY_LIMIT if call.path == BATCHES else rules.BODY_LIMIT
        if len(body) > limit:
            raise ApiError(413, f"Request exceeds the maximum size of {limit} bytes")
        call.body = rules.parse_json(body) if body else {}
        call.key = key_of(call.body) if body else f"{call.method} {call.path}"
        self.api.retry_after.came(call.key)
        if call.method == "POST" and call.path in ASKING:
            return self._asked(call)
        call.fault = self.api.fault(call, faults.TRANSPORT)
        return self._under(call, lambda: self._other(call))

    def _check_headers(self, call: Call) -> None:
        bearer = call.headers.get("authorization", "").removeprefix("Bearer ")
        key = call.headers.get("x-api-key") or bearer
        if not key:
            raise ApiError(401, "x-api-key header is required")
        if key != self.api.behaviour.api_key:
            raise ApiError(401, "invalid x-api-key")
        if call.path != CHAT and _version(call) not in rules.VERSIONS:
            versions = " or ".join(rules.VERSIONS)
            raise ApiError(400, f"anthropic-version: header is required, {versions}")
        kind = call.headers.get("content-type", "application/json")
        if not kind.startswith("application/json"):
            raise ApiError(400, f"content-type: must be application/json, not {kind!r}")

    def _asked(self, call: Call) -> Any:
        """A request to a model: checked, limited, then answered under its fault."""
        api = self.api
        chat = call.path == CHAT
        if chat:
            tokens = openai_peer.check(call.body)
        else:
            rules.check_request(call.body, _version(call))
            tokens = rules.input_tokens(call.body)
        api.check_credit()
        api.take(tokens)
        call.fault = api.fault(call, faults.TRANSPORT | faults.CONTENT)
        return self._under(call, lambda: api.chat(call) if chat else api.message(call, "standard"))

    def _under(self, call: Call, make: Callable[[], Any]) -> Any:
        """Creates an answer unless the fault occurs before it, and loses it if the fault occurs after."""
        behaviour = self.api.behaviour
        if call.fault in faults.LOST_BEFORE:
            time.sleep(behaviour.slow_seconds if call.fault == "timeout_before" else 0)
            raise LostError
        faults.refuse(call.fault, behaviour.retry_after)
        time.sleep(behaviour.latency if call.path in ASKING else 0)
        answer = make()
        if call.fault in ("slow", "timeout_after"):
            time.sleep(behaviour.slow_seconds)
        if call.fault in faults.LOST_AFTER:
            whole = encoded(answer)[0]
            raise LostError(whole[: len(whole) // 2] if call.fault == "half_answer" else b"")
        return answer

    def _other(self, call: Call) -> Any:
        if (call.method, call.path) == ("POST", f"{MESSAGES}/count_tokens"):
            rules.check_request(call.body, _version(call), counted=True)
            return {"input_tokens": rules.input_tokens(call.body)}
        if call.path == BATCHES or call.path.startswith(f"{BATCHES}/"):
            with self.api.lock:
                return self._batches(call)
        raise ApiError(404, "Not Found")

    def _batches(self, call: Call) -> Any:
        batches, url = self.api.batches, self.api.url
        match call.method, call.path.removeprefix(BATCHES).split("/")[1:]:
            case "POST", []:
                self.api.check_credit()
                batch = batches.create(call.body, _version(call), self.api.batch_times())
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
        raise ApiError(405, "Method Not Allowed")

    def _control(self, path: str, body: bytes) -> Any:
        """The control requests of a test to a server in its own process."""
        api = self.api
        if path == "/_behaviour":
            api.behave(**json.loads(body))
        return {
            "calls": [asdict(call) for call in api.calls()] if path == "/_record" else [],
            "violations": [asdict(violation) for violation in api.violations()],
            "obeyed": api.obeyed(),
            "in_flight": api.in_flight(),
        }


def _version(call: Call) -> str:
    return call.headers.get("anthropic-version", "")


def encoded(answer: Any) -> tuple[bytes, str]:
    """The bytes of an answer and their content type; JSON lines are passed as a string."""
    if isinstance(answer, str):
        return answer.encode(), "application/binary"
    return json.dumps(answer, ensure_ascii=False).encode(), "application/json"
