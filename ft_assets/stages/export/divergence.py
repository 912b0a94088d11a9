"""How far a GGUF file is from the model that it was made of: KL divergence, and equal first choices.

Both see the same few tokens of the corpus's questions with their answers, and of plain English, one window
at a time, so that the memory for their probabilities stays small whatever the model.
"""

import gc
import math
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.errors import StageError
from ft_assets.manifest import Verdict
from ft_assets.names import NOT_QUANTISED
from ft_assets.records import ComparedAnswer
from ft_assets.stages.export.llama_cpp import captured_log
from ft_assets.stages.general.texts import general_text
from ft_assets.stages.job import Check
from ft_assets.stages.models.divergence import divergence
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.models.tuned_model import adapter_base, load_model
from ft_assets.stages.scoring.files import ANSWERS
from ft_assets.stages.templates.conversations import CannotRenderError
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager
from ft_assets.tables import read_table

if TYPE_CHECKING:
    from llama_cpp import Llama
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

_WINDOW = 128
"""Tokens that are seen together."""
_OF_THE_CORPUS, _ALL = 128, 256
"""Tokens of the corpus's answers at most, and of all texts."""
_EXACT, _CLOSE = 0.01, 0.5
"""The largest mean KL divergence of a file that is not quantised (1e-4 is usual), and of a quantised one (a model
of 135 million parameters has 0.05 in Q4_K_M and 0.4 in Q2_K, a larger one less)."""

IS_CLOSE = Check(
    "gguf_is_close",
    "Every file gives the next token the probabilities that the merged model gives it.",
    blocking=False,
    blocks_if="a file that is not quantised, or the adapter's, differs",
)


@dataclass(frozen=True)
class Divergence:
    """How far a file is from the model: the mean KL divergence in nats, infinite if the file gives values that
    are not numbers, and the share of tokens for which both have the same first choice.
    """

    kl: float
    top1: float

    def counts(self, kind: str) -> dict[str, float]:
        """The numbers for a manifest, which holds no infinite ones."""
        shown = {f"{kind}_kl": self.kl} if math.isfinite(self.kl) else {}
        return {**shown, f"{kind}_top1": self.top1}

    def __str__(self) -> str:
        return f"KL {self.kl:.2g}, {self.top1:.1%} of first choices equal"


@dataclass(frozen=True)
class Measure:
    """Windows of token ids, and the logarithms of the probabilities that a model gives each next token."""

    windows: list[list[int]]
    wanted: list["Tensor"]

    def of(self, gguf: Path, lora: Path | None = None) -> Divergence:
        """How far a GGUF file is from the model, with an adapter's file on it if one is given.

        Raises StageError if llama.cpp cannot load them.
        """
        with captured_log() as log:
            model = _opened(gguf, lora, log)
            try:
                return _compared(self, model)
            finally:
                model.close()


def _opened(gguf: Path, lora: Path | None, log: list[str]) -> "Llama":
    from llama_cpp import Llama

    try:
        return Llama(
            str(gguf),
            n_ctx=_WINDOW,
            n_batch=_WINDOW,
            logits_all=True,
            lora_path=None if lora is None else str(lora),
            verbose=False,
        )
    except (ValueError, RuntimeError) as error:
        reason = "".join(log).strip().rpartition("\n")[2] or str(error)
        raise StageError(f"{lora or gguf}: llama.cpp cannot load it ({reason})") from error


def _compared(measure: Measure, model: Any) -> Divergence:
    import torch

    total, equal, tokens = 0.0, 0, 0
    for ids, wanted in zip(measure.windows, measure.wanted, strict=True):
        model.reset()
        model.eval(ids)
        kl, same = divergence(wanted, torch.from_numpy(model.scores[: len(ids)]))
        total, equal, tokens = total + kl, equal + same, tokens + len(ids)
    mean = total / tokens
    return Divergence(max(mean, 0.0) if math.isfinite(mean) else math.inf, equal / tokens)


def measure_of_merged(merged: Path, evaluation: Path) -> Measure:
    """What the saved merged model gives, in fp32 as it was merged. Its memory is given back."""
    import torch

    windows = _windows(tokenizer_of(merged), evaluation)
    return _measured(load_model(merged, torch.float32), windows)


def measure_of_adapter(adapter: Path, windows: list[list[int]]) -> Measure:
    """What the base model with its adapter gives, in fp32. Its memory is given back."""
    import torch
    from peft import PeftModel

    base = load_model(adapter_base(adapter).folder, torch.float32)
    return _measured(PeftModel.from_pretrained(base, adapter), windows)


def _measured(model: Any, windows: list[list[int]]) -> Measure:
    import torch

    model.eval()
    wanted = []
    with torch.inference_mode():
        for ids in windows:
            logits = model(input_ids=torch.tensor([ids], device=model.device)).logits[0]
            wanted.append(logits.float().log_softmax(-1).cpu())
    del model, logits
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return Measure(windows, wanted)


def _windows(tokenizer: "PreTrainedTokenizerBase", evaluation: Path) -> list[list[int]]:
    """The token ids that files are measured on."""
    own: list[list[int]] = []
    for text in _answered(tokenizer, evaluation):
        if (room := _OF_THE_CORPUS - sum(map(len, own))) <= 0:
            break
        own.append(tokenizer(text, add_special_tokens=False)["input_ids"][: min(room, _WINDOW)])
    general = tokenizer(general_text())["input_ids"][: _ALL - sum(map(len, own))]
    starts = range(0, len(general), _WINDOW)
    return [each for each in own if each] + [general[at : at + _WINDOW] for at in starts]


def _answered(tokenizer: "PreTrainedTokenizerBase", evaluation: Path) -> Iterator[str]:
    """The corpus's questions with the tuned model's answers, as the template renders them."""
    manager = PromptTemplateManager(tokenizer)
    for row in read_table(evaluation / ANSWERS, ComparedAnswer):
        with suppress(CannotRenderError):  # the template has no place for it
            asked = {"role": "user", "content": row.question}
            answered = {"role": "assistant", "content": row.tuned_answer}
            yield "".join(each["text"] for each in manager.format([asked, answered]).segments)  # type: ignore[list-item]


def verdict(found: Mapping[str, Divergence]) -> dict[str, Verdict]:
    """The verdict of IS_CLOSE on files by their types, and on the adapter's as `lora`."""
    limits = dict.fromkeys(("lora", *NOT_QUANTISED), _EXACT)
    far = [kind for kind, each in found.items() if each.kl > limits.get(kind, _CLOSE)]
    said = [f"{kind}: {each}" for kind, each in found.items()]
    if far:
        least = ", ".join(f"{kind} at most {limits.get(kind, _CLOSE):g}" for kind in far)
        said.append(f"a KL divergence of {least} is expected")
    numbers: dict[str, float] = {}
    for kind, each in found.items():
        numbers |= each.counts(kind)
    return IS_CLOSE.verdict(
        not far,
        "; ".join(said) or "export.gguf is empty: no files",
        blocking=any(kind in limits for kind in far),
        **numbers,
    )
