"""The cache of tokenizers: each is saved by transformers once, sealed, and saved again if its model changes."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ft_assets.errors import StageError, UserError
from ft_assets.stages.models import tokenizer_cache
from ft_assets.stages.models.light_tokenizer import FACTS, LightTokenizer
from ft_assets.stages.models.pinned_packages import cache_folder
from ft_assets.stages.models.sealed import REPAIR
from ft_assets.stages.models.sealed_cache import remove_damaged
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.models.tokenizer_cache import light_tokenizer_of
from ft_assets_tests.conftest import own_cache


@pytest.fixture
def model(pico_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A model of the test's own, with an empty cache, and as if each read were the process's first."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_cache(tmp_path / "cache")))
    yield Path(shutil.copytree(pico_model, tmp_path / "model"))
    tokenizer_cache._load.cache_clear()


def _read(model: Path) -> LightTokenizer:
    tokenizer_cache._load.cache_clear()
    found = light_tokenizer_of(model)
    assert isinstance(found, LightTokenizer)
    return found


def _kept() -> list[Path]:
    return sorted((cache_folder() / "tokenizers").glob("[!.]*"))


def test_it_is_saved_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = _read(model)("The ferry")["input_ids"]
    monkeypatch.delattr(tokenizer_cache, "run")
    assert _read(model)("The ferry")["input_ids"] == ids
    assert ids == tokenizer_of(model)("The ferry")["input_ids"]


def test_weights_do_not_count_and_a_changed_tokenizer_does(model: Path) -> None:
    _read(model)
    (model / "model.safetensors").write_bytes(b"trained on")
    _read(model)
    assert len(_kept()) == 1
    (model / "chat_template.jinja").write_text("{{ messages[0].content }}")
    assert _read(model).chat_template == "{{ messages[0].content }}"
    assert len(_kept()) == 2


def test_a_template_that_is_set_stays_with_who_set_it(model: Path) -> None:
    _read(model).chat_template = "another"
    assert light_tokenizer_of(model).chat_template != "another"


@pytest.mark.parametrize("name", [FACTS, "saved/tokenizer.json"])
def test_a_change_in_the_cache_is_refused_and_repaired(model: Path, name: str) -> None:
    _read(model)
    [kept] = _kept()
    (kept / name).write_text((kept / name).read_text().replace("<|end|>", "<|und|>"))
    with pytest.raises(StageError, match=REPAIR):
        _read(model)
    assert kept in [folder for folder, _ in remove_damaged()]
    assert _read(model).eos_token == "<|end|>"


def test_templates_by_purpose_are_kept_and_give_way_to_one(model: Path, tmp_path: Path) -> None:
    (model / "additional_chat_templates").mkdir()
    (model / "additional_chat_templates" / "tools.jinja").write_text("tools: {{ messages }}")
    light, theirs = _read(model), tokenizer_of(model)
    assert light.chat_template == theirs.chat_template
    assert isinstance(light.chat_template, dict)
    light.chat_template = "{{ messages }}"
    light.save_pretrained(tmp_path / "saved")
    assert not (tmp_path / "saved" / "additional_chat_templates").exists()
    (model / "additional_chat_templates" / "tools.jinja").write_text("other tools")
    assert _read(model).chat_template != theirs.chat_template


def test_padding_and_truncation_of_the_model_are_left_out(model: Path, tmp_path: Path) -> None:
    path = model / "tokenizer.json"
    cut = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    path.write_text(json.dumps({**json.loads(path.read_text()), "truncation": cut}))
    light, theirs = _read(model), tokenizer_of(model)
    expected = theirs("The ferry leaves")["input_ids"]
    assert light("The ferry leaves")["input_ids"] == expected
    assert len(expected) > 3
    theirs.chat_template = light.chat_template = "x"
    for name, tokenizer in (("ours", light), ("theirs", theirs)):
        tokenizer.save_pretrained(tmp_path / name)
    saved = [(tmp_path / name / "tokenizer.json").read_bytes() for name in ("ours", "theirs")]
    assert saved[0] == saved[1]


def test_what_is_wrong_with_a_tokenizer_is_said_as_ever(model: Path) -> None:
    path = model / "tokenizer_config.json"
    config = json.loads(path.read_text())
    del config["eos_token"]
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match="no end-of-sequence token to stop at"):
        _read(model)
    (model / "tokenizer.json").write_text("{}")
    with pytest.raises((UserError, Exception)) as ours:
        _read(model)
    with pytest.raises(type(ours.value)):
        tokenizer_of(model)


def test_what_only_transformers_can_encode_is_left_to_it(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def save(folder: Path, empty: Path) -> None:
        (empty / "saved").mkdir()

    monkeypatch.setattr(tokenizer_cache, "_save", save)
    tokenizer_cache._load.cache_clear()
    assert not isinstance(light_tokenizer_of(model), LightTokenizer)
