"""Ollama's Modelfile: the tokenizer's chat template as an Ollama (Go) template.

The chat template is not translated but probed: conversations of marks are rendered, and the text
between the marks is the template.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ft_assets.errors import StageError
from ft_assets.records import Message
from ft_assets.stages.templates.conversations import CannotRenderError
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SYSTEM, _USER, _ASSISTANT, _SECOND = "@@SYSTEM@@", "@@USER@@", "@@ASSISTANT@@", "@@SECOND@@"
_MARKS = {"system": _SYSTEM, "user": _USER, "assistant": _ASSISTANT}


@dataclass(frozen=True)
class _Conversation:
    """What a template writes around the turns of a conversation.

    `start` goes before the first question if there is no system message, `ask` after the last question,
    `answered` between an earlier one and its answer, `further` between that and the next question.
    `system` goes before and after a system message; None if the template refuses one. If the template
    `moves_system`, it writes the message with these texts right before the last question.
    """

    start: str
    ask: str
    answered: str
    further: str
    system: tuple[str, str] | None
    moves_system: bool

    def render(self, messages: Sequence[Message]) -> str:
        """What `go` renders a conversation to: the prompt for its last question."""
        said = [each["content"] for each in messages if each["role"] == "system"]
        has_head = bool(self.system) and not self.moves_system
        text, last = "", len(messages) - 1
        for place, message in enumerate(messages):
            if message["role"] == "system":
                text += self._around_system(message["content"]) if has_head else ""
            elif message["role"] == "user":
                first = place == 0 or (place == 1 and bool(said) and not has_head)
                text += self.start if first else ""
                if self.moves_system and said and place == last:
                    text += self._around_system(said[0])
                text += message["content"] + (self.ask if place == last else self.answered)
            else:
                text += message["content"] + (self.further if place < last else "")
        return text

    def _around_system(self, content: str) -> str:
        before, after = self.system or ("", "")
        return f"{before}{content}{after}"

    def go(self) -> str:
        """The template for Ollama."""
        has_head = bool(self.system) and not self.moves_system
        before, after = map(_go_text, self.system or ("", ""))
        head = f"{before}{{{{ .Content }}}}{after}" if has_head else ""
        first = "eq $i 0" if has_head else "or (eq $i 0) (and (eq $i 1) $.System)"
        moved = f"{{{{ if and $last $.System }}}}{before}{{{{ $.System }}}}{after}{{{{ end }}}}"
        asks = _go_text(self.ask)
        if self.answered != self.ask:
            asks = f"{{{{ if $last }}}}{asks}{{{{ else }}}}{_go_text(self.answered)}{{{{ end }}}}"
        return (
            "{{ range $i, $m := .Messages }}{{ $last := eq (len (slice $.Messages $i)) 1 }}"
            f'{{{{ if eq .Role "system" }}}}{head}'
            f'{{{{ else if eq .Role "user" }}}}'
            f"{{{{ if {first} }}}}{_go_text(self.start)}{{{{ end }}}}"
            f"{moved if self.moves_system else ''}"
            f"{{{{ .Content }}}}{asks}"
            f"{{{{ else }}}}{{{{ .Content }}}}{{{{ if not $last }}}}{_go_text(self.further)}{{{{ end }}}}"
            "{{ end }}{{ end }}"
        )


@dataclass(frozen=True)
class _OneQuestion:
    """What a template that holds one question, as Alpaca's, writes around it: see `_Conversation`."""

    start: str
    ask: str
    system: tuple[str, str] | None

    def render(self, messages: Sequence[Message]) -> str:
        """What `go` renders a conversation to: the prompt for its last question."""
        said = [each["content"] for each in messages if each["role"] == "system"]
        start = self.start
        if said and self.system:
            start = f"{self.system[0]}{said[0]}{self.system[1]}"
        return f"{start}{messages[-1]['content']}{self.ask}"

    def go(self) -> str:
        """The template for Ollama."""
        start = _go_text(self.start)
        if self.system:
            before, after = map(_go_text, self.system)
            given = f"{before}{{{{ .System }}}}{after}"
            start = f"{{{{ if .System }}}}{given}{{{{ else }}}}{start}{{{{ end }}}}"
        return f"{start}{{{{ .Prompt }}}}{_go_text(self.ask)}{{{{ .Response }}}}"


OllamaTemplate = _Conversation | _OneQuestion


def ollama_template(manager: PromptTemplateManager, bos: str | None = None) -> OllamaTemplate:
    """The chat template as Ollama's, probed; without `bos`, the text that llama.cpp puts first by itself.

    Raises StageError if a rendering does not contain the texts that were put in.
    """
    plain = _around(manager, "user")
    if plain is None:
        raise StageError(
            "the chat template does not render the question: choose another data.template"
        )
    start = plain[0].removeprefix(bos or "")
    system = _system(manager, bos)
    chat = _around(manager, "user", "assistant", "user")
    if not chat:
        return _OneQuestion(start, plain[1], system)
    moves = system is not None and _moves_system(manager)
    if system and moves:
        system = (system[0].removeprefix(start), system[1])
    return _Conversation(start, plain[1], chat[1], chat[2], system, moves)


def _system(manager: PromptTemplateManager, bos: str | None) -> tuple[str, str] | None:
    """What the template writes before a system message and between it and the first question."""
    found = _around(manager, "system", "user")
    return (found[0].removeprefix(bos or ""), found[1]) if found else None


def _moves_system(manager: PromptTemplateManager) -> bool:
    """Whether a system message is written before the last question, not before the first."""
    text = _rendered(manager, "system", "user", "assistant", "user") or ""
    return 0 <= text.find(_ASSISTANT) < text.find(_SYSTEM)


def _rendered(manager: PromptTemplateManager, *roles: str) -> str | None:
    """The prompt of a conversation of marks; None if the template refuses it."""
    try:
        return manager.prompt(_marked(roles))
    except CannotRenderError:  # some refuse a system message, some a second question
        return None


def _marked(roles: Sequence[str]) -> list[Message]:
    marks = [
        _SECOND if "user" in roles[:n] and of == "user" else _MARKS[of]
        for n, of in enumerate(roles)
    ]
    return [{"role": of, "content": mark} for of, mark in zip(roles, marks, strict=True)]  # type: ignore[typeddict-item]


def _around(manager: PromptTemplateManager, *roles: str) -> list[str] | None:
    """What the template writes around the turns of a prompt; None if it refuses them or changes their
    order.
    """
    text = _rendered(manager, *roles)
    return None if text is None else _between(text, [turn["content"] for turn in _marked(roles)])


def _between(text: str, marks: list[str]) -> list[str] | None:
    """The text before, between and after `marks`; None if one is missing or out of order."""
    pieces = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found:
            return None
        pieces.append(before)
    return [*pieces, text]


def _go_text(text: str) -> str:
    """Escapes text for a Go template inside a Modelfile's triple quotes."""
    return re.sub(r'\{\{|"""', lambda found: f"{{{{ {json.dumps(found[0])} }}}}", text)


def stop_texts(
    manager: PromptTemplateManager, tokenizer: "PreTrainedTokenizerBase", model: Path
) -> list[str]:
    """Everything at which an answer ends: the stop tokens of the tokenizer and of the model's
    `generation_config.json`, and what the template ends an answer with.
    """
    stops = [str(tokenizer.eos_token)]
    path = model / "generation_config.json"
    known = json.loads(path.read_text()).get("eos_token_id") if path.is_file() else None
    ids = known if isinstance(known, list) else [known]
    stops += [str(tokenizer.decode([each])) for each in ids if each is not None]
    try:
        [*_, answer] = manager.format(_marked(("user", "assistant"))).segments
        ending = answer["text"].rpartition(_ASSISTANT)[2]
        stops.append(ending.removesuffix(stops[0]).strip())
    except CannotRenderError:
        pass
    return list(dict.fromkeys(filter(None, stops)))


def modelfile(template: OllamaTemplate, stops: Sequence[str], gguf: str) -> str:
    """The Modelfile for the file named `gguf` in the same folder."""
    lines = [f"PARAMETER stop {json.dumps(stop, ensure_ascii=False)}\n" for stop in stops]
    return (
        f"# ollama create NAME -f Modelfile\n"
        f"FROM ./{gguf}\n"
        f'TEMPLATE """{template.go()}"""\n'
        f"{''.join(lines)}"
        f"PARAMETER temperature 0\n"
    )
