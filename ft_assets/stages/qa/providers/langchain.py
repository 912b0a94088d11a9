"""Sends requests to other models through LangChain's chat-model interface: `provider:model`.

LangChain's own retries are off: see `qa/retry.py`. Its tracing is off too, so that texts go only to the
provider.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ft_assets.errors import UserError
from ft_assets.extras import require
from ft_assets.stages.qa.answer import FORMS, Form
from ft_assets.stages.qa.prompt import Recipe, Request
from ft_assets.stages.qa.providers.claude import TIMEOUT_SECONDS, api_key, fatal_reason, refused
from ft_assets.stages.qa.send import Call, Reply

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.messages import AIMessage

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*)\n\s*```\s*", re.DOTALL)
"""JSON in a code fence, as models write it if no schema is enforced."""
_ENDED = ("stop", "end_turn", "stop_sequence", "eos", "complete", "completed")
_CUT_OFF = ("length", "max_tokens", "max_output_tokens", "model_length")
_REFUSED = ("content_filter", "refusal", "safety", "prohibited_content", "recitation")
_NEVER_SENT = ("ConnectError", "ConnectTimeout", "PoolTimeout", "ConnectionRefusedError")


def langchain_call(base_url: str | None, recipe: Recipe) -> Call:
    """Sends requests to a `provider:model`, at `base_url` if that is set.

    Raises UserError if the provider is unknown, or if its package or key is missing.
    """
    from langsmith import tracing_context

    model = _model_of(recipe, base_url)
    asks = {form.name: _asking(model, form) for form in FORMS.values()}
    names = list(model.lc_secrets.values())
    keys = [api_key(name) for name in names if os.environ.get(name, "").strip()]
    at = base_url or recipe.model.partition(":")[0]

    def call(request: Request) -> Reply:
        turns = [("system", _system(request)), ("human", request.user)]
        try:
            with tracing_context(enabled=False):
                message = asks[request.recipe.form.name](turns)
        except Exception as error:
            if completion := getattr(error, "completion", None):
                return _unparsed(completion, request)
            return _failure(error, keys, recipe, at, " or ".join(names))
        return _reply(message, request)

    return call


def _model_of(recipe: Recipe, base_url: str | None) -> "BaseChatModel":
    """The chat model of a recipe."""
    require("qa", recipe.model)
    from langchain.chat_models import init_chat_model

    provider, _, name = recipe.model.partition(":")
    options: dict[str, Any] = {"base_url": base_url} if base_url else {}
    if base_url and provider == "openai" and not os.environ.get("OPENAI_API_KEY", "").strip():
        options["api_key"] = "none"  # a local server needs no key, but the client requires one
    try:
        model: BaseChatModel = init_chat_model(
            name,
            model_provider=provider,
            max_tokens=recipe.max_tokens,
            max_retries=0,
            timeout=TIMEOUT_SECONDS,
            **options,
        )
    except Exception as error:  # integrations raise any type: missing package, bad key, bad name
        said = " ".join(str(error).split())[:500]
        raise UserError(f"{recipe.setting} {recipe.model!r} cannot be used: {said}") from error
    return model


def _system(request: Request) -> str:
    """The instructions with the answer's schema, for models on which it is not enforced."""
    schema = json.dumps(request.recipe.form.schema)
    form = f"Answer with one JSON object and nothing else. Its JSON schema is:\n{schema}"
    return f"{request.recipe.system}\n{form}"


def _asking(model: "BaseChatModel", form: Form) -> "Callable[[Any], AIMessage]":
    """The function that asks a model; it enforces the schema if the integration supports that."""
    schema = {"title": form.name, **form.schema}
    strict = {"strict": True} if "openai_api_key" in model.lc_secrets else {}
    try:
        held: Any = model.with_structured_output(
            schema, method="json_schema", include_raw=True, **strict
        )
    except (TypeError, ValueError, NotImplementedError):
        return model.invoke
    return lambda turns: held.invoke(turns)["raw"]


def _reply(message: "AIMessage", request: Request) -> Reply:
    """Reads a message."""
    said, used = message.response_metadata, message.usage_metadata
    reason = said.get("finish_reason") or said.get("stop_reason") or said.get("done_reason")
    if message.additional_kwargs.get("refusal"):
        reason = "refusal"
    usage = _usage(used["input_tokens"], used["output_tokens"]) if used else _most(request)
    return Reply("answered", _bare(str(message.text)), _stop(reason), usage, said.get("id") or "")


def _unparsed(completion: Any, request: Request) -> Reply:
    """Reads a completion for which OpenAI's client raises an error: one cut off, or filtered."""
    choice, used = completion.choices[0], completion.usage
    usage = _usage(used.prompt_tokens, used.completion_tokens) if used else _most(request)
    text, reason = choice.message.content or "", _stop(choice.finish_reason)
    return Reply("answered", text, reason, usage, completion.id or "")


def _usage(tokens_in: int, tokens_out: int) -> dict[str, int]:
    return {"input_tokens": tokens_in, "output_tokens": tokens_out}


def _most(request: Request) -> dict[str, int]:
    """The most tokens that a request can have used, for an answer without counts."""
    asked = _system(request) + request.user
    return _usage(len(asked.encode("utf-8", "surrogatepass")), request.recipe.max_tokens)


def _bare(text: str) -> str:
    fenced = _FENCED.fullmatch(text)
    return fenced[1] if fenced else text


def _stop(reason: Any) -> str:
    """Why an answer ended, in Claude's words. Without a reason it counts as complete, and its text is
    checked later.
    """
    said = str(reason or "stop").casefold()
    for stop, reasons in (
        ("end_turn", _ENDED),
        ("max_tokens", _CUT_OFF),
        ("refusal", _REFUSED),
    ):
        if said in reasons:
            return stop
    return said


def _failure(error: Exception, keys: list[str], recipe: Recipe, at: str, key_names: str) -> Reply:
    """The reply for an error. Without a status, a request that was sent may have been answered."""
    causes = list(_causes(error))
    status, headers = _status(causes)
    said = str(error if status else f"{type(causes[-1]).__name__}: {causes[-1]}")
    for key in keys:
        said = said.replace(key, "…")
    if status:
        said = said[:500]
        stop = fatal_reason(status, said, recipe.model, at, key_names, recipe.setting)
        if status == 401 and not keys:
            stop = UserError(f"{at} needs a key ({said}): set {key_names}")
        return refused(status, headers, said, stop)
    never = any(type(cause).__name__ in _NEVER_SENT for cause in causes)
    return Reply("failed" if never else "unknown", error=f"{at}: {said}"[:300], again="later")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and the errors that caused it."""
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _status(causes: list[BaseException]) -> tuple[int, Mapping[str, str]]:
    """The HTTP error status and the headers; 0 if there is no status."""
    for cause in causes:
        response = getattr(cause, "response", None)
        for place, name in ((cause, "status_code"), (response, "status_code"), (cause, "code")):
            status = getattr(place, name, None)
            if isinstance(status, int) and status >= 400:
                return status, getattr(response, "headers", {})
    return 0, {}
