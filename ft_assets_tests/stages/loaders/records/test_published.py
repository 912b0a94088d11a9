"""Records as the datasets on hubs and the hosted services have them, in small."""

import datetime
import gzip
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ft_assets_tests.stages.loaders.records.loading import load_bytes


def load(*records: Any) -> Any:
    return load_bytes("\n".join(json.dumps(record) for record in records).encode())


Q, A = ("user", "What is it?"), ("assistant", "A weir.")
QUESTION, ANSWER = Q[1], A[1]
TURNS = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
TOOL = {"name": "tide", "description": "d", "parameters": {"type": {"type": "str"}}}
CALL = {"name": "tide", "arguments": {"type": "neap"}}

READ: dict[str, tuple[dict[str, Any], list[tuple[str, str]], str | None]] = {
    "UltraChat": ({"id": "0", "data": [QUESTION, ANSWER]}, [Q, A], None),
    "LIMA": ({"conversations": [QUESTION, ANSWER, *Q[1:], *A[1:]]}, [Q, A, Q, A], None),
    "pairs": ({"messages": [[QUESTION, ANSWER]] * 2}, [Q, A, Q, A], None),
    "role and text": ({"messages": [list(Q), list(A)]}, [Q, A], None),
    "Capybara": (
        {"source": "s", "conversation": [{"input": QUESTION, "output": ANSWER}] * 2},
        [Q, A, Q, A],
        None,
    ),
    "columns of turns": (
        {"conversations": {"from": ["human", "gpt"], "value": [QUESTION, ANSWER]}},
        [Q, A],
        None,
    ),
    "Aya": ({"inputs": QUESTION, "targets": ANSWER, "language": "English"}, [Q, A], None),
    "Natural Instructions": (
        {"definition": QUESTION, "inputs": "the lock", "targets": ANSWER},
        [Q, A],
        "the lock",
    ),
    "Gemini": ({"text_input": QUESTION, "output": ANSWER}, [Q, A], None),
    "SQuAD": (
        {"context": "c", "question": QUESTION, "answers": {"text": [ANSWER], "answer_start": [1]}},
        [Q, A],
        "c",
    ),
    "TriviaQA": ({"question": QUESTION, "answer": {"value": ANSWER, "aliases": []}}, [Q, A], None),
    "NQ": ({"question": QUESTION, "answer": [ANSWER, ANSWER]}, [Q, A], None),
    "a number": ({"question": QUESTION, "answer": 42}, [Q, ("assistant", "42")], None),
    "retrieved": (
        {"question": QUESTION, "documents": [{"title": "t", "text": "d"}, "e"], "answer": ANSWER},
        [Q, A],
        "t\nd\n\ne",
    ),
    "Self-Instruct": ({"instruction": QUESTION, "input": "<noinput>", "output": ANSWER}, [Q, A], None),
    "a text": ({"question": QUESTION, "text": "By the lock.", "answer": ANSWER}, [Q, A], "By the lock."),
    "a text that renders it": (
        {"question": QUESTION, "text": f"Q: {QUESTION} A: {ANSWER}", "answer": ANSWER},
        [Q, A],
        None,
    ),
    "plural": ({"instructions": QUESTION, "input": "c", "output": ANSWER}, [Q, A], "c"),
    "a completed text": ({"text": QUESTION, "completion": ANSWER}, [Q, A], None),
    "OIG": ({"text": f"<human>: {QUESTION}\n<bot>: {ANSWER}"}, [Q, A], None),
    "Anthropic": (
        {"prompt": f"\n\nHuman: {QUESTION}\n\nAssistant:", "completion": f" {ANSWER}"},
        [Q, A],
        None,
    ),
    "Predibase": (
        {
            "prompt": f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n",
            "completion": f"{ANSWER}<|im_end|>",
        },
        [Q, A],
        None,
    ),
    "Llama 2": ({"prompt": f"<s>[INST] {QUESTION} [/INST]", "completion": ANSWER}, [Q, A], None),
    "rendered Alpaca": (
        {"prompt": f"### Instruction:\n{QUESTION}\n\n### Response:\n", "completion": ANSWER},
        [Q, A],
        None,
    ),
    "Glaive": (
        {
            "system": "SYSTEM: Be kind.",
            "chat": f"USER: {QUESTION}\n\n\nASSISTANT: {ANSWER} <|endoftext|>\n\n\n",
        },
        [("system", "Be kind."), Q, A],
        None,
    ),
    "Nectar's turns": ({"turns": 1, "prompt": QUESTION, "completion": ANSWER}, [Q, A], None),
    "an id": ({"conversation": "c-17", "prompt": QUESTION, "response": ANSWER}, [Q, A], None),
    "SmolTalk2": (
        {"messages": TURNS, "chat_template_kwargs": {"custom_instructions": "Be kind."}},
        [("system", "Be kind."), Q, A],
        None,
    ),
    "a context that a turn has": (
        {"messages": [{"role": "user", "content": f"The  weir.\n{QUESTION}"}, TURNS[1]], "context": "The weir."},
        [("user", f"The  weir.\n{QUESTION}"), A],
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_a_published_format_is_read(name: str) -> None:
    record, turns, given = READ[name]
    found = load(record)
    assert found.turns == turns
    assert found.records[0].input == given


TURNED_AWAY: dict[str, tuple[dict[str, Any], str]] = {
    "OpenAssistant": ({"text": "What?", "role": "prompter", "parent_id": None}, "a turn by itself"),
    "a turn with a flag": ({"text": "What?", "is_user": True}, "a turn by itself"),
    "MMLU": ({"question": "Which?", "choices": ["0", "4", "1"], "answer": 1}, "number of an option"),
    "MMLU in a table": ({"question": "Which?", "choices": ["a", "b"], "answer": "1"}, "number of an"),
    "several answers": ({"question": "Which?", "answers": ["a", "b"]}, "several answers"),
    "PKU-SafeRLHF": ({"prompt": "Q", "response": "A", "is_response_safe": False}, "marked as bad"),
    "Numina": ({"problem": "Q", "solution": "A", "solution_is_valid": "No"}, "marked as bad"),
    "LMSYS": ({"messages": TURNS, "openai_moderation": [{"flagged": True}]}, "marked as bad"),
    "Magpie": ({"prompt": "Q", "response": "A", "llama_guard_2": "unsafe\nS1"}, "marked as bad"),
    "Argilla": ({"prompt": "Q", "response": "A", "response.status": "discarded"}, "marked as bad"),
    "thumbs": (
        {"messages": [TURNS[0], {**TURNS[1], "feedback": {"rating": "thumbsDown"}}]},
        "turn 2 'feedback'",
    ),
    "a failed run": ({"messages": TURNS, "success": False}, "marked as bad"),
    "Vertex": ({"messages": TURNS, "context": "You are kind."}, "'context' beside its turns"),
    "an instruction": ({"messages": TURNS, "instruction": "Be very brief."}, "'instruction' beside"),
    "tools in a turn": (
        {"messages": [{"role": "system", "content": "S", "tools": [TOOL]}, *TURNS]},
        "beside the turns, under 'tools'",
    ),
    "tools in an argument of the template": (
        {"messages": TURNS, "chat_template_kwargs": {"xml_tools": [TOOL]}},
        "'chat_template_kwargs'",
    ),
    "a mask": ({"messages": [TURNS[0], {**TURNS[1], "mask": 1}]}, "write weight 0 or 1"),
    "harmony": (
        {"messages": [TURNS[0], {**TURNS[1], "channel": "analysis"}, TURNS[1]]},
        "the channel 'analysis'",
    ),
    "a prompt that ends elsewhere": (
        {"prompt": "<|im_start|>user\nQ<|im_end|>\n", "completion": "A"},
        "already rendered",
    ),
    "Gemini's calls": (
        {"contents": [{"role": "user", "parts": [{"functionCall": {"name": "f"}}]}]},
        "'tool_calls'",
    ),
    "a batch": ({"custom_id": "1", "body": {"messages": TURNS}}, "a request around"),
    "a task": ({"task": "Translate it to French", "input": "a", "output": "b"}, "'task' beside"),
    "a pair's instructions": (
        {"instructions": "Answer in French only.", "question": "Q", "answer": "A"},
        "'instructions' beside",
    ),
    "no call": ({"query": "Q", "answers": "[]", "tools": [TOOL]}, "has no call"),
    "data": ({"prompt": "Q", "completion": {"text": "a", "label": "b"}}, "write JSON as a string"),
    "calls as text": (
        {"conversations": [*TURNS[:1], {"from": "gpt", "value": "[f(a=1)]"}, {"from": "tool", "value": "1"}]},
        "a call written as text is not read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TURNED_AWAY)
def test_a_published_format_is_turned_away_with_what_to_change(name: str) -> None:
    record, says = TURNED_AWAY[name]
    assert says in load(record).refusal


@pytest.mark.parametrize(
    "flag", [{"loss_mask": 0}, {"ignore": True}, {"masked": "true"}, {"mask_loss": 1}]
)
def test_a_turn_without_loss_may_be_marked_in_any_way(flag: dict[str, Any]) -> None:
    found = load({"messages": [TURNS[0], {**TURNS[1], **flag}, *TURNS]})
    assert [turn.get("trained", True) for turn in found.messages] == [True, False, True, True]
    assert not found.unused


def test_marks_that_say_nothing_bad_turn_nothing_away() -> None:
    good = {"is_response_safe": True, "llama_guard_2": "safe", "status": "submitted", "label": "no"}
    moderation = [{"flagged": False, "categories": {"hate": False}}]
    found = load(
        {"prompt": QUESTION, "response": ANSWER, "openai_moderation": moderation, **good},
        {"question": QUESTION, "answer": "No", "correct_answer": "false"},
        {"messages": TURNS, "context": "wiki", "document": "lock.pdf", "thumbs_up": False},
    )
    assert len(found.records) == 3


def calls_of(found: Any) -> Any:
    return [
        call["function"]
        for turn in found.messages
        for call in json.loads(turn.get("tool_calls", "[]"))
    ]


def test_calls_as_the_answer_of_a_pair_are_calls() -> None:
    found = load(
        {"query": QUESTION, "answers": json.dumps([CALL, CALL]), "tools": json.dumps([TOOL])}
    )
    assert calls_of(found) == [CALL, CALL]
    [tool] = json.loads(found.records[0].tools)
    assert tool["function"]["parameters"]["properties"] == TOOL["parameters"]


def test_calls_and_results_as_tags_are_calls_if_their_function_is_defined() -> None:
    call = f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>"
    result = "<tool_response>\n7\n</tool_response>"
    turns = [
        ("human", QUESTION),
        ("gpt", f"I look.\n{call}\n{call}"),
        ("tool", f"{result}\n{result}"),
        ("gpt", ANSWER),
    ]
    record = {"conversations": [{"from": role, "value": text} for role, text in turns]}
    found = load({**record, "tools": [TOOL]})
    assert calls_of(found) == [CALL, CALL]
    assert found.turns == [Q, ("assistant", "I look."), ("tool", "7"), ("tool", "7"), A]
    assert "must follow its call" in load(record).refusal


def test_a_question_that_only_begins_with_a_word_for_its_role_stays() -> None:
    found = load({"prompt": "User: who am I?", "completion": "User.\nAssistant: no."})
    assert found.turns == [("user", "User: who am I?"), ("assistant", "User.\nAssistant: no.")]


def parquet(**columns: Any) -> bytes:
    written = io.BytesIO()
    pq.write_table(pa.table(columns), written)
    return written.getvalue()


def test_a_value_that_python_cannot_hold_costs_its_row() -> None:
    day = int(datetime.datetime(2024, 1, 1).timestamp() * 1000)
    times = pa.array([day, 2**62, None], pa.timestamp("ms"))
    found = load_bytes(
        parquet(prompt=["a", "b", "c"], completion=["x", "y", "z"], at=times), "a.parquet"
    )
    assert [record.messages[-1]["content"] for record in found.records] == ["x", "z"]
    assert found.rejected[0].startswith("record 2: a value in it cannot be read")


def test_bytes_that_are_text_are_text_and_not_a_number_is_missing() -> None:
    nan = float("nan")
    columns = {"prompt": [b"a", b"b"], "completion": [b"\xc3\xa4", None], "answer": [nan, nan]}
    found = load_bytes(parquet(**columns), "a.parquet")
    assert [record.messages[-1]["content"] for record in found.records] == ["ä"]
    assert found.lost == 1
    table = b"prompt,completion\na,nan\nb,NaN\nc,NA\n"
    assert [r.messages[-1]["content"] for r in load_bytes(table, "a.csv").records] == ["NA"]


def test_columns_of_one_name_do_not_replace_each_other() -> None:
    columns = [pa.array([text]) for text in ("a", "b", "c")]
    written = io.BytesIO()
    pq.write_table(pa.table(columns, names=["prompt", "completion", "completion"]), written)
    found = load_bytes(written.getvalue(), "a.parquet")
    assert found.turns == [("user", "a"), ("assistant", "b")]
    assert found.unused == {"completion (2)": 1}


def test_gzip_in_gzip_and_a_number_too_long_say_what_to_change() -> None:
    content = json.dumps({"messages": TURNS}).encode()
    assert "unpack it" in load_bytes(gzip.compress(gzip.compress(content)), "a.jsonl.gz").reason
    long = content[:-1] + b', "id": ' + b"9" * 5_000 + b"}"
    found = load_bytes(long + b"\n" + content)
    assert len(found.records) == 1
    assert "a number of 5,000 digits: write it as a string" in found.rejected[0]
