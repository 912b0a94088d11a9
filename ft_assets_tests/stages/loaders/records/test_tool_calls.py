"""Tool calls of every dialect in one form; what a template could not render is turned away."""

import json
from typing import Any

import pytest

from ft_assets_tests.stages.loaders.records.loading import Loaded, load_values

FUNCTION = {
    "name": "tide",
    "description": "tide table",
    "parameters": {"type": "object", "properties": {}},
}
TOOLS = [{"type": "function", "function": FUNCTION}]
USER = {"role": "user", "content": "Tide at Ness?"}
LAST = {"role": "assistant", "content": "It is 3.1 m."}


def call(**changed: Any) -> dict[str, Any]:
    function = {"name": "tide", "arguments": '{"port": "Ness"}', **changed}
    given = {"id": "call_abc123", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [given]}


def result(**changed: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "call_abc123", "content": "3.1 m", **changed}


def openai(*turns: dict[str, Any], **more: Any) -> Loaded:
    return load_values({"messages": [USER, *turns], "tools": TOOLS, **more})


def test_the_calls_of_openai_are_read() -> None:
    found = openai(call(), result(), LAST, parallel_tool_calls=False)
    _, called, answered, last = found.messages
    [made] = json.loads(called["tool_calls"] or "")
    assert made["function"] == {"name": "tide", "arguments": {"port": "Ness"}}
    assert len(made["id"]) == 9
    assert made["id"].isalnum()
    assert answered["tool_call_id"] == made["id"]
    assert answered["name"] == "tide"
    assert called["content"] == ""
    assert last["content"] == "It is 3.1 m."
    assert json.loads(found.records[0].tools or "") == TOOLS
    assert found.unused == {"parallel_tool_calls": 1}


def test_ids_that_templates_take_are_kept_and_others_depend_on_the_file_alone() -> None:
    kept = openai({**call(), "tool_calls": [{**call()["tool_calls"][0], "id": "Ab3dE6gH9"}]})
    assert json.loads(kept.messages[-1]["tool_calls"] or "")[0]["id"] == "Ab3dE6gH9"
    first, again = (openai(call(), result(), LAST).records[0] for _ in range(2))
    assert first == again


def test_the_dialects_of_calls_are_one() -> None:
    tools = json.dumps([FUNCTION])
    value = {"name": "tide", "arguments": {"port": "Ness"}}
    sharegpt: list[dict[str, Any]] = [
        {"from": "human", "value": "Tide at Ness?"},
        {"from": "function_call", "value": json.dumps(value)},
        {"from": "observation", "value": "3.1 m"},
        {"from": "gpt", "value": "It is 3.1 m."},
    ]
    listed: list[dict[str, Any]] = [
        sharegpt[0],
        {"from": "function_call", "value": [value]},
        *sharegpt[2:],
    ]
    old: list[dict[str, Any]] = [
        USER,
        {"role": "assistant", "content": None, "function_call": value},
        {"role": "function", "name": "tide", "content": "3.1 m"},
        LAST,
    ]
    parts = [{"type": "tool_call", "value": json.dumps(value)}]
    in_parts: list[dict[str, Any]] = [
        USER,
        {"role": "assistant", "content": parts},
        {"role": "tool", "content": "3.1 m"},
        LAST,
    ]
    found = load_values(
        {"conversations": sharegpt, "tools": tools},
        {"conversations": listed, "tools": [FUNCTION]},
        {"messages": old, "functions": [FUNCTION]},
        {"messages": in_parts, "tools": TOOLS},
        {
            "messages": old,
            "tools": [
                {
                    "name": "tide",
                    "description": "tide table",
                    "input_schema": FUNCTION["parameters"],
                }
            ],
        },
    )
    assert not found.rejected
    assert len({record.record_id for record in found.records}) == 1


def test_several_calls_have_several_results() -> None:
    made = [{**call()["tool_calls"][0], "id": each} for each in ("a", "b")]
    turns: list[dict[str, Any]] = [{"role": "assistant", "content": "", "tool_calls": made}]
    turns += [result(tool_call_id="b", content="B"), result(tool_call_id="a", content="A"), LAST]
    messages = openai(*turns).messages
    first, second = (each["id"] for each in json.loads(messages[1]["tool_calls"] or ""))
    assert [turn.get("tool_call_id") for turn in messages[2:4]] == [second, first]


def test_a_call_may_be_the_last_turn_and_tools_may_be_unused() -> None:
    assert openai({**call(), "content": "Let me look."}).messages[-1]["content"] == "Let me look."
    assert openai(LAST).records[0].tools
    nothing: list[Any] = [[], "[]", None, ""]
    for none in nothing:
        assert load_values({"messages": [USER, LAST], "tools": none}).records[0].tools is None


@pytest.mark.parametrize(
    ("turns", "more", "says"),
    [
        (
            [call(name="weather"), result(), LAST],
            {},
            "a tool call without its definition: 'weather'",
        ),
        ([call(), result(), LAST], {"tools": []}, "a tool call without its definition: 'tide'"),
        ([call(arguments="[1]"), result(), LAST], {}, "are not an object"),
        ([call(arguments="{oops"), result(), LAST], {}, "are not JSON"),
        ([call(name=None), result(), LAST], {}, "a function call has no name"),
        ([result(), LAST], {}, "must follow its call"),
        ([call(), LAST], {}, "must have its result"),
        ([call(), result()], {}, "after the result of a tool comes the assistant"),
        ([call(), result(tool_call_id="x"), LAST], {}, "for which there is no call"),
        ([call(), result(), result(), LAST], {}, "for which there is no call"),
        ([LAST], {"tools": [{"type": "function"}]}, "has no name"),
        ([LAST], {"tools": "{"}, "not JSON"),
        ([LAST], {"tools": [{"type": "code_interpreter"}]}, "only functions are read"),
        ([LAST], {"tools": TOOLS * 2}, "same name"),
        ([LAST], {"functions": [FUNCTION]}, "keep 'tools'"),
        ([{"role": "function_call", "content": "tide()"}], {}, "a function call is not JSON"),
        ([{"role": "assistant", "content": [{"type": "tool_use"}]}], {}, "a tool_use part"),
    ],
)
def test_calls_that_no_template_renders_have_a_reason(
    turns: list[dict[str, Any]], more: dict[str, Any], says: str
) -> None:
    assert says in openai(*turns, **more).refusal


def test_calls_that_are_words_are_words() -> None:
    text = '<tool_call>\n{"name": "tide"}\n</tool_call>'
    found = load_values({"messages": [USER, {"role": "assistant", "content": text}]})
    assert found.turns[-1] == ("assistant", text)
