"""The functions that a record offers, in the one form that chat templates take."""

import json
from typing import Any

from ft_assets.stages.loaders.interface import clean
from ft_assets.stages.loaders.records.entries import BadRecordError, parsed_json
from ft_assets.stages.loaders.records.spelling import Fields

MAX_TOOLS = 512
_KNOWN = {"name", "description", "parameters", "input_schema", "type", "function"}


def read_tools(fields: Fields) -> list[dict[str, Any]]:
    """The tools of a record, from `tools` or the older `functions`; an empty list if there are none."""
    found = [name for name in ("tools", "functions") if _is_there(fields.take(name))]
    if not found:
        return []
    if len(found) > 1:
        raise BadRecordError("it has both 'tools' and 'functions': keep 'tools'")
    items = _value(fields.take(found[0]), f"{found[0]!r}")
    items = [items] if isinstance(items, dict) else items
    if not isinstance(items, list):
        raise BadRecordError(f"{found[0]!r} must be a list of functions")
    if len(items) > MAX_TOOLS:
        raise BadRecordError(f"it has {len(items):,} tools, more than {MAX_TOOLS}")
    tools = [_tool(_value(item, "a tool")) for item in items if item is not None]
    names = [tool["function"]["name"] for tool in tools]
    if len(set(names)) < len(names):
        raise BadRecordError("two of its tools have the same name")
    return tools


def _is_there(value: Any) -> bool:
    return bool(value) and value not in ("[]", "{}", "null", "[{}]", [{}])


def _value(value: Any, what: str) -> Any:
    """A value, or what the JSON in a string holds."""
    if not isinstance(value, str):
        return value
    try:
        return parsed_json(value)
    except BadRecordError as error:
        raise BadRecordError(f"{what} is a string that is {error}") from error


def _tool(item: Any) -> dict[str, Any]:
    if isinstance(item, dict) and item.get("type", "function") not in ("function", "custom"):
        raise BadRecordError(f"a tool of type {str(item['type'])[:40]!r}: only functions are read")
    function = item.get("function", item) if isinstance(item, dict) else item
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BadRecordError("a tool in 'tools' has no name: write a list of functions with names")
    name = function["name"].strip()
    parameters = _value(
        function.get("parameters") or function.get("input_schema") or {}, "'parameters' of a tool"
    )
    if isinstance(parameters, dict) and parameters and _are_bare(parameters):
        parameters = {"type": "object", "properties": parameters}
    if not isinstance(parameters, dict):
        raise BadRecordError(f"the parameters of the tool {name[:60]!r} are not an object")
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": str(function.get("description") or ""),
            "parameters": parameters or {"type": "object", "properties": {}},
        },
    }


def _are_bare(parameters: dict[str, Any]) -> bool:
    """Whether these are parameters by their names, without the schema around them."""
    return "properties" not in parameters and all(
        isinstance(value, dict) and not key.startswith("$") for key, value in parameters.items()
    )


def unused_in(tools: Any) -> list[str]:
    """The keys of tools that no template has a place for."""
    found: dict[str, None] = {}
    for item in tools if isinstance(tools, list) else []:
        function = item.get("function", item) if isinstance(item, dict) else {}
        for key in function if isinstance(function, dict) else ():
            if key not in _KNOWN and function[key] is not None:
                found[f"tools.{key}"] = None
    return list(found)


def json_text(value: Any) -> str:
    """A value as JSON, without what no text can hold."""
    return clean(json.dumps(value, ensure_ascii=False))
