"""What a training is said to take: before it, by its own first steps, and the next time."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as tried
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ft_assets.config import LoraSettings, TrainingConfig
from ft_assets.engine.project import Project
from ft_assets.stages.models.precision import precision_of
from ft_assets.stages.models.weights import parameters_of
from ft_assets.stages.training import machine as machines
from ft_assets.stages.training.estimate import (
    Rows,
    estimated,
    memory_needed,
    work_of,
)
from ft_assets.stages.training.machine import Machine, precision_here, this_machine
from ft_assets.stages.training.measured import ROOM, Kind, Measured, keep, measured
from ft_assets.stages.training.shape import Shape, shape_of
from ft_assets_tests.conftest import Corpus
from ft_assets_tests.stages.training.in_a_worker import prepared, records

LORA = LoraSettings()
CPU = Machine("a processor, 2 cores", 24 << 30, False, 2)
LLAMA_8B: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
}


def _shape(folder: Path, **changes: Any) -> Shape:
    """The sizes by a config.json alone."""
    (folder / "config.json").write_text(json.dumps({**LLAMA_8B, **changes}))
    found = shape_of(folder)
    assert found
    return found


@pytest.fixture
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache in which nothing was measured yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "ft-assets" / ROOM


def _resolved(**changes: Any) -> TrainingConfig:
    own = {"num_train_epochs": 2.0, "per_device_train_batch_size": 4, "packing": False, **changes}
    return TrainingConfig.model_validate({"rehearsal": 0.0, **own})


ROWS = Rows(100, 20_000, 8_000, 400, 50.0, 0)


def _needed(shape: Shape, settings: TrainingConfig, rows: Rows = ROWS, **more: Any) -> int:
    precision = more.pop("precision", "fp32")
    lora = more.pop("lora", LORA)
    work = work_of(rows, settings, padded=False)
    return memory_needed(shape, lora, settings, work, precision, on_gpu=True, **more)


def test_sizes_are_the_same_with_and_without_weights(nano_model: Path, tmp_path: Path) -> None:
    with_weights = shape_of(nano_model)
    (tmp_path / "config.json").write_bytes((nano_model / "config.json").read_bytes())
    without = shape_of(tmp_path)
    assert with_weights
    assert without
    assert with_weights.parameters == parameters_of(nano_model)
    assert {(each.outputs, each.inputs) for each in with_weights.linears} == {
        (each.outputs, each.inputs) for each in without.linears
    }
    assert with_weights.adapter(LORA) == without.adapter(LORA)
    # Only the norms are left out: 5 vectors.
    assert with_weights.parameters - without.parameters == 5 * with_weights.hidden


def test_the_adapter_has_as_many_parameters_as_peft_gives_it(nano_model: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    shape = shape_of(nano_model)
    assert shape
    for targets in ("all-linear", ["q_proj", "down_proj"]):
        model: Any = AutoModelForCausalLM.from_pretrained(nano_model)
        tuned = get_peft_model(model, LoraConfig(r=16, target_modules=targets))
        trained = sum(each.numel() for each in tuned.parameters() if each.requires_grad)
        assert shape.adapter(LoraSettings(target_modules=targets)) == trained


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"hidden_size": "x"}', '{"hidden_size": null}']
)
def test_a_configuration_that_says_too_little_gives_no_sizes(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    assert shape_of(tmp_path) is None
    assert shape_of(tmp_path / "none") is None


def test_an_8b_model_takes_what_is_known_of_it(tmp_path: Path) -> None:
    shape = _shape(tmp_path)
    assert shape.parameters == pytest.approx(8.03e9, rel=0.001)
    assert shape.adapter(LORA) == 41_943_040  # what PEFT prints for r 16 on all linear layers
    settings = _resolved(gradient_checkpointing=True)
    assert 16e9 < _needed(shape, settings, precision="bf16") < 22e9
    assert 5.7e9 < _needed(shape, settings, precision="bf16", load_in_4bit=True) < 11e9


_BATCHES: SearchStrategy[int] = st.sampled_from([1, 2, 4, 8])
_MORE: list[dict[str, Any]] = [
    {"num_hidden_layers": 33},
    {"hidden_size": 4224, "head_dim": 132},
    {"intermediate_size": 14337},
    {"vocab_size": 128_257},
    {"num_key_value_heads": 16},
]


@given(changes=st.sampled_from(_MORE), batch=_BATCHES, checkpointed=st.booleans())
def test_a_larger_model_takes_more(
    tmp_path_factory: pytest.TempPathFactory,
    changes: dict[str, Any],
    batch: int,
    checkpointed: bool,
) -> None:
    folder = tmp_path_factory.mktemp("shape")
    settings = _resolved(per_device_train_batch_size=batch, gradient_checkpointing=checkpointed)
    assert _needed(_shape(folder), settings) < _needed(_shape(folder, **changes), settings)


@given(
    batch=_BATCHES,
    longest=st.integers(10, 1_000),
    precision=st.sampled_from(["fp32", "bf16"]),
    checkpointed=st.booleans(),
)
def test_a_larger_batch_and_longer_rows_take_more_and_checkpointing_less(
    tmp_path_factory: pytest.TempPathFactory,
    batch: int,
    longest: int,
    precision: str,
    checkpointed: bool,
) -> None:
    shape = _shape(tmp_path_factory.mktemp("shape"))

    def needed(batch: int, longest: int, checkpointed: bool = checkpointed, **more: Any) -> int:
        settings = _resolved(
            per_device_train_batch_size=batch, gradient_checkpointing=checkpointed, **more
        )
        rows = replace(ROWS, longest=longest)
        return _needed(shape, settings, rows, precision=precision)

    here = needed(batch, longest)
    assert here < needed(2 * batch, longest)
    assert here < needed(batch, longest + 20)
    assert needed(batch, longest, True) < needed(batch, longest, False)
    assert (
        needed(batch, longest, optim="sgd") < needed(batch, longest, optim="adamw_bnb_8bit") < here
    )


@given(
    count=st.integers(1, 60),
    batch=st.integers(1, 9),
    accumulated=st.integers(1, 5),
    epochs=st.sampled_from([0.4, 1.0, 2.0, 2.5]),
)
def test_steps_are_those_of_the_trainer(
    count: int, batch: int, accumulated: int, epochs: float
) -> None:
    settings = _resolved(
        num_train_epochs=epochs,
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulated,
    )
    rows = replace(ROWS, count=count, tokens=count * 20)
    assert work_of(rows, settings, padded=False).steps == _steps_of_the_trainer(count, settings)


def _steps_of_the_trainer(count: int, settings: TrainingConfig) -> int:
    """By transformers' own rule."""
    from transformers import Trainer, TrainingArguments

    class Loader:
        """A loader of so many batches."""

        def __len__(self) -> int:
            return -(-count // int(settings.per_device_train_batch_size or 1))

    arguments = TrainingArguments(
        num_train_epochs=settings.num_train_epochs or 1.0,
        per_device_train_batch_size=settings.per_device_train_batch_size or 1,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        use_cpu=True,
        report_to="none",
    )
    trainer: Any = Trainer.__new__(Trainer)  # of a whole one only this rule is asked
    trainer.get_sp_size = lambda: 1
    trainer.get_total_train_batch_size = lambda _: 1
    trainer.num_examples = lambda _: count
    found = trainer.set_initial_training_values(arguments, Loader())
    return int(found[-1])


def _kind(tmp_path: Path, **changes: Any) -> Kind:
    return Kind(CPU, _shape(tmp_path, **changes), "fp32", False, False)


def _took(**changes: Any) -> Measured:
    return replace(Measured(250, 0.01, 12.0, 1e9, 3 << 30, 2 << 30), **changes)


def test_what_was_measured_is_what_is_expected_next(own_cache: Path, tmp_path: Path) -> None:
    kind, settings = _kind(tmp_path), _resolved()
    first = estimated(kind, LORA, settings, ROWS)
    assert not first.is_measured
    assert "roughly" in str(first)
    keep(kind, _took(peak_memory=first.memory // 2, estimated_memory=first.memory))
    second = estimated(kind, LORA, settings, ROWS)
    assert second.is_measured
    assert second.memory == pytest.approx(first.memory / 2, rel=0.01)
    assert second.seconds == pytest.approx(
        12.0 + work_of(ROWS, settings, padded=False).tokens * 0.01
    )
    assert "roughly" not in str(second)
    [path] = own_cache.iterdir()
    assert CPU.name in path.read_text()


def test_another_model_precision_or_machine_is_not_taken_for_measured(
    own_cache: Path, tmp_path: Path
) -> None:
    kind = _kind(tmp_path)
    keep(kind, _took())
    others = [
        _kind(tmp_path, num_hidden_layers=31),
        replace(kind, precision="bf16"),
        replace(kind, load_in_4bit=True),
        replace(kind, gradient_checkpointing=True),
        replace(kind, machine=replace(CPU, name="another processor, 2 cores")),
    ]
    assert [measured(other) for other in others] == [None] * 5
    # The speed of this machine with another model is a better guess than none.
    guess = estimated(others[0], LORA, _resolved(), ROWS)
    keep(kind, _took(seconds_per_token=0.1))
    slower = estimated(others[0], LORA, _resolved(), ROWS)
    assert guess.seconds
    assert slower.seconds
    assert slower.seconds > 5 * guess.seconds


@tried(max_examples=40)
@given(
    content=st.one_of(
        st.binary(max_size=40),
        st.dictionaries(
            st.sampled_from([*Measured.__dataclass_fields__]),
            st.one_of(st.none(), st.text(), st.floats(), st.integers(), st.lists(st.integers())),
        ).map(lambda said: json.dumps(said).encode()),
    )
)
def test_a_damaged_file_counts_for_none(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        kind = _kind(folder)
        keep(kind, _took())
        kind.path.write_bytes(content)
        found = measured(kind)
        assert found is None or all(value > 0 for value in vars(found).values())
        assert estimated(kind, LORA, _resolved(), ROWS).memory > 0


def test_a_cache_that_cannot_be_written_stops_nothing(own_cache: Path, tmp_path: Path) -> None:
    own_cache.parent.mkdir(parents=True)
    own_cache.write_text("a file where the folder should be")
    keep(_kind(tmp_path), _took())
    assert measured(_kind(tmp_path)) is None


def test_what_does_not_fit_is_told_with_what_to_lower(own_cache: Path, tmp_path: Path) -> None:
    small = replace(_kind(tmp_path), machine=replace(CPU, memory=8 << 30))
    told = estimated(small, LORA, _resolved(), ROWS)
    assert not told.fits
    for key in ("per_device_train_batch_size (now 4)", "gradient_checkpointing", "max_length"):
        assert f"training.{key}" in told.warning
    assert "8.0 GiB of this machine" in told.warning
    assert told.to_json()["fits"] is False
    roomy = replace(small, machine=replace(CPU, memory=640 << 30))
    assert estimated(roomy, LORA, _resolved(), ROWS).warning == ""


def test_the_time_on_a_gpu_is_not_guessed(own_cache: Path, tmp_path: Path) -> None:
    gpu = replace(_kind(tmp_path), machine=Machine("NVIDIA X", 80 << 30, True, 1))
    told = estimated(gpu, LORA, _resolved(), ROWS)
    assert told.seconds is None
    assert str(told).startswith("50 steps, about ")
    assert "of the 80.0 GiB of the GPU (NVIDIA X)" in str(told)


def test_the_precision_is_the_one_that_training_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    names = {"fp32": "torch.float32", "bf16": "torch.bfloat16", "fp16": "torch.float16"}
    settings = ("auto", "fp32", "bf16")
    taken = [str(precision_of(setting)) for setting in settings]
    assert [names[precision_here(each, this_machine())] for each in settings] == taken
    monkeypatch.delitem(sys.modules, "torch")  # as for `status`, which never imports it
    assert [names[precision_here(each, this_machine())] for each in settings] == taken


def test_a_container_has_the_memory_that_it_is_allowed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machines, "_LIMITS", (limit, tmp_path / "none"))
    for text, allowed in (("max\n", None), (f"{1 << 30}\n", 1 << 30)):
        limit.write_text(text)
        this_machine.cache_clear()
        memory = this_machine().memory
        assert memory == allowed if allowed else memory > 1 << 30
    this_machine.cache_clear()


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, nano_model: Path
) -> Iterator[tuple[Project, Path, list[str]]]:
    """A project whose adapter was trained in this process, its cache, and the lines of progress."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        training = {"per_device_train_batch_size": 2, "num_train_epochs": 1, "rehearsal": 0.0}
        project = prepared(folder, nano_model, records(30, 8, 6), training=training)
        said: list[str] = []
        project.make("ferry", "adapter", report=said.append)
        yield project, folder / "cache" / "ft-assets" / ROOM, said


def test_a_training_says_before_what_it_takes_and_keeps_what_it_took(
    trained: tuple[Project, Path, list[str]],
) -> None:
    project, room, said = trained
    manifest = project.storage.current("ferry", "adapter")
    assert manifest
    [expected] = [line for line in said if line.startswith("expected: ")]
    assert expected.startswith(f"expected: {int(manifest.counts['steps'])} steps, roughly ")
    first_step = next(at for at, line in enumerate(said) if line.startswith("step 1/"))
    assert said.index(expected) < first_step
    [path] = room.iterdir()
    kept = json.loads(path.read_text())
    assert kept["steps"] == manifest.counts["steps"] > 10
    assert manifest.cost["peak_memory"] > 100e6
    assert manifest.cost["estimated_memory"] > 0


@pytest.mark.slow
def test_the_second_estimate_of_time_is_right(trained: tuple[Project, Path, list[str]]) -> None:
    project, room, _ = trained
    before = json.loads(next(room.iterdir()).read_text())
    again = project.make("ferry", "adapter", force=True).manifest
    after = json.loads(next(room.iterdir()).read_text())
    slower = after["seconds_per_token"] / before["seconds_per_token"]  # a busy machine
    steps = again.cost["estimated_seconds"] - before["startup_seconds"]
    took = again.cost["seconds"] - after["startup_seconds"]
    assert steps * slower == pytest.approx(took, rel=0.3)


def test_an_estimate_and_its_measurement_are_in_no_fingerprint(
    trained: tuple[Project, Path, list[str]],
) -> None:
    project, room, _ = trained
    before = project.status("ferry")["adapter"]
    for path in room.iterdir():
        path.write_text("{}")
    after = project.status("ferry")["adapter"]
    assert (before.state, before.version) == (after.state, after.version)
    assert after.state == "fresh"


def test_whoever_asks_before_gets_the_same_estimate(
    corpus: Corpus, nano_model: Path, cli: Any, own_cache: Path
) -> None:
    corpus.settings(json.dumps({"model": {"base": str(nano_model)}, "export": {"gguf": []}}))
    early = json.loads(cli("validate", "--json").stdout)["corpora"]["ferry"]["estimate"]
    assert "training: " not in cli("status").stdout
    for asset in ("raw_documents", "chunks", "qa_pairs", "formatted_dataset"):
        corpus.project.make("ferry", asset)
    told = json.loads(cli("status", "--json").stdout)["estimates"]["ferry"]
    assert json.loads(cli("validate", "--json").stdout)["corpora"]["ferry"]["estimate"] == told
    assert early["is_exact"] is False
    assert told["is_exact"] is True
    assert told["steps"] == pytest.approx(early["steps"], rel=0.2)
    assert told["memory"] == pytest.approx(early["memory"], rel=0.2)
    assert f"ferry: training: {told['steps']:,} steps, roughly" in cli("status").stdout
    assert f"  training: {told['steps']:,} steps, roughly" in cli("validate").stdout


def test_a_base_model_that_is_not_here_gets_no_estimate(corpus: Corpus, cli: Any) -> None:
    corpus.settings("model: {base: nobody/has-this-model}")
    done = cli("validate", "--json")
    assert json.loads(done.stdout)["corpora"]["ferry"]["estimate"] is None
    assert "estimates" not in json.loads(cli("status", "--json").stdout)


def test_the_largest_batch_is_never_more_than_the_rows() -> None:
    work = work_of(
        replace(ROWS, count=2, tokens=200), _resolved(per_device_train_batch_size=8), padded=True
    )
    assert work.batch_tokens == 2 * ROWS.longest
