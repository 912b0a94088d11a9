"""The table of docs/freshness.md: what each change rebuilds, and that Dagster agrees.

`python -m ft_assets_tests.defs.test_freshness_table` writes the table.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import dagster as dg
import pytest
import yaml
from pydantic import BaseModel

from ft_assets.cli.refresh import refresh_corpus
from ft_assets.config import (
    FineTuneConfig,
    GateSettings,
    QAConfig,
    all_settings,
    declaration,
)
from ft_assets.definitions import build_definitions
from ft_assets.defs.instance import dagster_home
from ft_assets.defs.observations import report_version
from ft_assets.defs.tags import REFRESH_JOB
from ft_assets.engine import graph
from ft_assets.engine.graph import GRAPH
from ft_assets.engine.project import Made, Project
from ft_assets_tests.conftest import PROSE, Corpus, make_pico_model, qa_records, write_pdf
from ft_assets_tests.defs.fake_training import CODE_VERSIONS, StandIn
from ft_assets_tests.defs.web_server import WebServer, serve

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "freshness.md"
OLD = "# Fares\n\nTickets cost three buttons."
MADE, REUSED, UNTOUCHED = "**made**", "reused", "·"

SETTINGS: dict[str, object] = {
    "model.base": None,  # another folder, next to the old one
    "model.revision": "v2",
    "data.loaders.pdf": "pypdf",
    "data.loaders.docx": "docx2txt",
    "data.loaders.dehyphenate": False,
    "data.loaders.strip_headers": True,
    "data.near_duplicates": 0.7,
    "data.eval_overlap": "keep",
    "data.template": "alpaca",
    "data.system_prompt": "Be brief.",
    "data.train_on": "last",
    "data.eval_fraction": 0.3,
    "data.eval_unit": "document",
    "data.seed": 18,
    "data.export_formats": ["jsonl"],
    "langchain.splitter": "character",
    "langchain.chunk_size": 240,
    "langchain.chunk_overlap": 20,
    "augment.instruction_variations": 2,
    "augment.paraphrases": 1,
    "augment.normalize_whitespace": "prose",
    "augment.case_variations": 1,
    "training.max_length": 512,
    "evaluation.max_new_tokens": 8,
    "evaluation.judge_max_usd": 1.0,
    "evaluation.judge": "claude-haiku-5-5",  # asked nothing: the stand-in's models answer nothing
    "export.gguf": ["f16"],
    "export.lora_gguf": True,
    "automation.until": "chunks",
}
ALIKE: dict[str, tuple[dict[str, object], str]] = {
    "`model.lora.…`, `model.load_in_4bit`, `model.attn_implementation`": (
        {
            "model.lora.r": 8,
            "model.lora.lora_alpha": 16,
            "model.lora.lora_dropout": 0.0,
            "model.lora.target_modules": "attention",
            "model.lora.target_parameters": ["mlp.experts.down_proj"],
            "model.lora.modules_to_save": ["embed_tokens"],
            "model.lora.use_rslora": True,
            "model.lora.use_dora": True,
            "model.load_in_4bit": True,
            "model.attn_implementation": "eager",
        },
        "model.lora.r",
    ),
    "`data.loaders.max_…`": (
        {
            "data.loaders.max_seconds": 50,
            "data.loaders.max_memory_mb": 900,
            "data.loaders.max_archive_members": 9_000,
            "data.loaders.max_unpacked_mb": 200,
            "data.loaders.max_expansion": 150,
        },
        "data.loaders.max_seconds",
    ),
    "`data.gates.…`": (
        {f"data.gates.{name}": 0.5 for name in GateSettings.model_fields},
        "data.gates.rejected_documents",
    ),
    "`training.…`, but `training.max_length`": (
        {
            "training.num_train_epochs": 1.0,
            "training.max_steps": 7,
            "training.optim": "sgd",
            "training.learning_rate": 1e-4,
            "training.weight_decay": 0.1,
            "training.max_grad_norm": 0.5,
            "training.per_device_train_batch_size": 4,
            "training.gradient_accumulation_steps": 2,
            "training.packing": True,
            "training.rehearsal": 0.1,
            "training.neftune_noise_alpha": 5.0,
            "training.gradient_checkpointing": True,
            "training.precision": "fp32",
            "training.lr_scheduler_type": "linear",
            "training.lr_scheduler_kwargs.min_lr": 1e-6,
            "training.lr_scheduler_kwargs.min_lr_rate": 0.1,
            "training.lr_scheduler_kwargs.num_decay_steps": 5,
            "training.lr_scheduler_kwargs.min_lr_ratio": 0.1,
            "training.warmup_steps": 1,
            "training.warmup_ratio": 0.1,
            "training.eval_strategy": "epoch",
            "training.eval_steps": 5,
            "training.early_stopping_patience": 2,
            "training.load_best_model_at_end": True,
            "training.seed": 18,
        },
        "training.seed",
    ),
}
"""Lines of settings that the same assets read, and that change all they make or nothing: by name, with the
one of each that is played. A test shows that the same assets read the others."""
NOT_TRIED = {
    "data.loaders.ocr",  # needs a program that may not be installed
    "compute.target",
    "compute.processes",  # the owner's, and in no fingerprint
    "model.local_bases",  # the owner's, and in no fingerprint
    "training.report_to",  # the same
    "automation.spend",
    *(f"qa.{name}" for name in QAConfig.model_fields),  # need a server: test_qa_pairs.py
}


def leaves(section: BaseModel, before: str = "") -> Iterator[str]:
    """The dotted keys of all settings."""
    for name, value in section:
        if isinstance(value, BaseModel):
            yield from leaves(value, f"{before}{name}.")
        else:
            yield before + name


class World:
    """Two corpora, an instance, and a web server that looks at it."""

    def __init__(self, root: Path, home: Path, base: Path) -> None:
        self.made: dict[tuple[str, str], bool] = {}
        self.project = Project(root / "data", root / "storage", self._note)
        self.home, self.base = home, base
        self.code_versions = root / "code_versions.json"
        self.settings: dict[str, object] = {
            "model.base": str(base),
            "data.gates.rejected_bytes": 0.6,
            "data.gates.rejected_documents": 0.6,  # one line adds a file that cannot be read
        }
        self.server: WebServer
        for name in ("ferry", "second"):
            corpus = Corpus(self.project, name)
            corpus.write("ferry.txt", PROSE)
            corpus.write("crates.json", json.dumps(qa_records(12)))
            corpus.write("old.md", OLD)
            corpus.write(
                "house.jinja", "{{ system }}\nGuest: {{ instruction }}\nHost: {{ output }}"
            )
            write_pdf(corpus.folder / "timetable.pdf", ["The ferry leaves the quay at six."])
        self.write_settings()
        Corpus(self.project, "second").settings(f"model: {{base: '{base}'}}")

    def _note(self, made: Made) -> None:
        self.made[made.manifest.corpus, made.manifest.asset] = made.reused

    def cells(self) -> list[str]:
        """The outcome of each asset of the first corpus since the list was cleared."""
        said = {False: MADE, True: REUSED, None: UNTOUCHED}
        return [said[self.made.get(("ferry", asset))] for asset in GRAPH]

    @property
    def ferry(self) -> Corpus:
        return Corpus(self.project, "ferry")

    def write_settings(self) -> None:
        nested: dict[str, object] = {}
        for key, value in self.settings.items():
            *path, last = key.split(".")
            place: dict[str, object] = nested
            for name in path:
                place = place.setdefault(name, {})  # type: ignore[assignment]
            place[last] = value
        self.ferry.settings(yaml.safe_dump(nested))

    def set(self, key: str, value: object) -> None:
        self.settings[key] = value
        self.write_settings()

    def bump(self, asset: str) -> None:
        """Gives a stage a new code version: here, in the web server and in later processes."""
        bumped = graph.GRAPH[asset].code_version + "+"
        known = json.loads(self.code_versions.read_text()) if self.code_versions.exists() else {}
        self.code_versions.write_text(json.dumps({**known, asset: bumped}))
        graph.GRAPH[asset] = replace(GRAPH[asset], code_version=bumped)
        self.server.reload()

    def observe(self) -> None:
        """Runs what the sensor requests once a change has settled."""
        with dg.DagsterInstance.get() as instance:
            for corpus in self.project.corpora():
                for key, version in self.project.observed(corpus).items():
                    report_version(instance, dg.AssetKey(key.split("/")), corpus, version)

    def refresh(self, *corpora: str) -> None:
        """Refreshes corpora: in this process or, if code changed, in one that has the new code."""
        if self.code_versions.exists():
            command = [sys.executable, "-m", "ft_assets_tests.defs.fake_training", *corpora]
            done = subprocess.run(command, stdout=subprocess.PIPE, env=self.environment())
            for corpus, asset, reused in json.loads(done.stdout):
                self.made[corpus, asset] = reused
            return
        for corpus in corpora:
            found = refresh_corpus(
                self.project, corpus, "gguf", lambda name, making: None, compute=StandIn()
            )
            assert not found.failures, found.failures

    def environment(self) -> dict[str, str]:
        """The environment of other processes."""
        return {
            **os.environ,
            "FT_ASSETS_DATA": str(self.project.data),
            "FT_ASSETS_STORAGE": str(self.project.storage.root),
            CODE_VERSIONS: str(self.code_versions),
        }

    def materialize_all(self, corpus: str) -> None:
        """The button of the UI: every asset in one run, in any state."""
        with dg.DagsterInstance.get() as instance:
            instance.add_dynamic_partitions("corpus", [corpus])
            definitions = build_definitions(project=self.project, compute=StandIn())
            job = definitions.resolve_job_def(REFRESH_JOB)
            assert job.execute_in_process(instance=instance, partition_key=corpus).success

    def agree(self) -> None:
        """Asserts that Dagster marks exactly the assets that are stale for a reason of their own."""
        for corpus in ("ferry", "second"):
            marks = self.server.stale_status(list(GRAPH), corpus)
            assert marks == {
                asset: "MISSING" if state.version is None else ("STALE" if state.own else "FRESH")
                for asset, state in self.project.status(corpus).items()
            }, corpus


Change = Callable[[World], object]


@dataclass(frozen=True)
class Row:
    """One line of the table. Unless `observed`, nothing is observed between the change and the run.

    A change `everywhere` concerns every corpus.
    """

    name: str
    change: Change
    observed: bool = True
    by_button: bool = False
    everywhere: bool = False


def _setting(key: str, value: object) -> Change:
    return lambda world: world.set(key, f"{world.base}-2" if value is None else value)


def _reorder(world: World) -> None:
    text = (world.ferry.folder / "finetune.yaml").read_text()
    blocks = yaml.safe_load(text)
    turned = yaml.safe_dump(dict(reversed(blocks.items())), sort_keys=False)
    world.ferry.settings(f"# a comment\n{turned}")


def _rename(world: World) -> None:
    (world.ferry.folder / "ferry.txt").rename(world.ferry.folder / "boat.txt")


_OWNERS = {key for key, field in all_settings() if declaration(field).whose == "owner"}
ROWS = [
    Row("nothing", lambda world: None),
    Row("*Materialize all* with nothing changed", lambda world: None, by_button=True),
    Row("a file touched", lambda world: os.utime(world.ferry.folder / "ferry.txt")),
    Row(
        "white space changed, the same text after parsing",
        lambda world: world.ferry.write("ferry.txt", PROSE.replace("\n", "\r\n")),
    ),
    Row("a comment and another key order in the YAML", _reorder),
    Row("a document edited", lambda world: world.ferry.write("ferry.txt", PROSE + " More.")),
    Row("a document added", lambda world: world.ferry.write("new.md", "# The goat\n\nIt is grey.")),
    Row("a document renamed", _rename),
    Row("a document removed", lambda world: (world.ferry.folder / "old.md").unlink()),
    Row("that document put back", lambda world: world.ferry.write("old.md", OLD)),
    Row("an unreadable file added", lambda world: world.ferry.write("x.pdf", b"%PDF-1.7 no")),
    Row(
        "`questions.jsonl` added",
        lambda world: world.ferry.write("questions.jsonl", '{"question": "Who?", "key_fact": "B"}'),
    ),
    *(
        Row(f"`{key}`", _setting(key, value), everywhere=key in _OWNERS)
        for key, value in SETTINGS.items()
    ),
    *(Row(name, _setting(played, alike[played])) for name, (alike, played) in ALIKE.items()),
    Row("`data.template: house.jinja`", _setting("data.template", "house.jinja")),
    Row(
        "the text of `house.jinja`",
        lambda world: world.ferry.write(
            "house.jinja", "{{ system }}\nQ: {{ instruction }}\nA: {{ output }}"
        ),
    ),
    Row("a setting changed", _setting("training.seed", 20)),
    Row("that setting changed back", _setting("training.seed", 18)),
    Row(
        "a document edited, and materialized before it was observed",
        lambda world: world.ferry.write("boat.txt", PROSE + " Unseen."),
        observed=False,
        by_button=True,
    ),
    Row(
        "a setting changed, and refreshed before it was observed",
        _setting("model.lora.r", 4),
        observed=False,
    ),
    *(
        Row(
            f"code version of `{asset}`",
            lambda world, asset=asset: world.bump(asset),  # type: ignore[misc]
            everywhere=True,
        )
        for asset in GRAPH
    ),
]


def play(world: World, row: Row) -> list[str]:
    """Makes one change and refreshes; returns the cells of its line, and asserts that Dagster agrees."""
    second = _snapshot(world, "second")
    row.change(world)
    if row.observed:
        world.observe()
        world.agree()
    world.made.clear()
    if row.by_button:
        world.materialize_all("ferry")
    world.refresh("second", *([] if row.by_button else ["ferry"]))
    world.agree()
    assert {state.state for state in world.project.status("ferry").values()} == {"fresh"}
    if not row.everywhere:
        assert _snapshot(world, "second") == second
    return world.cells()


def _snapshot(world: World, corpus: str) -> dict[str, int]:
    root = world.project.storage.root / corpus
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*.json")}


@contextmanager
def world_in(root: Path, base: Path) -> Iterator[World]:
    """A world whose corpora are built before anything was observed."""
    os.environ["DAGSTER_HOME"] = str(root / "home")
    os.environ["ANTHROPIC_API_KEY"] = "of-nobody"
    world = World(root, dagster_home(), base)
    with serve(
        world.home, "ft_assets_tests.defs.fake_training", world.environment()
    ) as world.server:
        yield world


def table(root: Path, base: Path) -> Iterator[str]:
    """The lines of the page's table."""
    yield f"| change | {' | '.join(f'`{asset}`' for asset in GRAPH)} |"
    yield f"|{' --- |' * (len(GRAPH) + 1)}"

    def line(name: str, cells: list[str]) -> str:
        return f"| {name} | {' | '.join(cells)} |"

    with world_in(root, base) as world:
        world.refresh("second", "ferry")
        world.agree()
        yield line("first build, before anything was observed", world.cells())
        for row in ROWS:
            yield line(row.name, play(world, row))
        yield line("a new `DAGSTER_HOME` with the old storage", new_home(world))


def new_home(world: World) -> list[str]:
    """Everything is fresh by the manifests but missing in Dagster, until a refresh reports it."""
    os.environ["DAGSTER_HOME"] = str(world.home.parent / "new-home")
    with serve(
        dagster_home(), "ft_assets_tests.defs.fake_training", world.environment()
    ) as world.server:
        marks = world.server.stale_status(list(GRAPH), "ferry")
        assert set(marks.values()) == {"MISSING"}
        world.made.clear()
        world.refresh("second", "ferry")
        world.agree()
    return world.cells()


@pytest.fixture
def untouched_graph() -> Iterator[None]:
    nodes, environment = dict(graph.GRAPH), dict(os.environ)
    yield
    graph.GRAPH.update(nodes)
    os.environ.clear()
    os.environ.update(environment)


def test_every_setting_is_in_the_table() -> None:
    alike = {key for keys, _ in ALIKE.values() for key in keys}
    assert {*SETTINGS, *alike, *NOT_TRIED} == set(leaves(FineTuneConfig()))


def test_each_change_rebuilds_what_the_page_says_and_dagster_agrees(
    tmp_path: Path, untouched_graph: None
) -> None:
    page = [line for line in PAGE.read_text().splitlines() if line.startswith("|")]
    assert list(table(tmp_path, _bases(tmp_path))) == page


def _bases(root: Path) -> Path:
    """A base model, and a second one next to it."""
    make_pico_model(root / "pico-2", seed=2)
    return make_pico_model(root / "pico", seed=1)


def main() -> None:
    """Rewrites the page's table."""
    text = PAGE.read_text()
    with tempfile.TemporaryDirectory() as scratch:
        lines = []
        for line in table(Path(scratch), _bases(Path(scratch))):
            print(line, flush=True)
            lines.append(line)
    before, _, after = text.partition("\n|")
    rest = [line for line in after.splitlines() if not line.startswith("|")][1:]
    PAGE.write_text("\n".join([before, *lines, *rest]) + "\n")


if __name__ == "__main__":
    main()
