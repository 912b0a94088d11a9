"""Duplicates, leaks and closed-book questions do not reach training, and too many of them block it."""

import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ft_assets.engine.graph import upstream
from ft_assets.errors import StageError
from ft_assets.manifest import Manifest
from ft_assets.records import DroppedRow, Example, prompt_of
from ft_assets.tables import read_table
from ft_assets_tests.conftest import Corpus, sources

WORDS = [f"{a}{b}" for a in "bdfghklmnprstvz" for b in ("ora", "ilo", "ume", "ast", "eck", "yng")]
CUT = "langchain: {chunk_size: 600, chunk_overlap: 60}\n"


def prose(seed: int, sentences: int = 60) -> list[str]:
    """Sentences that no other seed has."""
    draw = random.Random(seed)
    return [" ".join(draw.choices(WORDS, k=12)).capitalize() + "." for _ in range(sentences)]


@pytest.fixture
def corpus(corpus: Corpus) -> Corpus:
    """Eight documents that have nothing in common."""
    for path in corpus.folder.iterdir():
        path.unlink()
    for number in range(8):
        corpus.write(f"{number}.txt", " ".join(prose(number)))
    corpus.settings(f"{CUT}data: {{eval_unit: document, eval_fraction: 0.3}}")
    return corpus


def make(corpus: Corpus) -> tuple[Manifest, Path]:
    for asset in [*upstream("formatted_dataset"), "formatted_dataset"]:
        made = corpus.project.make(corpus.name, asset)
    return made.manifest, corpus.project.storage.folder(
        corpus.name, "formatted_dataset", made.manifest.version
    )


def rows(folder: Path, side: str) -> list[Example]:
    return list(read_table(folder / f"{side}.parquet", Example))


def dropped(folder: Path) -> list[DroppedRow]:
    return list(read_table(folder / "dropped.parquet", DroppedRow))


def text_ids(corpus: Corpus, manifest: Manifest) -> dict[str, str | None]:
    return {line.path: line.text_id for line in sources(corpus.project, manifest)}


def blocked(corpus: Corpus) -> str:
    """The failed checks that block training on the dataset."""
    with pytest.raises(StageError) as error:
        corpus.project.make(corpus.name, "adapter")
    return str(error.value)


def test_documents_that_have_nothing_in_common_lose_no_row(corpus: Corpus) -> None:
    manifest, folder = make(corpus)
    assert not dropped(folder)
    failed = [name for name, verdict in manifest.checks.items() if not verdict["passed"]]
    assert failed in ([], ["eval_is_large_enough"]), manifest.checks
    assert rows(folder, "eval")


def test_of_near_duplicates_one_is_kept_and_the_others_name_it(corpus: Corpus) -> None:
    for number in range(8):  # a second edition of each, one word changed
        text = prose(number)
        text[30] = text[30].replace(" ", " also ", 1)
        corpus.write(f"{number} again.txt", " ".join(text))
    manifest, folder = make(corpus)
    kept = {row.origin_id: row for side in ("train", "eval") for row in rows(folder, side)}
    gone = dropped(folder)
    assert len(gone) > len(kept) / 2
    for row in gone:
        assert row.reason in ("it is a near-duplicate of another", "it equals another")
        assert row.kept_id in kept
        assert row.origin_id not in kept
    verdict = manifest.checks["few_duplicates"]
    assert not verdict["passed"]
    counts = Counter(row.text_id for row in gone)
    for text_id in sorted(counts, key=lambda each: (-counts[each], each))[:3]:
        named = f"{text_id[:12]} ({counts[text_id]} rows, the first on page 1)"
        assert named in verdict["message"]
    assert gone[0].origin_id[:12] not in verdict["message"]
    assert "check few_duplicates failed" in blocked(corpus)


def test_editions_of_one_document_stay_on_one_side(corpus: Corpus) -> None:
    for number in range(8):
        text = prose(number)
        corpus.write(f"{number} again.txt", " ".join([*text[:40], *prose(100 + number, 30)]))
    corpus.settings(
        f"{CUT}data: {{eval_unit: document, eval_fraction: 0.3, gates: {{duplicate_rows: 1.0}}}}"
    )
    manifest, folder = make(corpus)
    ids = text_ids(corpus, manifest)
    sides = {side: {row.text_id for row in rows(folder, side)} for side in ("train", "eval")}
    assert sides["eval"]
    for number in range(8):
        pair = {ids[f"{number}.txt"], ids[f"{number} again.txt"]}
        assert not (pair & sides["train"] and pair & sides["eval"]), number


@pytest.mark.parametrize("policy", ["drop", "move", "keep"])
def test_passages_of_training_documents_are_found_in_eval(corpus: Corpus, policy: str) -> None:
    clean, _ = make(corpus)
    [held_out, *_] = sorted(
        line.path
        for line in sources(corpus.project, clean)
        if line.eval_rows and "again" not in line.path
    )
    learned = next(line.path for line in sources(corpus.project, clean) if line.train_rows)
    borrowed = prose(int(learned.removesuffix(".txt")))
    own = prose(500, 120)
    # Every fourth sentence is the training document's, many in a row: leaks, but no duplicates.
    mixed = [*own[:20], *borrowed[3:9], *own[20:60], *borrowed[31:37], *own[60:]]
    corpus.write(held_out, " ".join(mixed))
    for seed in range(17, 40):  # the seed that holds this document out, and not the other
        corpus.settings(
            f"{CUT}data: {{eval_unit: document, eval_fraction: 0.3, seed: {seed}, eval_overlap: {policy}, "
            "gates: {eval_overlap: 0.0}}"
        )
        manifest, folder = make(corpus)
        if not manifest.checks["eval_is_apart"]["passed"]:
            break
    leaked = [row for row in dropped(folder) if row.reason == "its words stand in training rows"]
    assert not manifest.checks["eval_is_apart"]["passed"]
    assert "eval_is_apart" in blocked(corpus)
    mine = text_ids(corpus, manifest)[held_out]
    sides = {side: {row.text_id for row in rows(folder, side)} for side in ("train", "eval")}
    if policy == "drop":
        assert leaked
        assert f"{leaked[0].text_id[:12]} (" in manifest.checks["eval_is_apart"]["message"]
    if policy == "move":
        assert mine in sides["train"]
        assert mine not in sides["eval"]
    if policy == "keep":
        assert not leaked
        assert not sides["train"] & sides["eval"]


def test_closed_book_questions_are_never_trained_on(corpus: Corpus) -> None:
    records = [{"question": f"What is in crate {n}?", "answer": f"Pears, {n}."} for n in range(9)]
    corpus.write("crates.json", json.dumps(records))
    question = {"question": "what is in  Crate 4", "key_fact": "pears"}
    corpus.write("questions.jsonl", json.dumps(question))
    manifest, folder = make(corpus)
    assert "crate 4" not in "".join(prompt_of(row.segments) for row in rows(folder, "train"))
    [gone] = dropped(folder)
    assert gone.reason == "it asks one of the questions in questions.jsonl"
    verdict = manifest.checks["questions_are_apart"]
    assert "(1 row is record 5)" in verdict["message"]
    assert not verdict["passed"]
    assert not verdict["blocking"]


def test_what_is_planted_is_found_named_and_keeps_training_away(corpus: Corpus) -> None:
    scan(corpus.folder / "scan.pdf")
    corpus.write("glued.txt", ". ".join(line.title().replace(" ", "") for line in prose(900, 90)))
    for number in range(1, 8):  # second editions
        text = prose(number)
        text[30] = text[30].replace(" ", " also ", 1)
        corpus.write(f"{number} again.txt", " ".join(text))
    for seed in range(40, 60):  # passages of one document among those of many others
        own = prose(seed, 120)
        corpus.write(f"{seed}.txt", " ".join([*own[:20], *prose(0)[3:9], *own[20:]]))
    corpus.settings(
        f"{CUT}data: {{eval_unit: document, eval_fraction: 0.3, gates: {{rejected_documents: 0.02, unsound_text: 0.02, "
        "duplicate_rows: 0.1, eval_overlap: 0.0}}"
    )
    manifest, _ = make(corpus)
    raw = corpus.project.storage.current(corpus.name, "raw_documents")
    assert raw
    documents = {line.path: line for line in sources(corpus.project, raw)}
    reason = blocked(corpus)
    for name, planted in {
        "documents_are_read": documents["scan.pdf"].document_id,
        "text_is_sound": str(documents["glued.txt"].text_id),
        "few_duplicates": "",
        "eval_is_apart": "",
    }.items():
        verdict = manifest.checks[name]
        assert not verdict["passed"], name
        assert planted[:12] in verdict["message"]
        assert f"check {name} failed" in reason
    assert "scan.pdf" in raw.checks["every_file_read"]["message"]
    assert "glued.txt" in raw.checks["text_is_sound"]["message"]
    state = corpus.project.status(corpus.name)["adapter"]
    assert state.state == "blocked"
    for said in (reason, "\n".join(state.causes)):  # what people read has paths
        assert "documents could not be read (2.7%: scan.pdf (" in said
        assert " again.txt (" in said  # the duplicates
        assert not re.search(r"\b[0-9a-f]{12}", said)
        assert ": glued.txt (" in said


def scan(path: Path) -> None:
    """A PDF of pages that are pictures."""
    from PIL import Image
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path), invariant=1)
    for shade in (200, 220):
        canvas.drawImage(ImageReader(Image.new("L", (200, 280), shade)), 0, 0, 595, 842)
        canvas.showPage()
    canvas.save()


def test_every_source_has_a_row_or_a_reason(corpus: Corpus) -> None:
    records = [
        {"question": f"Q{n % 20}?", "answer": f"Answer {n % 20}. " + "long " * (n % 7) * 20}
        for n in range(60)
    ]
    corpus.write("records.json", json.dumps(records + records[:5]))
    corpus.write("again.txt", " ".join(prose(0)))
    corpus.settings(f"{CUT}training: {{max_length: 60}}\naugment: {{instruction_variations: 2}}")
    manifest, folder = make(corpus)
    made: list[Any] = [*rows(folder, "train"), *rows(folder, "eval")]
    gone = dropped(folder)
    plain = Counter(row.origin_id for row in [*made, *gone] if row.variant == 0)
    assert plain.total() == manifest.counts["origins"]
    assert len(made) + len(gone) == plain.total() + sum(row.variant > 0 for row in [*made, *gone])
    assert all(row.reason for row in gone)
    assert manifest.checks["rows_add_up"]["passed"]
    assert manifest.counts["dropped_rows"] == len(gone)


def test_a_setting_that_only_chooses_renders_nothing_again(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, before = make(corpus)
    monkeypatch.setattr("ft_assets.stages.dataset.rows.tokenize", None)  # must not be called
    corpus.settings(f"{CUT}data: {{eval_unit: document, eval_fraction: 0.5, near_duplicates: 0.7}}")
    _, after = make(corpus)
    together = [
        sorted(row.example_id for side in ("train", "eval") for row in rows(folder, side))
        for folder in (before, after)
    ]
    assert together[0] == together[1]
    assert len(rows(after, "eval")) > len(rows(before, "eval"))


def test_one_file_of_many_records_goes_through_several_parts(corpus: Corpus) -> None:
    lines = [json.dumps({"question": f"Q{n}", "answer": f"A{n}"}) for n in range(9_000)]
    corpus.write("many.jsonl", "\n".join(lines))
    manifest, folder = make(corpus)
    assert len(list((folder / "train.parquet").iterdir())) >= 2
    found = [*rows(folder, "train"), *rows(folder, "eval")]
    assert sum(row.kind == "record" for row in found) == 9_000
    assert manifest.checks["rows_add_up"]["passed"]
