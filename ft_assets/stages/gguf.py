"""GGUF files for llama.cpp and Ollama: converted, quantised, and tested before they are published.

This runs in its own process, because two llama.cpp libraries in one process abort.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ft_assets.config import ExportConfig
from ft_assets.extras import require
from ft_assets.names import LORA_ENDING, GGUFType
from ft_assets.records import Message
from ft_assets.stages.export.base_gguf import base_gguf
from ft_assets.stages.export.divergence import (
    IS_CLOSE,
    Divergence,
    measure_of_adapter,
    measure_of_merged,
    verdict,
)
from ft_assets.stages.export.llama_cpp import adds_bos, ask, megabytes, open_gguf, token_parity
from ft_assets.stages.export.lora import convert_lora
from ft_assets.stages.export.model_card import FileRow, model_card
from ft_assets.stages.export.model_files import kind_of, write_files
from ft_assets.stages.export.modelfile import modelfile, ollama_template, stop_texts
from ft_assets.stages.job import Check, Job, Outcome, Report, versions
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.models.tuned_model import adapter_base
from ft_assets.stages.scoring.files import read_metrics
from ft_assets.stages.templates.conversations import CannotRenderError
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager

ANSWERS = Check("answers_in_llama_cpp", "Every file loads, agrees on token ids, and answers.")
MODELFILE = Check(
    "modelfile_agrees", "Ollama asks the model as it was trained to be asked.", blocking=False
)
CHECKS = (ANSWERS, IS_CLOSE, MODELFILE)
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
    merged: Path, output: Path, name: str, kinds: Sequence[GGUFType], report: Report
) -> dict[Path, str | None]:
    """Writes one GGUF file for each of `kinds`: see `write_files`.

    Raises UserError if the extra that they need is not installed.
    """
    if not kinds:
        return {}
    require("gguf", "export.gguf")
    return write_files(merged, output, name, kinds, report)


def export_adapter(adapter: Path, target: Path, report: Report) -> Path:
    """Writes the adapter alone as a GGUF file.

    Raises UserError if it cannot become one, or if the extra that it needs is not installed.
    """
    require("gguf", "export.lora_gguf")
    convert_lora(adapter, adapter_base(adapter).folder, target)
    report(f"{target.name}: {megabytes(target):.1f} MB")
    return target


def _divergences(
    job: Job, files: Iterable[Path], lora: Path | None, report: Report
) -> dict[str, Divergence]:
    """How far each file is from its model in Hugging Face, by type; the adapter's as `lora`."""
    found: dict[str, Divergence] = {}

    def note(path: Path, divergence: Divergence) -> None:
        report(f"{path.name}: {divergence}")
        found[kind_of(path)] = divergence

    measure = measure_of_merged(job.inputs["merged_model"], job.inputs["evaluation"])
    for path in files:
        note(path, measure.of(path))
    if lora:
        adapter = job.inputs["adapter"]
        tuned = measure_of_adapter(adapter, measure.windows)
        note(lora, tuned.of(base_gguf(adapter_base(adapter)), lora))
    return found


def build(job: Job, report: Report) -> Outcome:
    """Builds `gguf`: the files, a `Modelfile` for Ollama and `MODEL_CARD.md`; without files only the card."""
    merged, wanted = job.inputs["merged_model"], job.section(ExportConfig)
    files = export_model(merged, job.output, job.corpus, wanted.gguf, report)
    lora = None
    if wanted.lora_gguf:
        target = job.output / f"{job.corpus}{LORA_ENDING}"
        lora = export_adapter(job.inputs["adapter"], target, report)
    verdicts = [check_gguf(path, merged) for path in files]
    for _, message in verdicts:
        report(message)
    disagrees = None
    if files:
        smallest = min(files, key=lambda path: path.stat().st_size)
        disagrees = write_modelfile(job.output / "Modelfile", smallest, merged)
    written = [*files, *([lora] if lora else [])]
    found = _divergences(job, files, lora, report) if written else {}
    checks = {
        **ANSWERS.verdict(
            all(passed for passed, _ in verdicts),
            "; ".join(message for _, message in verdicts) or _NO_FILES,
        ),
        **verdict(found),
        **MODELFILE.verdict(not disagrees, disagrees or (_EQUAL_IDS if files else _NO_FILES)),
    }
    rows = [FileRow(path, files.get(path), found[kind_of(path)]) for path in written]
    metrics = read_metrics(job.inputs["evaluation"])
    (job.output / "MODEL_CARD.md").write_text(model_card(job, metrics, rows, checks))
    return Outcome(
        counts=_counts(written, found),
        checks=checks,
        tools=versions("llama-cpp-python") if written else {},
    )


def _counts(written: Iterable[Path], found: Mapping[str, Divergence]) -> dict[str, float]:
    """The size of each file and how far it is from its model."""
    counts: dict[str, float] = {}
    for path in written:
        kind = kind_of(path)
        counts |= {f"{kind}_megabytes": megabytes(path), **found[kind].counts(kind)}
    return counts
