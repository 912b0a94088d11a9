"""Ollama's Modelfile: the tokenizer's chat template carried over into Ollama's Go templates.

The chat template is not translated but probed: conversations of marks are rendered, and what
stands between the marks is the template.
"""

from typing import TYPE_CHECKING

from ft_assets.errors import StageError
from ft_assets.records import Message
from ft_assets.stages.prompt_templates import CannotRenderError, PromptTemplateManager

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SYSTEM, _USER, _ASSISTANT, _SECOND = "@@SYSTEM@@", "@@USER@@", "@@ASSISTANT@@", "@@SECOND@@"


def _between(text: str, marks: list[str]) -> list[str] | None:
    """What stands before, between and after `marks`; None where one is missing or out of order."""
    pieces = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found:
            return None
        pieces.append(before)
    return [*pieces, text]


def _render(manager: PromptTemplateManager, *turns: tuple[str, str]) -> str:
    messages: list[Message] = [{"role": role, "content": text} for role, text in turns]  # type: ignore[typeddict-item]
    return manager.prompt(messages)


def go_template(manager: PromptTemplateManager) -> str:
    """The chat template as an Ollama template.

    Raises StageError where a rendering does not hold the texts that were put in.
    """
    plain = _between(_render(manager, ("user", _USER)), [_USER])
    if plain is None:
        raise StageError("the chat template does not render the question it is given")
    try:
        with_system = _render(manager, ("system", _SYSTEM), ("user", _USER))
        system = _between(with_system, [_SYSTEM, _USER])
        turns = (("user", _USER), ("assistant", _ASSISTANT), ("user", _SECOND))
        chat = _between(_render(manager, *turns), [_USER, _ASSISTANT, _SECOND])
    except CannotRenderError:  # some templates refuse a system message
        system = chat = None
    start = plain[0]
    if system:
        given = f"{system[0]}{{{{ .System }}}}{system[1]}"
        start = f"{{{{ if .System }}}}{given}{{{{ else }}}}{start}{{{{ end }}}}"
    if not chat:  # one question only, as in Alpaca
        return f"{start}{{{{ .Prompt }}}}{plain[1]}{{{{ .Response }}}}"
    body = (
        '{{ range $i, $m := .Messages }}{{ if eq .Role "system" }}SYSTEM'
        '{{ else if eq .Role "user" }}{{ if eq $i 0 }}PLAIN{{ end }}{{ .Content }}END'
        "{{ else }}{{ .Content }}NEXT{{ end }}{{ end }}"
    )
    head = f"{system[0]}{{{{ .Content }}}}{system[1]}" if system else ""
    body = body.replace("SYSTEM", head).replace("PLAIN", plain[0])
    return body.replace("END", chat[1], 1).replace("NEXT", chat[2])


def modelfile(tokenizer: "PreTrainedTokenizerBase", gguf: str) -> str:
    """The Modelfile for the file named `gguf` beside it."""
    template = go_template(PromptTemplateManager(tokenizer))
    return (
        f"# ollama create NAME -f Modelfile\n"
        f"FROM ./{gguf}\n"
        f'TEMPLATE """{template}"""\n'
        f'PARAMETER stop "{tokenizer.eos_token}"\n'
        f"PARAMETER temperature 0\n"
    )
