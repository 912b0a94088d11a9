"""Conversations of several answers and with tools: each answer is trained once, after what it is asked with."""

import json
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from ft_assets.records import Message
from ft_assets.stages.templates.conversations import CannotRenderError, Conversation
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager
from ft_assets.stages.templates.rendered import RenderedRows
from ft_assets.stages.templates.tokenization import answer_by_answer, are_asked_so, tokenize
from ft_assets_tests.stages.templates.families import (
    FAMILIES,
    ONE,
    UNICODE,
    cases,
    family_tokenizer,
    models,
)

pytestmark = pytest.mark.slow

family_tokenizer = cache(family_tokenizer)


def _answers(
    tokenizer: Any, manager: PromptTemplateManager, conversation: Conversation
) -> Iterator[tuple[list[int], list[int]]]:
    """Each trained answer in the rows of a conversation: the ids before it in its row, and its own."""
    [found] = manager.rows([conversation])
    assert isinstance(found, RenderedRows), found
    for row in found.rows:
        parts = [row.segments]
        if are_asked_so(tokenizer, parts, tokenize(tokenizer, parts)) == [False]:
            parts = answer_by_answer(row.segments)
        for segments, of in zip(parts, tokenize(tokenizer, parts), strict=True):
            assert manager.row_faults(of, [each["trained"] for each in segments]) is None
            for place, piece in enumerate(segments):
                if piece["trained"]:
                    yield [*chain(*of[:place])], of[place]


FOUR_TURNS = [turn for each in (ONE, UNICODE, ONE, UNICODE) for turn in each[-2:]]


@pytest.mark.parametrize(
    ("family", "title"), [*cases(), ("smollm2", "own"), ("qwen2.5", "thinks"), ("llama3", "chatml")]
)
def test_every_answer_is_trained_once_after_what_it_is_asked_with(family: str, title: str) -> None:
    tokenizer = family_tokenizer(family)
    if title not in ("own", "chatml"):
        qwen3 = (models() / "templates" / "Qwen-Qwen3-0.6B.jinja").read_text()
        templates = {**FAMILIES[family].templates(), "thinks": qwen3}
        tokenizer.chat_template = templates[title]
    manager = PromptTemplateManager(
        tokenizer, "chatml" if title == "chatml" else "tokenizer_default"
    )
    found = list(_answers(tokenizer, manager, Conversation(FOUR_TURNS)))
    assert len(found) == 4
    for number, (asked, said) in enumerate(found):
        until = FOUR_TURNS[: 2 * number + 1]
        prompt = manager.prompt(until)
        assert asked == tokenizer(prompt, add_special_tokens=False)["input_ids"]
        text = tokenizer.decode(said)
        assert FOUR_TURNS[2 * number + 1]["content"] in text
        assert said[-1] == tokenizer.eos_token_id


def _foreign_templates() -> dict[str, str]:
    """Every chat template that llama.cpp and TRL carry, by file name."""
    import trl

    own = Path(trl.__file__).parent / "chat_templates"
    paths = [*(models() / "templates").glob("*.jinja"), *own.glob("*.jinja")]
    return {path.stem: path.read_text() for path in sorted(paths)}


def test_every_known_template_trains_each_answer_as_it_is_asked_or_refuses_it() -> None:
    tokenizer = family_tokenizer("qwen2.5")
    taken = 0
    for name, template in _foreign_templates().items():
        tokenizer.chat_template = template
        manager = PromptTemplateManager(tokenizer)
        conversation = Conversation(FOUR_TURNS)
        [found] = manager.rows([conversation])
        if isinstance(found, CannotRenderError):
            assert str(found).startswith("the template "), name
            continue
        taken += 1
        answers = list(_answers(tokenizer, manager, conversation))
        assert len(answers) == 4, name
        for number, (asked, said) in enumerate(answers):
            prompt = manager.prompt(FOUR_TURNS[: 2 * number + 1])
            assert asked == tokenizer(prompt, add_special_tokens=False)["input_ids"], name
            assert said[-1] == tokenizer.eos_token_id, name
    assert taken > 120


def test_only_turns_with_a_loss_are_trained() -> None:
    tokenizer = family_tokenizer("qwen2.5")
    turns: list[Message] = [
        {**turn, "trained": place != 3} for place, turn in enumerate(FOUR_TURNS)
    ]
    manager = PromptTemplateManager(tokenizer, "chatml")
    assert len(list(_answers(tokenizer, manager, Conversation(turns)))) == 3
    assert len(list(_answers(tokenizer, manager, Conversation(turns, train_on="last")))) == 1
    unmarked = [{**turn, "trained": False} for turn in turns]
    [found] = manager.rows([Conversation(unmarked)])  # type: ignore[arg-type]
    assert "marked as not to be trained" in str(found)


TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {
                "name": "tide_at",
                "description": "High water.",
                "parameters": {"type": "object", "properties": {"port": {"type": "string"}}},
            },
        }
    ]
)
CALL = [
    {
        "id": "a1b2c3d4e",
        "type": "function",
        "function": {"name": "tide_at", "arguments": {"port": 'Åre "harbour"'}},
    }
]
CALLED: list[Message] = [
    {"role": "user", "content": "When is high water?"},
    {"role": "assistant", "content": "", "tool_calls": json.dumps(CALL)},
    {"role": "tool", "content": '{"at": "06:12"}', "name": "tide_at", "tool_call_id": "a1b2c3d4e"},
    {"role": "assistant", "content": "At twelve past six."},
]


@pytest.mark.parametrize(("family", "title"), cases())
def test_tool_calls_are_trained_where_the_template_takes_them(family: str, title: str) -> None:
    tokenizer = family_tokenizer(family)
    tokenizer.chat_template = FAMILIES[family].templates()[title]
    manager = PromptTemplateManager(tokenizer)
    [found] = manager.rows([Conversation(CALLED, tools=TOOLS)])
    if title == "trl/llama3":
        assert "no place for tools: set model.base" in str(found)
        return
    assert isinstance(found, RenderedRows), found
    answers = list(_answers(tokenizer, manager, Conversation(CALLED, tools=TOOLS)))
    assert len(answers) == 2
    call, answer = (tokenizer.decode(said) for _, said in answers)
    assert "tide_at" in call
    assert "harbour" in call
    assert "At twelve past six." in answer
    assert "06:12" in tokenizer.decode(answers[1][0])


@pytest.mark.parametrize("name", ["Hermes-2-Pro-Llama-3-8B", "Hermes-3-Llama-3.1-8B"])
def test_a_template_may_write_results_otherwise_once_they_are_answered(name: str) -> None:
    tokenizer = family_tokenizer("qwen2.5")
    template = models() / "templates" / f"NousResearch-{name}-tool_use.jinja"
    tokenizer.chat_template = template.read_text()
    manager = PromptTemplateManager(tokenizer)
    turns = [*CALLED, *ONE, *CALLED]
    answers = list(_answers(tokenizer, manager, Conversation(turns, tools=TOOLS)))
    assert len(answers) == 5
    places = [place for place, turn in enumerate(turns) if turn["role"] == "assistant"]
    for (asked, said), place in zip(answers, places, strict=True):
        given = [
            {**turn, "tool_calls": json.loads(turn["tool_calls"] or "")}
            if turn.get("tool_calls")
            else turn
            for turn in turns[:place]
        ]
        prompt = tokenizer.apply_chat_template(
            given, json.loads(TOOLS), tokenize=False, add_generation_prompt=True
        )
        assert tokenizer.decode(asked) == prompt
        text = tokenizer.decode(said)
        assert (turns[place]["content"] or "harbour") in text
        assert text.endswith("<|im_end|>")


def test_a_template_without_tools_refuses_them() -> None:
    manager = PromptTemplateManager(family_tokenizer("smollm2"), "chatml")
    [found] = manager.rows([Conversation(CALLED, tools=TOOLS)])
    assert "no place for tools: set model.base" in str(found)
    [found] = manager.rows([Conversation(CALLED)])
    assert str(found) == "the template has no place for tool calls, or changes them"
