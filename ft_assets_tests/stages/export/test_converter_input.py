"""What llama.cpp's converter is told of a tokenizer is what the tokenizer does."""

import json
from pathlib import Path
from typing import Any

import pytest

from ft_assets.stages.export.converter_input import converter_input
from ft_assets.stages.models.tokenizer import save_tokenizer, tokenizer_of
from ft_assets_tests.conftest import PROSE


def _sentencepiece(folder: Path, *, spaced: bool, adds_bos: bool) -> Path:
    """A model folder with a tokenizer of SentencePiece's kind, without weights."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE(unk_token="<unk>"))
    if spaced:
        prepend = [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        inner.normalizer = normalizers.Sequence(prepend)
    else:
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    marks = ["<unk>", "<s>", "</s>", "[INST]"]
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=marks, show_progress=False)
    inner.train_from_iterator([PROSE], trainer)
    if adds_bos:
        inner.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
        )
    tokenizer: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=inner, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.save_pretrained(folder)
    (folder / "tokenizer.model").write_bytes(b"pieces")
    return folder


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("adds_bos", [False, True])
def test_the_settings_are_those_of_the_tokenizer(
    tmp_path: Path, spaced: bool, adds_bos: bool
) -> None:
    model = _sentencepiece(tmp_path, spaced=spaced, adds_bos=adds_bos)
    path = model / "tokenizer_config.json"
    wrong = {"add_prefix_space": not spaced, "add_bos_token": not adds_bos}
    before = json.dumps({**json.loads(path.read_text()), **wrong})
    path.write_text(before)
    with converter_input(model) as folder:
        told = json.loads((folder / "tokenizer_config.json").read_text())
        assert {each.name for each in folder.iterdir()} == {each.name for each in model.iterdir()}
        assert (folder / "tokenizer.model").read_bytes() == b"pieces"
    assert (told["add_prefix_space"], told["add_bos_token"]) == (spaced, adds_bos)
    assert "[INST]" in told["extra_special_tokens"]
    assert path.read_text() == before
    assert not folder.exists()


def test_a_vocabulary_of_bytes_says_nothing_of_spaces(pico_model: Path) -> None:
    with converter_input(pico_model) as folder:
        told = json.loads((folder / "tokenizer_config.json").read_text())
    assert "add_prefix_space" not in told
    assert told["add_bos_token"] is False


def test_a_sentencepiece_vocabulary_travels_with_its_added_tokens(tmp_path: Path) -> None:
    base = _sentencepiece(tmp_path / "base", spaced=True, adds_bos=True)
    tokenizer: Any = tokenizer_of(base)
    save_tokenizer(tokenizer, base, tmp_path / "saved")
    assert (tmp_path / "saved" / "tokenizer.model").read_bytes() == b"pieces"
    config = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert config["added_tokens_decoder"]["3"]["content"] == "[INST]"
    text = f"[INST] {PROSE}</s>"
    assert tokenizer_of(tmp_path / "saved")(text) == tokenizer(text)


def test_other_tokenizers_are_saved_as_transformers_does(pico_model: Path, tmp_path: Path) -> None:
    tokenizer = tokenizer_of(pico_model)
    tokenizer.save_pretrained(tmp_path / "theirs")
    save_tokenizer(tokenizer, pico_model, tmp_path / "ours")
    for path in (tmp_path / "theirs").iterdir():
        assert (tmp_path / "ours" / path.name).read_bytes() == path.read_bytes()
