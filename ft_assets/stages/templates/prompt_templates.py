"""One rendering of conversations for the dataset, training, evaluation, chat and the Modelfile.

Every template, Alpaca and a user's own included, is turned into a Hugging Face chat template (a
Jinja text over `messages`), rendered as transformers renders it, in a process of its own: see
`renderer`. It travels inside the tokenizer from the adapter to the GGUF file, so nothing downstream can
render a conversation differently.

What holds for every row: its last trained token is the tokenizer's end-of-sequence token, at which
generation stops, even where the template ends a turn with another one (ChatML on a Llama: then both
are trained). A model that uses a begin-of-sequence token has one, at the start. No text in a message
can pass for a turn: see `markers`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ft_assets.errors import UserError
from ft_assets.records import Message
from ft_assets.stages.templates.chat import (
    ALPACA,
    adds_bos,
    bos_rules,
    chat_template,
    fields_of,
    special_tokens,
    with_system_prompt,
)
from ft_assets.stages.templates.foreign import check_template
from ft_assets.stages.templates.markers import escape_for, rendered_probes
from ft_assets.stages.templates.process import Answer
from ft_assets.stages.templates.renderer import HarmError, ask

if TYPE_CHECKING:
    from ft_assets.stages.models.light_tokenizer import AnyTokenizer

_QUESTIONS = (
    "Answer the following question: {}",
    "Please answer this question: {}",
    "{} Please answer.",
    "I would like to know the answer to this: {}",
    "Here is a question for you: {}",
    "Question: {}",
    "Can you answer this? {}",
    "Give an answer to the question: {}",
)
_TASKS = (
    "Do the following: {}",
    "Please do this: {}",
    "{} Thank you.",
    "I would like you to do this: {}",
    "Here is a task for you: {}",
    "Task: {}",
    "Can you do this? {}",
    "Carry out this instruction: {}",
)


_MOST_HARM = 10
"""Conversations on which a template may run into a limit: one odd word is the word's fault, so that
row is left out; more is the template's."""


class CannotRenderError(Exception):
    """A conversation that this template has no place for."""


@dataclass(frozen=True)
class Rendered:
    """A conversation as text: what the model is given, and what it is to say, stop token included.

    `escaped` says that a message held text that marks a turn, which was escaped.
    """

    prompt: str
    completion: str
    escaped: bool = False


class PromptTemplateManager:
    """Renders conversations for one tokenizer by one template.

    `template` is `tokenizer_default`, `alpaca`, `chatml`, or `custom` with the Jinja text in
    `custom`. `system_prompt` stands where a conversation has no system message of its own; None
    leaves that to the template. Raises UserError for a template that cannot be used.

    `escape` is what every message goes through before it is rendered.
    """

    def __init__(
        self,
        tokenizer: "AnyTokenizer",
        template: str = "tokenizer_default",
        *,
        custom: str | None = None,
        system_prompt: str | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._stop = str(tokenizer.eos_token)
        self._harm = 0
        self.chat_template = chat_template(tokenizer, template, custom)
        text = {"alpaca": ALPACA, "custom": custom}.get(template)
        self._fields = fields_of(text) if text else set()
        if template not in ("alpaca", "chatml"):
            check_template(self.chat_template)
        probes = rendered_probes(self._render)
        if probes and adds_bos(tokenizer) and not probes[0].startswith(str(tokenizer.bos_token)):
            self.chat_template = "{{ bos_token }}" + self.chat_template
            probes = rendered_probes(self._render)
        self._bos, self._no_bos = bos_rules(tokenizer, "".join(probes[:1]))
        added = [token.content for token in tokenizer.added_tokens_decoder.values()]
        self.escape = escape_for(special_tokens(tokenizer), added, self.chat_template, probes)
        if system_prompt is not None:
            if system_prompt and self._fields and "system" not in self._fields:
                raise UserError("it has no {{ system }} to put data.system_prompt in")
            self.chat_template = with_system_prompt(self.chat_template, system_prompt)

    def format(self, messages: Sequence[Message], context: str | None = None) -> Rendered:
        """Renders a conversation whose last message is the assistant's.

        `context` is an Alpaca record's input: a field of its own where the template has one, else
        put under the last question. Raises CannotRenderError where the template has no place for
        something or writes it otherwise than it is, and says what.
        """
        [rendered] = self.format_all([(messages, context)])
        if isinstance(rendered, CannotRenderError):
            raise rendered
        return rendered

    def format_all(
        self, conversations: Sequence[tuple[Sequence[Message], str | None]]
    ) -> list[Rendered | CannotRenderError]:
        """What `format` returns or raises for each conversation, at a fraction of the cost.

        Raises UserError if the template takes too much time, memory or room for more than a few.
        """
        turns = [self._turns_or_error(*conversation) for conversation in conversations]
        answers = iter(self._ask("row", [each[0] for each in turns if isinstance(each, tuple)]))
        return [
            self._rendered(*each, next(answers)) if isinstance(each, tuple) else each
            for each in turns
        ]

    def prompt(self, messages: Sequence[Message], context: str | None = None) -> str:
        """What the model is given to answer `messages`, whose last is the user's.

        Raises CannotRenderError as `format` does.
        """
        return self._prompt(self._turns(messages, context)[0])

    def text(self, text: str) -> Rendered:
        """Plain text to learn as it is: no prompt but the token that text begins with."""
        start = "" if self._bos is None else str(self._tokenizer.bos_token)
        escaped = self.escape(text)
        return Rendered(start, f"{escaped}{self._stop}", escaped != text)

    def row_faults(self, prompt_ids: list[int], completion_ids: list[int]) -> str | None:
        """What is wrong with the token ids of a row; None where the stop token is the last trained
        one and no other, and the begin-of-sequence token stands where it should.
        """
        stop = self._tokenizer.eos_token_id
        if completion_ids[-1:] != [stop]:
            return "its last trained token is not the stop token"
        if completion_ids.count(completion_ids[-1]) > 1:
            return "a stop token stands within what is trained"
        if self._bos is not None:
            if (prompt_ids or completion_ids)[0] != self._bos:
                return "it does not begin with the begin-of-sequence token"
            if prompt_ids.count(self._bos) + completion_ids.count(self._bos) > 1:
                return "it has more than one begin-of-sequence token"
        elif self._no_bos in prompt_ids or self._no_bos in completion_ids:
            return "it has a begin-of-sequence token, which the model does not use"
        return None

    @staticmethod
    def get_instruction_variations(instruction: str) -> list[str]:
        """Eight framings of an instruction or question; what is asked stays as it is, in one piece."""
        frames = _QUESTIONS if instruction.rstrip().endswith(("?", "？", "؟")) else _TASKS
        return [frame.format(instruction) for frame in frames]

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

    def _turns(
        self, messages: Sequence[Message], context: str | None
    ) -> tuple[list[dict[str, str]], bool]:
        """The messages with their texts escaped and `context` in its place, and whether any was."""
        asked = sum(message["role"] == "user" for message in messages)
        if self._fields and asked > 1:
            raise CannotRenderError(
                f"the template has room for one question, the record has {asked}"
            )
        turns = [
            {"role": message["role"], "content": self.escape(message["content"])}
            for message in messages
        ]
        given = [message["content"] for message in messages]
        escaped = [turn["content"] for turn in turns] != given
        if context:
            below = self.escape(context)
            escaped = escaped or below != context
            last = next(turn for turn in reversed(turns) if turn["role"] == "user")
            if "input" in self._fields:
                last["input"] = below
            else:
                last["content"] = f"{last['content']}\n\n{below}"
        return turns, escaped

    def _turns_or_error(
        self, messages: Sequence[Message], context: str | None
    ) -> tuple[list[dict[str, str]], bool] | CannotRenderError:
        try:
            return self._turns(messages, context)
        except CannotRenderError as error:
            return error

    def _rendered(
        self, turns: list[dict[str, str]], escaped: bool, answer: Answer
    ) -> Rendered | CannotRenderError:
        """A row from what the template made of its turns."""
        try:
            prompt = _said(answer, "prompt")
            for turn in turns[:-1]:
                _require(prompt, turn)
            completion = self._completion(_said(answer, "completion"))
            _require(completion, turns[-1])
        except CannotRenderError as error:
            return error
        return Rendered(prompt, completion, escaped)

    def _completion(self, said: str | None) -> str:
        """What follows the prompt when its answer is rendered too, up to the stop token."""
        if said is None:
            raise CannotRenderError(
                "the template begins an answer otherwise when it asks for one than when it has one, "
                "as those of reasoning models do"
            )
        completion = said.rstrip()
        return completion if completion.endswith(self._stop) else completion + self._stop

    def _prompt(self, turns: list[dict[str, str]]) -> str:
        prompt = self._render(turns, generate=True)
        for turn in turns:
            _require(prompt, turn)
        return prompt

    def _render(self, messages: Sequence[Any], generate: bool) -> str:
        piece = {"messages": list(messages), "generate": generate}
        [answer] = self._ask("messages", [piece])
        return str(_said(answer, "text"))

    def _ask(self, kind: str, pieces: Sequence[Any]) -> list[Answer]:
        common = {"template": self.chat_template, "tokens": self._tokenizer.special_tokens_map}
        try:
            answers = ask(kind, common, pieces, _MOST_HARM - self._harm)
        except HarmError as harm:
            raise UserError(
                f"the chat template is refused: it {harm} for more than {_MOST_HARM} conversations"
            ) from harm
        self._harm += sum("harm" in answer for answer in answers)
        return answers


def _said(answer: Answer, name: str) -> Any:
    """A text of an answer. Raises CannotRenderError if the template failed before it."""
    if "harm" in answer:
        raise CannotRenderError(f"the template {answer['harm']} for it")
    if name not in answer:
        raise CannotRenderError(f"the template refuses it: {answer['error']}")
    return answer[name]


def _require(text: str, turn: dict[str, str]) -> None:
    """Raises CannotRenderError where a turn's words are not in the rendered `text` as they are."""
    for field, content in turn.items():
        if field != "role" and content.strip() not in text:
            what = "input" if field == "input" else f"{turn['role']} message"
            raise CannotRenderError(f"the template has no place for the {what}, or changes it")


def _one_turn(instruction: str, output: str) -> list[Message]:
    return [
        {"role": "user", "content": instruction},
        {"role": "assistant", "content": output},
    ]
