"""The real graph end to end: two corpora on a tiny model, from documents to GGUF files that answer."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ft_assets.engine.project import Project
from ft_assets.engine.verify import verify
from ft_assets_tests.conftest import PROSE, Corpus, RunCLI, own_cache, qa_records, workers_of
from ft_assets_tests.engine.test_verify_and_prune import flip, flips, published

pytestmark = pytest.mark.slow

SETTINGS = """\
model: {{base: "{base}", lora: {{r: 8, lora_alpha: 16}}}}
training: {{num_train_epochs: 2, learning_rate: 1.0e-3, per_device_train_batch_size: 4,
           max_length: 128, packing: {packing}}}
evaluation: {{max_new_tokens: 4}}
export: {{gguf: [f16, Q8_0]}}
"""


@pytest.fixture(scope="module")
def trained(
    tmp_path_factory: pytest.TempPathFactory, nano_model: Path
) -> tuple[Project, dict[str, Any], dict[str, str]]:
    """Two corpora refreshed by one command: the project, the output, the environment."""
    root = tmp_path_factory.mktemp("whole")
    project = Project(root / "data", root / "storage")
    copied = shutil.copytree(nano_model, root / "elsewhere" / nano_model.name)
    for name, base, packing in (("ferry", nano_model, "true"), ("second", copied, "false")):
        corpus = Corpus(project, name)
        corpus.write("ferry.txt", PROSE)
        corpus.write("crates.json", json.dumps(qa_records()))
        corpus.settings(SETTINGS.format(base=base, packing=packing))
    asked = {"question": "What is in the third crate?", "key_fact": "pears"}
    Corpus(project, "ferry").write("questions.jsonl", json.dumps(asked))
    environment = {
        **os.environ,
        "FT_ASSETS_DATA": str(project.data),
        "FT_ASSETS_STORAGE": str(project.storage.root),
        "DAGSTER_HOME": str(root / "dagster"),
        "XDG_CACHE_HOME": str(own_cache(root / "cache")),
        "ANTHROPIC_API_KEY": "canary-7b1f",
    }
    done = subprocess.run(
        [sys.executable, "-m", "ft_assets.cli", "refresh", "--json"],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "step 1/" in done.stderr
    return project, json.loads(done.stdout), environment


Trained = tuple[Project, dict[str, Any], dict[str, str]]


def _folder(project: Project, corpus: str, asset: str) -> Path:
    manifest = project.storage.current(corpus, asset)
    assert manifest
    return project.storage.folder(corpus, asset, manifest.version)


def test_both_corpora_are_made_whole_and_are_fresh(trained: Trained) -> None:
    project, said, _ = trained
    assert len(said["materialized"]) == 16
    for corpus in ("ferry", "second"):
        assert {state.state for state in project.status(corpus).values()} == {"fresh"}


def test_training_a_second_time_does_nothing(trained: Trained) -> None:
    _, _, environment = trained
    done = subprocess.run(
        [sys.executable, "-m", "ft_assets.cli", "refresh", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["materialized"] == []


def test_the_loss_history_and_the_adapter_are_plain_files(trained: Trained) -> None:
    folder = _folder(trained[0], "ferry", "adapter")
    history = json.loads((folder / "loss_history.json").read_text())
    assert [entry["step"] for entry in history] == list(range(len(history)))
    assert [entry["step"] for entry in history if "loss" not in entry] == [0]  # before any step
    assert all("eval_loss" in history[n] for n in (0, -1))
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= {
        path.name for path in folder.iterdir()
    }
    suffixes = {path.suffix for path in trained[0].storage.root.rglob("*") if path.is_file()}
    assert not suffixes & {".bin", ".pt", ".pkl", ".pth"}


def test_evaluation_compares_base_and_tuned(trained: Trained) -> None:
    metrics = json.loads((_folder(trained[0], "ferry", "evaluation") / "metrics.json").read_text())
    assert metrics["questions"] == 1
    assert metrics["tuned_eval_loss"] < metrics["base_eval_loss"]
    assert "questions" not in json.loads(
        (_folder(trained[0], "second", "evaluation") / "metrics.json").read_text()
    )


def test_the_merged_model_is_the_adapter_in_its_base(trained: Trained) -> None:
    manifest = trained[0].storage.current("ferry", "merged_model")
    assert manifest
    assert manifest.counts["max_logit_change"] < 1e-3


def test_the_gguf_files_agree_with_hugging_face_and_answer(trained: Trained) -> None:
    manifest = trained[0].storage.current("ferry", "gguf")
    assert manifest
    names = set(manifest.files)
    assert {"ferry-f16.gguf", "ferry-Q8_0.gguf", "Modelfile", "MODEL_CARD.md"} == names
    assert manifest.counts["f16_kl"] < 1e-3
    assert manifest.counts["Q8_0_kl"] < 0.05
    assert manifest.checks["gguf_is_close"]["passed"]
    verdict = manifest.checks["answers_in_llama_cpp"]
    assert "token ids are equal" in verdict["message"]


def test_the_model_card_names_documents_with_digests(trained: Trained) -> None:
    card = (_folder(trained[0], "ferry", "gguf") / "MODEL_CARD.md").read_text()
    for file in trained[0].files("ferry"):
        assert file.path in card
        assert file.sha256 in card
    assert "training.learning_rate" in card
    manifest = trained[0].storage.current("ferry", "gguf")
    assert manifest
    assert f"| {manifest.counts['Q8_0_kl']:.2g} |" in card
    assert "Key facts given, closed book (of 1)" in card


@pytest.mark.parametrize("corpus", ["ferry", "second"])
def test_chat_answers_through_llama_cpp(trained: Trained, corpus: str) -> None:
    """Both corpora have the same base model in two folders, and share one cached GGUF file of it."""
    command = [sys.executable, "-m", "ft_assets.cli", "chat", corpus, "--compare"]
    done = subprocess.run(
        [*command, "--question", "Who sleeps in the wheelhouse?"],
        env=trained[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"base: .*\ntuned: ", done.stdout, re.DOTALL)


def test_chat_takes_several_turns(trained: Trained) -> None:
    command = [sys.executable, "-m", "ft_assets.cli", "chat", "ferry"]
    asked = f"Who sleeps in the wheelhouse?\nAnd where is it?\n{'goat ' * 9_000}\n"
    done = subprocess.run(command, env=trained[2], input=asked, capture_output=True, text=True)
    assert done.stdout.count("tuned: ") == 2
    assert done.returncode == 0
    assert "the question is too long" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_secret_of_the_environment_is_written_down(trained: Trained) -> None:
    project, _, environment = trained
    for root in (project.storage.root, Path(environment["DAGSTER_HOME"])):
        for path in root.rglob("*"):
            if path.is_file() and path.suffix not in (".gguf", ".safetensors"):
                assert b"canary-7b1f" not in path.read_bytes(), path


def interrupt_at_a_step(command: list[str], environment: dict[str, str], path: Path) -> str:
    """Runs a command until a step of its training is reported, then interrupts it; returns its output."""
    with path.open("w") as log:
        process = subprocess.Popen(command, env=environment, stderr=log, stdout=log)
        while not re.search(r"^ *step \d+/", path.read_text(), re.MULTILINE):
            assert process.poll() is None, path.read_text()
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130, path.read_text()
    return path.read_text()


def test_interrupted_training_leaves_the_old_model_no_process_and_its_steps(
    trained: Trained, tmp_path: Path
) -> None:
    project, _, environment = trained
    corpus = Corpus(project, "second")
    before = project.storage.current("second", "adapter")
    settings = (corpus.folder / "finetune.yaml").read_text()
    corpus.settings(settings.replace("num_train_epochs: 2", "num_train_epochs: 900"))
    try:
        command = [sys.executable, "-m", "ft_assets.cli", "train", "second"]
        first = interrupt_at_a_step(command, environment, tmp_path / "log")
        assert "interrupted; what was published before is still current" in first
        [kept] = re.findall(
            r"; (\d+) of \d+ steps are kept, and the next refresh resumes from there", first
        )
        second = interrupt_at_a_step(command, environment, tmp_path / "log")
        assert f"resumed at step {kept} of " in second
        [kept_then] = re.findall(r"; (\d+) of \d+ steps are kept", second)
        assert int(kept_then) > int(kept)
    finally:
        corpus.settings(settings)
    assert project.storage.current("second", "adapter") == before
    assert not workers_of(project)


def test_every_flipped_byte_of_every_kind_of_artifact_is_found(trained: Trained) -> None:
    storage = trained[0].storage
    files = published(storage.root / "ferry")
    assert {path.suffix for path in files} >= {".parquet", ".safetensors", ".gguf", ".json", ".md"}
    for path, place, bits in flips(files, 300):
        flip(path, place, bits)
        assert any(verdict.damage for verdict in verify(storage, "ferry")), (path, place)
        flip(path, place, bits)
    assert not any(verdict.damage for verdict in verify(storage, "ferry"))


def test_chat_refuses_a_damaged_file(trained: Trained) -> None:
    [gguf] = _folder(trained[0], "ferry", "gguf").glob("*f16.gguf")
    flip(gguf, 5_000, 1)
    command = [sys.executable, "-m", "ft_assets.cli", "chat", "ferry", "--question", "Who?"]
    done = subprocess.run(command, env=trained[2], capture_output=True, text=True)
    flip(gguf, 5_000, 1)
    assert done.returncode == 3
    assert "is damaged" in done.stderr


def test_a_model_without_the_asked_for_modules_says_so(
    trained: Trained, nano_model: Path, cli: RunCLI, corpus: Corpus
) -> None:
    corpus.settings(
        f"model: {{base: '{nano_model}', lora: {{target_modules: [nowhere]}}}}\n"
        "training: {max_length: 128}"
    )
    done = cli("train", "ferry")
    assert done.returncode == 1
    assert "the base model has no module 'nowhere'" in done.stderr
    assert "Traceback" not in done.stderr


def test_gguf_files_are_given_up_and_asked_for_again_without_training(trained: Trained) -> None:
    project, _, environment = trained
    corpus = Corpus(project, "second")
    path = corpus.folder / "finetune.yaml"
    before, adapter = path.read_text(), project.storage.current("second", "adapter")

    def made() -> set[str]:
        command = [sys.executable, "-m", "ft_assets.cli", "refresh", "second", "--json"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return {asset for _, asset in json.loads(done.stdout)["materialized"]}

    path.write_text(before.replace("gguf: [f16, Q8_0]", "gguf: []"))
    assert made() == {"gguf"}
    assert {path.name for path in _folder(project, "second", "gguf").iterdir()} == {
        *("MODEL_CARD.md", "manifest.json", "sources.parquet")
    }
    chat = [sys.executable, "-m", "ft_assets.cli", "chat", "second", "--question", "Who?"]
    done = subprocess.run(chat, env=environment, capture_output=True, text=True)
    assert "second has no GGUF file: export.gguf is empty" in done.stderr
    path.write_text(before)
    assert made() <= {"gguf"}
    assert project.storage.current("second", "adapter") == adapter


def test_a_base_that_cannot_become_a_gguf_file_is_trained_only_without(
    corpus: Corpus, cli: RunCLI, pico_model: Path
) -> None:
    def refresh(gguf: str) -> "subprocess.CompletedProcess[str]":
        corpus.settings(
            f"model: {{base: '{pico_model}'}}\nexport: {{gguf: {gguf}}}\n"
            "training: {num_train_epochs: 1}\nevaluation: {max_new_tokens: 2}"
        )
        return cli("refresh", "ferry")

    refused = refresh("[f16]")
    assert refused.returncode == 1
    assert "export.gguf: llama.cpp cannot convert the model to GGUF (" in refused.stderr
    assert "step 1/" not in refused.stderr
    assert "Traceback" not in refused.stderr
    assert corpus.project.storage.current("ferry", "adapter") is None
    done = refresh("[]")
    assert done.returncode == 0, done.stderr
    later = refresh("[Q8_0]")
    assert later.returncode == 3
    assert "pre-tokenizer was not recognized" in later.stderr
    assert "step 1/" not in later.stderr
