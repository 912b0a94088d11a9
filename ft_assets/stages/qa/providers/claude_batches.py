"""Message Batches through the official SDK."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ft_assets.errors import UserError
from ft_assets.stages.qa.money import Price
from ft_assets.stages.qa.prompt import Request
from ft_assets.stages.qa.providers.claude import (
    KEY,
    TIMEOUT_SECONDS,
    api_key,
    client_of,
    error_reply,
    error_text,
    fatal_reason,
    lost,
    parameters,
    reply_of,
)
from ft_assets.stages.qa.retry import QUESTIONS, Retry, retry_after
from ft_assets.stages.qa.send import Reply

_PAGE = 100
_PASSING = ("api_error", "overloaded_error", "timeout_error", "rate_limit_error")
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
}
"""The status that an error in a batch would have in a message."""


if TYPE_CHECKING:
    from anthropic.types.messages.batch_create_params import Request as BatchRequest

T = TypeVar("T")


class UnreachableError(Exception):
    """The service cannot answer now; it may later."""


class NotThereError(UnreachableError):
    """The service does not have the object, or does not show it to this key."""


@dataclass(frozen=True)
class Listed:
    """A batch in the service's list, whoever sent it."""

    id: str
    requests: int
    created: datetime


class ClaudeBatches:
    """The batches of an account. Raises UserError if there is no key.

    Methods raise UserError or StageError if a retry cannot help, else UnreachableError.
    """

    def __init__(
        self, base_url: str | None, retry: Retry = QUESTIONS, timeout: float = TIMEOUT_SECONDS
    ) -> None:
        self._key = api_key()
        self._retry = retry
        self._client = client_of(base_url, self._key).with_options(timeout=timeout)

    def body_of(self, request: Request, price: Price) -> "BatchRequest":
        """A request in the format of a batch; its id there is its key."""
        return {"custom_id": request.key, "params": parameters(request, price)}

    def create(self, bodies: "list[BatchRequest]") -> str | Reply:
        """Sends a batch, without retries; returns its id or the error, `unknown` if it may exist."""
        import anthropic

        try:
            return self._client.messages.batches.create(requests=bodies).id
        except anthropic.APIStatusError as error:
            model = bodies[0]["params"]["model"]
            return error_reply(error, error_text(error, self._key), model)
        except anthropic.APIConnectionError as error:
            return lost(error, str(self._client.base_url))
        except (anthropic.APIError, ValueError) as error:  # an answer that cannot be read
            return Reply("unknown", error=f"{type(error).__name__}: {error}"[:300], again="later")

    def state(self, batch_id: str) -> Literal["under way", "ended", "gone", "not found"]:
        """The state of a batch; `gone` once the service has deleted its results, after some weeks."""
        try:
            batch = self._ask(lambda: self._client.messages.batches.retrieve(batch_id))
        except NotThereError:
            return "not found"
        if batch.processing_status != "ended":
            return "under way"
        return "ended" if batch.results_url and not batch.archived_at else "gone"

    def since(self, moment: datetime) -> list[Listed]:
        """The batches created since `moment`, newest first."""
        return self._ask(lambda: list(self._listed(moment)))

    def _listed(self, moment: datetime) -> Iterator[Listed]:
        for batch in self._client.messages.batches.list(limit=_PAGE):
            if batch.created_at < moment:
                return
            counts = batch.request_counts
            total = sum(vars(counts).get(name) or 0 for name in type(counts).model_fields)
            yield Listed(batch.id, total, batch.created_at)

    def results(self, batch_id: str, model: str) -> Iterator[tuple[str, Reply]]:
        """The key and the reply of each request of a batch that has ended, in no particular order."""
        host = self._client.base_url.host
        lines = self._ask(lambda: self._client.messages.batches.results(batch_id))
        with self._asking():
            for line in lines:
                said = line.result.to_json().replace(self._key, "…")
                yield line.custom_id, _reply(json.loads(said), model, host)

    def _ask(self, question: Callable[[], T]) -> T:
        """Sends a free question, and retries it if that may help soon."""
        times = 0
        while True:
            try:
                with self._asking():
                    return question()
            except NotThereError:
                raise
            except UnreachableError as error:
                times += 1
                wait = self._retry.wait("failed", times, _wait_asked(error.__cause__))
                if wait is None:
                    raise
                time.sleep(wait)

    @contextmanager
    def _asking(self) -> Iterator[None]:
        import anthropic
        import httpx2

        try:
            yield
        except anthropic.APIStatusError as error:
            said = error_text(error, self._key)
            if error.status_code == 404:
                raise NotThereError(said) from error
            if error.status_code in (401, 403):
                raise UserError(f"the key in {KEY} is not accepted ({said})") from error
            raise UnreachableError(said) from error
        except (anthropic.AnthropicError, httpx2.HTTPError, ValueError) as error:
            raise UnreachableError(f"{type(error).__name__}: {error}"[:300]) from error


def _wait_asked(cause: BaseException | None) -> float | None:
    """The seconds that an answer with an error status asks to wait."""
    import anthropic

    if isinstance(cause, anthropic.APIStatusError):
        return retry_after(cause.response.headers)
    return None


def _reply(result: dict[str, Any], model: str, host: str) -> Reply:
    """The reply to one request of a batch."""
    kind = result.get("type")
    if kind == "succeeded":
        return reply_of(result.get("message"), "", {})
    if kind in ("canceled", "expired"):
        return Reply("failed", error=f"it was {kind} in its batch", again="later")
    error = (result.get("error") or {}).get("error") or {}
    kind = str(error.get("type"))
    said = f"{kind}: {error.get('message')}"[:500]
    stop = fatal_reason(_STATUS.get(kind, 0), said, model, host)
    return Reply("failed", error=said, again="later" if kind in _PASSING else "", stop=stop)
