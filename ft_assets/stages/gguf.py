"""GGUF files for llama.cpp and Ollama: converted, quantised, and tested before they are published.

This runs in its own process, because two llama.cpp libraries in one process abort.
"""

import json
from pathlib import Path

from ft_assets.config import ExportConfig
from ft_assets.extras import require
from ft_assets.stages.export.llama_cpp import (
    ask,
    convert,
    megabytes,
    open_gguf,
    quantize,
    token_parity,
)
from ft_assets.stages.export.model_card import model_card
from ft_assets.stages.export.modelfile import modelfile
from ft_assets.stages.job import Check, Job, Outcome, Report, versions
from ft_assets.stages.models.tokenizer import tokenizer_of

ANSWERS = Check("answers_in_llama_cpp", "Every file loads, agrees on token ids, and answers.")
CHECKS = (ANSWERS,)
PROBE = "What is this document about?"
"""The question that every file must answer before it is published."""


def check_gguf(path: Path, merged: Path) -> tuple[bool, str]:
    """Whether a file loads, agrees on token ids and answers, with a message; raises if it cannot load."""
    model = open_gguf(path)
    try:
        equal, message = token_parity(model, merged)
        reply = ask(model, PROBE, 16)
    finally:
        model.close()
    return equal and bool(reply), f"{path.name}: {message}; it answers {reply[:60]!r}"


def export_model(
    merged: Path, output: Path, name: str, kinds: list[str], report: Report
) -> list[Path]:
    """Writes one GGUF file for each of `kinds` (f16, Q8_0, Q4_K_M); returns their paths.

    Raises UserError if the extra that they need is not installed.
    """
    if not kinds:
        return []
    require("gguf", "export.gguf")
    f16 = output / f"{name}-f16.gguf"
    convert(merged, f16, report)
    files = []
    for kind in kinds:
        target = output / f"{name}-{kind}.gguf"
        if kind != "f16":
            quantize(f16, target, kind, report)
        files.append(target)
    if "f16" not in kinds:
        f16.unlink()
    return files


def build(job: Job, report: Report) -> Outcome:
    """Builds `gguf`: the files, a `Modelfile` for Ollama and `MODEL_CARD.md`; without kinds only the card."""
    merged = job.inputs["merged_model"]
    files = export_model(
        merged, job.output, job.corpus, list(job.section(ExportConfig).gguf), report
    )
    verdicts = [check_gguf(path, merged) for path in files]
    for _, message in verdicts:
        report(message)
    if files:
        smallest = min(files, key=lambda path: path.stat().st_size)
        (job.output / "Modelfile").write_text(modelfile(tokenizer_of(merged), smallest.name))
    metrics = json.loads((job.inputs["evaluation"] / "metrics.json").read_text())
    (job.output / "MODEL_CARD.md").write_text(model_card(job, metrics, files))
    return Outcome(
        counts={f"{path.stem.rpartition('-')[2]}_megabytes": megabytes(path) for path in files},
        checks=ANSWERS.verdict(
            all(passed for passed, _ in verdicts),
            "; ".join(message for _, message in verdicts) or "export.gguf is empty: no files",
        ),
        tools=versions("llama-cpp-python") if files else {},
    )
