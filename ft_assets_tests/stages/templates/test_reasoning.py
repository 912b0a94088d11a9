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
        except Exception:  # noqa: S112 (a template refuses with whatever it raises)
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
    written = [text for text in references(tokenizer, manager.chat_template, turns) if THOUGHT in text]
    as_theirs = [text for text in written if text.startswith(row.prompt + said)]
    if row.reasoning == (True,) and not as_theirs:  # DeepSeek R1 leaves it out of what it wrote
        assert row.prompt.rstrip().endswith("<think>"), name
        assert said.startswith(f"{THOUGHT}\n</think>"), name
    assert row.reasoning == (True,) or not row.escaped, name
    return row.reasoning == (True,)


def test_trl_s_templates_write_reasoning_as_transformers_does(tokenizer: Any) -> None:
    found = {
        name: check_template(tokenizer, name, text) for name, text in trl_templates().items()
    }
    print(json.dumps(found, indent=1))


@pytest.mark.slow
def test_llama_cpp_s_templates_write_reasoning_as_transformers_does(tokenizer: Any) -> None:
    paths = sorted((models() / "templates").glob("*.jinja"))
    found = {path.stem: check_template(tokenizer, path.stem, path.read_text()) for path in paths}
    print(json.dumps(found, indent=1))
