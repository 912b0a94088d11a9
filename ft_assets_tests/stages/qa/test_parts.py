"""The parts of QA generation, each alone: the fence, the key, the ledger, the money, the pace."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ft_assets.config import QAPrices
from ft_assets.errors import StageError, UserError
from ft_assets.records import Chunk, QAPair
from ft_assets.stages.qa.answer import PAIRS, VERDICTS, Draft, Form, OutcomeName, read_answer
from ft_assets.stages.qa.filters import LEANING, sift, without_duplicates
from ft_assets.stages.qa.ledger.ledger import (
    REQUESTS,
    Answered,
    Ledger,
    OpenLedger,
    Sent,
    open_ledger,
)
from ft_assets.stages.qa.money import PRICES, Budget, at_most, estimate, price_of
from ft_assets.stages.qa.pace import Limit, Pacer
from ft_assets.stages.qa.prompt import DEFAULT_PROMPT, KINDS, Recipe, ask, render_prompt, request_of
from ft_assets.stages.qa.review import Overlay, Review, chunk_digest, imported

RECIPE = Recipe("claude-haiku-5-5", 512, "Ask.")
TEXT = st.text(st.characters(codec="utf-8"), max_size=300)


def chunk(text: str, name: str = "c1", heading: str = "") -> Chunk:
    return Chunk(name, f"text-{name}", 1, 0, len(text), text, heading)


# The fence


@given(title=TEXT, text=TEXT, pairs=st.integers(1, 20))
def test_nothing_in_a_document_can_close_its_fence(title: str, text: str, pairs: int) -> None:
    said = ask(title, text, pairs)
    mark = re.findall(r"</source-([0-9a-f]{12})>", said)[-1]
    before, _, rest = said.partition(f"<source-{mark}>\n")
    fenced, _, after = rest.partition(f"\n</source-{mark}>")
    assert fenced.endswith(text)
    assert " ".join(title.split()) in fenced
    assert before + after == re.sub(r"(?s)<source.*</source-.{12}>", "", ask("", "x", pairs))
    assert mark not in title + text


@given(text=TEXT)
def test_the_fence_is_the_same_for_the_same_text(text: str) -> None:
    assert ask("", text, 3) == ask("", text, 3)


def test_a_document_that_names_its_own_mark_gets_another() -> None:
    inner = "Oil burns."
    for _ in range(3):  # a document that quotes what it would have been asked in
        inner = ask("", inner, 3)
    marks = re.findall(r"</source-([0-9a-f]{12})>", ask("", inner, 3))
    assert marks[-1] not in inner


# The key


def test_a_key_hangs_on_all_that_the_answer_does_and_on_no_place() -> None:
    request = request_of(RECIPE, chunk("The lamp burns oil."), 3)
    assert request.key == request_of(RECIPE, chunk("The lamp burns oil.", "elsewhere"), 3).key
    others = [
        request.again(),
        request_of(RECIPE, chunk("The lamp burns gas."), 3),
        request_of(RECIPE, chunk("The lamp burns oil.", heading="Lamps"), 3),
        request_of(RECIPE, chunk("The lamp burns oil."), 2),
        request_of(replace(RECIPE, model="claude-haiku-4-5"), chunk("The lamp burns oil."), 3),
        request_of(replace(RECIPE, max_tokens=513), chunk("The lamp burns oil."), 3),
        request_of(replace(RECIPE, system="Ask!"), chunk("The lamp burns oil."), 3),
    ]
    assert len({request.key, *(other.key for other in others)}) == 1 + len(others)


def test_the_key_of_a_request_is_the_same_in_every_version() -> None:
    """If this key changes, every answer ever paid for is paid for again."""
    request = request_of(RECIPE, chunk("The lamp burns oil.", heading="Lamps"), 3)
    assert request.key[:16] == "d2b5978374f05e03"


def test_prompts_are_rendered_with_kinds_and_audience() -> None:
    said = render_prompt(DEFAULT_PROMPT, ["why", "how-to"], "keepers")
    assert "keepers" in said
    assert KINDS["why"] in said
    assert KINDS["summary"] not in said


@pytest.mark.parametrize("text", ["{{ nothing }}", "{% if %}", "{{ ''.__class__.__mro__ }}", " \n"])
def test_a_prompt_that_cannot_be_used_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        render_prompt(text, ["why"], "keepers")


# Answers

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["pairs", "question", "answer", "evidence", "verdicts", "x"]), inner
        )
    ),
)


@given(
    form=st.sampled_from([PAIRS, VERDICTS]),
    text=JSON.map(json.dumps) | st.text() | st.just("[" * 100_000),
)
def test_whatever_is_answered_is_read(form: Form, text: str) -> None:
    answer = read_answer(form, "end_turn", text, 3)
    assert answer.outcome == "invalid"
    assert answer.reason


PAIR = {"question": "Why?", "answer": "So.", "evidence": "It is so."}


@pytest.mark.parametrize(
    ("stop", "pairs", "outcome"),
    [
        ("end_turn", [PAIR, PAIR], "answered"),
        ("stop_sequence", [PAIR, PAIR], "answered"),
        ("end_turn", [PAIR], "invalid"),
        ("end_turn", [PAIR, PAIR, PAIR], "invalid"),
        ("end_turn", [PAIR, {**PAIR, "more": "x"}], "invalid"),
        ("end_turn", [PAIR, {**PAIR, "answer": " "}], "invalid"),
        ("end_turn", [PAIR, {**PAIR, "answer": "\ud800"}], "invalid"),
        ("end_turn", [PAIR, {**PAIR, "answer": None}], "invalid"),
        ("max_tokens", [PAIR, PAIR], "truncated"),
        ("refusal", [PAIR, PAIR], "refused"),
        ("tool_use", [PAIR, PAIR], "invalid"),
        (None, [PAIR, PAIR], "invalid"),
    ],
)
def test_answers_of_each_shape(stop: str | None, pairs: list[Any], outcome: str) -> None:
    assert read_answer(PAIRS, stop, json.dumps({"pairs": pairs}), 2).outcome == outcome


VERDICT = {"pair": 1, "reason": "it follows", "keep": True}


@pytest.mark.parametrize(
    ("verdicts", "outcome"),
    [
        ([VERDICT, {**VERDICT, "pair": 2, "keep": False}], "answered"),
        ([VERDICT], "invalid"),
        ([VERDICT, VERDICT], "invalid"),
        ([{**VERDICT, "pair": 2}, VERDICT], "invalid"),
        ([VERDICT, {**VERDICT, "pair": True}], "invalid"),
        ([VERDICT, {**VERDICT, "pair": 2, "keep": "yes"}], "invalid"),
        ([VERDICT, {**VERDICT, "pair": 2, "keep": 1}], "invalid"),
    ],
)
def test_verdicts_of_each_shape(verdicts: list[Any], outcome: str) -> None:
    said = json.dumps({"verdicts": verdicts})
    assert read_answer(VERDICTS, "end_turn", said, 2).outcome == outcome


# The ledger


def written(folder: Path, requests: int = 3) -> bytes:
    """A ledger of `answers` answers and one request without an answer."""
    with open_ledger(folder) as ledger:
        for number in range(requests):
            [n] = ledger.send([Sent(f"k{number}", "r", 0.01)])
            ledger.outcome([(n, Answered(f"k{number}", "answered", 0.004, text=f"é{number}"))])
        ledger.send([Sent("lost", "r", 0.01)])
    return (folder / REQUESTS).read_bytes()


def test_a_ledger_cut_anywhere_is_read_and_goes_on(tmp_path: Path) -> None:
    whole = written(tmp_path / "whole")
    for size in range(len(whole) + 1):
        folder = tmp_path / "cut"
        folder.mkdir(exist_ok=True)
        (folder / REQUESTS).write_bytes(whole[:size])
        lines = whole[:size].count(b"\n")
        assert Ledger(folder).sent == (lines + 1) // 2
        with open_ledger(folder) as ledger:
            assert ledger.under_way == 0
            assert ledger.sent == sum(ledger.outcomes.values())
            answered = [key for key in ("k0", "k1", "k2") if ledger.settled(key)]
            assert len(answered) == lines // 2
            assert all(ledger.answer(key).text == f"é{key[1]}" for key in answered)
            [n] = ledger.send([Sent("next", "r", 0.01)])
            ledger.outcome([(n, Answered("next", "failed"))])
        assert Ledger(folder).last("next") == "failed"


def test_a_lost_answer_is_listed_and_counts_with_the_most_it_can_cost(tmp_path: Path) -> None:
    written(tmp_path)
    assert Ledger(tmp_path).under_way == 1
    with open_ledger(tmp_path) as ledger:
        assert ledger.outcomes == {"answered": 3, "unknown": 1}
        assert ledger.usd == pytest.approx(0.022)
        assert ledger.settled("lost") is None
    lines = [json.loads(line) for line in (tmp_path / REQUESTS).read_text().splitlines()]
    assert lines[-1]["outcome"] == "unknown"
    assert "ended before" in lines[-1]["error"]


def test_a_line_damaged_in_the_middle_is_named_and_nothing_is_sent(tmp_path: Path) -> None:
    whole = written(tmp_path)
    (tmp_path / REQUESTS).write_bytes(whole.replace(b'"outcome"', b'"outcom', 1))
    with pytest.raises(StageError, match=rf"{REQUESTS}:2 is damaged"), open_ledger(tmp_path):
        pass


def test_what_was_spent_counts_until_the_pairs_are_complete(tmp_path: Path) -> None:
    written(tmp_path)
    with open_ledger(tmp_path) as ledger:
        assert ledger.making.usd == ledger.usd
        ledger.complete()
        assert ledger.making.usd == 0
        assert ledger.usd == pytest.approx(0.022)
    assert Ledger(tmp_path).making.usd == 0


def test_what_is_turned_away_is_left_out_once_others_are_answered(tmp_path: Path) -> None:
    def settle(book: OpenLedger, key: str, outcome: OutcomeName) -> None:
        [n] = book.send([Sent(key, "r", 0.01)])
        away = outcome == "failed"
        book.outcome([(n, Answered(key, outcome, error="no", turned_away=away))])

    with open_ledger(tmp_path) as book:
        settle(book, "poison", "failed")
        assert book.blocked_reason == "no"  # nothing was answered: the endpoint may be at fault
        assert not book.left_out
        settle(book, "a", "answered")
        assert set(book.left_out) == {"poison"}
        book.complete()
        settle(book, "poison", "failed")
        assert set(book.left_out) == {"poison"}  # as it was before
        settle(book, "b", "failed")
        assert book.blocked_reason
    with open_ledger(tmp_path) as book:
        assert book.blocked_reason
        settle(book, "b", "answered")
        assert set(book.left_out) == {"poison"}
        settle(book, "poison", "answered")
        assert not book.left_out


def test_a_full_disk_leaves_room_for_what_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_ledger(tmp_path) as ledger:
        [n] = ledger.send([Sent("k", "r", 0.01)])
        file = ledger._journal._file
        assert file
        write = file.write

        class Full:
            """A file on a disk that is full while the reserve is there."""

            def write(self, data: bytes) -> int:
                if ledger.has_reserve:
                    write(data[:10])
                    raise OSError(28, "No space left on device")
                return write(data)

            def __getattr__(self, name: str) -> Any:
                return getattr(file, name)

        monkeypatch.setattr(ledger._journal, "_file", Full())
        ledger.outcome([(n, Answered("k", "answered", text="kept"))])
        assert ledger.answer("k").text == "kept"
        assert not ledger.has_reserve
    assert Ledger(tmp_path).answer("k").text == "kept"


# Money


def test_an_unknown_model_needs_a_price() -> None:
    assert price_of("claude-haiku-5-5", None) is PRICES["claude-haiku-5-5"]
    with pytest.raises(UserError, match=r"qa\.prices"):
        price_of("claude-opus-9", None)
    assert price_of("claude-opus-9", QAPrices(input=1.0, output=2.0)).output == 2.0


@given(text=TEXT)
def test_no_request_costs_more_than_its_most(text: str) -> None:
    request, price = request_of(RECIPE, chunk(text), 3), PRICES["claude-haiku-5-5"]
    assert estimate([request], price).usd <= at_most(request, price)


@given(
    costs=st.lists(st.tuples(st.floats(0.001, 0.1), st.floats(0, 1)), max_size=60),
    window=st.integers(1, 8),
)
def test_a_cap_is_never_overshot(costs: list[tuple[float, float]], window: int) -> None:
    budget = Budget(
        {"qa.max_usd": 0.5, "qa.max_usd_total": 0.4}, {"qa.max_usd": 0.0, "qa.max_usd_total": 0.1}
    )
    flying: list[tuple[float, float]] = []
    for most, share in costs:
        if len(flying) == window:
            budget.settle(*flying.pop(0))
        if budget.reserve(most):
            flying.append((most, most * share))
    for item in flying:
        budget.settle(*item)
    assert budget.spent["qa.max_usd"] <= 0.5
    assert budget.spent["qa.max_usd_total"] <= 0.4 + 1e-9


# Pace


@settings(deadline=None, max_examples=40)
@given(
    per_minute=st.integers(30, 6000),
    latency=st.floats(0.1, 3.0),
    burst=st.sampled_from([1, 10, 60]),
)
def test_the_pace_is_that_of_the_limit_and_never_over_it(
    per_minute: int, latency: float, burst: int
) -> None:
    """Simulates the API's token bucket with a fake clock."""
    now, rate = 0.0, per_minute / 60
    full = max(1.0, rate * burst)
    level, filled = full, 0.0
    window = int(rate * latency * 1.5) + 2
    pacer = Pacer(window, lambda: now)
    flying: list[tuple[float, float]] = []
    sent = refused = 0
    seconds = 120.0
    while now < seconds:
        while flying and flying[0][0] <= now:
            pacer.heard({"requests": Limit(per_minute, flying.pop(0)[1])}, {"input_tokens": 9})
        if len(flying) < pacer.window and not pacer.wait():
            level, filled = min(full, level + (now - filled) * rate), now
            if level >= 1:
                level -= 1
                sent += 1
            else:
                refused += 1
            flying.append((now + latency, float(int(level))))
            pacer.sent()
        else:
            now += min(0.01, max(pacer.wait(), 0.002))
    assert sent >= 0.95 * rate * (seconds - 2 * latency - 2)
    assert refused <= window


def test_until_a_first_answer_one_request_is_in_flight() -> None:
    pacer = Pacer(8)
    assert pacer.window == 1
    pacer.heard({}, {})
    assert pacer.window == 1
    pacer.heard({}, {"input_tokens": 10})
    assert pacer.window == 8


# Quality


@pytest.mark.parametrize(
    "question",
    [
        "What does the passage say of oil?",
        "According to the author, why is it lit?",
        "What is described in this document?",
        "Which lamp is mentioned above?",
        "What does the following text list?",
    ],
)
def test_questions_that_lean_on_their_source_are_found(question: str) -> None:
    assert LEANING.search(question)


@pytest.mark.parametrize(
    "question",
    [
        "Who is the author of The Lamp?",
        "What is the source of the river?",
        "How does a context switch work?",
        "What documents does a keeper sign?",
        "What goes into the text of a label?",
    ],
)
def test_questions_of_such_things_are_let_be(question: str) -> None:
    assert not LEANING.search(question)


def test_evidence_is_in_the_chunk_word_for_word() -> None:
    text = "The lamp “Maria”\nburns 12 litres — every night."
    good = Draft("What burns?", "Maria.", 'The lamp "Maria" burns 12 litres')
    bad = Draft("How much?", "13.", "The lamp burns 13 litres")
    short = Draft("How often?", "Nightly.", "night")
    sifted = sift([good, bad, short], chunk(text), "key")
    assert [pair.question for pair in sifted.kept] == ["What burns?"]
    assert [pair.reason for pair in sifted.dropped] == [
        "the evidence is not in the chunk",
        "the evidence is too short to prove anything",
    ]


def _pair(name: str, question: str, answer: str) -> QAPair:
    return QAPair(name, question, answer, "e", "c", "t", "k")


def test_of_pairs_that_are_alike_the_first_is_kept() -> None:
    long = " ".join(f"word{n}" for n in range(80))
    pairs = [
        _pair("a", "Who lit it?", "Ada."),
        _pair("b", "who lit  it", "Someone else."),
        _pair("c", "What is said?", long),
        _pair("d", "What is told?", long),
        _pair("e", "Who else?", "Ada."),
    ]
    sifted = without_duplicates(pairs)
    assert [pair.pair_id for pair in sifted.kept] == ["a", "c", "e"]
    assert [(pair.pair_id, pair.kept_id) for pair in sifted.dropped] == [("b", "a"), ("d", "c")]
    assert [p.pair_id for p in without_duplicates(pairs, first=2).kept] == ["a", "b", "c", "e"]


# Reviews


def _export(pair: QAPair, **changes: str) -> str:
    line = {"pair_id": pair.pair_id, "question": pair.question, "answer": pair.answer}
    return json.dumps({**line, **changes}) + "\n"


def test_edits_and_rejections_hold_for_the_text_wherever_it_stands(tmp_path: Path) -> None:
    text = "The lamp burns oil. The keeper is Ada."
    first, second = [
        QAPair(name, question, answer, "The lamp burns oil.", "c1", "text-c1", "k")
        for name, question, answer in [("1", "What burns?", "Oil."), ("2", "Who keeps?", "Bo.")]
    ]
    path = tmp_path / "review.jsonl"
    path.write_text(_export(first, verdict="reject") + _export(second, answer="Ada keeps it."))
    reviews, new = imported(path, {"1": first, "2": second}, {"c1": text}, [])
    assert new == 2
    assert imported(path, {"1": first, "2": second}, {"c1": text}, reviews) == (reviews, 0)
    overlay = Overlay(reviews)
    again = replace(first, question="what  burns", chunk_id="c9")
    by_hand, kept, gone = overlay.lay([again, second], chunk(text, "c9"))
    assert [(pair.question, pair.answer) for pair in by_hand] == [("Who keeps?", "Ada keeps it.")]
    assert not kept
    assert len(gone) == 2
    assert overlay.lay([], chunk(text, "c10"))[0] == []  # one edit makes one pair
    assert not overlay.homeless()
    assert len(Overlay(reviews).homeless()) == 2
    edited = by_hand[0]
    path.write_text(_export(edited, question="Who keeps the lamp?"))
    changed, new = imported(path, {edited.pair_id: edited}, {"c9": text}, reviews)
    assert new == 1
    assert [review.new_question for review in changed] == ["", "Who keeps the lamp?"]
    assert changed[1].question == "Who keeps?"  # still keyed by the model's question


def test_a_review_is_taken_back_only_by_saying_so(tmp_path: Path) -> None:
    pair = QAPair("1", "What burns?", "Oil.", "The lamp burns oil.", "c1", "text-c1", "k")
    path = tmp_path / "review.jsonl"
    path.write_text(_export(pair, verdict="reject"))
    rejected, _ = imported(path, {"1": pair}, {"c1": "text"}, [])
    path.write_text(_export(pair, verdict="keep"))  # an older export, in which nobody touched it
    assert imported(path, {"1": pair}, {"c1": "text"}, rejected) == (rejected, 0)
    path.write_text(_export(pair, verdict="restore"))
    assert imported(path, {"1": pair}, {"c1": "text"}, rejected) == ([], 1)
    assert imported(path, {"1": pair}, {"c1": "text"}, []) == ([], 0)
    path.write_text(_export(pair, answer="Whale oil."))
    edited, _ = imported(path, {"1": pair}, {"c1": "text"}, rejected)
    [by_hand] = Overlay(edited).lay([pair], chunk("text"))[0]
    path.write_text(_export(by_hand, verdict="restore"))
    assert imported(path, {by_hand.pair_id: by_hand}, {"c1": "text"}, edited) == ([], 1)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"pair_id": "9"}',
        '{"pair_id": "1", "verdict": "no"}',
        '{"pair_id": "1", "answer": ""}',
        '{"pair_id": "1", "evidence": "x"}',
        '{"pair_id": "1", "question": 3}',
    ],
)
def test_a_line_that_cannot_be_taken_up_is_named(tmp_path: Path, line: str) -> None:
    pair = _pair("1", "Who?", "Ada.")
    path = tmp_path / "review.jsonl"
    path.write_text(f"\n{line}\n")
    with pytest.raises(UserError, match=r"review\.jsonl:2: "):
        imported(path, {"1": pair}, {"c": "text"}, [])


def test_a_review_is_kept_by_the_text_of_its_chunk() -> None:
    assert chunk_digest("a") != chunk_digest("b")
    review = Review("reject", chunk_digest("a"), "q", "a", "e")
    assert Overlay([review]).lay([], chunk("b"))[1:] == ([], [])
