"""The types of GGUF files: what the settings take is what llama.cpp writes, and what they refuse it refuses."""

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets.errors import StageError
from ft_assets.names import GGUF_TYPES, NOT_QUANTISED, WITH_MATRIX, GGUFType
from ft_assets.stages.export.llama_cpp import file_type, quantize
from ft_assets.stages.export.model_files import plan

NOT_WRITTEN = {"NVFP4", "GUESSED"}
"""Types that llama.cpp reads only, and its word for an unknown one."""


@pytest.fixture(scope="module")
def tiny_f16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of one layer as an f16 GGUF file, wide enough for every type."""
    import numpy as np
    from gguf import GGUFWriter

    width, path = 256, tmp_path_factory.mktemp("tiny") / "tiny-f16.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(width)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(8)
    writer.add_file_type(1)
    layers = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"]
    shapes = {"token_embd": 8, **{f"blk.0.{name}": width for name in layers}}
    numbers = np.random.default_rng(0)
    for name, rows in shapes.items():
        values = numbers.normal(size=(rows, width)).astype(np.float16)
        writer.add_tensor(f"{name}.weight", values)
    for name in ("blk.0.attn_norm", "blk.0.ffn_norm", "output_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_every_type_of_llama_cpp_is_taken_or_refused() -> None:
    import llama_cpp

    known = {
        name.removeprefix("LLAMA_FTYPE_").removeprefix("MOSTLY_").removeprefix("ALL_")
        for name in vars(llama_cpp)
        if name.startswith("LLAMA_FTYPE_")
    }
    assert {kind.upper() for kind in GGUF_TYPES} | WITH_MATRIX | NOT_WRITTEN == known
    assert not {kind.upper() for kind in GGUF_TYPES} & WITH_MATRIX


@pytest.mark.parametrize("kind", GGUF_TYPES)
def test_llama_cpp_writes_every_type_that_the_settings_take(
    tiny_f16: Path, tmp_path: Path, kind: GGUFType
) -> None:
    assert quantize(tiny_f16, tmp_path / "made.gguf", kind) is None
    _, after = (tmp_path / "made.gguf").read_bytes().split(b"general.file_type", 1)
    assert struct.unpack("<II", after[:8]) == (4, file_type(kind))  # 4 is an unsigned number


@pytest.mark.parametrize("kind", sorted(WITH_MATRIX))
def test_llama_cpp_refuses_every_type_that_the_settings_refuse(
    tiny_f16: Path, tmp_path: Path, kind: str
) -> None:
    with pytest.raises(StageError, match=rf"to {kind} \(this quantization requires an imatrix!\)"):
        quantize(tiny_f16, tmp_path / "made.gguf", kind)


_DIGITS: dict[str, set[str]] = {
    "f32": {"f32", "f16", "bf16"},
    "f16": {"f16"},
    "bf16": {"bf16"},
}
"""Which weights a type holds as they are, by the model's own type."""


@given(st.lists(st.sampled_from(GGUF_TYPES), unique=True), st.sampled_from(["f32", "f16", "bf16"]))
def test_nothing_is_rounded_twice_and_no_type_is_converted_twice(
    kinds: list[GGUFType], own: GGUFType
) -> None:
    source, converted = plan(kinds, own)
    made = [kind for kind in kinds if kind not in converted]
    assert len(set(converted)) == len(converted)
    assert set(converted) <= {*kinds} & {*NOT_QUANTISED}
    assert (source is None) == (not made)
    for kind in made:
        if kind in NOT_QUANTISED:
            assert own in _DIGITS[str(source)] or source == "f32"
        else:
            assert source != "bf16" or own == "bf16"
    if own == "bf16":
        assert len({*converted, source} - {None}) <= 1 or "f16" in converted


@pytest.mark.parametrize(
    ("kinds", "own", "source", "converted"),
    [
        (["f16", "Q4_K_M"], "bf16", "f16", ["f16"]),
        (["f16", "Q4_K_M"], "f32", "f16", ["f16"]),
        (["Q8_0"], "bf16", "bf16", []),
        (["bf16", "f16", "f32"], "bf16", "f32", ["f32"]),
        (["f16", "bf16"], "bf16", "bf16", ["bf16"]),
        (["bf16"], "f32", None, ["bf16"]),
        (["bf16", "Q8_0"], "f32", "f16", ["bf16"]),
        ([], "f32", None, []),
    ],
)
def test_the_converter_runs_as_often_as_it_must(
    kinds: list[GGUFType], own: GGUFType, source: str | None, converted: list[str]
) -> None:
    assert plan(kinds, own) == (source, tuple(converted))
