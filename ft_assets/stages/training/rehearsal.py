"""Rehearsal: general prompts with the base model's own answers, mixed into the training rows.

A model that is trained on one corpus alone answers everything in that corpus's manner, and loses general
answers. Rows that hold what it would have said anyway keep it from that.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ft_assets.manifest import digest
from ft_assets.stages.general.texts import rehearsal_prompts
from ft_assets.stages.job import Report
from ft_assets.stages.models.generation import Answer, answers
from ft_assets.stages.templates.conversations import CannotRenderError
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager
from ft_assets.stages.templates.tokenization import IGNORED

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

REHEARSED = "rehearsed.jsonl"
MAX_NEW_TOKENS = 48
"""An answer that is longer is cut off and trained without a stop token."""
REHEARSED_TOKENS = 75
"""Of a rehearsed row, about: the template's own, the prompt's and the answer's."""


@dataclass(frozen=True)
class Rehearsed:
    """A general prompt, and the base model's answer to it."""

    prompt: str
    answer: Answer

    def row(self) -> dict[str, list[int]]:
        """The training row: the very tokens of the answer, with a loss on them alone."""
        asked, said = self.answer.prompt_ids, self.answer.ids
        return {"input_ids": asked + said, "labels": [IGNORED] * len(asked) + said}


def rehearsals(share: float, rows: int) -> int:
    """How many rows make `share` of all rows beside `rows` others, each prompt once."""
    return min(round(rows * share / (1 - share)), len(rehearsal_prompts()))


def rehearse(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    count: int,
    seed: int,
    report: Report,
) -> list[Rehearsed]:
    """So many prompts, drawn by the seed, with the model's answers.

    None if the template refuses them.
    """
    if not count:
        return []
    drawn = sorted(rehearsal_prompts(), key=lambda prompt: digest([seed, prompt]))[:count]
    manager = PromptTemplateManager(tokenizer)
    try:
        rendered = [manager.question(prompt) for prompt in drawn]
    except CannotRenderError as error:
        report(f"no rehearsal: the template cannot render a general prompt ({error})")
        return []
    report(f"{count} general prompts to the base model, to be rehearsed")
    found = answers(model, tokenizer, rendered, MAX_NEW_TOKENS)
    return [Rehearsed(prompt, answer) for prompt, answer in zip(drawn, found, strict=True)]


def write_rehearsed(folder: Path, rehearsed: Sequence[Rehearsed]) -> None:
    """Writes the prompts with their answers into a folder, a line of JSON each, if there are any."""
    if rehearsed:
        lines = (json.dumps(asdict(each), ensure_ascii=False) + "\n" for each in rehearsed)
        (folder / REHEARSED).write_text("".join(lines), encoding="utf-8")


def read_rehearsed(folder: Path) -> list[Rehearsed]:
    """What `write_rehearsed` wrote; nothing if there is no such file."""
    path = folder / REHEARSED
    if not path.exists():
        return []
    rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
    return [Rehearsed(row["prompt"], Answer(**row["answer"])) for row in rows]
