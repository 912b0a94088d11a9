"""Message Batches through the official SDK."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from ft_assets.errors import UserError
from ft_assets.stages.qa.claude import (
    KEY,
    api_key,
    client_of,
    lost,
    parameters,
    reply_of,
    turned_away,
)
from ft_assets.stages.qa.money import Price
from ft_assets.stages.qa.prompt import Request
from ft_assets.stages.qa.send import Reply

_ASKED_AGAIN = 4
"""How often a question that costs nothing is put again."""
_PAGE = 100
_PASSING = ("api_error", "overloaded_error", "timeout_error", "rate_limit_error")


class UnreachableError(Exception):
    """The service cannot say now; it may later."""


@dataclass(frozen=True)
class Listed:
    """A batch that the service has, of whomever."""

    id: str
    requests: int
    created: datetime


class ClaudeBatches:
    """The batches of an account. Raises UserError where there is no key.

    A method raises UserError and StageError where asking again is of no use, else UnreachableError.
    """

    def __init__(self, base_url: str | None) -> None:
        self._key = api_key()
        self._client = client_of(base_url, self._key)
        self._patient = self._client.with_options(max_retries=_ASKED_AGAIN)

    def body_of(self, request: Request, price: Price) -> dict[str, Any]:
        """A request as it stands in a batch; its id there is its key."""
        return {"custom_id": request.key, "params": parameters(request, price)}

    def create(self, bodies: list[Any]) -> str | Reply:
        """Sends a batch, once: its id, or what came instead; `unknown` where it may be there."""
        import anthropic

        try:
            return self._client.messages.batches.create(requests=bodies).id
        except anthropic.APIStatusError as error:
            model = bodies[0]["params"]["model"]
            return turned_away(error, self._said(error), model)
        except anthropic.APIConnectionError as error:
            return lost(error, str(self._client.base_url))
        except (anthropic.APIError, ValueError) as error:  # an answer that cannot be read
            return Reply("unknown", error=f"{type(error).__name__}: {error}"[:300], again="later")

    def state(self, batch_id: str) -> Literal["under way", "ended", "not found"]:
        """How far a batch is."""
        import anthropic

        try:
            with self._asking():
                batch = self._patient.messages.batches.retrieve(batch_id)
        except anthropic.NotFoundError:
            return "not found"
        return "ended" if batch.processing_status == "ended" else "under way"

    def since(self, moment: datetime) -> list[Listed]:
        """The batches that were made since then, the newest first."""
        found = []
        with self._asking():
            for batch in self._patient.messages.batches.list(limit=_PAGE):
                if batch.created_at < moment:
                    break
                counts = batch.request_counts
                total = sum(vars(counts).get(name) or 0 for name in type(counts).model_fields)
                found.append(Listed(batch.id, total, batch.created_at))
        return found

    def results(self, batch_id: str) -> Iterator[tuple[str, Reply]]:
        """The key and the reply of each request of a batch that has ended, in no order."""
        with self._asking():
            for line in self._patient.messages.batches.results(batch_id):
                yield line.custom_id, _reply(json.loads(line.result.to_json()))

    @contextmanager
    def _asking(self) -> Iterator[None]:
        import anthropic
        import httpx2

        try:
            yield
        except anthropic.NotFoundError:
            raise
        except anthropic.APIStatusError as error:
            if error.status_code in (401, 403):
                raise UserError(
                    f"the key in {KEY} is not accepted ({self._said(error)})"
                ) from error
            raise UnreachableError(self._said(error)) from error
        except (anthropic.AnthropicError, httpx2.HTTPError, ValueError) as error:
            raise UnreachableError(f"{type(error).__name__}: {error}"[:300]) from error

    def _said(self, error: Any) -> str:
        text = f"{error.status_code} {error.api_message or error.message}"[:500]
        return text.replace(self._key, "…")


def _reply(result: dict[str, Any]) -> Reply:
    """What became of one request of a batch."""
    kind = result.get("type")
    if kind == "succeeded":
        return reply_of(result.get("message"), "", {})
    if kind in ("canceled", "expired"):
        return Reply("failed", error=f"it was {kind} in its batch", again="later")
    error = (result.get("error") or {}).get("error") or {}
    said = f"{error.get('type')}: {error.get('message')}"[:500]
    return Reply("failed", error=said, again="later" if error.get("type") in _PASSING else "")
