"""The JSON schemas that structured output accepts."""

from typing import Any

from ft_assets_tests.stages.qa.claude_api.errors import ApiError

SUPPORTED = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems"},
    "string": {"format", "pattern"},
    "integer": set(),
    "number": set(),
    "boolean": set(),
    "null": set(),
}
ANYWHERE = {"type", "description", "title", "enum", "const", "default", "$defs", "definitions"}
COMBINED = {"anyOf", "allOf", "$ref"}


def check_schema(schema: dict[str, Any]) -> None:
    """Raises ApiError if structured output does not accept a JSON schema."""
    where = "output_config.format.schema"
    if not isinstance(schema, dict):
        raise ApiError(400, f"{where}: a schema should be an object")
    for name in ("$defs", "definitions", "properties"):
        for inner in schema.get(name, {}).values():
            check_schema(inner)
    for inner in [*schema.get("anyOf", []), *schema.get("allOf", [])]:
        check_schema(inner)
    if "items" in schema:
        check_schema(schema["items"])
    if not {"type", "enum", "const", *COMBINED} & set(schema):
        raise ApiError(400, f"{where}: a schema must have a type, an enum, a const or a $ref")
    _check_type(where, schema)


def _check_type(where: str, schema: dict[str, Any]) -> None:
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    allowed = set(ANYWHERE | COMBINED)
    for kind in kinds:
        if kind not in SUPPORTED:
            raise ApiError(400, f"{where}: type {kind!r} is not supported")
        allowed |= SUPPORTED[kind]
    if "object" in kinds and schema.get("additionalProperties") is not False:
        said = "'additionalProperties' must be explicitly set to false"
        raise ApiError(400, f"{where}: For 'object' type, {said}")
    if extra := sorted(set(schema) - allowed):
        said = f"properties {', '.join(extra)} are not supported"
        raise ApiError(400, f"{where}: For {schema.get('type')!r} type, {said}")
    if schema.get("minItems", 0) not in (0, 1):
        said = "'minItems' values other than 0 or 1 are not supported"
        raise ApiError(400, f"{where}: For 'array' type, {said}")
