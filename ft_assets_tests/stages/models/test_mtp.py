"""Heads for multi-token prediction: what a configuration names and the weights do not have."""

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from ft_assets.stages.models.mtp import forget_missing_head, lacks_mtp_head


def _model(folder: Path, config: dict[str, Any], *tensors: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    names = {
        name: {"dtype": "F32", "shape": [1], "data_offsets": [4 * n, 4 * n + 4]}
        for n, name in enumerate(["model.layers.1.mlp.up_proj.weight", *tensors])
    }
    header = json.dumps({"__metadata__": {"format": "pt"}, **names}).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(4 * len(names))
    (folder / "model.safetensors").write_bytes(content)
    return folder


GLM = {"model_type": "glm4_moe", "num_hidden_layers": 2, "num_nextn_predict_layers": 1}
QWEN = {"model_type": "qwen3_5_text", "num_hidden_layers": 2, "mtp_num_hidden_layers": 1}
NESTED = {"model_type": "qwen3_5", "text_config": {**QWEN, "vocab_size": 8}}
PLAIN = {"model_type": "llama", "num_hidden_layers": 2}


@pytest.mark.parametrize(
    ("config", "head"),
    [
        (GLM, "model.layers.2.eh_proj.weight"),
        (QWEN, "mtp.fc.weight"),
        (NESTED, "model.mtp.layers.0.mlp.up_proj.weight"),
    ],
)
def test_a_head_is_named_only_if_it_is_there(
    tmp_path: Path, config: dict[str, Any], head: str
) -> None:
    whole = _model(tmp_path / "whole", config, head)
    assert not lacks_mtp_head(whole)
    forget_missing_head(whole)
    assert json.loads((whole / "config.json").read_text()) == config
    dropped = _model(tmp_path / "dropped", config)
    assert lacks_mtp_head(dropped)
    forget_missing_head(dropped)
    said = json.loads((dropped / "config.json").read_text())
    part = said.get("text_config", said)
    assert [part[key] for key in part if "nextn" in key or "mtp" in key] == [0]
    rest = {key for key in part if "nextn" not in key and "mtp" not in key}
    assert rest == {key for key in config.get("text_config", config) if key in rest}


def test_the_configuration_of_other_families_stays_as_it_is(tmp_path: Path) -> None:
    model = _model(tmp_path, PLAIN)
    before = (model / "config.json").read_bytes()
    forget_missing_head(model)
    assert (model / "config.json").read_bytes() == before
    assert not lacks_mtp_head(model)


def test_a_family_whose_converter_expects_a_head_lacks_it(tmp_path: Path) -> None:
    assert lacks_mtp_head(_model(tmp_path, {"model_type": "qwen3_next", "num_hidden_layers": 2}))
