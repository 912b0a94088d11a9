"""One rendering for all, whose last trained token is the stop token.

`golden/` holds what every template renders, as it was looked at and found right. To write the files
anew after a change that is meant: FT_ASSETS_REWRITE_GOLDEN=1 pytest ft_assets_tests/test_prompt_templates.py
"""

import copy
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.errors import UserError
from ft_assets.records import Message
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.templates.chat import check_custom_template
from ft_assets.stages.templates.conversations import CannotRenderError
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager
from ft_assets.stages.templates.tokenization import tokenize

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
    [(prompt, completion)] = tokenize(tokenizer, [row.segments])
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


GOLDEN = Path(__file__).parent / "golden"
SYSTEM: Message = {"role": "system", "content": "Be brief.\nBe kind."}
MANY: list[Message] = [
    *TURN,
    {"role": "user", "content": "### Why there?\nOù: 東京 🙂"},
    {"role": "assistant", "content": "It is warm.\n\n- and  dry"},
]
CONVERSATIONS: dict[str, tuple[list[Message], str | None]] = {
    "one_turn": (TURN, None),
    "input": (TURN, "Biscuit is a goat.\nThe wheelhouse is warm."),
    "system": ([SYSTEM, *TURN], None),
    "many_turns": (MANY, None),
    "system_and_many_turns": ([SYSTEM, *MANY], None),
    "markers": (
        [{"role": "user", "content": "### Response:\n<|im_end|>\nA: ### Response:"}, TURN[1]],
        None,
    ),
}


@pytest.mark.parametrize("system_prompt", [None, "Answer as a sailor."])
@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_golden(
    tokenizer: Any, template: str, conversation: str, system_prompt: str | None
) -> None:
    manager = _manager(tokenizer, template, system_prompt=system_prompt)
    try:
        row = manager.format(*CONVERSATIONS[conversation])
        text = f"{row.prompt}⟦trained⟧{row.completion}⟦end⟧\n"
    except CannotRenderError as refusal:
        text = f"⟦refused: {refusal}⟧\n"
    prompted = "" if system_prompt is None else "-system_prompt"
    path = GOLDEN / template / f"{conversation}{prompted}.txt"
    if os.environ.get("FT_ASSETS_REWRITE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize(
    ("prompt", "completion", "says"),
    [
        ([5, 6], [7], "last trained token"),
        ([5, 6], [], "last trained token"),
        ([5, 6], [7, 2, 7, 2], "a stop token stands within"),
        ([5, 1], [7, 2], "begin-of-sequence token, which the model does not use"),
    ],
)
def test_faulty_rows_are_told(
    tokenizer: Any, prompt: list[int], completion: list[int], says: str
) -> None:
    found = _manager(tokenizer, "alpaca").row_faults([prompt, completion], [False, True])
    assert says in str(found)


def _with_bos(tokenizer: Any) -> Any:
    """A tokenizer that puts a token of its own before all that it encodes, as Llama's do."""
    from tokenizers.processors import TemplateProcessing

    made = copy.deepcopy(tokenizer)
    made.bos_token = "<repo_name>"
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="<repo_name> $A", special_tokens=[("<repo_name>", made.bos_token_id)]
    )
    return made


@pytest.mark.parametrize("template", TEMPLATES)
def test_exactly_one_bos_even_where_the_template_forgets_it(tokenizer: Any, template: str) -> None:
    carrier = _with_bos(tokenizer)
    manager = _manager(carrier, template)
    rows = [manager.format(TURN), manager.text("The ferry.")]
    for prompt, completion in tokenize(carrier, [row.segments for row in rows]):
        assert prompt[0] == carrier.bos_token_id
        assert (prompt + completion).count(carrier.bos_token_id) == 1
        trained = [False, True]
        assert manager.row_faults([prompt, completion], trained) is None
        more = [prompt[:1] + prompt, completion]
        assert "more than one" in str(manager.row_faults(more, trained))
        assert "does not begin" in str(manager.row_faults([[9, *prompt], completion], trained))


def test_a_row_ends_at_eos_where_the_template_ends_turns_with_another_token(tokenizer: Any) -> None:
    carrier = copy.deepcopy(tokenizer)
    carrier.eos_token = "<|endoftext|>"
    row = _manager(carrier, "chatml").format(TURN)
    assert row.completion == "Biscuit does.<|im_end|><|endoftext|>"


def test_what_a_template_has_no_place_for_is_refused_by_name(tokenizer: Any) -> None:
    manager = PromptTemplateManager(
        tokenizer, "custom", custom="Q: {{ instruction }}\nA: {{ output }}"
    )
    with pytest.raises(CannotRenderError, match="no place for the system message"):
        manager.format([SYSTEM, *TURN])
    assert "Q: Who sleeps in the wheelhouse?\n\na goat\n" in manager.format(TURN, "a goat").prompt
    changes = "{{ instruction }}\nA: {{ output }}".replace("instruction", "instruction | upper")
    with pytest.raises(CannotRenderError, match="no place for the user message, or changes it"):
        PromptTemplateManager(tokenizer, "custom", custom=changes).format(TURN)
    with pytest.raises(UserError, match=r"no \{\{ system \}\} to put data.system_prompt in"):
        PromptTemplateManager(
            tokenizer, "custom", custom="{{ instruction }} {{ output }}", system_prompt="Be brief."
        )


def test_a_template_is_given_the_same_date_on_every_day(tokenizer: Any) -> None:
    carrier = copy.copy(tokenizer)
    carrier.chat_template = (
        "Today: {{ strftime_now('%d %b %Y') }}\n{% for m in messages %}{{ m['content'] }}\n"
        "{% endfor %}"
    )
    assert PromptTemplateManager(carrier).format(TURN).prompt.startswith("Today: 26 Jul 2024\n")


def test_the_default_of_several_templates_is_used(tokenizer: Any) -> None:
    carrier = copy.copy(tokenizer)
    carrier.chat_template = {"default": str(tokenizer.chat_template), "tool_use": "{{ 1 }}"}
    assert PromptTemplateManager(carrier).format(TURN) == PromptTemplateManager(tokenizer).format(
        TURN
    )


@pytest.mark.parametrize(
    ("asks", "writes", "trained"),
    [
        ("<think>\n", "", "\n</think>\n\nBiscuit does."),
        ("<think>\n", "<think></think>", "</think>Biscuit does."),
        ("<think>", "</think>", "</think>Biscuit does."),
        ("<think></think>", "</think>", "Biscuit does."),
        ("<think>\n\n</think>\n\n", "", "Biscuit does."),
        ("<|channel>thought\n<channel|>", "", "Biscuit does."),
        ("<|START_THINKING|>", "<|START_TEXT|>", "<|END_THINKING|><|START_TEXT|>Biscuit does."),
        ("", "<think>\n\n</think>\n\n", "<think>\n\n</think>\n\nBiscuit does."),
        ("Here is why:\n", "", None),
    ],
)
def test_an_answer_of_a_reasoning_model_follows_an_empty_block_of_thoughts(
    tokenizer: Any, asks: str, writes: str, trained: str | None
) -> None:
    carrier = copy.deepcopy(tokenizer)
    carrier.chat_template = (
        "{% for m in messages %}<{{ m.role }}>"
        f"{{% if m.role == 'assistant' %}}{{{{ {writes!r} }}}}{{% endif %}}"
        "{{ m.content }}{{ eos_token }}{% endfor %}"
        f"{{% if add_generation_prompt %}}<assistant>{{{{ {asks!r} }}}}{{% endif %}}"
    )
    manager = PromptTemplateManager(carrier)
    if trained is None:
        with pytest.raises(CannotRenderError, match="as those of reasoning models do"):
            manager.format(TURN)
        return
    row = manager.format(TURN)
    assert row.prompt == manager.prompt(TURN[:1])
    assert row.prompt.endswith(f"<assistant>{asks}")
    assert row.completion == f"{trained}{carrier.eos_token}"
