"""Chat templates that come with a model or a project: tried out before they are used."""

from functools import lru_cache

from ft_assets.errors import UserError
from ft_assets.stages.templates.markers import PROBES
from ft_assets.stages.templates.renderer import HarmError, ask


def check_template(chat_template: str) -> None:
    """Raises UserError for a template that takes too much time, memory or room for a few words.

    One that only fails passes: that is said where it is rendered, with its reason.
    """
    if problem := _problem(chat_template):
        raise UserError(f"the chat template is refused: it {problem} for a few words")


@lru_cache(maxsize=64)
def _problem(chat_template: str) -> str | None:
    common = {"template": chat_template, "tokens": {"bos_token": "", "eos_token": ""}}
    pieces = [
        {"messages": messages, "generate": generate}
        for probe in PROBES
        for messages, generate in ((probe, False), (probe[:-1], True))
    ]
    try:
        ask("messages", common, pieces)
    except HarmError as harm:
        return str(harm)
    return None
