"""Token by token what the families' own chat templates give, and what peers' packages carry of them.

Compared up to the last stop token: what a template writes after it (Qwen's and SmolLM2's line
break) is never asked of the model, so no row has it.
"""

from functools import cache
from itertools import chain
from typing import Any

import pytest

from ft_assets.records import Message
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager
from ft_assets.stages.templates.tokenization import tokenize
from ft_assets_tests.stages.templates.families import (
    FAMILIES,
    ONE,
    UNICODE,
    cases,
    family_tokenizer,
)

pytestmark = pytest.mark.slow

SYSTEM: Message = {"role": "system", "content": "Be brief."}
CONVERSATIONS: dict[str, list[Message]] = {
    "one": ONE,
    "unicode": UNICODE,
    "many": [*ONE, *UNICODE, *ONE],
    "system": [SYSTEM, *ONE],
    "system, many": [SYSTEM, *ONE, *UNICODE],
}

family_tokenizer = cache(family_tokenizer)


def _reference(tokenizer: Any, template: str, messages: list[Message], generate: bool) -> list[int]:
    """The ids by transformers alone; Llama's templates are given the date that they fall back on."""
    ids: list[int] = tokenizer.apply_chat_template(
        messages,
        chat_template=template,
        add_generation_prompt=generate,
        return_dict=False,
        date_string="26 Jul 2024",
    )
    return ids


def _check(tokenizer: Any, template: str, messages: list[Message], drops_system: bool) -> None:
    tokenizer.chat_template = template
    manager = PromptTemplateManager(tokenizer)
    row = manager.format(messages)
    [(prompt, completion)] = tokenize(tokenizer, [row.segments])
    assert prompt == _reference(tokenizer, template, messages[:-1], True)
    if drops_system:
        messages = messages[1:]
        prompt = _reference(tokenizer, template, messages[:-1], True)
    whole = _reference(tokenizer, template, messages, False)
    last = len(whole) - whole[::-1].index(tokenizer.eos_token_id)
    assert prompt + completion == whole[:last]
    assert tokenizer.decode(whole[last:]).strip() == ""
    assert not row.escaped


@pytest.mark.parametrize("conversation", CONVERSATIONS)
@pytest.mark.parametrize(("family", "title"), cases())
def test_the_ids_are_those_of_the_reference(family: str, title: str, conversation: str) -> None:
    messages = CONVERSATIONS[conversation]
    # Nemo's template has the system message only while the last turn is the user's: it is what the
    # model is asked with, so rows have it too, and only there do they differ from the reference.
    drops_system = "Nemo" in title and messages[0]["role"] == "system"
    template = FAMILIES[family].templates()[title]
    _check(family_tokenizer(family), template, messages, drops_system)


@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_the_ids_are_those_of_smollm2(conversation: str) -> None:
    tokenizer = family_tokenizer("smollm2")
    _check(tokenizer, str(tokenizer.chat_template), CONVERSATIONS[conversation], False)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("template", ["alpaca", "chatml"])
def test_rows_have_no_faults(family: str, template: str) -> None:
    tokenizer = family_tokenizer(family)
    manager = PromptTemplateManager(tokenizer, template)
    rows = [manager.format(ONE), manager.format(UNICODE), manager.text("The ferry leaves at six.")]
    for row, ids in zip(rows, tokenize(tokenizer, [row.segments for row in rows]), strict=True):
        assert manager.row_faults(ids, [each["trained"] for each in row.segments]) is None
        assert [*chain(*ids)].count(tokenizer.bos_token_id) == (tokenizer.bos_token is not None)
