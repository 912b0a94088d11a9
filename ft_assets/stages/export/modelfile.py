"""Ollama's Modelfile: the tokenizer's chat template as an Ollama (Go) template.

The chat template is not translated but probed: conversations of marks are rendered, and the text
between the marks is the template.
"""

import json
import re
from typing import TYPE_CHECKING

from ft_assets.errors import StageError
from ft_assets.records import Message
from ft_assets.stages.templates.conversations import CannotRenderError
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SYSTEM, _USER, _ASSISTANT, _SECOND = "@@SYSTEM@@", "@@USER@@", "@@ASSISTANT@@", "@@SECOND@@"


def _between(text: str, marks: list[str]) -> list[str] | None:
    """The text before, between and after `marks`; None if one is missing or out of order."""
    pieces = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found:
            return None
        pieces.append(before)
    return [*pieces, text]


def _around(manager: PromptTemplateManager, *turns: tuple[str, str]) -> list[str] | None:
    """What the template writes around the turns of a prompt, as Go text; None if it refuses them or
    changes their order.
    """
    messages: list[Message] = [{"role": role, "content": text} for role, text in turns]  # type: ignore[typeddict-item]
    try:
        rendered = manager.prompt(messages)
    except CannotRenderError:  # some refuse a system message, some a second question
        return None
    pieces = _between(rendered, [text for _, text in turns])
    return [_go_text(piece) for piece in pieces] if pieces else None


def _go_text(text: str) -> str:
    """Escapes text for a Go template inside a Modelfile's triple quotes."""
    return re.sub(r'\{\{|"""', lambda found: f"{{{{ {json.dumps(found[0])} }}}}", text)


def go_template(manager: PromptTemplateManager) -> str:
    """The chat template as an Ollama template.

    Raises StageError if a rendering does not contain the texts that were put in.
    """
    plain = _around(manager, ("user", _USER))
    if plain is None:
        raise StageError(
            "the chat template does not render the question: choose another data.template"
        )
    system = _around(manager, ("system", _SYSTEM), ("user", _USER))
    chat = _around(manager, ("user", _USER), ("assistant", _ASSISTANT), ("user", _SECOND))
    if not chat:  # one question only, as in Alpaca
        start = plain[0]
        if system:
            given = f"{system[0]}{{{{ .System }}}}{system[1]}"
            start = f"{{{{ if .System }}}}{given}{{{{ else }}}}{start}{{{{ end }}}}"
        return f"{start}{{{{ .Prompt }}}}{plain[1]}{{{{ .Response }}}}"
    head = f"{system[0]}{{{{ .Content }}}}{system[1]}" if system else ""
    return (
        f'{{{{ range $i, $m := .Messages }}}}{{{{ if eq .Role "system" }}}}{head}'
        f'{{{{ else if eq .Role "user" }}}}{{{{ if eq $i 0 }}}}{plain[0]}{{{{ end }}}}'
        f"{{{{ .Content }}}}{chat[1]}{{{{ else }}}}{{{{ .Content }}}}{chat[2]}"
        "{{ end }}{{ end }}"
    )


def modelfile(tokenizer: "PreTrainedTokenizerBase", gguf: str) -> str:
    """The Modelfile for the file named `gguf` in the same folder."""
    template = go_template(PromptTemplateManager(tokenizer))
    return (
        f"# ollama create NAME -f Modelfile\n"
        f"FROM ./{gguf}\n"
        f'TEMPLATE """{template}"""\n'
        f'PARAMETER stop "{tokenizer.eos_token}"\n'
        f"PARAMETER temperature 0\n"
    )
