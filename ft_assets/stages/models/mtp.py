"""Heads for multi-token prediction (MTP): published with some checkpoints, not loaded by transformers.

So a merged model has none, though its base's configuration names one. A converter that believes the
configuration writes a file that llama.cpp cannot load.
"""

import json
import re
from pathlib import Path
from typing import Any

from ft_assets.stages.models.weights import tensor_names

_KEYS = ("num_nextn_predict_layers", "mtp_num_hidden_layers")
_FAMILIES = ("qwen3_next", "qwen3_5")
"""Beginnings of the model types whose converter expects a head even if the configuration names none."""
_LAYER = re.compile(r"\blayers\.(\d+)\.")


def lacks_mtp_head(model: Path) -> bool:
    """Whether the model in a folder should have an MTP head by its configuration, and has none."""
    config = json.loads((model / "config.json").read_text())
    return _names_head(config) and not _has_head(model, config)


def forget_missing_head(model: Path) -> None:
    """Takes an MTP head out of the configuration of a model that does not have one."""
    path = model / "config.json"
    config = json.loads(path.read_text())
    named = [part for part in _parts(config) if any(part.get(key) for key in _KEYS)]
    if not named or _has_head(model, config):
        return
    for part in named:
        part.update({key: 0 for key in _KEYS if key in part})
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _parts(config: dict[str, Any]) -> list[dict[str, Any]]:
    """A configuration, and the part of it that is about text, if it has one."""
    text = config.get("text_config")
    return [config, text] if isinstance(text, dict) else [config]


def _names_head(config: dict[str, Any]) -> bool:
    by_family = str(config.get("model_type", "")).startswith(_FAMILIES)
    return by_family or any(key in part for part in _parts(config) for key in _KEYS)


def _has_head(model: Path, config: dict[str, Any]) -> bool:
    """Whether a tensor is of an MTP head: by its name, or in a layer after the last one."""
    layers = [part["num_hidden_layers"] for part in _parts(config) if "num_hidden_layers" in part]
    for name in tensor_names(model):
        if "mtp." in name or "nextn." in name:
            return True
        found = _LAYER.search(name)
        if found and layers and int(found[1]) >= max(layers):
            return True
    return False
