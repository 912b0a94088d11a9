"""GGUF files for llama.cpp and Ollama: converted, quantised, and tested before they are published.

This runs in its own process, because two llama.cpp libraries in one process abort.
"""

from contextlib import suppress
from pathlib import Path

from ft_assets.config import ExportConfig
from ft_assets.extras import require
from ft_assets.records import Message
from ft_assets.stages.export.llama_cpp import (
    adds_bos,
    ask,
    convert,
    megabytes,
    open_gguf,
    quantize,
    token_parity,
)
from ft_assets.stages.export.model_card import model_card
from ft_assets.stages.export.modelfile import modelfile, ollama_template, stop_texts
from ft_assets.stages.job import Check, Job, Outcome, Report, versions
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.scoring.files import read_metrics
from ft_assets.stages.templates.conversations import CannotRenderError
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager

ANSWERS = Check("answers_in_llama_cpp", "Every file loads, agrees on token ids, and answers.")
MODELFILE = Check(
    "modelfile_agrees", "Ollama asks the model as it was trained to be asked.", blocking=False
)
CHECKS = (ANSWERS, MODELFILE)
PROBE = "What is this document about?"
"""The question that every file must answer before it is published."""
_ASKED: Message = {"role": "user", "content": "Où est le café?"}
_ANSWERED: Message = {"role": "assistant", "content": "À gauche."}
_SYSTEM: Message = {"role": "system", "content": "Be brief."}
_CONVERSATIONS: dict[str, list[Message]] = {
    "a question": [_ASKED],
    "a second question": [_ASKED, _ANSWERED, _ASKED],
    "a third question": [_ASKED, _ANSWERED, _ASKED, _ANSWERED, _ASKED],
    "a question with a system message": [_SYSTEM, _ASKED],
    "a second question with a system message": [_SYSTEM, _ASKED, _ANSWERED, _ASKED],
}
"""What the Modelfile must render as the chat template does."""


def check_gguf(path: Path, merged: Path) -> tuple[bool, str]:
    """Whether a file loads, agrees on token ids and answers, with a message; raises if it cannot load."""
    model = open_gguf(path)
    try:
        equal, message = token_parity(model, merged)
        reply = ask(model, PROBE, 16)
    finally:
        model.close()
    return equal and bool(reply), f"{path.name}: {message}; it answers {reply[:60]!r}"


_NO_FILES = "export.gguf is empty: no files"
_EQUAL_IDS = "its token ids are those of the model's own template"


def write_modelfile(path: Path, gguf: Path, merged: Path) -> str | None:
    """Writes Ollama's Modelfile for a GGUF file. Returns which conversations it renders otherwise than
    the model's chat template; None if it renders all alike.

    They are compared by token ids, with the begin-of-sequence token that llama.cpp adds.
    """
    tokenizer = tokenizer_of(merged)
    manager = PromptTemplateManager(tokenizer)
    model = open_gguf(gguf)
    try:
        template = ollama_template(manager, str(tokenizer.bos_token) if adds_bos(model) else None)
        wrong = []
        for what, messages in _CONVERSATIONS.items():
            with suppress(CannotRenderError):  # the template has no place for it
                asked = manager.prompt(messages)
                ids = tokenizer(asked, add_special_tokens=False)["input_ids"]
                said = template.render(messages).encode()
                if model.tokenize(said, add_bos=True, special=True) != ids:
                    wrong.append(what)
    finally:
        model.close()
    path.write_text(modelfile(template, stop_texts(manager, tokenizer, merged), gguf.name))
    return f"in Ollama the prompt differs for {', '.join(wrong)}" if wrong else None


def export_model(
    merged: Path, output: Path, name: str, kinds: list[str], report: Report
) -> dict[Path, str | None]:
    """Writes one GGUF file for each of `kinds` (f16, Q8_0, Q4_K_M).

    Maps each to how many of its tensors have a larger type, if any has: see `quantize`. Raises UserError if
    the extra that they need is not installed.
    """
    if not kinds:
        return {}
    require("gguf", "export.gguf")
    f16 = output / f"{name}-f16.gguf"
    convert(merged, f16, name, report)
    files = {}
    for kind in kinds:
        target = output / f"{name}-{kind}.gguf"
        files[target] = None if kind == "f16" else quantize(f16, target, kind, report)
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
    disagrees = None
    if files:
        smallest = min(files, key=lambda path: path.stat().st_size)
        disagrees = write_modelfile(job.output / "Modelfile", smallest, merged)
    metrics = read_metrics(job.inputs["evaluation"])
    (job.output / "MODEL_CARD.md").write_text(model_card(job, metrics, files))
    return Outcome(
        counts={f"{path.stem.rpartition('-')[2]}_megabytes": megabytes(path) for path in files},
        checks={
            **ANSWERS.verdict(
                all(passed for passed, _ in verdicts),
                "; ".join(message for _, message in verdicts) or _NO_FILES,
            ),
            **MODELFILE.verdict(
                not disagrees,
                disagrees or (_EQUAL_IDS if files else _NO_FILES),
            ),
        },
        tools=versions("llama-cpp-python") if files else {},
    )
