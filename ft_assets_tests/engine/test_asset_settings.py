"""Which settings an asset reads; a new setting makes nothing stale until it is set."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ft_assets
from ft_assets.config import (
    ExportConfig,
    FineTuneConfig,
    LoaderSettings,
    Section,
    TrainingConfig,
)
from ft_assets.engine.asset_settings import settings_read, settings_version, shaping
from ft_assets.engine.data_folder import DataFolder
from ft_assets.engine.freshness import fingerprint
from ft_assets.engine.graph import GRAPH
from ft_assets.engine.settings_files import load_config
from ft_assets.stages.job import Job, Outcome
from ft_assets_tests.conftest import Corpus
from ft_assets_tests.defs.test_freshness_table import ALIKE

SETTINGS = "qa: {{enabled: true}}\nmodel: {{base: '{base}'}}\n"
READ_BY = {
    "model": {"adapter"},
    "model.lora": {"adapter"},
    "data": {"formatted_dataset"},
    "data.loaders": {"raw_documents"},
    "data.gates": {"formatted_dataset"},
    "langchain": {"chunks"},
    "qa": {"qa_pairs"},
    "augment": {"formatted_dataset"},
    "training": {"adapter"},
    "training.lr_scheduler_kwargs": {"adapter"},
    "evaluation": {"evaluation"},
    "export": {"gguf"},
    "compute": set(),
    "automation": set(),
}
"""The sections, and the assets that read a setting added to each."""

KNOB = '    knob: int | None = setting(None, "corpus", "shapes")\n'

NEXT_VERSION = """
import json, sys
from pathlib import Path
from ft_assets.engine.project import Project

project = Project(Path(sys.argv[1]), Path(sys.argv[2]))
owners = project.data / "finetune.yaml"
before = json.loads(owners.read_text())
found = {"": project.status("ferry")}
for section in json.loads(sys.argv[3]):
    changed = json.loads(json.dumps(before))
    here = changed
    for name in section.split("."):
        here = here.setdefault(name, {})
    here["knob"] = 5
    owners.write_text(json.dumps(changed))
    found[section] = project.status("ferry")
print(json.dumps({key: [[a, s.state, s.own] for a, s in of.items()] for key, of in found.items()}))
"""


def _said(job: Job) -> Outcome:
    (job.output / "said").write_text(job.asset)
    return Outcome()


@pytest.fixture
def built(corpus: Corpus, pico_model: Path) -> Corpus:
    """A corpus with every asset built; their content does not matter to freshness."""
    corpus.settings(SETTINGS.format(base=pico_model))
    for asset in GRAPH:
        corpus.project.make(corpus.name, asset, _said if asset != "raw_documents" else None)
    return corpus


def _next_version(folder: Path) -> Path:
    """This project with one more setting, null, in each section."""
    package = folder / "next" / "ft_assets"
    shutil.copytree(Path(ft_assets.__file__).parent, package)
    config = package / "config.py"
    heads = r'(class \w+(?:Config|Settings)\(Section\):\n    """.*?"""\n\n)'
    text, count = re.subn(heads, rf"\1{KNOB}", config.read_text(), flags=re.DOTALL)
    assert count == len(READ_BY) + 1  # FineTuneConfig itself is one
    config.write_text(text)
    return package.parent


def test_a_new_null_setting_makes_nothing_stale(built: Corpus, tmp_path: Path) -> None:
    project = built.project
    code = [sys.executable, "-c", NEXT_VERSION, str(project.data), str(project.storage.root)]
    done = subprocess.run(
        [*code, json.dumps([*READ_BY])],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(_next_version(tmp_path))},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {state for _, state, _ in found.pop("")} == {"fresh"}
    stale = {section: {asset for asset, _, own in of if own} for section, of in found.items()}
    assert stale == READ_BY


def test_null_is_in_no_fingerprint() -> None:
    plain = {"training.seed": 17}
    more = {**plain, "training.neftune_noise_alpha": None}
    assert fingerprint("adapter", {}, plain) == fingerprint("adapter", {}, more)
    assert shaping(plain) == shaping(more)
    assert fingerprint("adapter", {}, plain) != fingerprint(
        "adapter", {}, {**plain, "training.neftune_noise_alpha": 5.0}
    )


def test_a_stage_gets_what_its_asset_reads_and_no_more(corpus: Corpus) -> None:
    corpus.settings("data: {loaders: {max_seconds: 7}}")
    job = corpus.project.job("ferry", "raw_documents")
    assert job.section(LoaderSettings).max_seconds == 7
    with pytest.raises(AttributeError):
        _ = job.section(TrainingConfig).seed


def test_gguf_files_can_be_asked_for_later_without_training_again(built: Corpus) -> None:
    """The adapter's stage knows of them, to refuse a base that cannot become one."""
    project, owners = built.project, built.project.data / "finetune.yaml"
    before = json.loads(owners.read_text())
    for kinds in ([], ["Q8_0"]):
        owners.write_text(json.dumps({**before, "export": {"gguf": kinds}}))
        assert project.job("ferry", "adapter").section(ExportConfig).gguf == kinds
        stale = {asset for asset, state in project.status("ferry").items() if state.own}
        assert stale == {"gguf"}


def test_a_section_is_the_one_that_the_settings_hold(corpus: Corpus) -> None:
    corpus.settings("model: {lora: {r: 4}}")
    config = load_config(corpus.project.data, "ferry")
    job = Job("adapter", "ferry", Path(), Path(), {"model.lora.r": 4, "model.base": "x"})
    assert job.section(type(config.model)).lora.r == config.model.lora.r
    assert isinstance(config, FineTuneConfig)


def _with(section: Section, key: str, value: object) -> Any:
    """A section with one setting changed, whatever the others say of it."""
    name, _, rest = key.partition(".")
    changed = _with(getattr(section, name), rest, value) if rest else value
    return section.model_copy(update={name: changed})


@pytest.mark.parametrize("line", ALIKE)
def test_settings_in_one_line_of_the_table_are_read_alike(tmp_path: Path, line: str) -> None:
    folder = DataFolder(tmp_path, tmp_path / "cache")
    config = FineTuneConfig()

    def read(changed: FineTuneConfig) -> dict[str, str]:
        return {
            asset: settings_version(settings_read(folder, "ferry", asset, changed))
            for asset in GRAPH
        }

    def stale(key: str, value: object) -> set[str]:
        before, after = read(config), read(_with(config, key, value))
        return {asset for asset in GRAPH if before[asset] != after[asset]}

    settings, played = ALIKE[line]
    expected = stale(played, settings[played])
    assert expected
    assert {key: stale(key, value) for key, value in settings.items()} == dict.fromkeys(
        settings, expected
    )
