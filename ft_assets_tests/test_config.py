"""Settings: merged from two files, and every error reported with its position."""

import os
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.cli.settings_file import commented_settings
from ft_assets.config import FineTuneConfig, all_settings, settings_below
from ft_assets.engine.settings_files import MOVED, SettingsError, load_config


def _load(tmp_path: Path, own: str, common: str = "") -> FineTuneConfig:
    (tmp_path / "c").mkdir(exist_ok=True)
    (tmp_path / "finetune.yaml").write_text(common)
    (tmp_path / "c" / "finetune.yaml").write_text(own)
    return load_config(tmp_path, "c")


def _errors(tmp_path: Path, own: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        _load(tmp_path, own)
    return str(caught.value).replace(str(tmp_path), "").splitlines()


def test_a_corpus_says_only_what_differs(tmp_path: Path) -> None:
    config = _load(
        tmp_path,
        "training: {learning_rate: 2e-3}\nmodel: {lora: {r: 8}}",
        "training: {learning_rate: 1.0e-4, seed: 3}\nmodel: {lora: {lora_alpha: 64}}",
    )
    assert config.training.learning_rate == 2e-3
    assert config.training.seed == 3
    assert (config.model.lora.r, config.model.lora.lora_alpha) == (8, 64)


def test_no_file_is_all_defaults(tmp_path: Path) -> None:
    assert load_config(tmp_path, "c") == FineTuneConfig()


@pytest.mark.parametrize(
    ("yaml", "line", "key", "says"),
    [
        ("model: {lora: {r: 0}}", 1, "model.lora.r", "greater than or equal to 1"),
        ("model: {lora: {r: 999}}", 1, "model.lora.r", "less than or equal to 256"),
        ("model:\n  lora:\n    lora_alpha: 4096", 3, "model.lora.lora_alpha", "512"),
        ("training: {epochs: 3}", 1, "training.epochs", "num_train_epochs"),
        ("trainig: {}", 1, "trainig", "did you mean 'training'"),
        ("\ntraining: {seed: one}", 2, "training.seed", "'one'"),
        ("data: {template: llama}", 1, "data.template", "tokenizer_default, alpaca, chatml"),
        ("export: {gguf: [f16, Q3_K]}", 1, "export.gguf", "'Q3_K'"),
        ("export: {gguf: [iq2_xs]}", 1, "export.gguf", "only with an importance matrix"),
        ("export: {gguf: [f16, f16]}", 1, "export.gguf", "name each type once"),
        ("qa: {base_url: 'https://elsewhere'}", 1, "qa.base_url", "only the shared settings"),
        ("qa: {prompt: house.txt}", 1, "qa.prompt", "*.jinja"),
        ("qa: {kinds: [riddle]}", 1, "qa.kinds", "'how-to'"),
        ("model: {load_in_4bit: nf4}", 1, "model.load_in_4bit", "a valid boolean"),
        ("langchain: {chunk_size: 100, chunk_overlap: 90}", 1, "langchain", "at most half"),
        ("data: {seed: 1}\ndata: {seed: 2}", 2, "data", "duplicate key (first on line 1)"),
        ("training: {r: 8}", 1, "training.r", "unknown setting; it belongs at model.lora.r"),
        ("lora: {r: 8}", 1, "lora", "it belongs at model.lora"),
        ("learning_rate: 1e-4", 1, "learning_rate", "it belongs at training.learning_rate"),
        ("model: {max_length: 8}", 1, "model.max_length", "it belongs at training.max_length"),
        ("seed: 3", 1, "seed", "it belongs at data.seed or training.seed"),
        ("qa: {lora_aplha: 3}", 1, "qa.lora_aplha", "allowed are enabled, model, "),
        ("qa: {kinds: []}", 1, "qa.kinds", "give at least one"),
        (
            "training:\n  seed: 1\n  learning_rate: 1",
            3,
            "training.learning_rate",
            "ruins the model",
        ),
        ("training: {learning_rate: 0.2}", 1, "training.learning_rate", "usual for LoRA is 1e-5"),
        ("training: {learning_rate: 2}", 1, "training.learning_rate", "less than or equal to 1"),
        ("training: {learning_rate: 1e-9}", 1, "training.learning_rate", "teaches nothing"),
    ],
)
def test_a_mistake_is_named_with_line_key_and_what_is_allowed(
    tmp_path: Path, yaml: str, line: int, key: str, says: str
) -> None:
    [error] = _errors(tmp_path, yaml)
    assert error.startswith(f"/c/finetune.yaml:{line}: {key}: ")
    assert says in error


@pytest.mark.parametrize(
    ("old", "new", "yaml"),
    [
        ("training.epochs", "training.num_train_epochs", "training: {epochs: 3}"),
        ("model.max_length", "training.max_length", "model: {max_length: 512}"),
        ("peft", "model.lora", "peft: {r: 8}"),
        ("data.gates.old.deep", "data.seed", "data: {gates: {old: {deep: 1}}}"),
    ],
)
def test_a_setting_of_an_older_version_is_told_where_it_went(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str, yaml: str
) -> None:
    monkeypatch.setitem(MOVED, old, new)
    [error] = _errors(tmp_path, yaml)
    assert error.startswith("/c/finetune.yaml:1: ")
    assert error.endswith(f": moved: {old} is now {new}")


def test_moved_settings_lead_to_settings_of_today() -> None:
    today = {key for key, _ in all_settings()}
    assert not set(MOVED) & today
    for new in MOVED.values():
        assert any(key == new or key.startswith(f"{new}.") for key in today)


@pytest.mark.parametrize(
    ("yaml", "key", "says"),
    [
        ("qa: {base_url: 'https://me:secret@x'}", "qa.base_url", "not contain a user, password"),
        ("qa: {base_url: localhost}", "qa.base_url", "http or https"),
        ("qa: {base_url: 'http://192.168.1.5:8000/v1'}", "qa.base_url", "it must be https"),
        (
            "qa: {prices: {input: 1.0, output: 1.0, inptu: 1.0}}",
            "qa.prices.inptu",
            "did you mean 'input'",
        ),
        ("qa: {prices: {input: 1.0}}", "qa.prices", "output is missing"),
        ("automation: {spend: maybe}", "automation.spend", "'maybe'"),
    ],
)
def test_a_mistake_of_the_owner_is_named_too(
    tmp_path: Path, yaml: str, key: str, says: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        _load(tmp_path, "", yaml)
    [problem] = caught.value.problems
    assert (problem.file, problem.line, problem.key) == (tmp_path / "finetune.yaml", 1, key)
    assert says in problem.message
    assert "secret" not in problem.message


@pytest.mark.parametrize(
    ("own", "key"),
    [
        ("qa: {base_url: 'http://127.0.0.1:9'}", "qa.base_url"),
        ("qa: {prices: {input: 0.0, output: 0.0}}", "qa.prices"),
        ("qa: {model: 'openai:gpt-5-mini'}", "qa.model"),
        ("qa: {max_usd: 100000.0}", "qa.max_usd"),
        ("qa: {max_concurrency: 200}", "qa.max_concurrency"),
        ("compute: {target: local}", "compute.target"),
        ("automation: {spend: true}", "automation.spend"),
        ("data: {loaders: {max_seconds: 80000}}", "data.loaders.max_seconds"),
        ("data: {loaders: {max_memory_mb: 900000}}", "data.loaders.max_memory_mb"),
        ("model: {base: /etc}", "model.base"),
        ("model: {base: '../../elsewhere'}", "model.base"),
        ("model: {local_bases: ['/']}", "model.local_bases"),
    ],
)
def test_a_corpus_has_not_its_owners_powers(tmp_path: Path, own: str, key: str) -> None:
    [error] = _errors(tmp_path, own)
    assert error.startswith(f"/c/finetune.yaml:1: {key}: ")
    assert " the shared settings file /finetune.yaml may set this: move it there" in error or (
        "lower it, or raise the cap in /finetune.yaml" in error
    )


def test_a_value_that_nobody_may_set_is_not_worth_moving(tmp_path: Path) -> None:
    [error] = _errors(tmp_path, "compute: {target: runpod}")
    assert error.endswith(
        "'runpod' is not allowed: not built yet: the only value allowed is 'local'"
    )
    [error] = _errors(tmp_path, "qa: {prices: {input: 1.0}}")
    assert error.endswith("qa.prices: output is missing")


@pytest.mark.parametrize(
    ("yaml", "hint"),
    [
        ("training: {lr_scheduler_type: cosin}", "did you mean 'cosine'?"),
        ("export: {gguf: [q4_k_m]}", "did you mean 'Q4_K_M'?"),
        ("export: {gguf: [BF16]}", "did you mean 'bf16'?"),
        ("data: {template: alpacca}", "did you mean 'alpaca'?"),
        ("automation: {until: adpter}", "did you mean 'adapter'?"),
    ],
)
def test_the_value_that_is_meant_is_guessed(tmp_path: Path, yaml: str, hint: str) -> None:
    [error] = _errors(tmp_path, yaml)
    assert error.endswith(f"; {hint}")


def test_what_the_owner_allows_is_allowed(tmp_path: Path) -> None:
    owner = (
        "qa: {model: 'openai:a', prices: {input: 0.0, output: 0.0}, max_usd: 5.0, "
        "max_usd_total: 9.0}\n"
        "model: {local_bases: [/srv/models]}\ndata: {loaders: {max_seconds: 600}}"
    )
    own = (
        "qa: {model: 'openai:b', max_usd: 4.0, max_usd_total: 1.0}\n"
        "model: {base: /srv/models/small}\ndata: {loaders: {max_seconds: 300}}"
    )
    config = _load(tmp_path, own, owner)
    assert (config.qa.model, config.qa.max_usd, config.data.loaders.max_seconds) == (
        "openai:b",
        4.0,
        300,
    )
    [error] = _errors_under(tmp_path, owner, "qa: {max_usd_total: null}")
    assert "qa.max_usd_total: null is more than 9.0" in error


def _errors_under(tmp_path: Path, owner: str, own: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        _load(tmp_path, own, owner)
    return str(caught.value).splitlines()


HOSTILE = {
    "a cycle": "a: &x {b: *x}",
    "a date that is none": "a: 2024-13-45",
    "a number of 5,000 digits": f"data: {{seed: {'9' * 5000}}}",
    "deep nesting": "[" * 3000,
    "deep mappings": "{a: " * 3000,
    "a bomb of aliases": "a: &a [1,1,1,1,1,1,1,1,1]\n"
    + "\n".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefghi")),
    "NUL": 'model: {base: "a\\0b"}',
    "a raw NUL": "a: \0",
    "a key that is a list": "? [1]\n: 2",
    "many values": "a: [" + "1," * 50_000 + "]",
    "a long word": "a: " + "b" * 300_000,
    "another tag": "a: !!python/name:os.system",
    "an unknown alias": "a: *b",
    "a merge of nothing": "<<: *b",
    "binary": "a: !!binary '?'",
    "an infinite cap": "qa: {max_usd: .inf}",
    "not a number": "qa: {max_usd: .nan}",
    "a list of settings": "- data",
    "a number": "5",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_yaml_is_one_message(tmp_path: Path, text: str) -> None:
    assert all(len(error) < 600 for error in _errors(tmp_path, text))


def test_a_settings_file_that_is_not_a_regular_file(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    path = tmp_path / "c" / "finetune.yaml"
    os.mkfifo(path)
    with pytest.raises(SettingsError, match="is not a regular file"):
        load_config(tmp_path, "c")
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(SettingsError, match="it is a link"):
        load_config(tmp_path, "c")


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    errors = _errors(
        tmp_path,
        "model: {lora: {r: 999}}\ndata:\n  template: x\n  seed: -1\nqa: {kinds: []}\nextra: 1\n",
    )
    assert [int(error.split(":")[1]) for error in errors] == [1, 3, 4, 5, 6]


@pytest.mark.parametrize("text", ["a: [", "- 1\n- 2\n", "\x00", "a: b: c"])
def test_what_is_no_yaml_mapping_is_said_so(tmp_path: Path, text: str) -> None:
    assert _errors(tmp_path, text)


def test_a_section_with_nothing_below_it_is_empty(tmp_path: Path) -> None:
    assert _load(tmp_path, "training:\nmodel:\n  lora:\n") == FineTuneConfig()


def test_code_in_yaml_is_refused(tmp_path: Path) -> None:
    [error] = _errors(tmp_path, "data: !!python/object/apply:os.system ['echo hi']")
    assert "cannot be read as YAML" in error


def test_init_writes_the_defaults_and_changes_nothing(tmp_path: Path) -> None:
    text = commented_settings(FineTuneConfig())
    assert _load(tmp_path, text) == FineTuneConfig()
    uncommented = "\n".join(
        re.sub(r"^#(?! )", "", line) if re.match(r"^#(\w|  )", line) else line
        for line in text.split("\n")
    )
    uncommented = "\n".join(
        line.removeprefix("#") for line in uncommented.split("\n") if ":" in line
    )
    assert "chunk_size: 1000" in uncommented


def test_init_marks_what_the_file_of_a_corpus_may_not_set() -> None:
    lines = commented_settings(FineTuneConfig()).splitlines()
    [target] = [line for line in lines if line.strip("# ").startswith("target:")]
    assert target.endswith("; only in data/finetune.yaml")
    [cap] = [line for line in lines if line.strip("# ").startswith("max_usd:")]
    assert cap.endswith("# at least 0; may only be lowered here")
    [prices] = [line for line in lines if line.strip("# ").startswith("prices:")]
    assert prices.endswith("null  # only in data/finetune.yaml")


@given(st.dictionaries(st.sampled_from(["r", "lora_alpha"]), st.integers(1, 256), min_size=1))
def test_settings_read_back_as_they_were_set(lora: dict[str, int]) -> None:
    config = FineTuneConfig.model_validate({"model": {"lora": lora}})
    flat: dict[str, Any] = settings_below(config, "model.lora")
    assert {key: flat[f"model.lora.{key}"] for key in lora} == lora
