"""One GPU trains, in a precision that it has. The GPUs are made up: CI has none."""

import os
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ft_assets.errors import UserError
from ft_assets.stages.models.precision import precision_of
from ft_assets.stages.training.gpus import say_emulation, use_gpus


@given(
    count=st.integers(0, 9),
    own=st.none() | st.lists(st.integers(0, 7), min_size=1, unique=True),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_first_gpu_is_left_visible(
    monkeypatch: pytest.MonkeyPatch, count: int, own: list[int] | None
) -> None:
    with monkeypatch.context() as patch:
        seen = ",".join(map(str, own or []))
        patch.setenv("CUDA_VISIBLE_DEVICES", seen) if own else patch.delenv(
            "CUDA_VISIBLE_DEVICES", raising=False
        )
        patch.setattr(torch.cuda, "device_count", lambda: len(own) if own else count)
        said: list[str] = []
        use_gpus(1, said.append)
        now = os.environ.get("CUDA_VISIBLE_DEVICES")
    if (len(own) if own else count) < 2:
        assert said == []
        assert now == (seen or None)
    else:
        assert now == str(own[0] if own else 0)
        [line] = said
        assert "CUDA_VISIBLE_DEVICES" in line


def _gpu(monkeypatch: pytest.MonkeyPatch, *, has_bf16: bool) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation or has_bf16

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")


def test_a_gpu_that_emulates_bf16_trains_in_fp16(monkeypatch: Any) -> None:
    _gpu(monkeypatch, has_bf16=False)
    assert precision_of("auto") is torch.float16
    said: list[str] = []
    say_emulation("auto", said.append)
    assert said == []
    say_emulation("bf16", said.append)
    assert "Tesla T4 only emulates it" in said[0]


def test_a_gpu_that_has_bf16_trains_in_it(monkeypatch: Any) -> None:
    _gpu(monkeypatch, has_bf16=True)
    assert precision_of("auto") is torch.bfloat16
    said: list[str] = []
    say_emulation("bf16", said.append)
    assert said == []


def test_more_processes_than_gpus_are_refused_and_enough_gpus_stay_visible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    said: list[str] = []
    use_gpus(2, said.append)
    assert said == []
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,5"
    with pytest.raises(UserError, match=r"compute.processes 3: 2 GPUs"):
        use_gpus(3, said.append)
