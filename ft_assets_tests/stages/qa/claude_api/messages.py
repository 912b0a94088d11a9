"""An answer in the API's format: its blocks, its usage and its cost."""

import hashlib
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ft_assets_tests.stages.qa.claude_api import rules
from ft_assets_tests.stages.qa.claude_api.faults import spoil
from ft_assets_tests.stages.qa.claude_api.rules import Model, count_tokens

Answer = Callable[[str, dict[str, Any] | None], Any]
"""The model's answer to (prompt, schema)."""
CACHE_SECONDS = {"5m": 300.0, "1h": 3600.0}
LONG_PROMPT = 100_000
THINKING = {"low": 8, "medium": 60, "high": 200, "xhigh": 400, "max": 800}
"""The approximate number of tokens in a thinking block, by effort."""


def key_of(request: dict[str, Any]) -> str:
    """The identity of a request: the digest of its content."""
    said = json.dumps(request, sort_keys=True, ensure_ascii=True).encode()
    return hashlib.sha256(said).hexdigest()


@dataclass
class Cache:
    """Prompt prefixes marked with cache_control, each with its expiry time."""

    until: dict[str, float] = field(default_factory=dict)

    def split(self, request: dict[str, Any], model: Model) -> tuple[int, int, str]:
        """Tokens (read from the cache, written to it), and the time to live of those written."""
        marks = [mark for mark in _marks(request) if mark[1] >= model.cache_minimum]
        now = time.monotonic()
        read = max((tokens for key, tokens, _ in marks if self.until.get(key, 0) > now), default=0)
        for key, _, kept in marks:
            self.until[key] = now + CACHE_SECONDS[kept]
        last = marks[-1] if marks else ("", read, "5m")
        return read, last[1] - read, last[2]


def _marks(request: dict[str, Any]) -> list[tuple[str, int, str]]:
    """For each block that ends a prefix to be cached: its digest, tokens and time to live."""
    found = []
    digest = hashlib.sha256(json.dumps([request["model"], request.get("tools")]).encode())
    tokens = 0
    blocks = [block for content in _contents(request) for block in content]
    if "cache_control" in request and blocks:
        blocks[-1] = {**blocks[-1], "cache_control": request["cache_control"]}
    for block in blocks:
        text = block.get("text", "")
        digest.update(json.dumps(text).encode())
        tokens += count_tokens(text) + 4
        if control := block.get("cache_control"):
            found.append((digest.hexdigest(), tokens, control.get("ttl", "5m")))
    return found


def _contents(request: dict[str, Any]) -> list[list[dict[str, Any]]]:
    contents = [request.get("system") or []]
    contents += [message["content"] for message in request["messages"]]
    return [[{"text": one}] if isinstance(one, str) else one for one in contents]


def make_message(
    request: dict[str, Any], model: Model, answer: Answer, cache: Cache, fault: str, tier: str
) -> dict[str, Any]:
    """Answers a checked request; a fault of `CONTENT` makes the answer unusable."""
    form = (request.get("output_config") or {}).get("format")
    prompt = "\n\n".join(rules.texts_of(request))
    value = spoil(answer(prompt, form["schema"] if form else None), fault)
    text = json.dumps(value, ensure_ascii=False) if form else str(value)
    if fault == "invalid_json":
        text = text[:-1] + ", }]"
    thinking = _thinking(request, model)
    budget = request["max_tokens"] - count_tokens(thinking)
    if fault == "max_tokens":
        budget = min(budget, count_tokens(text) // 2)
    fits = count_tokens(text) <= budget
    text = text if fits else text[: int(max(0, budget) * rules.CHARACTERS_PER_TOKEN)]
    stop = "end_turn" if fits else "max_tokens"
    details = None
    if fault == "refusal":
        text, stop = "", "refusal"
        details = {"type": "refusal", "category": None, "explanation": None}
    return {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": request["model"],
        "content": _blocks(thinking, text),
        "stop_reason": stop,
        "stop_sequence": None,
        "stop_details": details,
        "usage": _usage(request, model, cache, (thinking, text), tier),
    }


def _thinking(request: dict[str, Any], model: Model) -> str:
    if not rules.thinks(request, model):
        return ""
    effort = (request.get("output_config") or {}).get("effort") or "medium"
    wanted = int(THINKING[effort] * rules.CHARACTERS_PER_TOKEN)
    room = int(request["max_tokens"] * rules.CHARACTERS_PER_TOKEN)
    return ("Let me look at what is asked. " * 100)[: min(wanted, room)]


def _blocks(thinking: str, text: str) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if thinking:
        signature = hashlib.sha256(thinking.encode()).hexdigest()
        blocks.append({"type": "thinking", "thinking": thinking, "signature": signature})
    if text:
        blocks.append({"type": "text", "text": text, "citations": None})
    return blocks


def _usage(
    request: dict[str, Any], model: Model, cache: Cache, said: tuple[str, str], tier: str
) -> dict[str, Any]:
    read, written, kept = cache.split(request, model)
    thought, text = (count_tokens(part) for part in said)
    times = {f"ephemeral_{name}_input_tokens": 0 for name in CACHE_SECONDS}
    times[f"ephemeral_{kept}_input_tokens"] = written
    return {
        "input_tokens": rules.input_tokens(request) - read - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": read,
        "cache_creation": times,
        "output_tokens": max(1, thought + text),
        "output_tokens_details": {"thinking_tokens": thought},
        "server_tool_use": None,
        "service_tier": tier,
    }


def cost(usage: dict[str, Any], model: Model) -> float:
    """USD for an answer: half in a batch, cache writes at 1.25 or 2 times, reads at a tenth."""
    read, written = usage["cache_read_input_tokens"], usage["cache_creation_input_tokens"]
    long_lived = usage["cache_creation"]["ephemeral_1h_input_tokens"]
    is_long = usage["input_tokens"] + read + written > LONG_PROMPT
    price_in, price_out = model.long_price if is_long else model.price
    weighed = usage["input_tokens"] + 0.1 * read + 1.25 * written + 0.75 * long_lived
    usd: float = (weighed * price_in + usage["output_tokens"] * price_out) / 1e6
    return usd / 2 if usage["service_tier"] == "batch" else usd
