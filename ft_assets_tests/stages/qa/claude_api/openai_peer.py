"""An OpenAI-compatible peer on the same server: /v1/chat/completions."""

import json
import secrets
import time
from typing import Any

from ft_assets_tests.stages.qa.claude_api.errors import ApiError
from ft_assets_tests.stages.qa.claude_api.faults import spoil
from ft_assets_tests.stages.qa.claude_api.messages import Answer
from ft_assets_tests.stages.qa.claude_api.rules import CHARACTERS_PER_TOKEN, count_tokens
from ft_assets_tests.stages.qa.claude_api.schemas import check_schema

MODEL = "local-model"
PRICE = (0.2, 0.8)
"""USD per million tokens in and out."""
FIELDS = {
    *("frequency_penalty", "logit_bias", "logprobs", "max_completion_tokens", "max_tokens"),
    *("messages", "metadata", "model", "n", "parallel_tool_calls", "presence_penalty"),
    *("reasoning_effort", "response_format", "seed", "stop", "store", "stream", "stream_options"),
    *("temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity"),
}
ROLES = ("system", "developer", "user", "assistant", "tool")


def error(said: ApiError) -> dict[str, Any]:
    """An error in this API's format."""
    kind = {401: "invalid_request_error", 429: "rate_limit_exceeded", 500: "server_error"}
    codes = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}
    return {
        "error": {
            "message": said.message,
            "type": kind.get(said.status, "invalid_request_error"),
            "param": None,
            "code": codes.get(said.status),
        }
    }


def check(request: dict[str, Any]) -> int:
    """The tokens of a request. Raises ApiError if the API would refuse it."""
    try:
        return _check(request)
    except (TypeError, AttributeError, KeyError, IndexError) as error:
        raise ApiError(400, f"the request is malformed: {error!r}") from error


def _check(request: dict[str, Any]) -> int:
    for field in request:
        if field not in FIELDS:
            raise ApiError(400, f"Unrecognized request argument supplied: {field}")
    for field in ("model", "messages"):
        if not request.get(field):
            raise ApiError(400, f"you must provide a {field} parameter")
    if request["model"] != MODEL:
        raise ApiError(404, f"The model `{request['model']}` does not exist")
    if request.get("stream"):
        raise ApiError(400, "stream: this test server does not stream")
    if any(message.get("role") not in ROLES for message in request["messages"]):
        raise ApiError(400, f"messages: a role is one of {', '.join(ROLES)}")
    _schema(request)
    return count_tokens(_prompt(request))


def _prompt(request: dict[str, Any]) -> str:
    texts = []
    for message in request["messages"]:
        content = message.get("content") or ""
        parts = [{"text": content}] if isinstance(content, str) else content
        texts += [part.get("text", "") for part in parts]
    return "\n\n".join(texts)


def _schema(request: dict[str, Any]) -> dict[str, Any] | None:
    """The schema of the answer: of the response format, or of the one tool."""
    form = request.get("response_format") or {"type": "text"}
    if form["type"] == "json_schema":
        schema: dict[str, Any] = form["json_schema"]["schema"]
        if form["json_schema"].get("strict"):
            check_schema(schema)
        return schema
    if tools := request.get("tools"):
        return dict(tools[0]["function"]["parameters"])
    if form["type"] not in ("text", "json_object"):
        raise ApiError(400, f"Invalid value: '{form['type']}' for response_format.type")
    if form["type"] == "json_object" and "json" not in _prompt(request).lower():
        raise ApiError(400, "'messages' must contain the word 'json' in some form")
    return OPEN_SCHEMA if form["type"] == "json_object" else None


PAIR = {name: {"type": "string"} for name in ("question", "answer", "evidence")}
OPEN_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"pairs": {"type": "array", "items": {"type": "object", "properties": PAIR}}},
}
"""A model's answer to a prompt that asks for JSON without a schema."""


def complete(request: dict[str, Any], answer: Answer, fault: str) -> dict[str, Any]:
    """Answers a request that was checked."""
    schema = _schema(request)
    value = spoil(answer(_prompt(request), schema), fault)
    text = json.dumps(value, ensure_ascii=False) if schema else str(value)
    if fault == "invalid_json":
        text = text[:-1] + ", }]"
    most = request.get("max_completion_tokens") or request.get("max_tokens") or 10**6
    if fault == "max_tokens":
        most = count_tokens(text) // 2
    cut = count_tokens(text) > most
    text = text[: int(most * CHARACTERS_PER_TOKEN)]
    tokens = (count_tokens(_prompt(request)), count_tokens(text))
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": request["model"],
        "choices": [_choice(request, text, cut, fault == "refusal")],
        "usage": {
            "prompt_tokens": tokens[0],
            "completion_tokens": tokens[1],
            "total_tokens": sum(tokens),
        },
    }


def _choice(request: dict[str, Any], text: str, cut: bool, refused: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    reason = "stop"
    if refused:
        message |= {"content": None, "refusal": "I cannot help with that."}
    elif tools := request.get("tools"):
        reason = "tool_calls"
        called = {"name": tools[0]["function"]["name"], "arguments": text}
        asked = {"id": f"call_{secrets.token_hex(8)}", "type": "function", "function": called}
        message |= {"content": None, "tool_calls": [asked]}
    reason = "length" if cut else reason
    return {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}


def cost(usage: dict[str, int]) -> float:
    """USD for an answer."""
    return (usage["prompt_tokens"] * PRICE[0] + usage["completion_tokens"] * PRICE[1]) / 1e6
