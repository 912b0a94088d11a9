"""One rendering for all, whose last trained token is the stop token."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.errors import UserError
from ft_assets.records import Message
from ft_assets.stages.base_model import tokenizer_of
from ft_assets.stages.chat_templates import check_custom_template
from ft_assets.stages.modelfile import go_template
from ft_assets.stages.prompt_templates import (
    CannotRenderError,
    PromptTemplateManager,
    tokenize,
)

CUSTOM = "{% if system %}{{ system }}\n{% endif %}Q: {{ instruction }}\nA: {{ output }}"
TURN: list[Message] = [
    {"role": "user", "content": "Who sleeps in the wheelhouse?"},
    {"role": "assistant", "content": "Biscuit does."},
]


def _manager(tokenizer: Any, template: str, **options: Any) -> PromptTemplateManager:
    custom = CUSTOM if template == "custom" else None
    return PromptTemplateManager(tokenizer, template, custom=custom, **options)


TEMPLATES = ["tokenizer_default", "alpaca", "chatml", "custom"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_stop_token_is_the_last_trained_token(tokenizer: Any, template: str) -> None:
    row = _manager(tokenizer, template).format(TURN)
    [(prompt, completion)] = tokenize(tokenizer, [row])
    assert completion[-1] == tokenizer.eos_token_id
    assert completion.count(tokenizer.eos_token_id) == 1
    assert tokenizer.decode(completion[:-1]) == "Biscuit does."
    assert prompt


@pytest.mark.parametrize("template", TEMPLATES)
def test_training_and_inference_see_the_same_prompt(tokenizer: Any, template: str) -> None:
    manager = _manager(tokenizer, template)
    assert manager.format(TURN).prompt == manager.prompt(TURN[:1])


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_template_travels_in_the_tokenizer(
    tokenizer: Any, smollm: Path, tmp_path: Path, template: str
) -> None:
    manager = _manager(tokenizer, template, system_prompt='Say "yes",\nor {{ no }}.')
    carrier = tokenizer_of(smollm)
    carrier.chat_template = manager.chat_template
    carrier.save_pretrained(tmp_path)
    again = PromptTemplateManager(tokenizer_of(tmp_path))
    assert again.prompt(TURN[:1]) == manager.prompt(TURN[:1])
    assert 'Say "yes",\nor {{ no }}.' in again.prompt(TURN[:1])


def test_alpaca_with_and_without_input(tokenizer: Any) -> None:
    manager = PromptTemplateManager(tokenizer)
    without = manager.format_alpaca("Add.", "5").prompt
    assert without == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nAdd.\n\n### Response:\n"
    )
    with_input = manager.format_alpaca("Add.", "5", "2 and 3").prompt
    assert "paired with an input that provides further context. Write" in with_input
    assert "### Instruction:\nAdd.\n\n### Input:\n2 and 3\n\n### Response:\n" in with_input


def test_chatml(tokenizer: Any) -> None:
    row = PromptTemplateManager(tokenizer).format_chatml(TURN)
    assert row.prompt == (
        "<|im_start|>user\nWho sleeps in the wheelhouse?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert row.completion == "Biscuit does.<|im_end|>"


def test_custom(tokenizer: Any) -> None:
    row = PromptTemplateManager(tokenizer).format_custom(CUSTOM, "Who?", "Biscuit.")
    assert (row.prompt, row.completion) == ("Q: Who?\nA: ", f"Biscuit.{tokenizer.eos_token}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Q: {{ instruction }}", "{{ output }}"),
        ("A: {{ output }}", "{{ instruction }}"),
        ("{{ instruction }} {{ output }} {{ weather }}", "'weather'"),
        ("{{ instruction }} {{ output }} and on", "at the very end"),
        ("{{ instruction }\n{{ output }}", "not a Jinja template"),
    ],
)
def test_a_custom_template_that_lacks_something_is_refused(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says.replace("{", r"\{").replace("}", r"\}")):
        check_custom_template(text)


def test_a_template_runs_in_a_sandbox(tokenizer: Any) -> None:
    evil = "{{ instruction.__class__.__mro__[1].__subclasses__() }}{{ output }}"
    manager = PromptTemplateManager(tokenizer, "custom", custom=evil)
    with pytest.raises(CannotRenderError):
        manager.prompt(TURN[:1])


def test_one_question_templates_refuse_a_conversation(tokenizer: Any) -> None:
    with pytest.raises(CannotRenderError, match="room for one question"):
        _manager(tokenizer, "alpaca").format([*TURN, *TURN])
    assert _manager(tokenizer, "chatml").format([*TURN, *TURN]).prompt.count("wheelhouse") == 2


def test_a_base_without_a_chat_template_says_what_to_set(smollm: Path) -> None:
    bare = tokenizer_of(smollm)
    bare.chat_template = None
    with pytest.raises(UserError, match="chatml or alpaca"):
        PromptTemplateManager(bare)


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=80).filter(str.strip))
def test_prompt_and_completion_make_up_the_whole_rendering(tokenizer: Any, text: str) -> None:
    turn: list[Message] = [
        {"role": "user", "content": text},
        {"role": "assistant", "content": text},
    ]
    row = PromptTemplateManager(tokenizer).format(turn)
    whole = tokenizer.apply_chat_template(turn, tokenize=False)
    assert whole.startswith(row.prompt)
    assert whole[len(row.prompt) :].rstrip() == row.completion


def _run_go(template: str, messages: list[Message]) -> str:
    """Enough of Go's templates to render what `go_template` writes over `.Messages`."""
    head, rest = template.split('{{ if eq .Role "system" }}')[1].split(
        '{{ else if eq .Role "user" }}'
    )
    start, rest = rest.removeprefix("{{ if eq $i 0 }}").split("{{ end }}{{ .Content }}", 1)
    end, rest = rest.split("{{ else }}{{ .Content }}")
    between = rest.removesuffix("{{ end }}{{ end }}")
    out = ""
    for index, message in enumerate(messages):
        if message["role"] == "system":
            out += head.replace("{{ .Content }}", message["content"])
        elif message["role"] == "user":
            out += (start if index == 0 else "") + message["content"] + end
        else:
            out += message["content"] + between
    return out


@pytest.mark.parametrize("template", ["tokenizer_default", "chatml"])
def test_the_modelfile_renders_what_the_tokenizer_renders(tokenizer: Any, template: str) -> None:
    manager = _manager(tokenizer, template)
    system: list[Message] = [{"role": "system", "content": "Be brief."}]
    for messages in (TURN[:1], [*TURN, TURN[0]], [*system, TURN[0]], [*system, *TURN, TURN[0]]):
        assert _run_go(go_template(manager), messages) == manager.prompt(messages)


def test_the_modelfile_of_a_one_question_template(tokenizer: Any) -> None:
    text = go_template(_manager(tokenizer, "alpaca"))
    assert text.endswith("{{ end }}{{ .Prompt }}\n\n### Response:\n{{ .Response }}")
    assert text.startswith("{{ if .System }}{{ .System }}")
