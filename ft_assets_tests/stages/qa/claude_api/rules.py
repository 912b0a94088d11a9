"""What the API accepts: the fields of a request and the rules of each model.

A request for which the API returns 400 gets 400 here too.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ft_assets_tests.stages.qa.claude_api.errors import ApiError
from ft_assets_tests.stages.qa.claude_api.schemas import check_schema

FIELDS = {
    *("cache_control", "container", "diagnostics", "inference_geo", "max_tokens", "messages"),
    *("metadata", "model", "output_config", "service_tier", "speed", "stop_sequences", "stream"),
    *("system", "thinking", "tool_choice", "tools"),
}
SAMPLING = {"temperature", "top_p", "top_k"}
VERSIONS = ("2023-06-01", "2026-10-21")
"""The later version, which SDK 2 sends, refuses sampling parameters, even at their defaults."""
COUNTED = {
    *("cache_control", "messages", "model", "output_config", "speed", "system", "thinking"),
    *("tool_choice", "tools"),
}
EFFORTS = ["low", "medium", "high", "xhigh", "max"]
BODY_LIMIT = 32 * 2**20
CHARACTERS_PER_TOKEN = 3.5


@dataclass(frozen=True)
class Model:
    """A model's limits, and its prices in USD per million tokens."""

    context: int
    max_output: int
    cache_minimum: int
    samples: bool
    """Whether it takes temperature, top_p, top_k, a prefilled answer and a thinking budget."""
    price: tuple[float, float]
    long_price: tuple[float, float]
    """The price of a prompt of more than 100,000 tokens."""


HAIKU_4_5 = Model(200_000, 64_000, 4096, True, (1.0, 5.0), (1.0, 5.0))
MODELS = {
    "claude-haiku-5-5": Model(1_000_000, 128_000, 512, False, (0.1, 0.5), (0.5, 2.5)),
    "claude-haiku-4-5": HAIKU_4_5,
    "claude-haiku-4-5-20251001": HAIKU_4_5,
}


def count_tokens(text: str) -> int:
    """The number of tokens in a text, at a fixed number of characters each."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def parse_json(body: bytes) -> dict[str, Any]:
    """The JSON object of a request's body."""
    try:
        found = json.loads(body)
        json.dumps(found, ensure_ascii=False).encode()
    except ValueError as error:
        raise ApiError(400, f"The request body is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise ApiError(400, "The request body must be a JSON object")
    return found


def texts_of(request: dict[str, Any]) -> list[str]:
    """The texts of a request as the model reads them: the system prompt, then the messages."""
    contents = [request.get("system") or ""]
    contents += [message["content"] for message in request["messages"]]
    return [text for content in contents for text in _texts(content)]


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
        return
    for block in content:
        yield block.get("text", "") if block["type"] == "text" else json.dumps(block)


def input_tokens(request: dict[str, Any]) -> int:
    """The tokens of a request, its schema and tools included, and a few for each turn."""
    texts = texts_of(request)
    asked = [json.dumps(request[name]) for name in ("tools", "output_config") if name in request]
    return sum(count_tokens(text) + 4 for text in [*texts, *asked])


def check_request(request: dict[str, Any], version: str, counted: bool = False) -> Model:
    """Raises ApiError if the API would refuse the request; `counted`: a request to count_tokens."""
    try:
        return _check(request, version, counted)
    except (TypeError, AttributeError, KeyError, IndexError) as error:
        raise ApiError(400, f"the request is malformed: {error!r}") from error


def _check(request: dict[str, Any], version: str, counted: bool) -> Model:
    allowed = COUNTED if counted else FIELDS | (SAMPLING if version == VERSIONS[0] else set())
    for field in request:
        if field not in allowed:
            raise ApiError(400, f"{field}: Extra inputs are not permitted")
    model = _model(request)
    _check_messages(request, model)
    _check_system(request)
    _check_cache("cache_control", request)
    if not counted:
        _check_max_tokens(request, model)
        _check_sampling(request, model)
    _check_thinking(request, model)
    _check_output(request, model)
    tokens = input_tokens(request)
    if tokens > model.context:
        raise ApiError(400, f"prompt is too long: {tokens} tokens > {model.context} maximum")
    return model


def _model(request: dict[str, Any]) -> Model:
    name = _required(request, "model", str)
    if name not in MODELS:
        raise ApiError(404, f"model: {name}")
    return MODELS[name]


def _required(request: dict[str, Any], field: str, kind: type) -> Any:
    if field not in request:
        raise ApiError(400, f"{field}: Field required")
    value = request[field]
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ApiError(400, f"{field}: Input should be a valid {kind.__name__}")
    return value


def _check_max_tokens(request: dict[str, Any], model: Model) -> None:
    most = _required(request, "max_tokens", int)
    if most < 0:
        raise ApiError(400, "max_tokens: Input should be greater than or equal to 0")
    if most > model.max_output:
        said = "which is the maximum allowed number of output tokens for"
        raise ApiError(400, f"max_tokens: {most} > {model.max_output}, {said} {request['model']}")
    if request.get("stream"):
        raise ApiError(400, "stream: this test server does not stream")


def _check_messages(request: dict[str, Any], model: Model) -> None:
    messages = _required(request, "messages", list)
    if not messages:
        raise ApiError(400, "messages: at least one message is required")
    for place, message in enumerate(messages):
        _check_message(f"messages.{place}", message)
    if messages[0]["role"] != "user":
        raise ApiError(400, 'messages: first message must use the "user" role')
    last = messages[-1]
    if last["role"] == "assistant":
        if not model.samples or "format" in (request.get("output_config") or {}):
            said = "This model does not support assistant message prefill."
            raise ApiError(400, f"{said} The conversation must end with a user message.")
        if any(text != text.rstrip() for text in _texts(last["content"])):
            said = "final assistant content cannot end with trailing whitespace"
            raise ApiError(400, f"messages: {said}")


def _check_message(place: str, message: Any) -> None:
    if not isinstance(message, dict) or set(message) - {"role", "content"}:
        raise ApiError(400, f"{place}: Extra inputs are not permitted")
    if message.get("role") not in ("user", "assistant"):
        raise ApiError(400, f"{place}.role: Input should be 'user' or 'assistant'")
    if "content" not in message:
        raise ApiError(400, f"{place}.content: Field required")
    if not message["content"]:
        raise ApiError(400, f"{place}: user messages must have non-empty content")
    _check_blocks(f"{place}.content", message["content"])


def _check_system(request: dict[str, Any]) -> None:
    system = request.get("system")
    if isinstance(system, list):
        _check_blocks("system", system)
    elif system is not None and not isinstance(system, str):
        raise ApiError(400, "system: Input should be a valid string or list")


def _check_blocks(place: str, content: Any) -> None:
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise ApiError(400, f"{place}: Input should be a valid list")
    for number, block in enumerate(content):
        if not isinstance(block, dict) or "type" not in block:
            raise ApiError(400, f"{place}.{number}.type: Field required")
        if block["type"] != "text":
            continue
        if extra := set(block) - {"type", "text", "cache_control", "citations"}:
            said = f"{place}.{number}.text.{min(extra)}"
            raise ApiError(400, f"{said}: Extra inputs are not permitted")
        _check_cache(f"{place}.{number}.text.cache_control", block)
        if not isinstance(block.get("text"), str):
            raise ApiError(400, f"{place}.{number}.text.text: Input should be a valid string")
        if not block["text"].strip():
            raise ApiError(400, f"{place}: text content blocks must contain non-whitespace text")


def _check_cache(place: str, marked: dict[str, Any]) -> None:
    control = marked.get("cache_control")
    if control is None:
        return
    if control.get("type") != "ephemeral" or control.get("ttl", "5m") not in ("5m", "1h"):
        raise ApiError(400, f"{place}: type must be 'ephemeral' and ttl '5m' or '1h'")


def _check_sampling(request: dict[str, Any], model: Model) -> None:
    for field in ("temperature", "top_p", "top_k"):
        value = request.get(field)
        if value is None:
            continue
        if not model.samples and not (field in ("temperature", "top_p") and value == 1):
            raise ApiError(400, f"`{field}` is not supported for this model.")
        if field != "top_k" and not 0 <= value <= 1:
            raise ApiError(400, f"{field}: Input should be between 0 and 1")


def _check_thinking(request: dict[str, Any], model: Model) -> None:
    thinking = request.get("thinking")
    if thinking is None:
        return
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind not in ("enabled", "disabled", "adaptive", "between_tools"):
        raise ApiError(400, "thinking: Input tag should be 'enabled', 'disabled' or 'adaptive'")
    if kind == "adaptive" and model.samples:
        raise ApiError(400, "adaptive thinking is not supported on this model")
    if kind == "enabled":
        if not model.samples:
            said = '"thinking.type.enabled" is not supported for this model.'
            raise ApiError(400, f'{said} Use "thinking.type.adaptive" and output_config.effort')
        budget = _required(thinking, "budget_tokens", int)
        if budget < 1024:
            said = "Input should be greater than or equal to 1024"
            raise ApiError(400, f"thinking.enabled.budget_tokens: {said}")
        if budget >= request["max_tokens"]:
            raise ApiError(400, "`max_tokens` must be greater than `thinking.budget_tokens`")


def thinks(request: dict[str, Any], model: Model) -> bool:
    """Whether the answer has a thinking block: by default if the model is a 5.5."""
    kind = (request.get("thinking") or {}).get("type")
    return kind in ("enabled", "adaptive") or (kind is None and not model.samples)


def _check_output(request: dict[str, Any], model: Model) -> None:
    config = request.get("output_config")
    if config is None:
        return
    if extra := set(config) - {"effort", "format"}:
        raise ApiError(400, f"output_config.{min(extra)}: Extra inputs are not permitted")
    effort = config.get("effort")
    if effort is not None and model.samples:
        raise ApiError(400, "This model does not support the effort parameter.")
    if effort not in (None, *EFFORTS):
        raise ApiError(400, f"output_config.effort: Input should be one of {EFFORTS}")
    form = config.get("format")
    if form is None:
        return
    if form.get("type") != "json_schema":
        raise ApiError(400, "output_config.format.type: Input should be 'json_schema'")
    if extra := set(form) - {"type", "schema"}:
        raise ApiError(400, f"output_config.format.{min(extra)}: Extra inputs are not permitted")
    check_schema(_required(form, "schema", dict))
