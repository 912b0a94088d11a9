"""Chunks are exact pieces of their document and within the limit, in every mode and script."""

import itertools
import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ft_assets.errors import UserError
from ft_assets.records import HEADING_BREAK, PAGE_BREAK, Chunk, Document, Heading
from ft_assets.stages.chunks import split_text
from ft_assets.stages.splitting import characters as splitters
from ft_assets.stages.splitting import tokens as token_splitter
from ft_assets.stages.splitting.characters import Cut, character_cut, recursive_cut
from ft_assets.stages.splitting.tokens import token_cut
from ft_assets.tables import read_table
from ft_assets_tests.conftest import Corpus

SCRIPTS = [
    "The keeper's lamp burns 24 hours; 1234567890 gulls don't care. ",
    "Der Wärter zündet die Lampe an, façade, naïve.\n",
    "lampe\u0301 cle\u0301 a\u0308\u0323o\u0302\u0301 ",
    "灯台守は毎晩ランプに火をともします。",
    "守塔人每天晚上点亮灯塔，船只因此平安。",
    "등대지기는 매일 밤 등불을 켭니다. ",
    "حارس المنارة يشعل المصباحَ كلَّ ليلة. ",
    "שומר המגדלור מדליק את הָאוֹר. ",
    "दीपक जलाता है और क्षितिज को देखता है। ",
    "คนเฝ้าประภาคารจุดตะเกียงทุกคืนที่นี่",
    "Смотритель зажигает лампу.\n\n",
    "👩‍👩‍👧‍👦 🏳️‍🌈👍🏽 🇩🇪🇫🇷 ",
    "if (x) {\n\treturn [y];\n}\n\n",
    "!!!\n\n...))\n",
    "dGhlIGtlZXBlcidzIGxhbXAgYnVybnMgMjQgaG91cnM",
    "   \n \t\n",
]
TEXT = st.one_of(
    st.lists(st.sampled_from(SCRIPTS), max_size=25).map("".join),
    st.lists(
        st.one_of(
            st.sampled_from(["a", "b ", " ", "\n", ".", "é", "東", "🙂", "e\u0301", "\u200d", "7"]),
            st.sampled_from(SCRIPTS),
            st.characters(codec="utf-8"),
        ),
        max_size=120,
    ).map("".join),
)
SIZES = st.integers(16, 80).flatmap(
    lambda size: st.tuples(st.just(size), st.integers(0, size // 2))
)
LLAMA_3 = (
    r"'s|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
few = settings(deadline=None, suppress_health_check=list(HealthCheck))


def _trained(kind: str) -> Any:
    """A small tokenizer like those of other model families."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    inner: Any = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    alphabet = ["\n", "\t"]
    pieces = [piece for text in SCRIPTS for piece in text.split()]
    if kind == "metaspace":  # as SentencePiece: no words before the merges, and a space put first
        inner.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
        inner.decoder = decoders.Metaspace(prepend_scheme="always", split=False)
    else:  # as Llama 3: white space that follows belongs to a token, and is in no offset
        split = pre_tokenizers.Split(Regex(LLAMA_3), "isolated")
        bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        inner.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_of])
        inner.post_processor = processors.ByteLevel(trim_offsets=True)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        pieces += [")\n", ".\n\n", "\n\n"]
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    inner.train_from_iterator(pieces * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<unk>")  # type: ignore[no-untyped-call]


@pytest.fixture(scope="session", params=["smollm", "metaspace", "llama3"])
def any_tokenizer(request: pytest.FixtureRequest) -> Any:
    if request.param == "smollm":
        return request.getfixturevalue("tokenizer")
    return _trained(request.param)


@pytest.fixture(params=["whole", "blocks"])
def blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs with normal blocks, and with blocks so small that texts are cut in many of them."""
    if request.param == "blocks":
        monkeypatch.setattr(splitters, "BLOCK", 1)
        monkeypatch.setattr(token_splitter, "BLOCK", 1)
        monkeypatch.setattr(token_splitter, "_MARGIN", 60)


def _pages(texts: list[str], headings: list[Heading] | None = None) -> list[Document]:
    pages, start = [], 0
    for number, text in enumerate(texts, start=1):
        end = start + len(text)
        here = [item for item in headings or [] if start <= item["start"] < end]
        pages.append(Document("id", number, text, start, end, here))
        start = end + len(PAGE_BREAK)
    return pages


def _cut(texts: list[str], cut: Cut) -> tuple[str, list[Chunk]]:
    """The whole text and its chunks, asserting that they are exact and contain every word."""
    whole = PAGE_BREAK.join(texts)
    chunks = list(split_text(_pages(texts), cut))
    covered = 0
    for chunk in chunks:
        assert whole[chunk.start : chunk.end] == chunk.text
        assert chunk.text == chunk.text.strip() or chunk.text[0].isspace()
        assert not whole[covered : chunk.start].strip()
        assert chunk.end > covered
        covered = chunk.end
    assert not whole[covered:].strip()
    assert all(a.start <= b.start for a, b in itertools.pairwise(chunks))
    return whole, chunks


def _halves(whole: str, chunks: list[Chunk], longest: int) -> list[str]:
    """The graphemes of at most `longest` characters that were cut in two."""
    edges = sorted({edge for chunk in chunks for edge in (chunk.start, chunk.end)})
    seen = list(regex.finditer(r"\X", whole))
    starts = [match.start() for match in seen]
    holding = [seen[bisect_left(starts, edge + 1) - 1] for edge in edges if edge < len(whole)]
    return [
        match.group()
        for match, edge in zip(holding, edges, strict=False)
        if match.start() != edge and len(match.group()) <= longest and match.group().strip()
    ]


@pytest.mark.usefixtures("blocks")
@pytest.mark.parametrize("mode", [recursive_cut, character_cut])
@few
@given(texts=st.lists(TEXT, min_size=1, max_size=4), sizes=SIZES)
def test_sizes_and_overlaps_hold_in_characters(
    mode: Callable[[int, int], Cut], texts: list[str], sizes: tuple[int, int]
) -> None:
    size, overlap = sizes
    whole, chunks = _cut(texts, mode(*sizes))
    assert all(len(chunk.text) <= size for chunk in chunks)
    assert all(a.end - b.start <= overlap for a, b in itertools.pairwise(chunks))
    assert not _halves(whole, chunks, 16)


@pytest.mark.usefixtures("blocks")
@few
@given(texts=st.lists(TEXT, min_size=1, max_size=3), sizes=SIZES)
def test_sizes_hold_in_tokens_of_each_chunk_by_itself(
    any_tokenizer: Any, texts: list[str], sizes: tuple[int, int]
) -> None:
    size, overlap = sizes
    whole, chunks = _cut(texts, token_cut(any_tokenizer, size, overlap))
    for chunk in chunks:
        assert len(any_tokenizer(chunk.text, add_special_tokens=False)["input_ids"]) <= size
    assert not _halves(whole, chunks, 2)


@example(
    texts=[
        "e\u0301\U00010000aThe keeper's lamp burns 24 hours; 1234567890 gulls don't care. \u0300b a"
    ],
    sizes=(39, 5),
)
@few
@given(texts=st.lists(TEXT, min_size=1, max_size=3), sizes=SIZES)
def test_overlaps_are_as_many_tokens_of_the_text_as_asked_for(
    any_tokenizer: Any, texts: list[str], sizes: tuple[int, int]
) -> None:
    size, overlap = sizes
    whole, chunks = _cut(texts, token_cut(any_tokenizer, size, overlap))
    encoded = any_tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    starts, ends = zip(*encoded["offset_mapping"], strict=True) if chunks else ((), ())
    seen = {match.start() for match in regex.finditer(r"\X", whole)}
    good = [i for i, start in enumerate(starts) if i and start in seen and start >= ends[i - 1]]
    for a, b in itertools.pairwise(chunks):
        after = bisect_left(starts, a.end)
        assert after - bisect_right(ends, b.start) <= overlap
        news = [i for i in good if whole[a.end : starts[i]].strip()]
        if min(news, default=len(starts)) - after + overlap > size - 4:
            continue  # no room for the overlap and for what comes next
        # Only the rest of a word may be missing or, far from white space, of a grapheme.
        begin = max(after - overlap, bisect_right(ends, a.start) + 1)
        passed = range(begin, bisect_left(starts, b.start))
        assert len(whole[starts[passed[0]] : b.start].split() if passed else []) <= 1
        # White space that carries a joiner or an accent is not left out: it may also begin the chunk.
        before = regex.findall(r"\X", whole[: b.start])[-1]
        if not (before[0].isspace() or whole[b.start].isspace()):
            assert not set(passed) & set(good)


def test_overlaps_of_whole_words_are_exact(tokenizer: Any) -> None:
    text = "The ferry" + " left the island" * 300
    for overlap in (0, 1, 7, 12):
        chunks = list(token_cut(tokenizer, 30, overlap)(text))
        common = [text[b[0] : a[1]].split() for a, b in itertools.pairwise(chunks)]
        assert {len(words) for words in common} == {overlap}


@given(words=st.lists(st.sampled_from(["goat", "ferry", "turnip"]), min_size=1, max_size=300))
def test_no_word_is_lost(tokenizer: Any, words: list[str]) -> None:
    text = " ".join(words)
    for cut in (recursive_cut(40, 0), character_cut(40, 0), token_cut(tokenizer, 16, 0)):
        joined = " ".join(chunk.text for chunk in split_text(_pages([text]), cut))
        assert joined.split() == words


WORDS = st.sampled_from(["goat", "a", "ferries", "lamp;", "x" * 50])


@few
@given(
    text=st.lists(st.tuples(WORDS, st.sampled_from([" ", " ", "\n", "\n\n"])), max_size=200).map(
        lambda pairs: "".join(itertools.chain(*pairs))
    ),
    sizes=SIZES,
)
def test_recursive_chunks_are_those_of_langchain(text: str, sizes: tuple[int, int]) -> None:
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    size, overlap = sizes
    splitter = RecursiveCharacterTextSplitter(chunk_size=size, chunk_overlap=overlap)
    ours = [text[start:end] for start, end in recursive_cut(size, overlap)(text.strip())]
    assert ours == splitter.split_text(text.strip())


def test_repeated_text_is_found_where_it_stands() -> None:
    """LangChain's own start index is too early here: it looks for the text of the chunk."""
    text = "lamp " * 400
    spans = list(recursive_cut(23, 11)(text))
    assert spans[-1][1] == len(text.rstrip())
    assert all(a[1] - b[0] == 9 for a, b in itertools.pairwise(spans))


def test_a_chunk_knows_the_page_it_starts_on() -> None:
    pages = _pages(["a " * 60, "b " * 60, "c " * 60])
    chunks = list(split_text(pages, recursive_cut(100, 0)))
    assert {chunk.text[0]: chunk.page for chunk in chunks} == {"a": 1, "b": 2, "c": 3}


def test_a_paragraph_over_the_limit_is_cut_again() -> None:
    text = "short\n\n" + "long " * 500
    assert max(c.end - c.start for c in split_text(_pages([text]), character_cut(100, 10))) <= 100


def test_a_tokenizer_without_offsets_is_refused() -> None:
    from transformers import PreTrainedTokenizer

    class Slow(PreTrainedTokenizer):
        vocab_size = 0

        def __init__(self) -> None:
            pass

    with pytest.raises(UserError, match=r"set langchain\.splitter to recursive"):
        token_cut(Slow(), 100, 10)


def test_what_a_tokenizer_truncates_is_cut_all_the_same(nano_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(nano_model)
    tokenizer("The ferry " * 50, truncation=True, max_length=4, padding="max_length")
    text = "The ferry left the island. " * 40
    assert list(token_cut(tokenizer, 50, 0)(text))[-1][1] == len(text.rstrip())


def _heading(start: int, level: int, title: str) -> Heading:
    return {"start": start, "level": level, "title": title}


def test_a_chunk_has_the_path_of_headings_it_starts_under() -> None:
    parts = ["Preface", "Island", "It is small.", "Ferry", "It is late.", "Winter", "It is cold."]
    starts = dict(
        zip(parts, itertools.accumulate(len(part) + 2 for part in ["", *parts]), strict=False)
    )
    starts = {part: start - 2 for part, start in starts.items()}
    headings = [
        _heading(starts["Island"], 1, "Island"),
        _heading(starts["Ferry"], 3, "Ferry"),
        _heading(starts["Winter"], 2, "Winter > Storms"),
    ]
    pages = _pages(parts, headings)
    found = {c.text: c.heading for c in split_text(pages, lambda text: _each(parts, starts))}
    assert found == {
        "Preface": "",
        "Island": "Island",
        "It is small.": "Island",
        "Ferry": f"Island{HEADING_BREAK}Ferry",
        "It is late.": f"Island{HEADING_BREAK}Ferry",
        "Winter": "Island > Winter > Storms",
        "It is cold.": "Island > Winter > Storms",
    }


def _each(parts: list[str], starts: dict[str, int]) -> Any:
    return iter([(starts[part], starts[part] + len(part)) for part in parts])


def test_white_space_before_a_heading_does_not_hide_it() -> None:
    pages = _pages(["old\n\n  New\n\ntext"], [_heading(0, 1, "Old"), _heading(7, 1, "New")])
    [chunk] = split_text(pages, lambda text: iter([(4, 16)]))
    assert chunk.heading == "New"


def test_chunks_of_a_large_text_are_written_in_order(corpus: Corpus) -> None:
    text = "".join(f"Line {number} of the ledger.\n" for number in range(3_000))
    corpus.write("ledger.txt", text)
    corpus.settings("langchain: {chunk_size: 30, chunk_overlap: 0}")
    for asset in ("raw_documents", "chunks"):
        made = corpus.project.make(corpus.name, asset)
    folder = corpus.project.storage.folder(corpus.name, "chunks", made.manifest.version)
    chunks = [c for c in read_table(folder / "chunks.parquet", Chunk) if "ledger" in c.text]
    assert [text[chunk.start : chunk.end] for chunk in chunks] == [chunk.text for chunk in chunks]
    assert len(chunks) == 3_000


@given(texts=st.lists(TEXT, min_size=1, max_size=6), sizes=SIZES)
def test_no_chunk_has_words_of_two_samples(texts: list[str], sizes: tuple[int, int]) -> None:
    pages = [replace(page, sample=True) for page in _pages(texts)]
    whole = PAGE_BREAK.join(texts)
    chunks = list(split_text(pages, recursive_cut(*sizes)))
    for chunk in chunks:
        page = pages[chunk.page - 1]
        assert page.start <= chunk.start < chunk.end <= page.end
        assert whole[chunk.start : chunk.end] == chunk.text
    alone = [
        c.text
        for page in pages
        for c in split_text([replace(page, start=0)], recursive_cut(*sizes))
    ]
    assert [chunk.text for chunk in chunks] == alone


def test_each_text_of_a_record_file_is_a_chunk_of_its_own(corpus: Corpus) -> None:
    texts = [f"Sentence number {n} about a harbour at dusk." for n in range(40)]
    corpus.write("short.jsonl", "\n".join(json.dumps({"text": text}) for text in texts))
    for asset in ("raw_documents", "chunks"):
        made = corpus.project.make(corpus.name, asset)
    folder = corpus.project.storage.folder(corpus.name, "chunks", made.manifest.version)
    chunks = [chunk.text for chunk in read_table(folder / "chunks.parquet", Chunk)]
    assert [text for text in chunks if "harbour" in text] == texts
