"""The Modelfile asks in Ollama what the model's own chat template asks."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ft_assets.errors import StageError
from ft_assets.records import Message
from ft_assets.stages.export.modelfile import modelfile, ollama_template, stop_texts
from ft_assets.stages.templates.conversations import CannotRenderError
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager
from ft_assets_tests.stages.export.go_templates import run_ollama
from ft_assets_tests.stages.templates.families import models

ASKED: Message = {"role": "user", "content": "Who sleeps in the wheelhouse?"}
ANSWERED: Message = {"role": "assistant", "content": "Biscuit does."}
SYSTEM: Message = {"role": "system", "content": "Be brief."}
CONVERSATIONS: list[list[Message]] = [
    [ASKED],
    [ASKED, ANSWERED, ASKED],
    [ASKED, ANSWERED, ASKED, ANSWERED, ASKED],
    [SYSTEM, ASKED],
    [SYSTEM, ASKED, ANSWERED, ASKED],
    [SYSTEM, ASKED, ANSWERED, ASKED, ANSWERED, ASKED],
]
BOS = "<|endoftext|>"
EVERY_FORM = {
    "Qwen3.5-4B": "<|im_start|>assistant\n<think>\n",
    "openai-gpt-oss-120b": "<|start|>assistant",
    "mistralai-Mistral-Nemo-Instruct-2407": "[/INST]",
    "google-gemma-2-2b-it": "<start_of_turn>model\n",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B": "<｜Assistant｜><think>\n",
    "meta-llama-Llama-3.2-3B-Instruct": "<|start_header_id|>assistant<|end_header_id|>\n\n",
}
"""Templates that differ in how they ask, in where they put a system message and if they take one."""
ONLY_WITH_TOOLS = {
    "CohereForAI-c4ai-command-r-plus-tool_use",
    "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
    "fireworks-ai-llama-3-firefunction-v2",
}


@pytest.fixture(scope="module")
def begun(tokenizer: Any) -> Any:
    """A tokenizer with a begin-of-sequence token."""
    other = copy.deepcopy(tokenizer)
    other.bos_token = BOS
    return other


def _published(begun: Any, name: str) -> PromptTemplateManager:
    other = copy.copy(begun)
    other.chat_template = (models() / "templates" / f"{name}.jinja").read_text()
    return PromptTemplateManager(other)


def _prompts(manager: PromptTemplateManager) -> list[tuple[list[Message], str]]:
    """The conversations that a template takes, and what the model is asked with."""
    found = []
    for messages in CONVERSATIONS:
        try:
            found.append((messages, manager.prompt(messages)))
        except CannotRenderError:
            continue
    return found


def _check(manager: PromptTemplateManager) -> None:
    made = ollama_template(manager)
    for messages, prompt in _prompts(manager):
        assert made.render(messages) == prompt
        assert run_ollama(made.go(), messages) == prompt


@pytest.mark.parametrize("template", ["tokenizer_default", "chatml", "alpaca"])
def test_it_renders_what_the_tokenizer_renders(tokenizer: Any, template: str) -> None:
    _check(PromptTemplateManager(tokenizer, template))


@pytest.mark.parametrize("name", EVERY_FORM)
def test_it_asks_as_the_generation_prompt_does(begun: Any, name: str) -> None:
    manager = _published(begun, name)
    _check(manager)
    assert run_ollama(ollama_template(manager).go(), [ASKED]).endswith(EVERY_FORM[name])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", sorted(path.stem for path in (models() / "templates").glob("*.jinja"))
)
def test_it_renders_what_every_published_template_renders(begun: Any, name: str) -> None:
    manager = _published(begun, name)
    if name in ONLY_WITH_TOOLS:
        with pytest.raises(StageError, match="does not render the question"):
            ollama_template(manager)
    else:
        _check(manager)


@pytest.mark.parametrize(
    "name", ["meta-llama-Llama-3.2-3B-Instruct", "mistralai-Mistral-Nemo-Instruct-2407"]
)
def test_what_llama_cpp_puts_first_is_left_out(begun: Any, name: str) -> None:
    manager = _published(begun, name)
    for messages, prompt in _prompts(manager):
        assert prompt.startswith(BOS)
        assert BOS + run_ollama(ollama_template(manager, BOS).go(), messages) == prompt


def test_a_refused_system_message_leaves_the_conversation_whole(begun: Any) -> None:
    manager = _published(begun, "google-gemma-2-2b-it")
    asked = run_ollama(ollama_template(manager).go(), [SYSTEM, ASKED])
    assert asked == manager.prompt([ASKED])


@settings(max_examples=30)
@given(st.text(st.sampled_from('{}"\\%- $.ab\n'), min_size=1, max_size=30).filter(str.strip))
@example('Say """{{ no }}""" to END and SYSTEM.')
def test_braces_and_quotes_of_a_system_prompt_are_kept(tokenizer: Any, prompt: str) -> None:
    manager = PromptTemplateManager(tokenizer, "chatml", system_prompt=prompt)
    text = ollama_template(manager).go()
    assert '"""' not in text
    assert run_ollama(text, [ASKED]) == manager.prompt([ASKED])


def test_every_token_that_ends_an_answer_stops_ollama(tokenizer: Any, tmp_path: Path) -> None:
    ids = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ids}))
    other = copy.deepcopy(tokenizer)
    other.eos_token = "<file_sep>"
    stops = stop_texts(PromptTemplateManager(other, "chatml"), other, tmp_path)
    assert stops == ["<file_sep>", "<|endoftext|>", "<|im_end|>"]
    written = modelfile(ollama_template(PromptTemplateManager(other)), stops, "a.gguf")
    for stop in stops:
        assert f'PARAMETER stop "{stop}"\n' in written


def test_the_end_of_a_turn_stops_ollama_without_a_generation_config(
    begun: Any, tmp_path: Path
) -> None:
    manager = _published(begun, "google-gemma-2-2b-it")
    assert stop_texts(manager, begun, tmp_path) == ["<|im_end|>", "<end_of_turn>"]
