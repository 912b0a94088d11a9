"""The texts of templates: each becomes a Hugging Face chat template, a Jinja text over `messages`."""

import json
import re
from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING

from ft_assets.errors import UserError
from ft_assets.stages.templates.renderer import HarmError, ask

if TYPE_CHECKING:
    from ft_assets.stages.models.light_tokenizer import AnyTokenizer

ALPACA = """\
{% if system %}{{ system }}{% else %}Below is an instruction that describes a task\
{% if input %}, paired with an input that provides further context{% endif %}. \
Write a response that appropriately completes the request.{% endif %}


### Instruction:
{{ instruction }}

{% if input %}
### Input:
{{ input }}

{% endif %}
### Response:
{{ output }}"""
"""The prompt of Stanford Alpaca, in its two forms: with and without an input."""

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' }}"
    "{% if loop.last and message['role'] == 'assistant' %}{{ STOP }}{% else %}{{ '\\n' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

FIELDS = {"instruction", "input", "output", "system"}
"""What a custom template may name: `instruction` and `output` it must, `output` at its end."""

_STRFTIME = re.compile(r"""strftime_now\(\s*(['"])([^'"]*)\1\s*\)""")
_TODAY = date(2024, 7, 26)
"""What a template is given for today, so that the same inputs make the same rows on every day, and
the model is later asked with the words it was trained with. Llama's templates fall back on it."""

_FIELDS_OF_MESSAGES = (
    "{% set f = namespace(system='', instruction='', input='', output='') %}"
    "{% for m in messages %}"
    "{% if m['role'] == 'system' %}{% set f.system = m['content'] %}"
    "{% elif m['role'] == 'user' %}"
    "{% set f.instruction = m['content'] %}{% set f.input = m['input'] or '' %}"
    "{% else %}{% set f.output = m['content'] %}{% endif %}"
    "{% endfor %}"
    "{% set system = f.system %}{% set instruction = f.instruction %}"
    "{% set input = f.input %}{% set output = f.output %}"
)


def check_custom_template(text: str) -> None:
    """Raises UserError saying what a custom template lacks or has too much."""
    names = fields_of(text)
    if missing := sorted({"instruction", "output"} - names):
        raise UserError(f"it lacks the field {{{{ {missing[0]} }}}}")
    if unknown := sorted(names - FIELDS):
        raise UserError(f"unknown field {unknown[0]!r}; allowed are {', '.join(sorted(FIELDS))}")
    if not _before_output(text):
        raise UserError("{{ output }} must stand once, and at the very end")


def fields_of(text: str) -> set[str]:
    """The fields that a custom template names. Raises UserError if it is not a template, or takes too
    much time or memory to compile.
    """
    return set(_fields_of(text))


@lru_cache(maxsize=64)
def _fields_of(text: str) -> tuple[str, ...]:
    try:
        [answer] = ask("fields", {}, [text])
    except HarmError as harm:
        raise UserError(f"the template {harm}") from harm
    if "error" in answer:
        raise UserError(f"line {answer['line']}: not a Jinja template ({answer['error']})")
    return tuple(answer["fields"])


def _before_output(text: str) -> str | None:
    """The part of a custom template before its output, or None where that is not at its end."""
    before, found, after = text.rstrip().rpartition("{{")
    at_end = found and after.removesuffix("}}").strip(" -") == "output" and after.endswith("}}")
    return before if at_end and "output" not in before else None


def adds_bos(tokenizer: "AnyTokenizer") -> bool:
    """Whether the model expects a begin-of-sequence token at the start of plain text."""
    ids = tokenizer("a")["input_ids"]
    return bool(tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id])


def special_tokens(tokenizer: "AnyTokenizer") -> set[str]:
    """The tokens that no text may hold."""
    added = tokenizer.added_tokens_decoder.values()
    special = {*tokenizer.all_special_tokens, *(token.content for token in added if token.special)}
    # llama.cpp takes `</s>` for a stop token where it is an ordinary entry too, as in Qwen's.
    known = tokenizer.convert_tokens_to_ids("</s>") not in (None, tokenizer.unk_token_id)
    return special | {"</s>"} if known else special


def chat_template(tokenizer: "AnyTokenizer", template: str, custom: str | None) -> str:
    """The chat template that `template` names, as `PromptTemplateManager` takes it.

    Raises UserError for one that there is not or that cannot be used.
    """
    if template == "tokenizer_default":
        return _STRFTIME.sub(
            lambda call: json.dumps(_TODAY.strftime(call[2])), _own_template(tokenizer)
        )
    bos = "{{ bos_token }}" if adds_bos(tokenizer) else ""
    if template == "chatml":
        # Generation ends at the end-of-sequence token, so it must be trained where
        # `<|im_end|>` is not that token already.
        same = tokenizer.eos_token == "<|im_end|>"  # noqa: S105 (a token of text)
        return bos + CHATML.replace("STOP", "''" if same else "eos_token")
    text = ALPACA if template == "alpaca" else custom or ""
    check_custom_template(text)
    end = "{%+ if not add_generation_prompt %}{{ output + eos_token }}{% endif %}"
    return f"{_FIELDS_OF_MESSAGES}{bos}{_before_output(text)}{end}"


def fixed_date(tokenizer: "AnyTokenizer", template: str) -> str | None:
    """What the template is given for today, on every day; None if it does not write the date."""
    writes = template == "tokenizer_default" and _STRFTIME.search(_own_template(tokenizer))
    return f"{_TODAY:%d %b %Y}" if writes else None


def _own_template(tokenizer: "AnyTokenizer") -> str:
    own = tokenizer.chat_template
    if isinstance(own, dict):  # several, by purpose
        own = own.get("default")
    if not isinstance(own, str):
        raise UserError(
            "the base model's tokenizer has no chat template: set data.template to chatml or alpaca"
        )
    return own


def with_system_prompt(chat_template: str, system_prompt: str) -> str:
    """A chat template that puts `system_prompt` where a conversation has no system message.

    It is written into the template itself so that llama.cpp renders it too.
    """
    message = f"{{'role': 'system', 'content': {json.dumps(system_prompt)}}}"
    return (
        "{% if messages[0]['role'] != 'system' %}"
        f"{{% set messages = [{message}] + messages %}}"
        f"{{% endif %}}{chat_template}"
    )
