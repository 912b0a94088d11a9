"""A base model that cannot become a GGUF file is refused before it is trained, and tried only once."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ft_assets.errors import StageError, UserError
from ft_assets.stages.export import convertible
from ft_assets.stages.export.converter import reason_of, run_converter
from ft_assets.stages.export.convertible import check_convertible, refusal
from ft_assets.stages.models.pinned_packages import cache_folder, llama_cpp_folder
from ft_assets_tests.conftest import Corpus, RunCLI


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        (
            "INFO:hf-to-gguf:Loading\nERROR:hf-to-gguf:Model X is not supported\n",
            "Model X is not supported",
        ),
        (
            "  File a, line 1\n    raise E\n    ^^^^^\nValueError: Missing tokenizer.model\n",
            "ValueError: Missing tokenizer.model",
        ),
        (
            "  File a, line 303\n    assert n == 1\n    ^^^^^^\nAssertionError\n",
            "AssertionError at: assert n == 1",
        ),
        ("", "no message"),
    ],
)
def test_the_reason_is_one_line(log: str, reason: str) -> None:
    assert reason_of(log) == reason


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache with the packages of the machine's."""
    own = tmp_path / "cache" / "ft-assets"
    own.mkdir(parents=True)
    shared = cache_folder() / "packages"
    (own / "packages").symlink_to(shared.resolve())
    monkeypatch.setenv("XDG_CACHE_HOME", str(own.parent))
    return own


@pytest.mark.parametrize(
    ("code", "log"),
    [(-9, ""), (1, "MemoryError"), (1, "ModuleNotFoundError: No module named 'torch'")],
)
def test_what_the_machine_did_is_not_held_against_the_model(
    pico_model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, code: int, log: str
) -> None:
    """Nothing of it is kept: the next time it is tried again."""
    outcomes = [(code, log), (1, "NotImplementedError: a pre-tokenizer"), (0, "")]

    def convert(*_: Any) -> subprocess.CompletedProcess[str]:
        returned, said = outcomes.pop(0)
        return subprocess.CompletedProcess([], returned, "", said)

    monkeypatch.setattr(convertible, "run_converter", convert)
    with pytest.raises(StageError, match="could not run"):
        refusal(pico_model)
    assert refusal(pico_model) == refusal(pico_model) == "NotImplementedError: a pre-tokenizer"
    assert len(outcomes) == 1


def test_without_llama_cpp_it_is_only_said(
    pico_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convertible, "missing", lambda extra: ["llama_cpp"])
    said: list[str] = []
    check_convertible(pico_model, said.append)
    [line] = said
    assert "not checked whether the base model can become a GGUF file: the extra 'gguf'" in line


def _small_files(model: Path, folder: Path) -> Path:
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    return folder


@pytest.mark.slow
def test_a_base_that_converts_passes_and_is_tried_once(
    nano_model: Path, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights are not needed: they may not have been downloaded yet."""
    small = _small_files(nano_model, tmp_path / "small")
    assert refusal(small) is None

    def again(*_: Any, **__: Any) -> None:
        raise AssertionError("it is tried again")

    monkeypatch.setattr(convertible, "run_converter", again)
    assert refusal(nano_model) is None
    config = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps({**config, "rope_theta": 5}))
    with pytest.raises(AssertionError, match="tried again"):
        refusal(small)


def _riddle(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "architectures": ["RiddleForCausalLM"]})
    )


@pytest.mark.slow
def test_a_base_whose_pre_tokenizer_is_unknown_is_refused_by_the_stage_and_by_validate(
    corpus: Corpus, pico_model: Path, cli: RunCLI, cache: Path
) -> None:
    said: list[str] = []
    with pytest.raises(UserError, match="pre-tokenizer was not recognized") as refused:
        check_convertible(pico_model, said.append)
    assert str(refused.value).startswith(
        "export.gguf: llama.cpp cannot convert the model to GGUF ("
    )
    assert "set export.gguf to [] to train without GGUF files" in str(refused.value)
    corpus.settings(f"model: {{base: '{pico_model}', lora: {{target_modules: [lm_head]}}}}")
    done = cli("validate", "ferry")
    assert done.returncode == 1
    assert "export.gguf: llama.cpp cannot convert the model" in done.stderr
    assert "model.lora.target_modules: 'lm_head' is the output layer" in done.stderr
    corpus.settings(f"model: {{base: '{pico_model}'}}\nexport: {{gguf: []}}")
    assert cli("validate", "ferry").returncode == 0


@pytest.mark.slow
def test_a_vocabulary_with_other_ids_is_refused(nano_model: Path, tmp_path: Path) -> None:
    vocabulary = tmp_path / "vocabulary.gguf"
    assert run_converter(nano_model, vocabulary, "--vocab-only").returncode == 0
    assert convertible._parity(vocabulary, nano_model) is None
    other = _small_files(nano_model, tmp_path / "other")
    content = json.loads((other / "tokenizer.json").read_text())
    (other / "tokenizer.json").write_text(
        json.dumps({**content, "normalizer": {"type": "Lowercase"}})
    )
    assert "token ids differ after " in (convertible._parity(vocabulary, other) or "")


@pytest.mark.slow
def test_an_architecture_that_llama_cpp_does_not_know_is_refused(
    nano_model: Path, tmp_path: Path, cache: Path
) -> None:
    small = _small_files(nano_model, tmp_path / "small")
    _riddle(small)
    assert "RiddleForCausalLM" in (refusal(small) or "")


@pytest.mark.slow
def test_a_base_without_its_tokenizer_model_is_refused(tmp_path: Path, cache: Path) -> None:
    """Phi-3.5 as transformers saves it: llama.cpp's converter asks for SentencePiece's file."""
    from transformers import AutoTokenizer, Phi3Config

    models = llama_cpp_folder() / "models"
    tokenizer = AutoTokenizer.from_pretrained(models, gguf_file="ggml-vocab-phi-3.gguf")
    tokenizer.save_pretrained(tmp_path / "phi")
    config = Phi3Config(
        vocab_size=32_064,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        pad_token_id=None,
    )
    config.architectures = ["Phi3ForCausalLM"]
    config.save_pretrained(tmp_path / "phi")
    assert "tokenizer.model" in (refusal(tmp_path / "phi") or "")
