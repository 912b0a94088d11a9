"""Every dialect of records gives the same conversation; every key is used, or counted."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets_tests.stages.loaders.records.loading import load_values

ASK, ANSWER = ("user", "Where is the boat?"), ("assistant", "At the quay.")
TURNS = [{"role": "user", "content": ASK[1]}, {"role": "assistant", "content": ANSWER[1]}]
SHAREGPT = [{"from": "human", "value": ASK[1]}, {"from": "gpt", "value": ANSWER[1]}]


def pair(ask: str, answer: str, **more: Any) -> dict[str, Any]:
    return {ask: ASK[1], answer: ANSWER[1], **more}


@pytest.mark.parametrize(
    "record",
    [
        *(
            pair(*keys.split())
            for keys in [
                "prompt completion",
                "prompt response",
                "instruction output",
                "instruction response",
                "query response",
                "question response",
                "question answer",
                "input output",
                "Question Answer",
                "INSTRUCTION RESPONSE",
                "user assistant",
                "problem solution",
                "prompt generation",
            ]
        ),
        {"messages": TURNS},
        {"messages": SHAREGPT},
        {"conversations": SHAREGPT},
        {"conversations": TURNS},
        {"conversation": TURNS},
        {"dialogue": TURNS},
        {"messages": json.dumps(TURNS)},
        {"prompt": TURNS[:1], "completion": TURNS[1:]},
        {"prompt": TURNS[:1], "completion": ANSWER[1]},
        {"prompt": json.dumps(TURNS[:1]), "completion": json.dumps(TURNS[1:])},
        {"conversation": [{"human": ASK[1], "assistant": ANSWER[1]}]},
        {"contents": [{"role": r, "parts": [{"text": t}]} for r, t in (ASK, ("model", ANSWER[1]))]},
        TURNS,
        {"messages": None, **pair("prompt", "completion")},
        {"messages": [], "text": None, **pair("prompt", "completion")},
        pair("instruction", "output", input="", history=[], system=None),
        {"instruction": "", "input": ASK[1], "output": ANSWER[1]},
        {
            "messages": [
                {**turn, "content": [{"type": "text", "text": turn["content"]}]} for turn in TURNS
            ]
        },
        {
            "messages": [
                {"role": "User", "content": [ASK[1][:5], ASK[1][5:]]},
                {**TURNS[1], "tool_calls": None},
            ]
        },
    ],
)
def test_a_record_in_any_dialect_is_the_same_conversation(record: Any) -> None:
    found = load_values(record)
    assert found.turns == [ASK, ANSWER]
    assert found.unused == {}


ROLE_NAMES = {
    "user": ["user", "human", "User", "prompter", "customer", "instruction"],
    "assistant": ["assistant", "gpt", "model", "chatgpt", "bot", "ai", "AI", "agent", "output"],
    "system": ["system", "developer", "System"],
}
TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=12).filter(
    str.strip
)


@given(
    exchanges=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4),
    system=st.none() | TEXT,
    keys=st.sampled_from([("role", "content"), ("from", "value")]),
    place=st.sampled_from(["messages", "conversations", "turns", "dialog"]),
    data=st.data(),
)
def test_a_conversation_written_in_another_dialect_has_the_same_id(
    exchanges: list[tuple[str, str]],
    system: str | None,
    keys: tuple[str, str],
    place: str,
    data: st.DataObject,
) -> None:
    turns = [("system", system)] if system else []
    for question, answer in exchanges:
        turns += [("user", question), ("assistant", answer)]
    plain = {"messages": [{"role": role, "content": text} for role, text in turns]}
    other: dict[str, Any] = {place: []}
    for role, text in turns:
        if role == "system" and data.draw(st.booleans()):
            other["system_prompt"] = text
        else:
            name = data.draw(st.sampled_from(ROLE_NAMES[role]))
            other[place].append({keys[0]: name, keys[1]: text})
    found = load_values(plain, other)
    assert not found.rejected
    assert len({record.record_id for record in found.records}) == 1
    assert found.unused == {}


def test_a_system_prompt_beside_the_turns_is_read_in_every_format() -> None:
    for record in (
        {"messages": TURNS, "system": "Be brief."},
        {"conversations": SHAREGPT, "system_prompt": "Be brief."},
        pair("question", "answer", system="Be brief."),
        {"messages": TURNS, "system": [{"type": "text", "text": "Be brief."}]},
        {"messages": [{"role": "system", "content": "Be brief."}, *TURNS], "system": "Be brief."},
    ):
        assert load_values(record).turns == [("system", "Be brief."), ASK, ANSWER]
    both = {"messages": [{"role": "system", "content": "Be long."}, *TURNS], "system": "Be brief."}
    assert load_values(both).refusal == "it has two system prompts that differ: keep one"


def test_history_comes_before_the_instruction() -> None:
    record = pair("instruction", "output", history=[["Who?", "Biscuit."]], system="S", input="I")
    found = load_values(record)
    assert found.turns == [
        ("system", "S"),
        ("user", "Who?"),
        ("assistant", "Biscuit."),
        ASK,
        ANSWER,
    ]
    assert found.records[0].input == "I"
    assert "pairs" in load_values(pair("instruction", "output", history=[["Who?"]])).refusal


@pytest.mark.parametrize("key", ["context", "passage", "input", "article"])
def test_what_a_question_is_about_is_kept(key: str) -> None:
    found = load_values(pair("question", "answer", **{key: "The boat came in."}))
    assert found.turns == [ASK, ANSWER]
    assert found.records[0].input == "The boat came in."


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (["anchor", "buoy"], "A. anchor\nB. buoy"),
        (["A. anchor", "B. buoy"], "A. anchor\nB. buoy"),
        (["(a) anchor", "(b) buoy"], "(a) anchor\n(b) buoy"),
        ({"A": "anchor", "B": "buoy"}, "A. anchor\nB. buoy"),
        ({"text": ["anchor", "buoy"], "label": ["1", "2"]}, "1. anchor\n2. buoy"),
        ([{"label": "A", "text": "anchor"}, {"label": "B", "text": "buoy"}], "A. anchor\nB. buoy"),
        ('["anchor", "buoy"]', "A. anchor\nB. buoy"),
    ],
)
def test_options_stand_below_their_question(options: Any, lines: str) -> None:
    for key in ("options", "choices"):
        found = load_values(pair("question", "answer", **{key: options}))
        assert found.turns == [("user", f"{ASK[1]}\n{lines}"), ANSWER]
        assert found.unused == {}


@pytest.mark.parametrize("options", [[["a"], "b"], {"text": [None]}, 7, [{"x": "y"}]])
def test_options_in_no_known_form_turn_the_record_away(options: Any) -> None:
    refusal = load_values(pair("question", "answer", options=options)).refusal
    assert "'options' is in no form that is read" in refusal


@pytest.mark.parametrize(
    ("marks", "of"),
    [
        *(
            ({key: False}, key)
            for key in ("label", "kto_tag", "is_good", "desirable", "chosen", "correct")
        ),
        ({"label": "False"}, "label"),
        ({"label": 0}, "label"),
        ({"is_bad": True}, "is_bad"),
        ({"flagged": "true"}, "flagged"),
        ({"rating": -1}, "rating"),
        ({"score": -0.5}, "score"),
        ({"rating": "thumbs_down"}, "rating"),
        ({"feedback": "Thumbs Down"}, "feedback"),
        ({"label": "unsafe"}, "label"),
        ({"Quality": "bad"}, "Quality"),
    ],
)
def test_an_answer_that_is_marked_as_bad_is_turned_away(marks: dict[str, Any], of: str) -> None:
    for record in (pair("prompt", "completion"), {"messages": TURNS}, {"conversations": SHAREGPT}):
        refusal = load_values({**record, **marks}).refusal
        assert repr(of) in refusal
        assert "marked as bad" in refusal
    turn = {**TURNS[1], **marks}
    assert "turn 2 " in load_values({"messages": [TURNS[0], turn]}).refusal


def test_good_marks_are_used_and_numbers_are_counted() -> None:
    found = load_values(
        *(pair("prompt", "completion", **m) for m in ({"label": True}, {"rating": 4.5}))
    )
    assert len(found.records) == 2
    assert found.unused == {"rating": 1}


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Q", "chosen": "A", "rejected": "B"},
        {"prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": TURNS[1:]},
        {"conversations": SHAREGPT[:1], "chosen": SHAREGPT[1], "rejected": SHAREGPT[1]},
        {"chosen": TURNS, "rejected": TURNS},
        {"chosen_messages": TURNS, "rejected_messages": TURNS},
        pair("prompt", "completion", rejected="B"),
        {"prompt": "Q", "chosen": "A"},
    ],
)
def test_a_preference_record_says_how_its_chosen_answer_is_read(record: dict[str, Any]) -> None:
    refusal = load_values(record).refusal
    assert "a preference record" in refusal
    assert "'completion'" in refusal


def test_more_than_text_is_turned_away_and_empty_lists_are_not() -> None:
    for key in ("images", "image", "videos", "audios"):
        assert "only text is read" in load_values({"messages": TURNS, key: ["a.png"]}).refusal
        assert load_values({"messages": TURNS, key: []}).turns == [ASK, ANSWER]
    parts = [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "What?"}]
    refusal = load_values({"messages": [{"role": "user", "content": parts}, TURNS[1]]}).refusal
    assert refusal == "turn 1 content has a part of type 'image_url': only text is read"


def test_turns_without_loss_are_marked() -> None:
    more = [{"role": "user", "content": "And?"}, {"role": "assistant", "content": "Gone."}]
    for flag in (
        {"weight": 0},
        {"train": False},
        {"trainable": False},
        {"training": "false"},
        {"loss_weight": 0.0},
    ):
        turns = [TURNS[0], {**TURNS[1], **flag}, *more]
        messages = load_values({"messages": turns}).messages
        assert [turn.get("trained") for turn in messages] == [None, False, None, None]
        refusal = load_values({"messages": [TURNS[0], {**TURNS[1], **flag}]}).refusal
        assert refusal.startswith("no turn of it is to be learned")
    assert load_values({"messages": [TURNS[0], {**TURNS[1], "weight": 1}]}).turns == [ASK, ANSWER]
    half = {"messages": [TURNS[0], {**TURNS[1], "weight": 0.5}]}
    assert "turn 2 'weight' is 0.5" in load_values(half).refusal
    assert "not to be learned" in load_values({"messages": TURNS, "weight": 0}).refusal


@pytest.mark.parametrize(
    ("roles", "says"),
    [
        ("assistant user assistant", "its turns are assistant, user, assistant: "),
        ("user user assistant", "join the two user turns"),
        ("user assistant system user assistant", "a system turn may come first"),
        ("user assistant user", "remove the last one"),
        ("user tool assistant", "must follow its call"),
        (" ".join(["user"] * 400), "user and 392 more: join"),
        (" ".join(["user", "assistant"] * 300), "600 turns, more than 512: split"),
    ],
)
def test_turns_out_of_order_are_named_and_what_to_change(roles: str, says: str) -> None:
    turns = [{"role": role, "content": "x"} for role in roles.split()]
    refusal = load_values({"messages": turns}).refusal
    assert says in refusal
    assert len(refusal) < 400


def test_two_questions_or_answers_are_not_chosen_between() -> None:
    assert (
        "both 'instruction' and 'question'"
        in load_values({"instruction": "Answer.", "question": "Who?", "output": "B"}).refusal
    )
    assert (
        "both 'response' and 'answer'"
        in load_values({"question": "Who?", "response": "B", "answer": "C"}).refusal
    )
    corrected = {"instruction": "Who?", "output": "B", "corrected": "C"}
    assert "both 'output' and 'corrected'" in load_values(corrected).refusal
    rendered = {"instruction": "Who?", "output": "B", "prompt": "Below is … Who?", "text": "Who? B"}
    found = load_values(rendered)
    assert found.turns == [("user", "Who?"), ("assistant", "B")]
    assert found.unused == {"prompt": 1, "text": 1}


def test_unused_keys_are_counted_by_name_and_bounded() -> None:
    found = load_values(
        pair("question", "answer", id=1, source="x", score=3),
        pair("question", "answer", id=2),
        {"question": "no answer", "id": 3},
        {"text": "A long walk.", "url": "u"},
        {"messages": [{**TURNS[0], "name": "ann"}, TURNS[1]]},
    )
    assert found.unused == {"id": 2, "score": 1, "source": 1, "url": 1, "messages.name": 1}
    assert found.lost == 1
    many = load_values(pair("question", "answer", **{f"k{n}{'x' * 200}": 1 for n in range(400)}))
    assert len(many.unused) == 51
    assert max(map(len, many.unused)) <= 80
    assert "… and 350 more keys" in many.unused


KEYS = st.sampled_from(
    [
        "messages",
        "conversations",
        "turns",
        "prompt",
        "completion",
        "question",
        "answer",
        "input",
        "output",
        "context",
        "options",
        "text",
        "system",
        "tools",
        "functions",
        "label",
        "rating",
        "images",
        "rejected",
        "chosen",
        "weight",
        "history",
        "role",
        "content",
        "from",
        "value",
        "id",
        "tool_calls",
        "function_call",
        "name",
        "arguments",
        "parts",
        "type",
        "data",
        "rows",
    ]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.text(max_size=6)
    | st.sampled_from(["user", "gpt", "[]", "tool"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(values=st.lists(st.dictionaries(KEYS, VALUES, max_size=6), min_size=1, max_size=4))
def test_whatever_an_entry_holds_it_is_read_or_has_a_reason(values: list[dict[str, Any]]) -> None:
    found = load_values(*values)
    assert bool(found.lost) == bool(found.rejected)
    assert found.records or found.texts or found.rejected or found.reason
    for record in found.records:
        assert record.messages[-1]["role"] == "assistant"
        assert any(turn.get("trained") is not False for turn in record.messages)


@given(
    more=st.dictionaries(
        st.sampled_from(
            ["id", "system", "input", "label", "images", "score", "options", "Context"]
        ),
        st.none() | st.just("x") | st.just([]),
        max_size=5,
    )
)
def test_a_key_is_used_or_counted_never_both(more: dict[str, Any]) -> None:
    plain, changed = (load_values(pair("question", "answer", **each)) for each in ({}, more))
    if changed.rejected:
        return
    [record], [bare] = changed.records, plain.records
    told = (record.messages, record.input) != (bare.messages, bare.input)
    there = {key for key, value in more.items() if value not in (None, [])}
    assert set(changed.unused) <= there
    assert told == bool(there & {"system", "input", "options", "Context"})
    assert {"system", "input", "options", "Context"}.isdisjoint(changed.unused)
