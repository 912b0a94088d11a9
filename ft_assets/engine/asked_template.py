"""What the template of a corpus has no place for, found before anything is built."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ft_assets.config import FineTuneConfig
from ft_assets.engine.asset_settings import template_text
from ft_assets.engine.data_folder import DataFolder
from ft_assets.names import TEMPLATE_SUFFIX
from ft_assets.records import Message

if TYPE_CHECKING:
    from ft_assets.stages.models.light_tokenizer import AnyTokenizer
    from ft_assets.stages.templates.prompt_templates import PromptTemplateManager

_FUNCTION: dict[str, Any] = {
    "name": "tide_at",
    "description": "The next tide",
    "parameters": {"type": "object", "properties": {"harbour": {"type": "string"}}},
}
_ID = "a1b2c3d4e"
_CALL = {
    "id": _ID,
    "type": "function",
    "function": {"name": "tide_at", "arguments": {"harbour": "Skerrin"}},
}
_TURNS: list[Message] = [
    {"role": "user", "content": "When is the next tide?"},
    {"role": "assistant", "content": "", "tool_calls": json.dumps([_CALL])},
    {"role": "tool", "content": "06:12", "name": "tide_at", "tool_call_id": _ID},
    {"role": "assistant", "content": "At twelve past six."},
]
"""A conversation that every template renders if it has a place for tools."""


@dataclass(frozen=True)
class RefusedTools:
    """The number of records that define or call functions, and why the template refuses them."""

    records: int
    reason: str


def template_of(
    folder: DataFolder, corpus: str, config: FineTuneConfig, tokenizer: "AnyTokenizer"
) -> "PromptTemplateManager":
    """The template of a corpus. Raises UserError if it cannot be used."""
    from ft_assets.stages.templates.prompt_templates import PromptTemplateManager

    template, custom = config.data.template, None
    if template.endswith(TEMPLATE_SUFFIX):
        template, custom = "custom", template_text(folder, corpus, config)
    return PromptTemplateManager(tokenizer, template, custom=custom)


def refusal_of_tools(manager: "PromptTemplateManager") -> str | None:
    """Why a template refuses a conversation with functions; None if it takes them."""
    from ft_assets.stages.templates.conversations import CannotRenderError, Conversation

    tools = json.dumps([{"type": "function", "function": _FUNCTION}])
    [found] = manager.rows([Conversation(_TURNS, tools=tools)])
    return str(found) if isinstance(found, CannotRenderError) else None
