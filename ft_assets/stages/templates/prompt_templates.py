"""One rendering of conversations for the dataset, training, evaluation, chat and the Modelfile.

Every template, Alpaca and a user's own included, is turned into a Hugging Face chat template (a
Jinja text over `messages`), rendered as transformers renders it, in a process of its own: see
`renderer`. It travels inside the tokenizer from the adapter to the GGUF file, so nothing downstream can
render a conversation differently.

What holds for every row: each answer in it follows what the model is asked with, and its last token
is the tokenizer's end-of-sequence token, at which generation stops, even where the template ends a turn
with another one (ChatML on a Llama: then both are trained). A model that uses a begin-of-sequence token
has one, at the start. No text in a message can pass for a turn: see `markers`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ft_assets.errors import UserError
from ft_assets.records import Message
from ft_assets.stages.templates.chat import (
    ALPACA,
    adds_bos,
    chat_template,
    fields_of,
    special_tokens,
    with_system_prompt,
)
from ft_assets.stages.templates.conversations import (
    CannotRenderError,
    Conversation,
    Turns,
    require,
    turns_of,
)
from ft_assets.stages.templates.foreign import check_template
from ft_assets.stages.templates.markers import escape_for, rendered_probes
from ft_assets.stages.templates.process import Answer
from ft_assets.stages.templates.reasoning_place import place_for_reasoning
from ft_assets.stages.templates.rendered import (
    NO_LIMIT,
    Rendered,
    RenderedRows,
    rows_of,
    said,
    segment,
)
from ft_assets.stages.templates.renderer import HarmError, ask
from ft_assets.stages.templates.token_rules import TokenRules

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
        self._place = place_for_reasoning(self._attempt, self.chat_template)
        self._rules = TokenRules.of(tokenizer, "".join(probes[:1]))
        added = [token.content for token in tokenizer.added_tokens_decoder.values()]
        probes = [*probes, self._place.written]
        self.escape = escape_for(special_tokens(tokenizer), added, self.chat_template, probes)
        if system_prompt is not None:
            if system_prompt and self._fields and "system" not in self._fields:
                raise UserError("it has no {{ system }} to put data.system_prompt in")
            self.chat_template = with_system_prompt(self.chat_template, system_prompt)

    def format(self, messages: Sequence[Message], context: str | None = None) -> Rendered:
        """The row that teaches the last message, which is the assistant's.

        `context` is an Alpaca record's input: a field of its own where the template has one, else
        put under the last question. Raises CannotRenderError where the template has no place for
        something or writes it otherwise than it is, and says what.
        """
        [found] = self.rows([Conversation(messages, context, train_on="last")])
        if isinstance(found, CannotRenderError):
            raise found
        return found.rows[0]

    def rows(
        self, conversations: Sequence[Conversation], most_characters: int = NO_LIMIT
    ) -> list[RenderedRows | CannotRenderError]:
        """The rows of each conversation: every trained answer once, after what it is asked with.

        A conversation is one row if the template writes earlier turns as it wrote them when they were
        last; else an answer starts a new row. CannotRenderError is as in `format`. Answers that are
        asked with more than `most_characters` are left out. Raises UserError if the template takes too
        much time, memory or room for more than a few.
        """
        turns = [self._turns_or_error(conversation) for conversation in conversations]
        pieces = [
            {
                "turns": each.messages,
                "tools": each.tools,
                "trained": trained,
                "reasoned": each.reasoned,
            }
            for each, trained in (found for found in turns if isinstance(found, tuple))
        ]
        how = {"stop": self._stop, "most_characters": most_characters, "way": self._place.way}
        answers = iter(self._ask("rows", pieces, **how))
        return [
            each if isinstance(each, CannotRenderError) else rows_of(*each, next(answers))
            for each in turns
        ]

    @property
    def takes_reasoning(self) -> bool:
        """Whether the template has a place for what an assistant thought before its answer."""
        return self._place.is_there

    def prompt(self, messages: Sequence[Message], context: str | None = None) -> str:
        """What the model is given to answer `messages`, whose last is the user's.

        Raises CannotRenderError as `format` does.
        """
        turns = self._turns(Conversation(messages, context)).messages
        prompt = self._render(turns, generate=True)
        require(prompt, turns)
        return prompt

    def question(self, text: str) -> str:
        """What the model is given to answer one question. Raises CannotRenderError as `format` does."""
        return self.prompt([{"role": "user", "content": text}])

    def text(self, text: str) -> Rendered:
        """Plain text to learn as it is: no prompt but the token that text begins with."""
        start = "" if self._rules.bos is None else str(self._tokenizer.bos_token)
        escaped = self.escape(text)
        trained = segment(f"{escaped}{self._stop}", trained=True)
        return Rendered([*segment(start, trained=False), *trained], escaped != text)

    def row_faults(self, ids: Sequence[list[int]], trained: Sequence[bool]) -> str | None:
        """What is wrong with the token ids of a row's segments: see `TokenRules.faults`."""
        return self._rules.faults(ids, trained)

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

    def _turns(self, conversation: Conversation) -> Turns:
        """The conversation as the template is given it."""
        asked = sum(message["role"] == "user" for message in conversation.messages)
        if self._fields and asked > 1:
            raise CannotRenderError(
                f"the template has room for one question, the record has {asked}"
            )
        has_input = "input" in self._fields
        return turns_of(conversation, self.escape, self._place, input_field=has_input)

    def _turns_or_error(
        self, conversation: Conversation
    ) -> tuple[Turns, list[int]] | CannotRenderError:
        """The turns and the places of those that are trained."""
        try:
            return self._turns(conversation), conversation.trained()
        except CannotRenderError as error:
            return error

    def _render(self, messages: Sequence[Any], generate: bool) -> str:
        piece = {"messages": list(messages), "generate": generate}
        [answer] = self._ask("messages", [piece])
        return str(said(answer, "text"))

    def _attempt(self, messages: Sequence[Any], generate: bool) -> str | None:
        """What the template makes of messages; None if it refuses them."""
        try:
            return self._render(messages, generate)
        except CannotRenderError:
            return None

    def _ask(self, kind: str, pieces: Sequence[Any], **more: Any) -> list[Answer]:
        tokens = self._tokenizer.special_tokens_map
        common = {"template": self.chat_template, "tokens": tokens, **more}
        try:
            answers = ask(kind, common, pieces, _MOST_HARM - self._harm)
        except HarmError as harm:
            raise UserError(
                f"the chat template is refused: it {harm} for more than {_MOST_HARM} conversations"
            ) from harm
        self._harm += sum("harm" in answer for answer in answers)
        return answers


def _one_turn(instruction: str, output: str) -> list[Message]:
    return [
        {"role": "user", "content": instruction},
        {"role": "assistant", "content": output},
    ]
