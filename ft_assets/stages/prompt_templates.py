"""One rendering of conversations for the dataset, training, evaluation, chat and the Modelfile.

Every template, Alpaca and a user's own included, is turned into a Hugging Face chat template (a
Jinja text over `messages`), rendered in transformers' sandbox. It travels inside the tokenizer from
the adapter to the GGUF file, so nothing downstream can render a conversation differently.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ft_assets.errors import UserError
from ft_assets.records import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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


class CannotRenderError(Exception):
    """A conversation that this template has no place for."""


@dataclass(frozen=True)
class Rendered:
    """A conversation as text: what the model is given, and what it is to say, stop token included."""

    prompt: str
    completion: str


def check_custom_template(text: str) -> None:
    """Raises UserError saying what a custom template lacks or has too much."""
    from jinja2 import TemplateError, meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment()
    try:
        names = meta.find_undeclared_variables(environment.parse(text))
    except TemplateError as error:
        line = getattr(error, "lineno", None)
        raise UserError(f"line {line}: not a Jinja template ({error})") from error
    if missing := sorted({"instruction", "output"} - names):
        raise UserError(f"it lacks the field {{{{ {missing[0]} }}}}")
    if unknown := sorted(names - FIELDS):
        raise UserError(f"unknown field {unknown[0]!r}; allowed are {', '.join(sorted(FIELDS))}")
    if not _before_output(text):
        raise UserError("{{ output }} must stand once, and at the very end")


def _before_output(text: str) -> str | None:
    """The part of a custom template before its output, or None where that is not at its end."""
    before, found, after = text.rstrip().rpartition("{{")
    at_end = found and after.removesuffix("}}").strip(" -") == "output" and after.endswith("}}")
    return before if at_end and "output" not in before else None


def adds_bos(tokenizer: "PreTrainedTokenizerBase") -> bool:
    """Whether the model expects a begin-of-sequence token at the start of plain text."""
    ids = tokenizer("a")["input_ids"]
    return bool(tokenizer.bos_token_id is not None and ids[:1] == [tokenizer.bos_token_id])


class PromptTemplateManager:
    """Renders conversations for one tokenizer by one template.

    `template` is `tokenizer_default`, `alpaca`, `chatml`, or `custom` with the Jinja text in
    `custom`. `system_prompt` stands where a conversation has no system message of its own; None
    leaves that to the template. Raises UserError for a template that cannot be used.
    """

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        template: str = "tokenizer_default",
        *,
        custom: str | None = None,
        system_prompt: str | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._by_fields = template in ("alpaca", "custom")
        self.chat_template = self._chat_template(template, custom)
        if system_prompt is not None:
            self.chat_template = _with_system_prompt(self.chat_template, system_prompt)

    def _chat_template(self, template: str, custom: str | None) -> str:
        if template == "tokenizer_default":
            if not isinstance(self._tokenizer.chat_template, str):
                raise UserError(
                    "the base model's tokenizer has no chat template: set data.template to "
                    "chatml or alpaca"
                )
            return self._tokenizer.chat_template
        bos = "{{ bos_token }}" if adds_bos(self._tokenizer) else ""
        if template == "chatml":
            # Generation ends at the end-of-sequence token, so it must be trained where
            # `<|im_end|>` is not that token already.
            same = self._tokenizer.eos_token == "<|im_end|>"  # noqa: S105 (a token of text)
            return bos + CHATML.replace("STOP", "''" if same else "eos_token")
        text = ALPACA if template == "alpaca" else custom or ""
        check_custom_template(text)
        end = "{%+ if not add_generation_prompt %}{{ output + eos_token }}{% endif %}"
        return f"{_FIELDS_OF_MESSAGES}{bos}{_before_output(text)}{end}"

    def format(self, messages: Sequence[Message], context: str | None = None) -> Rendered:
        """Renders a conversation whose last message is the assistant's.

        `context` is an Alpaca record's input: a field of its own where the template has one, else
        put under the last question. Raises CannotRenderError where the template has no place for it.
        """
        turns = sum(message["role"] == "user" for message in messages)
        if self._by_fields and turns > 1:
            raise CannotRenderError(
                f"the template has room for one question, the record has {turns}"
            )
        prompt = self.prompt(messages[:-1], context)
        whole = self._render(self._with_context(messages, context), generate=False)
        if not whole.startswith(prompt):
            raise CannotRenderError(
                "the template renders the prompt differently without its answer"
            )
        completion = whole[len(prompt) :].rstrip()
        stop = str(self._tokenizer.eos_token)
        return Rendered(prompt, completion if completion.endswith(stop) else completion + stop)

    def prompt(self, messages: Sequence[Message], context: str | None = None) -> str:
        """What the model is given to answer `messages`, whose last is the user's."""
        return self._render(self._with_context(messages, context), generate=True)

    def text(self, text: str) -> Rendered:
        """Plain text to learn as it is: no prompt but the token that text begins with."""
        start = str(self._tokenizer.bos_token) if adds_bos(self._tokenizer) else ""
        return Rendered(start, f"{text}{self._tokenizer.eos_token}")

    def format_alpaca(self, instruction: str, output: str, context: str | None = None) -> Rendered:
        """One question and answer by the Alpaca template, whatever this manager's own is."""
        return PromptTemplateManager(self._tokenizer, "alpaca").format(
            _one_turn(instruction, output), context
        )

    def format_chatml(self, messages: Sequence[Message]) -> Rendered:
        """A conversation by ChatML, whatever this manager's own template is."""
        return PromptTemplateManager(self._tokenizer, "chatml").format(messages)

    def format_custom(
        self, template: str, instruction: str, output: str, context: str | None = None
    ) -> Rendered:
        """One question and answer by the Jinja text `template`."""
        return PromptTemplateManager(self._tokenizer, "custom", custom=template).format(
            _one_turn(instruction, output), context
        )

    def _with_context(self, messages: Sequence[Message], context: str | None) -> list[Any]:
        turns: list[Any] = [dict(message) for message in messages]
        if context:
            asked = next(turn for turn in reversed(turns) if turn["role"] == "user")
            if self._by_fields:
                asked["input"] = context
            else:
                asked["content"] = f"{asked['content']}\n\n{context}"
        return turns

    def _render(self, messages: list[Any], *, generate: bool) -> str:
        from jinja2 import TemplateError

        try:
            return str(
                self._tokenizer.apply_chat_template(
                    messages,
                    chat_template=self.chat_template,
                    tokenize=False,
                    add_generation_prompt=generate,
                )
            )
        except TemplateError as error:
            raise CannotRenderError(f"the template refuses it: {error}") from error


def _one_turn(instruction: str, output: str) -> list[Message]:
    return [
        {"role": "user", "content": instruction},
        {"role": "assistant", "content": output},
    ]


def _with_system_prompt(chat_template: str, system_prompt: str) -> str:
    """A chat template that puts `system_prompt` where a conversation has no system message.

    It is written into the template itself so that llama.cpp renders it too.
    """
    message = f"{{'role': 'system', 'content': {json.dumps(system_prompt)}}}"
    return (
        "{% if messages[0]['role'] != 'system' %}"
        f"{{% set messages = [{message}] + messages %}}"
        f"{{% endif %}}{chat_template}"
    )


def tokenize(
    tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Rendered]
) -> list[tuple[list[int], list[int]]]:
    """The token ids of each row's prompt and of its completion.

    The two are encoded apart, as at inference the prompt is encoded before there is a completion.
    Special tokens stand in the text already, so none is added.
    """
    if not rows:
        return []
    options = {"add_special_tokens": False, "return_attention_mask": False}
    prompts = tokenizer([row.prompt for row in rows], **options)["input_ids"]
    completions = tokenizer([row.completion for row in rows], **options)["input_ids"]
    return list(zip(prompts, completions, strict=True))


def row_faults(tokenizer, prompt, completion):
    return None
