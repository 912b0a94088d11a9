"""A realistic Anthropic API on loopback: Messages, Message Batches and count_tokens.

In a test: `with ClaudeServer(Behaviour(latency=0.1)) as server: … server.url, server.billed()`. In its
own process, which survives clients that are killed: `with running(behaviour, folder) as server`, with
the same interface. By hand: `python -m ft_assets_tests.stages.qa.claude_server PORT RECORD [JSON]`.
`key_of(body)` identifies a request. RECORD gets a JSON line for each request. The same server has an
OpenAI-compatible API at /v1/chat/completions.
"""

import json
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from ft_assets_tests.stages.qa.claude_api import faults, openai_peer, rules
from ft_assets_tests.stages.qa.claude_api.answers import Answerer, Maker
from ft_assets_tests.stages.qa.claude_api.batches import Batches, ServedBatch, Times
from ft_assets_tests.stages.qa.claude_api.errors import ApiError
from ft_assets_tests.stages.qa.claude_api.http import Handler, HttpServer
from ft_assets_tests.stages.qa.claude_api.limits import Bucket, Limits, RetryAfter
from ft_assets_tests.stages.qa.claude_api.messages import Cache, cost, key_of, make_message
from ft_assets_tests.stages.qa.claude_api.record import (
    KEY,
    MESSAGES,
    Behaviour,
    Call,
    Record,
    Violation,
)

__all__ = ["KEY", "Behaviour", "Call", "ClaudeServer", "Record", "Remote", "key_of", "running"]


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
        self._serving = 0
        self._limits: tuple[object, Limits] = (None, Limits({}))
        self._spent = 0.0
        self._file = record.open("a", encoding="utf-8") if record else None
        self.http = HttpServer(("127.0.0.1", port), Handler)
        self.http.api = self
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()
        if self._file:
            self._file.close()

    def behave(self, **fields: Any) -> None:
        """Changes fields of its behaviour."""
        for name, value in fields.items():
            assert hasattr(self.behaviour, name), name
            setattr(self.behaviour, name, value)

    def calls(self) -> list[Call]:
        """All requests so far, including those of batches that have ended."""
        with self.lock:
            self.batches.settle()
            return list(self._calls)

    def violations(self) -> list[Violation]:
        """Requests that came back too early."""
        return list(self.retry_after.violations)

    def obeyed(self) -> list[str]:
        """The orders that were followed."""
        return list(self.answerer.obeyed)

    def in_flight(self) -> int:
        """The number of requests received and not ended."""
        return self._serving

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Counts a request as in flight."""
        with self.lock:
            self._serving += 1
        try:
            yield
        finally:
            with self.lock:
                self._serving -= 1

    def limits(self) -> Limits:
        """The buckets; they are full after the limits change. Call it under the lock."""
        said = (self.behaviour.per_minute.copy(), self.behaviour.burst_seconds)
        if self._limits[0] != said:
            share = self.behaviour.burst_seconds / 60
            buckets = {name: Bucket(rate, max(1.0, rate * share)) for name, rate in said[0].items()}
            self._limits = (said, Limits(buckets))
        return self._limits[1]

    def take(self, input_tokens: int) -> None:
        """Raises 429 if a request would exceed a limit."""
        with self.lock:
            self.limits().take({"requests": 1, "input_tokens": input_tokens, "output_tokens": 1})

    def limit_headers(self) -> dict[str, str]:
        """The headers with the remaining limits."""
        with self.lock:
            return self.limits().headers()

    def batch_times(self) -> Times:
        """How long a batch created now takes."""
        said = self.behaviour
        return Times(said.batch_seconds, said.batch_hidden_seconds, said.batch_expires_seconds)

    def fault(self, call: Call, allowed: set[str]) -> str:
        """The fault of a call: from the list for the first calls, rigged, or drawn."""
        with self.lock:
            self._attempts[call.key] += 1
            attempt = self._attempts[call.key]
            if self.behaviour.first and not call.custom_id:
                return faults.named(self.behaviour.first.pop(0))
        text = json.dumps(call.body, ensure_ascii=False)
        for needle, name in self.behaviour.rigged.items():
            if faults.named(name) in allowed and needle in text:
                return name
        return faults.draw(self.behaviour.faults, allowed, self.behaviour.seed, call.key, attempt)

    def charge(self, call: Call, usage: dict[str, Any], usd: float) -> None:
        """Bills an answer that was made."""
        with self.lock:
            call.billed, call.usage, call.usd = True, usage, usd
            self._spent += usd
            self.limits().charge("output_tokens", usage["output_tokens"])

    def check_credit(self) -> None:
        """Raises 400 if the credit is used up."""
        credit = self.behaviour.credit_usd
        if credit is not None and self._spent >= credit:
            raise ApiError(400, faults.NO_CREDIT)

    def note(self, call: Call) -> None:
        """Records the outcome of a call."""
        with self.lock:
            self._calls.append(call)
            if self._file:
                self._file.write(json.dumps(asdict(call)) + "\n")
                self._file.flush()

    def answer(self, prompt: str, schema: dict[str, Any] | None) -> Any:
        """The model's answer."""
        with self.lock:
            self.answerer.tag = self.behaviour.fence_tag
            self.answerer.gullible = self.behaviour.gullible
            return self.answerer.answer(prompt, schema)

    def message(self, call: Call, tier: str) -> dict[str, Any]:
        """Answers and bills a request for a message that was checked."""
        model = rules.MODELS[call.body["model"]]
        with self.lock:
            made = make_message(call.body, model, self.answer, self.cache, call.fault, tier)
        self.charge(call, made["usage"], cost(made["usage"], model))
        return made

    def chat(self, call: Call) -> dict[str, Any]:
        """Answers and bills a request for a chat completion that was checked."""
        made = openai_peer.complete(call.body, self.answer, call.fault)
        usage = {**made["usage"], "output_tokens": made["usage"]["completion_tokens"]}
        self.charge(call, usage, openai_peer.cost(made["usage"]))
        return made

    def _process(self, batch: ServedBatch, request: dict[str, Any]) -> dict[str, Any]:
        """The result of one request of a batch."""
        params = request["params"]
        call = Call(key_of(params), "POST", MESSAGES, {}, params, batch_id=batch.id)
        call.custom_id = request["custom_id"]
        call.fault = self.fault(call, faults.CONTENT | faults.IN_BATCH)
        try:
            if call.fault == "batch_expired":
                return {"type": "expired"}
            self.check_credit()
            rules.check_request(params, batch.version)
            if call.fault == "batch_errored":
                raise ApiError(500, "Internal server error")
            if call.fault == "batch_refused":
                raise ApiError(400, "messages.0: this request is not one that can be processed")
            message = self.message(call, "batch")
            call.status = 200
        except ApiError as error:
            call.status, call.error = error.status, error.message
            return {"type": "errored", "error": {**error.body, "request_id": call.request_id}}
        finally:
            self.note(call)
        return {"type": "succeeded", "message": message}


class Remote(Record):
    """A server in its own process."""

    def __init__(self, url: str) -> None:
        self.url = url

    def behave(self, **fields: Any) -> None:
        """Changes fields of its behaviour."""
        self._ask("/_behaviour", fields)

    def calls(self) -> list[Call]:
        """All requests so far, in the order in which they ended."""
        return [Call(**call) for call in self._ask("/_record")["calls"]]

    def violations(self) -> list[Violation]:
        """Requests that came back too early."""
        return [Violation(**violation) for violation in self._ask("/_state")["violations"]]

    def obeyed(self) -> list[str]:
        """The orders that a gullible model has followed."""
        return list(self._ask("/_state")["obeyed"])

    def in_flight(self) -> int:
        """The number of requests received and not ended."""
        return int(self._ask("/_state")["in_flight"])

    def _ask(self, path: str, fields: dict[str, Any] | None = None) -> dict[str, Any]:
        data = json.dumps(fields).encode() if fields is not None else None
        with urllib.request.urlopen(f"{self.url}{path}", data, timeout=60) as answer:
            return dict(json.load(answer))


@contextmanager
def running(behaviour: Behaviour, folder: Path) -> Iterator[Remote]:
    """Runs a server in its own process until the block ends; its record is `folder/calls.jsonl`."""
    command = [sys.executable, "-m", "ft_assets_tests.stages.qa.claude_server", "0"]
    command += [str(folder / "calls.jsonl"), json.dumps(asdict(behaviour))]
    root = Path(__file__).parents[3]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root)
    assert process.stdout is not None
    try:
        url = process.stdout.readline().strip()
        assert url, "the server did not start"
        yield Remote(url)
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
