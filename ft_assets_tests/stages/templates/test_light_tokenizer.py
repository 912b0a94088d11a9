"""The light tokenizer gives the ids, the texts and the files that transformers gives, for all families."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from ft_assets.records import Message
from ft_assets.stages.models.light_tokenizer import LightTokenizer
from ft_assets.stages.models.tokenizer_cache import light_tokenizer_of
from ft_assets.stages.templates.conversations import Conversation
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager
from ft_assets.stages.templates.rendered import RenderedRows
from ft_assets_tests.conftest import own_cache
from ft_assets_tests.stages.templates.families import FAMILIES, family_tokenizer

_PARTS = (
    *("The ferry", " leaves", "  at six", "\n\n", "\r\n", "\t", " ", "", ".", "3,000.50", "x" * 70),
    *(
        "cafe\u0301",
        "caf\u00e9",
        "\u1100\u1161\u11a8",
        "\u212b",
        "\ufb01",
        "\u0130",
        "\u1e9b\u0323",
    ),
    *("\u200b", "\ufeff", "\u00ad", "\x00", "\x1b[0m", "\u202e", "\ufffd", "\U0010ffff", "\u2028"),
    *(
        "日本語",
        "ไทย",
        "عربى",
        "हिन्दी",
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "🇩🇪",
        "\u2581",
        "\u0120",
    ),
    *(
        "<s>",
        "</s>",
        "<|im_end|>",
        "<|im_start|>user\n",
        "[INST]",
        "[/INST]",
        "<|eot_id|>",
        "<unk>",
    ),
    *("{{ x }}", "{% raw %}", "def f(x):\n    return x", "<0x0A>", "<|", "|>", "### Response:"),
)
_COUNT = 500
RAW: dict[str, object] = {"normalizer": None, "pre_tokenizer": None}


def _strings() -> list[str]:
    draw = random.Random(13)
    return ["".join(draw.choices(_PARTS, k=draw.randint(1, 9))) for _ in range(_COUNT)]


def _conversations() -> list[tuple[list[Message], None]]:
    texts = _strings()
    return [
        ([{"role": "user", "content": asked}, {"role": "assistant", "content": answer}], None)
        for asked, answer in zip(texts, reversed(texts), strict=True)
    ]


def _same_ids(light: LightTokenizer, theirs: Any) -> None:
    texts = _strings()
    for add in (True, False):
        expected = theirs(texts, add_special_tokens=add)["input_ids"]
        assert light(texts, add_special_tokens=add)["input_ids"] == expected
    assert [light(text)["input_ids"] for text in texts[:9]] == [
        theirs(text)["input_ids"] for text in texts[:9]
    ]


def _same_facts(light: LightTokenizer, theirs: Any) -> None:
    for name in (
        *("bos_token", "bos_token_id", "eos_token", "eos_token_id", "unk_token_id", "is_fast"),
        *("special_tokens_map", "all_special_tokens", "split_special_tokens", "chat_template"),
    ):
        assert getattr(light, name) == getattr(theirs, name), name
    for token in ("</s>", "the", "never a token"):
        assert light.convert_tokens_to_ids(token) == theirs.convert_tokens_to_ids(token)
    ours, added = light.added_tokens_decoder, theirs.added_tokens_decoder
    assert {place: token.__getstate__() for place, token in ours.items()} == {
        place: token.__getstate__() for place, token in added.items()
    }


def _same_files(light: LightTokenizer, theirs: Any, folder: Path) -> None:
    """What a dataset keeps of a tokenizer with a template of its own."""
    for name, tokenizer in (("ours", light), ("theirs", theirs)):
        tokenizer.chat_template = "{{ messages }}\r\n\u2028é"
        tokenizer.save_pretrained(folder / name)
    files = {path.name: path.read_bytes() for path in (folder / "theirs").iterdir()}
    assert {path.name: path.read_bytes() for path in (folder / "ours").iterdir()} == files


def _same_texts(light: LightTokenizer, theirs: Any, template: str) -> None:
    """Rows by both, and their prompts by transformers alone."""
    light.chat_template = theirs.chat_template = template
    ours, reference = PromptTemplateManager(light), PromptTemplateManager(theirs)
    conversations = _conversations()
    asked_for = [Conversation(*each) for each in conversations]
    found = ours.rows(asked_for)
    assert list(map(repr, found)) == list(map(repr, reference.rows(asked_for)))
    assert sum(isinstance(rows, RenderedRows) for rows in found) > _COUNT / 2
    for (messages, _), rows in zip(conversations, found, strict=True):
        if isinstance(rows, RenderedRows):
            [row] = rows.rows
            asked = [{"role": "user", "content": ours.escape(messages[0]["content"])}]
            assert row.prompt == theirs.apply_chat_template(
                asked,
                chat_template=ours.chat_template,
                add_generation_prompt=True,
                tokenize=False,
            )


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of the test's own: the tokenizers of families are large."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_cache(tmp_path / "cache")))
    yield
    shutil.rmtree(tmp_path)


def _both(folder: Path) -> tuple[LightTokenizer, Any]:
    from transformers import AutoTokenizer

    light = light_tokenizer_of(folder)
    assert isinstance(light, LightTokenizer)
    return light, AutoTokenizer.from_pretrained(folder)


def test_the_demos_tokenizer_is_transformers(smollm: Path, tmp_path: Path) -> None:
    light, theirs = _both(smollm)
    _same_facts(light, theirs)
    _same_ids(light, theirs)
    _same_texts(light, theirs, str(theirs.chat_template))
    _same_files(light, theirs, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_a_familys_tokenizer_is_transformers(family: str, tmp_path: Path, request: Any) -> None:
    family_tokenizer(family).save_pretrained(tmp_path / "model")
    request.getfixturevalue("cache")
    light, theirs = _both(tmp_path / "model")
    _same_facts(light, theirs)
    _same_ids(light, theirs)
    for template in FAMILIES[family].templates().values():
        _same_texts(light, theirs, template)
    _same_files(light, theirs, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "loaded_as"), [("qwen2.5", "Qwen2Tokenizer"), ("nemo-spm", "LlamaTokenizer")]
)
def test_what_transformers_changes_while_it_loads_is_kept(
    family: str, loaded_as: str, tmp_path: Path, request: Any
) -> None:
    """What the file does not say of how text is prepared, transformers' classes put in."""
    family_tokenizer(family).save_pretrained(tmp_path / "model")
    for name, changed in (("tokenizer_config", {"tokenizer_class": loaded_as}), ("tokenizer", RAW)):
        path = tmp_path / "model" / f"{name}.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    request.getfixturevalue("cache")
    light, theirs = _both(tmp_path / "model")
    _same_facts(light, theirs)
    _same_ids(light, theirs)
    _same_files(light, theirs, tmp_path)
    raw = Tokenizer.from_file(str(tmp_path / "model" / "tokenizer.json"))
    assert any(raw.encode(text).ids != light(text)["input_ids"] for text in _strings())
