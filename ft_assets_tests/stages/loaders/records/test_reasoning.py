"""The reasoning of an answer is read under the keys that datasets have for it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets_tests.stages.loaders.records.loading import load_values

THOUGHT = "Biscuit is one, her kid another."
ASKED = {"role": "user", "content": "How many goats?"}


def _chat(**answer: Any) -> dict[str, Any]:
    return {"messages": [ASKED, {"role": "assistant", "content": "Two.", **answer}]}


def _pair(**more: Any) -> dict[str, Any]:
    return {"question": "How many goats?", "answer": "Two.", **more}


@pytest.mark.parametrize(
    "value",
    [
        *(_chat(**{key: THOUGHT}) for key in ("reasoning_content", "reasoning", "thinking")),
        _chat(reasoning=THOUGHT, reasoning_content=THOUGHT),
        _chat(thinking=[{"type": "thinking", "thinking": THOUGHT}]),
        _chat(
            content=[{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": "Two."}]
        ),
        _chat(content=[{"type": "reasoning", "value": THOUGHT}, {"type": "text", "value": "Two."}]),
        _chat(
            content=[
                {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
                {"type": "text", "text": "Two."},
            ]
        ),
        {"messages": [{**ASKED, "thinking": None}, _chat(thinking=THOUGHT)["messages"][1]]},
        *(_pair(**{key: THOUGHT}) for key in ("reasoning", "reasoning_content", "thinking")),
        {"Question": "How many goats?", "Complex_CoT": THOUGHT, "Response": "Two."},
        {"prompt": "How many goats?", "thinking": THOUGHT, "completion": "Two."},
    ],
)
def test_reasoning_is_read_under_every_usual_key(value: dict[str, Any]) -> None:
    found = load_values(value)
    assert not found.rejected
    assert found.turns == [("user", "How many goats?"), ("assistant", "Two.")]
    assert found.messages[-1].get("reasoning") == THOUGHT
    assert found.unused == {}


@pytest.mark.parametrize(
    ("value", "unused"),
    [
        (_pair(reasoning="on"), "reasoning"),
        (_pair(thinking=True), "thinking"),
        (_pair(reasoning={"effort": "low"}), "reasoning"),
        (_chat(thinking="off"), "messages.thinking"),
        (_chat(content=[{"type": "redacted_thinking", "data": "x"}, "Two."]), "messages.content.redacted_thinking"),
        ({"messages": [{**ASKED, "reasoning": THOUGHT}, _chat()["messages"][1]]}, "messages.reasoning"),
    ],
)  # fmt: skip
def test_a_switch_is_no_reasoning_and_is_counted(value: dict[str, Any], unused: str) -> None:
    found = load_values(value)
    assert "reasoning" not in found.messages[-1]
    assert found.unused == {unused: 1}


def test_a_block_in_an_answer_stays_there_until_it_is_rendered() -> None:
    content = f"<think>\n{THOUGHT}\n</think>\n\nTwo."
    [record] = load_values(_chat(content=content)).records
    assert record.messages[-1] == {"role": "assistant", "content": content}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (_chat(content=f"<think>{THOUGHT}</think>\n"), "an answer is empty after its reasoning"),
        (_chat(reasoning=THOUGHT, thinking="Three of them."), "reasoning in two places that differ"),
        (
            _chat(content="<think>Three of them.</think>Two.", reasoning=THOUGHT),
            "reasoning in two places that differ: keep one",
        ),
        (_chat(content="", reasoning=THOUGHT), "a question or an answer is empty"),
    ],
)  # fmt: skip
def test_what_would_be_lost_is_turned_away(value: dict[str, Any], reason: str) -> None:
    assert reason in load_values(value).refusal


def test_another_thought_is_another_record() -> None:
    first, again, plain = load_values(
        _chat(reasoning=THOUGHT), _chat(thinking=THOUGHT), _chat()
    ).records
    assert first.record_id == again.record_id != plain.record_id


@given(
    st.dictionaries(
        st.sampled_from(["reasoning", "thinking", "thoughts", "cot"]), st.text("on 2é\n")
    )
)
def test_nothing_under_such_a_key_vanishes(values: dict[str, str]) -> None:
    found = load_values(_pair(**values))
    if found.rejected:
        assert "two places that differ" in found.refusal
        return
    kept = found.messages[-1].get("reasoning") or ""
    for key, text in values.items():
        assert key in found.unused or text.strip() in ("", kept.strip())
