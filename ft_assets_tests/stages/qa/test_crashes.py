"""Making pairs is killed at random moments, over and over, while a fifth of all goes wrong.

No pair is lost, none stands twice, and the server's bill is what the ledger says, listed unknowns
included.
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from ft_assets.engine.project import Project
from ft_assets.errors import StageError, WaitingError
from ft_assets.stages.qa import batches as qa_batches
from ft_assets.stages.qa.answer import SETTLED
from ft_assets.stages.qa.ledger.batch_log import BatchLog
from ft_assets.stages.qa.ledger.ledger import REQUESTS, Ledger
from ft_assets.stages.qa.providers import claude as qa_claude
from ft_assets.stages.qa.retry import BATCHES, MESSAGES
from ft_assets_tests.conftest import Corpus
from ft_assets_tests.kills import EVERY_KILL, SAMPLE
from ft_assets_tests.stages.qa.claude_server import KEY, Behaviour, Remote, running
from ft_assets_tests.stages.qa.pairs_corpus import (
    artifact_folder,
    enable_qa,
    lamps_corpus,
    make_pairs,
    published_pairs,
)

FAULTS = {
    "rate_limited": 0.04,
    "api_error": 0.04,
    "overloaded": 0.03,
    "timeout_before": 0.005,
    "timeout_after": 0.005,
    "closed_before": 0.01,
    "closed_after": 0.01,
    "half_answer": 0.02,
    "invalid_json": 0.02,
    "max_tokens": 0.01,
    "refusal": 0.01,
}
"""Together 20%."""
IN_BATCHES = {"batch_errored": 0.1, "batch_expired": 0.06}
"""With the useless answers above, 20% of what is in a batch."""
WINDOW = 16


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setattr(qa_claude, "TIMEOUT_SECONDS", 4.0)
    monkeypatch.setattr(MESSAGES, "first_wait", 0.1)
    said = Behaviour(latency=0.05, faults=FAULTS, retry_after=0.3, slow_seconds=6.0, seed=5)
    with running(said, tmp_path) as server:
        yield server


def lighthouse(project: Project, server: Remote, documents: int, **settings: object) -> Corpus:
    """A corpus of `documents` documents of ten chunks each."""
    corpus = lamps_corpus(project, documents, sentences=115)
    enable_qa(corpus, server, max_concurrency=WINDOW, **settings)
    return corpus


def in_child(work: Callable[[], object]) -> int:
    """Runs `work` in its own process; its exit code is 3 if a stage fails, 4 if it has to wait."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
        os._exit(0)
    except WaitingError:
        os._exit(4)
    except StageError as error:
        print(error, file=sys.stderr)
        os._exit(3)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(70)


def code_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_when_it_has_sent(
    pid: int, ledger: Path, chance: random.Random, within: float = 1.2
) -> int | None:
    """Kills a process some time after it started to send; returns its exit code if it ended before."""
    size = ledger.stat().st_size if ledger.exists() else 0
    deadline = None
    while deadline is None or time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if deadline is None and ledger.exists() and ledger.stat().st_size != size:
            deadline = time.monotonic() + chance.uniform(0.0, within)
        time.sleep(0.005)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def assert_billed(server: Remote, ledger: Ledger) -> None:
    """Asserts that the ledger has everything that the server billed, except listed unknowns."""
    billed = sum(server.billed().values())
    answers = sum(ledger.outcomes[outcome] for outcome in SETTLED)
    assert answers <= billed <= answers + ledger.outcomes["unknown"]
    assert server.usd() <= ledger.usd + 1e-9


DOCUMENTS, KILLS = (200, 50) if EVERY_KILL else (50, SAMPLE)


@pytest.mark.slow
@pytest.mark.parametrize("ways", [["messages"], ["messages", "batches"]], ids="+".join)
def test_killed_many_times_nothing_is_lost_or_paid_for_unlisted(
    project: Project, remote: Remote, monkeypatch: pytest.MonkeyPatch, ways: list[str]
) -> None:
    """Runs with messages only, and with a way of sending drawn at each start of the process."""
    monkeypatch.setattr(qa_batches, "APPEARS", timedelta(seconds=2))
    monkeypatch.setattr(qa_batches, "MOST_REQUESTS", 25)
    monkeypatch.setattr(BATCHES, "first_wait", 0.1)
    remote.behave(faults=FAULTS | IN_BATCHES, batch_seconds=1.0, batch_hidden_seconds=0.3)
    corpus = lighthouse(project, remote, documents=DOCUMENTS, max_usd=100.0)
    assert code_of(in_child(lambda: [corpus.project.make("lamps", a) for a in UP])) == 0
    keep = project.storage.keep("lamps", "qa_pairs")
    chance = random.Random(11)
    kills = given_up = 0
    for _ in range(400):
        way = chance.choice(ways)
        enable_qa(corpus, remote, max_concurrency=WINDOW, max_usd=100.0, send=way)
        pid = in_child(lambda: corpus.project.make("lamps", "qa_pairs"))
        within = 0.7 if kills < KILLS else 3600.0
        code = kill_when_it_has_sent(pid, keep / REQUESTS, chance, within)
        kills += code is None
        given_up += code == 3  # one request was lost three times in a row: an error; start again
        assert code in (None, 0, 3, 4), "it failed by itself"
        if code == 0:
            break
        time.sleep(0.2 if code == 4 else 0)
    remote.wait_idle()
    manifest = project.storage.current("lamps", "qa_pairs")
    assert manifest
    counts = manifest.counts
    ledger = Ledger(keep)
    batches = BatchLog(keep).batches
    print(f"{kills} kills, {len(batches)} batches, {counts}, {ledger.outcomes}")
    print(Counter(call.fault for call in remote.calls()))
    assert kills >= 0.8 * KILLS
    assert given_up <= 5
    assert counts["requested"] >= 10 * DOCUMENTS
    assert ledger.under_way == 0
    assert all(batch.over for batch in batches.values())
    assert ("batches" in ways) == (len(batches) > DOCUMENTS // 20)
    assert ledger.sent == sum(ledger.outcomes.values())
    assert_billed(remote, ledger)
    settled = [n for n in answers_by_key(keep / REQUESTS).values() if n > 1]
    assert not settled, "a request that was answered was sent again"
    found = published_pairs(corpus)
    assert len({pair.pair_id for pair in found}) == len(found) == counts["pairs"]
    asked = 3 * counts["answered"]
    assert counts["pairs"] + counts["dropped"] == asked
    violations = remote.violations()
    print(f"{len(violations)} requests early, of them after a kill all")
    assert len(violations) <= kills  # a 429 that a killed process had not written down
    # An uninterrupted build from the same ledger gives the same artifact.
    again = make_pairs(corpus, force=True)
    assert again.version == manifest.version == artifact_folder(corpus).name
    assert again.counts["sent"] == 0


UP = ("raw_documents", "chunks")


def answers_by_key(path: Path) -> Counter[str]:
    """The number of answers in a ledger for each key."""
    lines = map(json.loads, path.read_text().splitlines())
    return Counter(line["key"] for line in lines if line.get("outcome") in SETTLED)


@pytest.mark.slow
def test_a_cap_holds_while_the_process_is_killed_and_resumed(
    project: Project, remote: Remote
) -> None:
    cap = 1.0
    corpus = lighthouse(project, remote, documents=60, max_usd=cap, model="claude-haiku-4-5")
    assert code_of(in_child(lambda: [corpus.project.make("lamps", a) for a in UP])) == 0
    keep = project.storage.keep("lamps", "qa_pairs")
    chance = random.Random(12)
    capped = 0
    for _ in range(40):
        pid = in_child(lambda: corpus.project.make("lamps", "qa_pairs"))
        code = kill_when_it_has_sent(pid, keep / REQUESTS, chance)
        assert code in (None, 3)
        capped += code == 3
        if capped == 3:
            break
    remote.wait_idle()
    ledger = Ledger(keep)
    print(f"billed {remote.usd():.4f}, ledger {ledger.usd:.4f} of {cap}, {ledger.outcomes}")
    assert capped == 3
    assert remote.usd() <= ledger.usd <= cap + 1e-9
    assert_billed(remote, ledger)


def test_an_interrupt_waits_for_what_is_in_flight(project: Project, remote: Remote) -> None:
    remote.behave(faults={}, latency=0.5)
    corpus = lighthouse(
        project, remote, documents=40
    )  # 400 requests: not over before the signal comes
    assert code_of(in_child(lambda: [corpus.project.make("lamps", a) for a in UP])) == 0
    pid = in_child(lambda: corpus.project.make("lamps", "qa_pairs"))
    while len(remote.asked()) < 2:
        time.sleep(0.02)
    os.kill(pid, signal.SIGINT)
    assert code_of(pid) == 70  # KeyboardInterrupt
    remote.wait_idle()
    ledger = Ledger(project.storage.keep("lamps", "qa_pairs"))
    assert ledger.outcomes == {"answered": sum(remote.billed().values())}
    assert ledger.under_way == 0
