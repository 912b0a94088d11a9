"""Model families that people fine-tune, taken from documents to an answer in llama.cpp.

Each is a nano model with its family's class, special tokens and chat template, and goes through the
real stages. What breaks between training and GGUF breaks here: token ids are the same at every step,
the GGUF file gives the merged model's probabilities, and Ollama is told to ask as training did.
"""

import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ft_assets.engine.graph import GRAPH
from ft_assets.engine.project import Made, Project
from ft_assets.records import Example, Message
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.models.tokenizer_cache import light_tokenizer_of
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager
from ft_assets.stages.templates.tokenization import tokenized_rows
from ft_assets.tables import read_table
from ft_assets.worker import quiet_libraries
from ft_assets_tests.conftest import Corpus, qa_records
from ft_assets_tests.nano_families import FAMILIES, make_nano
from ft_assets_tests.stages.export.go_templates import run_ollama

if TYPE_CHECKING:
    from llama_cpp import Llama

pytestmark = pytest.mark.slow

SENTENCE = "L'été, the ferry  carries 東京 musicians 🙂, who pay\nin songs."
QUESTION: list[Message] = [{"role": "user", "content": "What is in crate 3?"}]
_WITH_ADAPTER = {"llama3.1", "qwen3.5", "phi3.5", "gemma4"}
"""Families whose adapter becomes a GGUF file too: plain, with a linear attention, fused, with its own head sizes."""
UNSOUND = {
    "eval_is_large_enough",
    "loss_fell",
    "tuned_learned",
    "answers_in_llama_cpp",
    "experts_trained",
    "rows_are_enough",
    "general_ability_is_kept",
    "answers_end",
    "merged_answers_as_well",
}
"""Checks that a few steps on a few rows of a random model need not pass."""


FOUR_BITS = "mistral"
"""The family that is trained beside a base in four bits."""


def _settings(name: str, base: Path) -> dict[str, Any]:
    experts = list(FAMILIES[name].experts)
    lora = {"r": 4, "lora_alpha": 8, **({"target_parameters": experts} if experts else {})}
    return {
        "model": {"base": str(base), "lora": lora, "load_in_4bit": name == FOUR_BITS},
        "data": {"eval_fraction": 0.2},
        "training": {
            "num_train_epochs": 1,
            "learning_rate": 1e-3,
            "per_device_train_batch_size": 2,
            "max_length": 512,
        },
        "evaluation": {"max_new_tokens": 2},
        "export": {"gguf": ["f16"], "lora_gguf": name in _WITH_ADAPTER},
    }


def _made(name: str, folder: Path) -> dict[str, Made]:
    """Every asset of a small corpus on the family's nano model."""
    (folder / "data").mkdir()
    corpus = Corpus(Project(folder / "data", folder / "storage"), "ferry")
    corpus.write("crates.json", json.dumps(qa_records(5)))
    corpus.write("ferry.txt", SENTENCE)
    corpus.settings(json.dumps(_settings(name, make_nano(name, folder / "base"))))
    return {asset: corpus.project.make("ferry", asset) for asset in GRAPH}


def _ids(model: "Llama", text: str, *, add_bos: bool = False) -> list[int]:
    ids: list[int] = model.tokenize(text.encode(), add_bos=add_bos, special=True)
    return ids


def _check_rows(made: dict[str, Made], base: Path, model: "Llama") -> list[int]:
    """Every tokenizer on the way gives a row the same ids; returns those of the longest row."""
    path = made["formatted_dataset"].folder / "train.parquet"
    rows = [row["input_ids"] for row in tokenized_rows(path, light_tokenizer_of(base))]
    tokenizers = [made["formatted_dataset"].folder / "tokenizer"]
    tokenizers += [made[asset].folder for asset in ("adapter", "merged_model")]
    for folder in tokenizers:
        tokenizer = tokenizer_of(folder)
        again = tokenized_rows(path, tokenizer)
        assert [row["input_ids"] for row in again] == rows
    for row, ids in zip(read_table(path, Example), rows, strict=True):
        # What is asked with is encoded without the answer, as it is when the model is asked.
        asked, *_ = texts = [piece["text"] for piece in row.segments]
        prompt, whole = _ids(model, asked), _ids(model, "".join(texts))
        assert prompt == ids[: len(prompt)], (asked, prompt, ids)
        assert whole == tokenizer("".join(texts), add_special_tokens=False)["input_ids"]
        assert whole[-3:] == ids[-3:]
    return max(rows, key=len)


def _check_probabilities(merged: Path, model: "Llama", ids: list[int]) -> None:
    """The GGUF file gives each next token the probability that the merged model gives it."""
    import torch
    from transformers import AutoModelForCausalLM

    theirs: Any = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    with torch.no_grad():
        wanted = theirs(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    model.reset()
    model.eval(ids)
    found = torch.from_numpy(model.scores[: len(ids)]).log_softmax(-1)[:, : wanted.shape[1]]
    divergence = (wanted.exp() * (wanted - found)).sum(-1)
    assert float(divergence.mean()) < 1e-3


def _check_modelfile(name: str, folder: Path, merged: Path, model: "Llama") -> None:
    """Ollama asks with the ids that the model is asked with in training, and stops at every stop token."""
    written = (folder / "Modelfile").read_text()
    [template] = re.findall(r'TEMPLATE """(.*)"""\n', written, re.DOTALL)
    tokenizer = tokenizer_of(merged)
    asked = PromptTemplateManager(tokenizer).prompt(QUESTION)
    wanted = tokenizer(asked, add_special_tokens=False)["input_ids"]
    assert _ids(model, run_ollama(template, QUESTION), add_bos=True) == wanted
    stops = {json.loads(text) for text in re.findall("PARAMETER stop (.*)", written)}
    assert stops >= {FAMILIES[name].eos, *FAMILIES[name].stops}


def _check_verdicts(name: str, made: dict[str, Made]) -> None:
    for asset, each in made.items():
        for check, verdict in each.manifest.checks.items():
            assert verdict["passed"] or check in UNSOUND, (asset, check, verdict["message"])
    assert "token ids are equal" in made["gguf"].manifest.checks["answers_in_llama_cpp"]["message"]
    dataset = made["formatted_dataset"].manifest.counts
    assert (dataset["train_rows"], dataset["eval_rows"], dataset["dropped_rows"]) == (5, 1, 0)
    assert made["adapter"].manifest.counts["steps"] == 3
    assert made["evaluation"].manifest.counts["tuned_eval_loss"] > 0
    assert "experts;" not in made["adapter"].manifest.checks["experts_trained"]["message"].replace(
        "shared_experts;", ""
    )
    gap = made["merged_model"].manifest.counts.get("four_bit_kl")
    assert gap is None if name != FOUR_BITS else gap is not None and 0 < gap < 1
    carries = FAMILIES[name].sentencepiece
    for asset in ("adapter", "merged_model"):
        assert (made[asset].folder / "tokenizer.model").is_file() == carries


def _take_through(name: str, folder: Path) -> None:
    """Takes a family from documents to an answer; raises AssertionError for what does not hold."""
    from llama_cpp import Llama

    made = _made(name, folder)
    _check_verdicts(name, made)
    [gguf] = made["gguf"].folder.glob("*-f16.gguf")
    counts = made["gguf"].manifest.counts
    assert counts["f16_kl"] < 1e-3
    assert (made["gguf"].folder / "ferry-lora.gguf").is_file() == (name in _WITH_ADAPTER)
    assert counts.get("lora_kl", 0.0) < 1e-3
    merged = made["merged_model"].folder
    model = Llama(str(gguf), n_ctx=256, logits_all=True, verbose=False)
    try:
        longest = _check_rows(made, folder / "base", model)
        _check_probabilities(merged, model, longest[:200])
        _check_modelfile(name, made["gguf"].folder, merged, model)
        answer: Any = model.create_chat_completion(messages=QUESTION, max_tokens=4, temperature=0.0)
        assert answer["usage"]["completion_tokens"] >= 1
    finally:
        model.close()
    shutil.rmtree(folder)


_TEST = "test_a_family_holds_from_documents_to_an_answer"


def _start() -> None:
    """Sets up a process of the pool: each has one core."""
    quiet_libraries()
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def taken(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, "Future[None]"]]:
    """The families that are asked for, two at a time, each in a process that makes several."""
    items: list[Any] = request.session.items
    asked = {each.callspec.params["name"] for each in items if each.name.startswith(f"{_TEST}[")}
    with ProcessPoolExecutor(2, get_context("spawn"), _start) as pool:
        yield {
            name: pool.submit(_take_through, name, tmp_path_factory.mktemp(name))
            for name in FAMILIES
            if name in asked
        }


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_holds_from_documents_to_an_answer(
    name: str, taken: dict[str, "Future[None]"]
) -> None:
    taken[name].result()


def test_every_family_is_another() -> None:
    """The families differ in what matters here: class, template or vocabulary."""
    seen = [(each.architecture, each.template, each.vocabulary) for each in FAMILIES.values()]
    assert len(set(seen)) == len(seen) >= 16
