"""An adapter that cannot become a GGUF file is refused before it is trained."""

import shutil
from pathlib import Path

import pytest

from ft_assets.config import LoraSettings
from ft_assets.errors import UserError
from ft_assets.stages.training import lora_trial
from ft_assets.stages.training.lora_trial import check_lora_convertible
from ft_assets_tests.nano_families import FAMILIES, make_nano


@pytest.mark.slow
def test_an_adapter_of_experts_is_refused_and_one_of_attention_is_not(tmp_path: Path) -> None:
    base, said = make_nano("gpt-oss", tmp_path / "base"), list[str]()
    (base / "model.safetensors").unlink()  # weights may not have been downloaded yet
    experts = LoraSettings(target_parameters=list(FAMILIES["gpt-oss"].experts))
    with pytest.raises(UserError, match=r"^export\.lora_gguf: the adapter trains the experts"):
        check_lora_convertible(base, experts, said.append)
    check_lora_convertible(base, LoraSettings(), said.append)
    assert said == []


def test_without_llama_cpp_it_is_only_said(
    pico_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lora_trial, "missing", lambda extra: ["llama_cpp"])
    said: list[str] = []
    base = shutil.copytree(pico_model, tmp_path / "base")
    check_lora_convertible(base, LoraSettings(), said.append)
    [line] = said
    assert "not checked whether the adapter can become a GGUF file: the extra 'gguf'" in line
