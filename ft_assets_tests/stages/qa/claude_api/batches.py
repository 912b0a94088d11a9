"""Message Batches: created, processed over time, and read as JSON lines in no particular order."""

import json
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ft_assets_tests.stages.qa.claude_api.answers import digest_of
from ft_assets_tests.stages.qa.claude_api.errors import ApiError
from ft_assets_tests.stages.qa.claude_api.limits import stamp

Process = Callable[["ServedBatch", dict[str, Any]], dict[str, Any]]
"""Makes the result of one request of a batch."""


CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
BATCH_REQUESTS = 100_000
BATCH_BODY_LIMIT = 256 * 10**6


def check_batch(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The requests of a batch; each is validated only when it is processed."""
    if extra := set(body) - {"requests"}:
        raise ApiError(400, f"{min(extra)}: Extra inputs are not permitted")
    requests = body.get("requests")
    if not isinstance(requests, list) or not 1 <= len(requests) <= BATCH_REQUESTS:
        said = f"List should have between 1 and {BATCH_REQUESTS} items"
        raise ApiError(400, f"requests: {said}")
    seen = set()
    for place, request in enumerate(requests):
        if not isinstance(request, dict) or set(request) != {"custom_id", "params"}:
            raise ApiError(400, f"requests.{place}: custom_id and params are required, no more")
        custom_id = request["custom_id"]
        if not isinstance(custom_id, str) or not CUSTOM_ID.fullmatch(custom_id):
            said = f"String should match pattern '^{CUSTOM_ID.pattern}$'"
            raise ApiError(400, f"requests.{place}.custom_id: {said}")
        if custom_id in seen:
            said = "custom_id must be unique within a batch"
            raise ApiError(400, f"requests.{place}.custom_id: {said}")
        seen.add(custom_id)
    return requests


@dataclass
class Times:
    """How long a batch takes, in seconds."""

    processing: float
    hidden: float
    """It returns 404 for this many seconds after it was created."""
    expires: float


@dataclass
class ServedBatch:
    """One batch; it has `results` once it has ended."""

    requests: list[dict[str, Any]]
    version: str
    times: Times
    id: str = field(default_factory=lambda: f"msgbatch_{secrets.token_hex(12)}")
    made: float = field(default_factory=time.time)
    canceled: float | None = None
    archived: bool = False
    results: list[dict[str, Any]] | None = None

    @property
    def ends(self) -> float:
        """When it ends: all requests processed, expired, or a little after it was canceled."""
        ends = self.made + min(self.times.processing, self.times.expires)
        return ends if self.canceled is None else min(ends, self.canceled)

    def settle(self, process: Process) -> None:
        """Creates the results if it has ended."""
        if self.results is not None or time.time() < self.ends:
            return
        took = self.ends - self.made
        share = 1.0 if took >= self.times.processing else took / self.times.processing
        in_time = [digest_of(self.id, one["custom_id"]) / 2**64 < share for one in self.requests]
        late = "expired" if self.canceled is None else "canceled"
        found = [
            {"custom_id": one["custom_id"], "result": process(self, one)}
            if done
            else {"custom_id": one["custom_id"], "result": {"type": late}}
            for one, done in zip(self.requests, in_time, strict=True)
        ]
        self.results = sorted(
            found, key=lambda line: digest_of(self.id, line["custom_id"], "order")
        )

    def written(self, url: str) -> dict[str, Any]:
        """The batch in the API's format."""
        kinds = [line["result"]["type"] for line in self.results or []]
        counts = {kind: kinds.count(kind) for kind in RESULTS}
        ended = self.results is not None
        status = "ended" if ended else "in_progress" if self.canceled is None else "canceling"
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": {**counts, "processing": 0 if ended else len(self.requests)},
            "created_at": stamp(self.made),
            "expires_at": stamp(self.made + self.times.expires),
            "ended_at": stamp(self.ends) if ended else None,
            "cancel_initiated_at": stamp(self.canceled) if self.canceled else None,
            "archived_at": stamp(self.ends) if self.archived else None,
            "results_url": f"{url}/v1/messages/batches/{self.id}/results"
            if ended and not self.archived
            else None,
        }


RESULTS = ("succeeded", "errored", "canceled", "expired")
PAGE = 20


class Batches:
    """The batches of an account, newest first; use it under the server's lock."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.all: dict[str, ServedBatch] = {}

    def settle(self) -> None:
        """Creates the results of all batches that have ended."""
        for batch in self.all.values():
            batch.settle(self.process)

    def create(self, body: dict[str, Any], version: str, times: Times) -> ServedBatch:
        """Checks and accepts the requests."""
        batch = ServedBatch(check_batch(body), version, times)
        self.all = {batch.id: batch, **self.all}
        return batch

    def get(self, batch_id: str) -> ServedBatch:
        """The batch. Raises 404 if it does not exist, and for a while after it was created."""
        batch = self.all.get(batch_id)
        if batch is None or time.time() < batch.made + batch.times.hidden:
            raise ApiError(404, f"Message Batch {batch_id} not found.")
        batch.settle(self.process)
        return batch

    def results(self, batch_id: str) -> str:
        """The results as JSON lines."""
        lines = self.get(batch_id).results
        if lines is None:
            raise ApiError(404, f"Message Batch {batch_id} has no results available: not ended.")
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)

    def cancel(self, batch_id: str) -> ServedBatch:
        """Cancels a batch; requests already processed are kept. An ended batch is unchanged."""
        batch = self.get(batch_id)
        if batch.results is None and batch.canceled is None:
            batch.canceled = time.time()
        return batch

    def delete(self, batch_id: str) -> dict[str, Any]:
        """Deletes an ended batch."""
        if self.get(batch_id).results is None:
            said = "cannot be deleted while it is being processed: cancel it first"
            raise ApiError(400, f"Message Batch {batch_id} {said}.")
        del self.all[batch_id]
        return {"id": batch_id, "type": "message_batch_deleted"}

    def page(self, query: dict[str, str], url: str) -> dict[str, Any]:
        """A page of the list; it includes batches that still return 404."""
        self.settle()
        found = list(self.all.values())
        ids = [batch.id for batch in found]
        limit = int(query.get("limit", PAGE))
        if not 1 <= limit <= 1000:
            raise ApiError(400, "limit: Input should be between 1 and 1000")
        if (cursor := query.get("after_id")) in ids:
            found = found[ids.index(str(cursor)) + 1 :]
        more, shown = len(found) > limit, found[:limit]
        if (cursor := query.get("before_id")) in ids:
            found = found[: ids.index(str(cursor))]
            more, shown = len(found) > limit, found[-limit:]
        return {
            "data": [batch.written(url) for batch in shown],
            "has_more": more,
            "first_id": shown[0].id if shown else None,
            "last_id": shown[-1].id if shown else None,
        }
