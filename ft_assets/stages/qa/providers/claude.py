"""Sends requests to Claude through the official SDK. The SDK's retries are off: see `qa/retry.py`."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ft_assets.errors import StageError, UserError
from ft_assets.extras import require
from ft_assets.stages.qa.money import Price, estimate_tokens
from ft_assets.stages.qa.pace import Limit
from ft_assets.stages.qa.prompt import Recipe, Request
from ft_assets.stages.qa.retry import again_after, retry_after
from ft_assets.stages.qa.send import Call, Reply

if TYPE_CHECKING:
    import anthropic
    from anthropic.types import TextBlockParam
    from anthropic.types.message_create_params import MessageCreateParamsNonStreaming

KEY = "ANTHROPIC_API_KEY"
TIMEOUT_SECONDS = 180.0
_LIMITS = {name: name.replace("_", "-") for name in ("requests", "input_tokens", "output_tokens")}
_USAGE = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)
_MAYBE_MADE = {408, 502, 504, *range(520, 525)}
"""Statuses of a gateway that gave up waiting for the model: the answer may have been paid for."""
_NO_CREDIT = {400: ("credit balance", "usage limits"), 429: ("insufficient_quota",)}
"""Words by which providers report an account without credit under a status other than 402."""


def api_key(name: str = KEY) -> str:
    """The key in the environment variable `name`. Raises UserError if it is not set or cannot be a key."""
    key = os.environ.get(name, "").strip()
    if not key:
        raise UserError(f"{name} is not set: set it to the key of your account")
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise UserError(f"{name} contains characters that a key never has: set it again")
    return key


def parameters(request: Request, price: Price) -> "MessageCreateParamsNonStreaming":
    """A request in the format of the Messages API, which batches use too."""
    return {
        "model": request.recipe.model,
        "max_tokens": request.recipe.max_tokens,
        "system": [_system(request.recipe, price)],
        "messages": [{"role": "user", "content": request.user}],
        "thinking": {"type": "disabled"},
        "output_config": {"format": {"type": "json_schema", "schema": request.recipe.form.schema}},
    }


def _system(recipe: Recipe, price: Price) -> "TextBlockParam":
    """The instructions, marked for the prompt cache if they are long enough to be cached."""
    block: TextBlockParam = {"type": "text", "text": recipe.system}
    if price.cached_from and estimate_tokens(recipe.system) >= price.cached_from:
        block["cache_control"] = {"type": "ephemeral"}
    return block


def client_of(base_url: str | None, key: str) -> "anthropic.Anthropic":
    """A client that sends every request once. Raises UserError if the extra `qa` is not installed."""
    require("qa", "Claude")
    import anthropic
    import httpx2

    timeout = httpx2.Timeout(TIMEOUT_SECONDS, connect=10.0)
    return anthropic.Anthropic(api_key=key, base_url=base_url, max_retries=0, timeout=timeout)


def claude_call(base_url: str | None, price: Price) -> Call:
    """Sends requests to the Messages API. Raises UserError if there is no key."""
    key = api_key()
    client = client_of(base_url, key)
    import anthropic

    def call(request: Request) -> Reply:
        try:
            raw = client.messages.with_raw_response.create(**parameters(request, price))
        except anthropic.APIStatusError as error:
            said = error_text(error, key)
            return error_reply(error, said, request.recipe.model, request.recipe.setting)
        except anthropic.APIConnectionError as error:
            return lost(error, str(client.base_url))
        return read_reply(raw.http_response.content, raw.headers)

    return call


def error_text(error: "anthropic.APIStatusError", key: str) -> str:
    """The text of an error, without the key in case the error quotes it."""
    return f"{error.status_code} {error.api_message or error.message}".replace(key, "…")[:500]


def read_reply(body: bytes, headers: Mapping[str, str]) -> Reply:
    """Reads an answer with status 200; `unknown` if it cannot be read."""
    import json

    limits, request_id = limits_of(headers), headers.get("request-id", "")
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        return _unreadable(error, request_id, limits)
    return reply_of(message, request_id, limits)


def reply_of(message: Any, request_id: str, limits: Mapping[str, Limit]) -> Reply:
    """Reads a message; `unknown` if it is not a message."""
    try:
        text = "".join(block["text"] for block in message["content"] if block["type"] == "text")
        usage = {name: int(message["usage"].get(name) or 0) for name in _USAGE}
        stop = message["stop_reason"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return _unreadable(error, request_id, limits)
    return Reply("answered", text, stop, usage, request_id, limits=limits)


def _unreadable(error: Exception, request_id: str, limits: Mapping[str, Limit]) -> Reply:
    said = f"the answer cannot be read ({type(error).__name__}: {error})"[:300]
    return Reply("unknown", error=said, request_id=request_id, again="later", limits=limits)


def limits_of(headers: Mapping[str, str]) -> dict[str, Limit]:
    """The rate limits in the headers of an answer."""
    found = {}
    for name, spelled in _LIMITS.items():
        try:
            per_minute = float(headers[f"anthropic-ratelimit-{spelled}-limit"])
            remaining = float(headers[f"anthropic-ratelimit-{spelled}-remaining"])
        except (KeyError, ValueError):
            continue
        found[name] = Limit(per_minute, remaining)
    return found


def error_reply(
    error: "anthropic.APIStatusError", said: str, model: str, setting: str = "qa.model"
) -> Reply:
    """What an answer with an error status means for the request, and for all others."""
    status, host = error.status_code, str(error.request.url.host)
    stop = fatal_reason(status, said, model, host, setting=setting)
    return refused(status, error.response.headers, said, stop)


def refused(
    status: int, headers: Mapping[str, str], said: str, stop: UserError | StageError | None
) -> Reply:
    """What an error status means for the request; `stop` is the error that ends all others, if any."""
    return Reply(
        "unknown" if status in _MAYBE_MADE else "failed",
        error=said,
        request_id=headers.get("request-id") or headers.get("x-request-id", ""),
        limits=limits_of(headers),
        retry_after=retry_after(headers),
        again=again_after(status),
        stop=stop,
    )


def fatal_reason(
    status: int, said: str, model: str, host: str, key: str = KEY, setting: str = "qa.model"
) -> UserError | StageError | None:
    """The error for a status that every other request would get too; None if others may succeed.

    `key` is the name of the key's environment variable, `setting` the key that names the model.
    """
    if status == 402 or any(sign in said.casefold() for sign in _NO_CREDIT.get(status, ())):
        return StageError(
            f"the account has no credit or has reached its own limit ({said}): change that, then run again"
        )
    if status == 401:
        return UserError(f"{host} does not accept the key in {key} ({said})")
    if status == 403:
        return UserError(f"the key in {key} may not use {model} ({said})")
    if status == 404:
        return UserError(f"{host} does not know {setting} {model!r} ({said})")
    return None


def lost(error: "anthropic.APIConnectionError", url: str) -> Reply:
    """The reply if no answer came: `failed` if the request cannot have arrived, else `unknown`."""
    import httpx2

    cause = error.__cause__
    never = isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout)
    said = f"{url}: {type(cause).__name__}: {cause or 'no answer'}"[:300]
    return Reply("failed" if never else "unknown", error=said, again="later")
