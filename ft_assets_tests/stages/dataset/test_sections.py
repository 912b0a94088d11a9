"""A corpus of few documents is split by sections: the share is met, no words are shared, all is learned."""

import json
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ft_assets.engine.graph import upstream
from ft_assets.manifest import Manifest
from ft_assets.records import DroppedRow, Example
from ft_assets.stages.dataset.sections import Chunks, Sections, hold_out_sections
from ft_assets.stages.duplicates import hash_group, sketch
from ft_assets.stages.splitting.characters import recursive_cut
from ft_assets.stages.splitting.tokens import token_cut
from ft_assets.tables import read_table
from ft_assets_tests.conftest import Corpus, sources

WORDS = [a + b for a in "bdfghklmnprstvz" for b in ("ora", "ilo", "ume", "ast", "eck", "yng")]
SETTINGS = settings(max_examples=30, deadline=None)


def prose(seed: int, sentences: int) -> str:
    """Paragraphs of sentences that no other seed has."""
    draw = random.Random(seed)
    said = []
    for _ in range(sentences):
        line = " ".join(draw.choices(WORDS, k=draw.randint(4, 18))).capitalize() + "."
        said.append(line + draw.choice([" ", " ", " ", "\n\n"]))
    return "".join(said)


def cut(texts: list[str], size: int, overlap: int) -> tuple[Chunks, list[str]]:
    """The chunks of documents, one row each."""
    spans = [
        (doc, *span)
        for doc, text in enumerate(texts)
        for span in recursive_cut(size, overlap)(text)
    ]
    return chunks_of(texts, spans)


def chunks_of(texts: list[str], spans: list[tuple[int, int, int]]) -> tuple[Chunks, list[str]]:
    pieces = [texts[doc][start:end] for doc, start, end in spans]
    of, starts, ends = (np.array([span[at] for span in spans], np.int64) for at in range(3))
    ngrams = [sketch(piece)[1] for piece in pieces]
    keys = [hash_group(text) for text in texts]
    return Chunks(of, starts, ends, np.ones(len(pieces), np.int64), ngrams, keys), pieces


def split(chunks: Chunks, pieces: list[str], seed: int, fraction: float = 0.1) -> Sections:
    return hold_out_sections(chunks, fraction, seed, lambda: enumerate(pieces))


def sequences(text: str) -> set[tuple[str, ...]]:
    """Sequences of eight words, counted in two ways."""
    found: set[tuple[str, ...]] = set()
    for words in (re.findall(r"\w+", text.lower()), text.split()):
        found |= {tuple(words[at : at + 8]) for at in range(len(words) - 7)}
    return found


def sides(sections: Sections, pieces: list[str]) -> tuple[list[str], list[str]]:
    """What is trained on, and what is held out."""
    kept = ~sections.left_out
    train, held_out = kept & ~sections.held_out, kept & sections.held_out
    return tuple([pieces[at] for at in np.flatnonzero(side)] for side in (train, held_out))  # type: ignore[return-value]


def require_apart(sections: Sections, pieces: list[str]) -> None:
    train, held_out = sides(sections, pieces)
    learned = set[tuple[str, ...]]().union(*map(sequences, train))
    for piece in held_out:
        assert not sequences(piece) & learned


def require_learned(sections: Sections, chunks: Chunks) -> None:
    train = ~sections.held_out & ~sections.left_out
    assert set(chunks.texts[train].tolist()) == set(chunks.texts.tolist())


def of_chunks(seed: int, count: int, overlap: int) -> str:
    """A document of so many chunks of 300 characters."""
    text = prose(seed, count * 6)
    return text[: list(recursive_cut(300, overlap)(text))[count - 1][1]]


CORPORA = {"5 of 392": [78, 79, 78, 79, 78], "3 of 40": [9, 20, 11], "1 of 200": [200]}


@pytest.mark.parametrize("overlap", [0, 30, 90])
@pytest.mark.parametrize("sizes", CORPORA.values(), ids=CORPORA.keys())
def test_few_documents_hold_out_their_share_and_share_no_words(
    sizes: list[int], overlap: int
) -> None:
    texts = [of_chunks(seed, count, overlap) for seed, count in enumerate(sizes)]
    chunks, pieces = cut(texts, 300, overlap)
    assert abs(len(pieces) - sum(sizes)) <= len(sizes)
    for seed in range(5):
        sections = split(chunks, pieces, seed)
        train, held_out = sides(sections, pieces)
        assert 0.06 <= len(held_out) / (len(held_out) + len(train)) <= 0.16, seed
        assert sections.left_out.sum() <= max(3, len(held_out))
        require_apart(sections, pieces)
        require_learned(sections, chunks)


@SETTINGS
@given(
    counts=st.lists(st.integers(1, 60), min_size=1, max_size=19),
    size=st.integers(60, 600),
    overlap=st.sampled_from([0, 0.1, 0.3, 0.5]),
    fraction=st.floats(0.02, 0.5),
    seed=st.integers(0, 999),
)
def test_whatever_the_corpus_no_words_are_shared_and_every_document_is_learned(
    counts: list[int], size: int, overlap: float, fraction: float, seed: int
) -> None:
    texts = [prose(seed + at, count) for at, count in enumerate(counts)]
    chunks, pieces = cut(texts, size, int(size * overlap))
    sections = split(chunks, pieces, seed, fraction)
    require_apart(sections, pieces)
    require_learned(sections, chunks)
    _, held_out = sides(sections, pieces)
    assert len(held_out) <= fraction * len(pieces) + 10


LICENCE = "This text may be copied by anyone who says where it is from and who wrote it. " * 4


@pytest.mark.parametrize("seed", range(6))
def test_what_documents_have_in_common_is_kept_off_one_side(seed: int) -> None:
    texts = [f"{LICENCE}\n\n{prose(at, 250)}\n\n{LICENCE}" for at in range(5)]
    texts[1] = texts[1][:4000] + " " + texts[3][7000:7500] + texts[1][4000:]  # a quotation
    chunks, pieces = cut(texts, 600, 100)
    sections = split(chunks, pieces, seed)
    train, held_out = sides(sections, pieces)
    require_apart(sections, pieces)
    require_learned(sections, chunks)
    assert 0.06 <= len(held_out) / (len(held_out) + len(train)) <= 0.16
    assert sections.left_out.sum() <= 10
    assert not sections.recurring


def test_a_header_on_every_page_does_not_keep_everything_out_of_the_eval_set() -> None:
    header = "Annual report and accounts of the Orkney ferry company limited\n\n"
    texts = ["".join(header + prose(at * 100 + page, 8) for page in range(40)) for at in range(3)]
    chunks, pieces = cut(texts, 700, 0)
    sections = split(chunks, pieces, 1)
    train, held_out = sides(sections, pieces)
    assert sections.recurring
    assert 0.06 <= len(held_out) / (len(held_out) + len(train)) <= 0.16
    inside = [piece.replace(header.strip(), "") for piece in pieces]
    require_apart(sections, inside)


def test_a_document_that_says_the_same_everywhere_holds_nothing_out() -> None:
    chunks, pieces = cut(
        ["The keeper lit the lamp at six and went down to the boat. " * 90], 300, 0
    )
    sections = split(chunks, pieces, 3)
    require_learned(sections, chunks)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_very_small_corpus_holds_nothing_out(count: int) -> None:
    texts = [prose(3, 200)]
    spans = [(0, at * 900, at * 900 + 1000) for at in range(count)]
    chunks, pieces = chunks_of(texts, spans)
    sections = split(chunks, pieces, 5)
    assert not sections.held_out.any()
    assert not sections.left_out.any()


def test_many_short_documents_meet_the_share_together() -> None:
    texts = [prose(at, 33) for at in range(19)]
    chunks, pieces = cut(texts, 1000, 100)
    for seed in range(8):
        sections = split(chunks, pieces, seed)
        train, held_out = sides(sections, pieces)
        assert 0.06 <= len(held_out) / (len(held_out) + len(train)) <= 0.16, seed
        require_learned(sections, chunks)


@pytest.mark.parametrize("seed", range(5))
def test_a_document_more_does_not_move_the_others(seed: int) -> None:
    texts = [prose(at, 600) for at in range(5)]
    chunks, pieces = cut(texts, 800, 100)
    before = split(chunks, pieces, seed)
    more, more_pieces = cut([*texts, prose(77, 500)], 800, 100)
    after = split(more, more_pieces, seed)
    moved = (before.held_out != after.held_out[: len(pieces)]).sum()
    assert moved <= 0.02 * len(pieces)
    assert after.held_out[len(pieces) :].any()


def test_chunks_cut_by_tokens_are_split_by_the_seed(tokenizer: Any) -> None:
    texts = [prose(at, 600) for at in range(3)]
    spans = [
        (at, *span) for at, text in enumerate(texts) for span in token_cut(tokenizer, 200, 40)(text)
    ]
    chunks, pieces = chunks_of(texts, spans)
    drawn = [split(chunks, pieces, seed) for seed in range(6)]
    for sections in drawn:
        require_apart(sections, pieces)
        require_learned(sections, chunks)
    assert len({sections.held_out.tobytes() for sections in drawn}) > 1
    assert (split(chunks, pieces, 0).held_out == drawn[0].held_out).all()


def make(corpus: Corpus) -> tuple[Manifest, Path]:
    for asset in [*upstream("formatted_dataset"), "formatted_dataset"]:
        made = corpus.project.make(corpus.name, asset)
    folder = corpus.project.storage.folder(corpus.name, made.manifest.asset, made.manifest.version)
    return made.manifest, folder


@pytest.fixture
def documents(corpus: Corpus, pico_model: Path) -> Corpus:
    """Three documents and no records."""
    for path in corpus.folder.iterdir():
        path.unlink()
    for at in range(3):
        corpus.write(f"{at}.txt", prose(at, 150))
    corpus.settings(
        f"model: {{base: '{pico_model}'}}\nlangchain: {{chunk_size: 300, chunk_overlap: 60}}"
    )
    return corpus


def test_every_document_is_learned_from_and_what_is_held_out_is_named(documents: Corpus) -> None:
    manifest, folder = make(documents)
    train, held_out = (
        list(read_table(folder / f"{side}.parquet", Example)) for side in ("train", "eval")
    )
    gone = list(read_table(folder / "dropped.parquet", DroppedRow))
    assert 0.06 <= len(held_out) / (len(held_out) + len(train)) <= 0.16
    assert {row.text_id for row in train} == {row.text_id for row in [*train, *held_out]}
    assert {row.reason for row in gone} <= {"it shares words with the other side of the split"}
    assert (
        len(gone)
        == manifest.counts["dropped_rows"]
        <= 2 * len(sources(documents.project, manifest))
    )
    assert manifest.counts["documents_held_out"] == 0
    named = manifest.counts["documents_held_out_in_part"]
    message = manifest.checks["eval_is_large_enough"]["message"]
    for line in sources(documents.project, manifest):
        if line.eval_rows:
            chunks = (
                f"(sections: {line.eval_rows} of {line.eval_rows + (line.train_rows or 0)} chunks)"
            )
            assert f"{str(line.text_id)[:12]} {chunks}" in message
            named -= 1
    assert named == 0


def test_whole_documents_on_request(documents: Corpus) -> None:
    text = (documents.folder / "finetune.yaml").read_text()
    documents.settings(f"{text}\ndata: {{eval_unit: document}}")
    manifest, folder = make(documents)
    assert manifest.counts["documents_held_out"] == 1
    assert manifest.counts["documents_held_out_in_part"] == 0
    assert not list(read_table(folder / "dropped.parquet", DroppedRow))
    message = manifest.checks["eval_is_large_enough"]["message"]
    assert "(all of it)" in message


def test_records_beside_a_document_keep_their_own_share(documents: Corpus) -> None:
    records = [{"question": f"What is in crate {n}?", "answer": f"Pears, {n}."} for n in range(50)]
    documents.write("crates.json", json.dumps(records))
    _, folder = make(documents)
    rows = {
        side: [row.kind for row in read_table(folder / f"{side}.parquet", Example)]
        for side in ("train", "eval")
    }
    assert rows["eval"].count("record") == 5
    text = rows["eval"].count("text")
    assert 0.06 <= text / (text + rows["train"].count("text")) <= 0.16


@pytest.mark.parametrize("seed", [11, 37, 48, *range(8)])
def test_if_all_that_could_be_held_out_recurs_nothing_is_lost(seed: int) -> None:
    """Documents that say the same again: what cannot be held out is learned."""
    draw = random.Random(seed)
    passages = [
        prose(draw.randint(0, 9999), draw.choice([1, 2, 3])).strip()
        for _ in range(draw.randint(2, 10))
    ]
    documents = draw.randint(1, 6)
    texts = [
        "\n\n".join(draw.choices(passages, k=draw.randint(4, 20))) + f" {number}"
        for number in range(documents)
    ]
    chunks, pieces = cut(texts, draw.choice([100, 200, 400]), draw.choice([0, 20, 40]))
    sections = split(chunks, pieces, seed)
    train, held_out = sides(sections, pieces)
    assert held_out or len(train) == len(pieces)
