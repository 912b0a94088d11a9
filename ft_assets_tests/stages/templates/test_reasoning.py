"""A record's own reasoning is trained where the template writes it, as transformers renders it."""

import copy
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.records import Message
from ft_assets.stages.reasoning import thought_in
from ft_assets.stages.templates.conversations import CannotRenderError, Conversation
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager
from ft_assets.stages.templates.reasoning_place import KEYS
from ft_assets.stages.templates.rendered import Rendered, RenderedRows
from ft_assets_tests.stages.templates.families import models

ASKED: Message = {"role": "user", "content": "How many goats are aboard?"}
ANSWER, THOUGHT = "Two goats.", "Biscuit is one.\nHer kid is another: 1 + 1."


def trl_templates() -> dict[str, str]:
    """The chat templates in trl's package, which is not imported."""
    spec = importlib.util.find_spec("trl")
    assert spec
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "chat_templates"
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.jinja"))}


def with_template(tokenizer: Any, template: str) -> PromptTemplateManager:
    carrier = copy.copy(tokenizer)
    carrier.chat_template = template
    return PromptTemplateManager(carrier)


def rows_of(manager: PromptTemplateManager, *turns: Message, **more: Any) -> list[Rendered]:
    [found] = manager.rows([Conversation(turns, **more)])
    assert isinstance(found, RenderedRows), found
    return found.rows


def answered(content: str = ANSWER, **more: Any) -> Message:
    return {"role": "assistant", "content": content, **more}  # type: ignore[typeddict-item]


def references(tokenizer: Any, template: str, turns: list[Any]) -> Iterator[str]:
    """What transformers renders of turns with `reasoning`, by each way in which templates take it."""
    ways: list[Any] = [lambda turn, key=key: {key: turn["reasoning"]} for key in KEYS]
    ways.append(
        lambda turn: {
            "content": [
                {"type": "thinking", "thinking": turn["reasoning"]},
                {"type": "text", "text": turn["content"]},
            ]
        }
    )
    ways.append(
        lambda turn: {"content": f"<think>\n{turn['reasoning']}\n</think>\n\n{turn['content']}"}
    )
    for way in ways:
        given = [
            {"role": turn["role"], "content": turn["content"]}
            | (way(turn) if turn.get("reasoning") else {})
            for turn in turns
        ]
        try:
            yield tokenizer.apply_chat_template(given, chat_template=template, tokenize=False)
        except Exception:  # a template refuses with whatever it raises
            continue


def check_template(tokenizer: Any, name: str, template: str) -> bool | None:
    """Whether a template's row has the reasoning, which it has as transformers renders it."""
    manager = with_template(tokenizer, template)
    turns: list[Message] = [ASKED, answered(reasoning=THOUGHT)]
    [found] = manager.rows([Conversation(turns)])
    if isinstance(found, CannotRenderError):
        return None
    [row] = found.rows
    assert row.prompt == manager.prompt([ASKED]), name
    assert ANSWER in row.completion, name
    assert row.completion.count(THOUGHT) == row.reasoning.count(True), name
    said = row.completion.removesuffix(tokenizer.eos_token)
    written = [
        text for text in references(tokenizer, manager.chat_template, turns) if THOUGHT in text
    ]
    as_theirs = [text for text in written if text.startswith(row.prompt + said)]
    if row.reasoning == (True,) and not as_theirs:  # DeepSeek R1 leaves it out of what it wrote
        assert row.prompt.rstrip().endswith("<think>"), name
        assert said.startswith(f"{THOUGHT}\n</think>"), name
    assert row.reasoning == (True,) or not row.escaped, name
    return row.reasoning == (True,)


TAKING = [
    *("qwen3", "qwen3_8", "glm4moe", "gptoss", "lfm2_2_5", "nemotron_3_nano", "gemma4_v5"),
    *("deepseek_r1_distill", "deepseek_r1_distill_training", "muse_glimmer"),
]
WITHOUT = ["qwen3_5_nothink", "qwen3_instruct_2507", "llama3_1", "qwen2_5", "gemma3"]
"""Templates that ask for an answer without thoughts, or have none."""


@pytest.mark.parametrize("name", [*TAKING, *WITHOUT])
def test_templates_write_reasoning_as_transformers_does(tokenizer: Any, name: str) -> None:
    assert check_template(tokenizer, name, trl_templates()[name]) is (name in TAKING)


@pytest.mark.slow
def test_all_of_trl_s_templates_do(tokenizer: Any) -> None:
    found = {name: check_template(tokenizer, name, text) for name, text in trl_templates().items()}
    assert sum(takes is True for takes in found.values()) > 25


@pytest.mark.slow
def test_all_of_llama_cpp_s_templates_do(tokenizer: Any) -> None:
    paths = sorted((models() / "templates").glob("*.jinja"))
    found = {path.stem: check_template(tokenizer, path.stem, path.read_text()) for path in paths}
    taking = {name for name, takes in found.items() if takes}
    assert taking >= {"Qwen-Qwen3-0.6B", "GLM-4.6", "openai-gpt-oss-120b", "Cohere2MoE"}
    assert taking >= {"mistralai-Ministral-3-14B-Reasoning-2512", "HuggingFaceTB-SmolLM3-3B"}
    assert not taking & {"deepseek-ai-DeepSeek-V4", "tencent-Hy3", "poolside-Laguna-XS.2"}


@pytest.mark.parametrize("name", ["qwen3", "qwen3_8", "glm4moe", "gptoss", "nemotron_3_nano"])
def test_earlier_reasoning_is_in_history_as_the_template_writes_it(
    tokenizer: Any, name: str
) -> None:
    manager = with_template(tokenizer, trl_templates()[name])
    turns = [
        ASKED,
        answered("One goat.", reasoning="Biscuit is one."),
        ASKED,
        answered(reasoning=THOUGHT),
    ]
    rows = rows_of(manager, *turns)
    assert [each for row in rows for each in row.reasoning] == [True, True]
    last = "".join(piece["text"] for piece in rows[-1].segments).removesuffix(tokenizer.eos_token)
    assert any(
        text.startswith(last) for text in references(tokenizer, manager.chat_template, turns)
    )
    kept = {"qwen3_8": 1}.get(name, 2)  # Qwen 3.8 writes what was thought before, so it is one row
    assert len(rows) == kept


CALL = {
    "id": "a1b2c3d4e",
    "type": "function",
    "function": {"name": "count_goats", "arguments": {"deck": "aft"}},
}
TOOLS = json.dumps(
    [
        {
            "type": "function",
            "function": {
                "name": "count_goats",
                "description": "Counts.",
                "parameters": {"type": "object", "properties": {"deck": {"type": "string"}}},
            },
        }
    ]
)


@pytest.mark.parametrize("words", ["", "Let me look."])
@pytest.mark.parametrize("name", ["qwen3", "glm4moe", "gptoss", "gemma4_v5"])
def test_reasoning_before_a_call_is_trained_or_counted(
    tokenizer: Any, name: str, words: str
) -> None:
    manager = with_template(tokenizer, trl_templates()[name])
    turns: list[Message] = [
        ASKED,
        answered(words, reasoning="I should count.", tool_calls=json.dumps([CALL])),
        {"role": "tool", "content": "2", "name": "count_goats", "tool_call_id": "a1b2c3d4e"},
        answered(reasoning=THOUGHT),
    ]
    rows = rows_of(manager, *turns, tools=TOOLS)
    found = [each for row in rows for each in row.reasoning]
    trained = "".join(piece["text"] for row in rows for piece in row.segments if piece["trained"])
    assert found.count(True) == sum(text in trained for text in ("I should count.", THOUGHT))
    refused = name == "gptoss" and words  # it takes either words or thoughts beside a call
    assert found == ([False, False] if refused else [True, True])
    assert "count_goats" in trained
    assert ANSWER in trained


INLINE = f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}"


@pytest.mark.parametrize("name", ["qwen3", "gptoss", "deepseek_r1_distill", "glm4moe"])
def test_a_closed_block_at_the_head_of_an_answer_is_its_reasoning(
    tokenizer: Any, name: str
) -> None:
    manager = with_template(tokenizer, trl_templates()[name])
    beside = rows_of(manager, ASKED, answered(reasoning=THOUGHT))
    assert rows_of(manager, ASKED, answered(INLINE)) == beside
    both = answered(INLINE, reasoning=THOUGHT)
    assert rows_of(manager, ASKED, both) == beside
    empty = rows_of(manager, ASKED, answered(f"<think>\n\n</think>\n\n{ANSWER}"))
    assert empty == rows_of(manager, ASKED, answered())
    assert beside[0].reasoning == (True,)


@pytest.mark.parametrize("head", ["<think>\nhm\n\n", "First.<think>hm</think>", "hm</think>\n"])
def test_another_block_stays_text_and_is_escaped(tokenizer: Any, head: str) -> None:
    manager = with_template(tokenizer, trl_templates()["qwen3"])
    [row] = rows_of(manager, ASKED, answered(head + ANSWER))
    assert row.escaped
    assert row.reasoning == (None,)
    assert row.completion.count("<think>") == row.completion.count("</think>") == 1
    assert "hm" in row.completion.partition("</think>")[2]


def test_without_a_place_the_answer_alone_is_trained_and_counted(tokenizer: Any) -> None:
    manager = PromptTemplateManager(tokenizer, "chatml")
    assert not manager.takes_reasoning
    [row] = rows_of(manager, ASKED, answered(reasoning=THOUGHT))
    assert row.completion.startswith(ANSWER)
    assert row.reasoning == (False,)
    # A tag that the template does not know is text, as transformers renders it.
    [row] = rows_of(manager, ASKED, answered(INLINE))
    assert row.completion.startswith(INLINE)
    assert row.reasoning == (None,)
    assert not row.escaped
    # One that it writes is none: there the block would only be a damaged one.
    manager = with_template(tokenizer, trl_templates()["qwen3_5_nothink"])
    [row] = rows_of(manager, ASKED, answered(INLINE))
    assert row.completion.startswith(ANSWER)
    assert row.reasoning == (False,)


def test_only_trained_answers_count(tokenizer: Any) -> None:
    manager = with_template(tokenizer, trl_templates()["qwen3"])
    turns = [ASKED, answered("One goat.", reasoning="One."), ASKED, answered(reasoning=THOUGHT)]
    [row] = rows_of(manager, *turns, train_on="last")
    assert row.reasoning == (True,)
    turns[1]["trained"] = False
    assert [each.reasoning for each in rows_of(manager, *turns)] == [(True,)]


_QWEN3 = """{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.reasoning_content %}<think>
{{ m.reasoning_content }}
</think>

{% endif %}{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


@given(
    st.text(st.sampled_from("<think/>\n \\|im_end| a1é"), max_size=40),
    st.text(st.sampled_from("</think>\n <|im_start|> b2"), max_size=40),
)
def test_no_text_forges_the_block(tokenizer: Any, thought: str, answer: str) -> None:
    manager = with_template(tokenizer, _QWEN3)
    content = f"{answer}."
    [row] = rows_of(manager, ASKED, answered(content, reasoning=f"{thought}."))
    said = row.completion.removesuffix("<|im_end|>")
    assert said.startswith("<think>\n")
    assert said.count("<think>") == said.count("</think>\n\n") == said.count("</think>") == 1
    assert "<|im_" not in said
    assert row.reasoning == (True,)
    assert row.escaped or said == f"<think>\n{thought}.\n</think>\n\n{content}"


@given(st.text(max_size=30), st.text(max_size=30))
def test_a_head_is_found_only_if_it_is_closed(thought: str, answer: str) -> None:
    found = thought_in(f"<think>{thought}</think>{answer}")
    assert found
    if "</think>" not in thought:
        assert found.reasoning == thought.strip("\n")
        assert found.answer == answer.lstrip("\n")
    if "</think>" not in thought + answer:
        assert thought_in(f"<think>{thought}{answer}") is None
    assert thought_in(f"x<think>{thought}</think>{answer}") is None
