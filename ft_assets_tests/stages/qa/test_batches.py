"""Pairs in Message Batches: sent and collected by processes that end in between, paid for once."""

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ft_assets.defs.batch_sensor import build_batch_sensor
from ft_assets.errors import StageError, UserError, WaitingError
from ft_assets.records import QAPair
from ft_assets.stages.qa import batches as qa_batches
from ft_assets.stages.qa.retry import BATCHES
from ft_assets_tests.conftest import Corpus, RunCLI
from ft_assets_tests.stages.qa.claude_api.errors import ApiError
from ft_assets_tests.stages.qa.claude_server import (
    KEY,
    Behaviour,
    ClaudeServer,
    Record,
    Remote,
    running,
)
from ft_assets_tests.stages.qa.pairs_corpus import (
    enable_qa,
    ledger_of,
    make_pairs,
    published_pairs,
)

DOCUMENTS = 12
BATCH_PATH = "/v1/messages/batches"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)


@pytest.fixture
def server() -> Iterator[ClaudeServer]:
    with ClaudeServer() as made:
        yield made


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a batch that is not listed at once count as never created."""
    monkeypatch.setattr(qa_batches, "APPEARS", timedelta(0))
    monkeypatch.setattr(qa_batches, "LOST_AFTER", timedelta(0))


def prepare(corpus: Corpus, server: ClaudeServer | Remote, **settings: Any) -> None:
    """Writes documents of one chunk each, and enables QA in batches."""
    for number in range(DOCUMENTS):
        corpus.write(
            f"{number}.txt",
            f"Pier {number} was built in {1800 + number} by the harbour guild. It carries "
            f"{number + 3} cranes of green iron. Its keeper rings the bell {number + 2} times a day.",
        )
    enable_qa(corpus, server, send="batches", **settings)


def make(corpus: Corpus) -> list[QAPair]:
    """Builds the pairs in this process like a run does; returns what is published."""
    make_pairs(corpus)
    return published_pairs(corpus)


def made_at_last(corpus: Corpus, tries: int = 12) -> list[QAPair]:
    for _ in range(tries):
        try:
            return make(corpus)
        except WaitingError:
            time.sleep(0.1)
    raise AssertionError("it waits for ever")


def submissions(server: Record) -> list[set[str]]:
    """The keys of each batch that was sent."""
    calls = [one for one in server.calls() if (one.method, one.path) == ("POST", BATCH_PATH)]
    return [{request["custom_id"] for request in call.body["requests"]} for call in calls]


def agrees(corpus: Corpus, server: Record) -> None:
    """Asserts that every billed answer is in the ledger, at its price."""
    ledger = ledger_of(corpus)
    assert ledger.outcomes["unknown"] == 0
    assert ledger.usd == pytest.approx(server.usd())
    answers = sum(ledger.outcomes[name] for name in ("answered", "refused", "truncated", "invalid"))
    assert answers == sum(server.billed().values())


def test_a_run_sends_and_a_later_one_collects(corpus: Corpus, server: ClaudeServer) -> None:
    prepare(corpus, server)
    server.behave(batch_seconds=1.0, batch_hidden_seconds=0.3)
    for _ in range(2):
        with pytest.raises(WaitingError, match="waiting for batch msgbatch_"):
            make(corpus)
        assert corpus.project.storage.current(corpus.name, "qa_pairs") is None
    pairs = made_at_last(corpus)
    assert len(submissions(server)) == 1
    assert set(server.billed().values()) == {1}
    assert len({pair.text_id for pair in pairs}) >= DOCUMENTS
    agrees(corpus, server)
    usage = [call.usage for call in server.asked()]
    tokens = [sum(use[name] for use in usage if use) for name in ("input_tokens", "output_tokens")]
    assert server.usd() == pytest.approx((tokens[0] * 0.1 + tokens[1] * 0.5) / 2e6)
    count = len(server.calls())
    assert make(corpus) == pairs
    assert len(server.calls()) == count


def test_only_what_failed_is_sent_again(corpus: Corpus, server: ClaudeServer) -> None:
    prepare(corpus, server)
    server.behave(faults={"batch_errored": 0.3, "batch_expired": 0.2}, seed=3)
    made_at_last(corpus)
    sent = submissions(server)
    assert len(sent) > 1
    assert all(later <= earlier for earlier, later in pairwise(sent))
    assert set(server.billed().values()) == {1}
    agrees(corpus, server)


def test_a_request_that_is_refused_for_what_it_is_is_left_out(
    corpus: Corpus, server: ClaudeServer
) -> None:
    prepare(corpus, server)
    server.behave(rigged={"Pier 3 ": "batch_refused"}, batch_seconds=0.2)
    pairs = made_at_last(corpus)
    assert len(submissions(server)) == 1
    assert pairs
    assert not [pair for pair in pairs if "Pier 3 " in pair.evidence]
    manifest = corpus.project.storage.current(corpus.name, "qa_pairs")
    assert manifest
    assert manifest.counts["failed"] == 1
    assert not manifest.checks["requests_are_answered"]["passed"]
    agrees(corpus, server)


def test_where_all_are_refused_nothing_is_published(corpus: Corpus, server: ClaudeServer) -> None:
    prepare(corpus, server)
    server.behave(faults={"batch_refused": 1.0})
    with pytest.raises(StageError, match="every request is refused: invalid_request_error"):
        made_at_last(corpus)
    assert len(submissions(server)) == 1
    assert corpus.project.storage.current(corpus.name, "qa_pairs") is None
    server.behave(faults={})
    assert made_at_last(corpus)
    server.behave(faults={"batch_refused": 1.0})
    corpus.write("ferry.txt", "The ferry now lands at the western pier, whatever the wind may be.")
    with pytest.raises(StageError, match="every request is refused"):
        made_at_last(corpus)


def test_batches_that_only_expire_are_no_reason_to_go_on_for_ever(
    corpus: Corpus, server: ClaudeServer
) -> None:
    prepare(corpus, server)
    server.behave(faults={"batch_expired": 1.0})
    for _ in range(2):
        with pytest.raises(StageError, match=r"batches .* without a single answer"):
            made_at_last(corpus)
    server.behave(faults={})
    assert made_at_last(corpus)


def test_what_is_refused_is_left_out_though_processes_end_in_between(
    corpus: Corpus, server: ClaudeServer
) -> None:
    prepare(corpus, server)
    server.behave(rigged={"Pier 3 ": "batch_refused"}, batch_seconds=0.3)
    assert made_at_last(corpus)
    assert len(submissions(server)) == 1
    enable_qa(corpus, server, min_kept_rate=0.4)
    assert made_at_last(corpus)  # refused again, as it was when the pairs were complete
    enable_qa(corpus, server, send="batches", judge=True)
    server.behave(rigged={"Pier 3 ": "batch_refused", "You check": "batch_refused"})
    with pytest.raises(StageError, match="every request is refused"):
        made_at_last(corpus)
    server.behave(rigged={"Pier 3 ": "batch_refused"})
    assert made_at_last(corpus)
    assert len(submissions(server)) <= 4


@pytest.mark.parametrize(
    ("limit", "value"), [("MOST_REQUESTS", 5), ("MOST_BYTES", 15_000)], ids=["requests", "bytes"]
)
def test_what_one_batch_cannot_take_goes_into_several(
    corpus: Corpus, server: ClaudeServer, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(qa_batches, limit, value)
    prepare(corpus, server)
    server.behave(batch_seconds=0.3)
    with pytest.raises(WaitingError, match="; batch msgbatch_"):
        make(corpus)
    made_at_last(corpus)
    sent = submissions(server)
    assert len(sent) >= 3
    assert sum(map(len, sent)) == len(set.union(*sent)) == DOCUMENTS + 1
    for call in server.calls():
        if (call.method, call.path) == ("POST", BATCH_PATH):
            assert len(call.body["requests"]) <= 5 or limit != "MOST_REQUESTS"
            assert len(json.dumps(call.body)) <= 15_500 or limit != "MOST_BYTES"
    agrees(corpus, server)


def test_useless_answers_are_asked_for_once_more(corpus: Corpus, server: ClaudeServer) -> None:
    prepare(corpus, server)
    server.behave(rigged={"Pier 3 ": "invalid_json", "Pier 4 ": "max_tokens", "Pier 5 ": "refusal"})
    pairs = made_at_last(corpus)
    first, second = submissions(server)
    assert not first & second
    assert len(second) == 2
    assert not [pair for pair in pairs if "Pier 3 " in pair.evidence]
    agrees(corpus, server)


@pytest.mark.parametrize("fault", ["closed_after", "half_answer", "timeout_after"])
def test_a_batch_whose_creation_was_not_answered_is_found(
    corpus: Corpus, server: ClaudeServer, fault: str
) -> None:
    prepare(corpus, server)
    server.behave(first=[fault], batch_seconds=0.3, slow_seconds=0.1)
    made_at_last(corpus)
    assert len(submissions(server)) == 1
    agrees(corpus, server)


@pytest.mark.usefixtures("hasty")
def test_a_batch_that_was_never_made_is_sent_again(corpus: Corpus, server: ClaudeServer) -> None:
    prepare(corpus, server)
    server.behave(first=["closed_before"])
    made_at_last(corpus)
    first, second = submissions(server)
    assert first == second
    agrees(corpus, server)


@pytest.mark.usefixtures("hasty")
def test_a_batch_of_others_is_not_taken_for_ours(corpus: Corpus, server: ClaudeServer) -> None:
    import anthropic

    prepare(corpus, server)
    server.behave(first=["closed_before"])
    size = DOCUMENTS + 1  # and ferry.txt
    params: Any = {"model": "claude-haiku-5-5", "max_tokens": 9, "thinking": {"type": "disabled"}}
    params["messages"] = [{"role": "user", "content": "hello"}]
    theirs: Any = [{"custom_id": f"theirs-{n}", "params": params} for n in range(size)]
    other = anthropic.Anthropic(api_key=KEY, base_url=server.url)
    server.behave(first=["", "closed_before"])
    strange = other.messages.batches.create(requests=theirs)
    pairs = made_at_last(corpus)
    assert len(pairs) > DOCUMENTS
    log = corpus.project.storage.keep(corpus.name, "qa_pairs") / "batches.jsonl"
    events = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"not_ours": strange.id} in [{one["event"]: one.get("id")} for one in events]
    ours = [call for call in server.asked() if not call.custom_id.startswith("theirs")]
    assert ledger_of(corpus).usd == pytest.approx(sum(call.usd for call in ours))


def test_results_that_break_off_are_taken_up_again(corpus: Corpus, server: ClaudeServer) -> None:
    prepare(corpus, server)
    # creation, state, then the batch once more and its results
    server.behave(first=["", "", "", "half_answer"])
    made_at_last(corpus)
    assert len(submissions(server)) == 1
    agrees(corpus, server)


@pytest.mark.usefixtures("hasty")
def test_a_batch_that_is_gone_is_listed_as_unknown(corpus: Corpus, server: ClaudeServer) -> None:
    prepare(corpus, server)
    server.behave(batch_seconds=60)
    with pytest.raises(WaitingError):
        make(corpus)
    server.batches.all.clear()
    server.behave(batch_seconds=0)
    made_at_last(corpus)
    ledger = ledger_of(corpus)
    assert ledger.outcomes["unknown"] == len(submissions(server)[0])
    assert ledger.usd > server.usd()


def test_caps_hold_over_batches(corpus: Corpus, server: ClaudeServer) -> None:
    prepare(corpus, server, max_usd=0.0009, max_tokens=1000)
    with pytest.raises(StageError, match=r"qa\.max_usd is reached"):
        made_at_last(corpus)
    assert len(submissions(server)) > 1
    assert 0 < server.usd() <= 0.0009
    enable_qa(corpus, server, send="batches", max_tokens=1000)
    made_at_last(corpus)
    assert set(server.billed().values()) == {1}
    agrees(corpus, server)


@pytest.mark.parametrize(
    ("fault", "said"),
    [("no_credit", "no credit"), ("billing", "no credit"), ("rate_limited", "rate limit")],
)
def test_a_batch_that_is_refused(
    corpus: Corpus,
    server: ClaudeServer,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    said: str,
) -> None:
    monkeypatch.setattr(BATCHES, "patience", 1.0)
    prepare(corpus, server)
    server.behave(faults={fault: 1.0}, retry_after=1.5)
    with pytest.raises(StageError, match=said):
        make(corpus)
    server.behave(faults={})
    made_at_last(corpus)
    assert not server.violations()
    agrees(corpus, server)


def test_nothing_is_sent_before_the_time_that_was_asked_for(
    corpus: Corpus, server: ClaudeServer
) -> None:
    prepare(corpus, server)
    server.behave(faults={"rate_limited": 1.0}, retry_after=5000)
    with pytest.raises(StageError, match="Run again in 5000 s"):
        make(corpus)
    server.behave(faults={})
    for way in ("batches", "messages"):
        enable_qa(corpus, server, send=way)
        with pytest.raises(StageError, match="no more requests until"):
            make(corpus)
    assert len(server.calls()) == 1


def test_credit_that_runs_out_in_a_batch_stops_and_publishes_nothing(
    corpus: Corpus, server: ClaudeServer
) -> None:
    prepare(corpus, server)
    server.behave(credit_usd=0.0005)
    with pytest.raises(StageError, match="no credit"):
        made_at_last(corpus)
    paid = sum(server.billed().values())
    assert 0 < paid < DOCUMENTS
    server.behave(credit_usd=None)
    made_at_last(corpus)
    assert set(server.billed().values()) == {1}
    agrees(corpus, server)


def test_a_model_that_is_unknown_in_a_batch_is_named_at_once(
    corpus: Corpus, server: ClaudeServer
) -> None:
    prices = {"input": 1.0, "output": 5.0}
    prepare(corpus, server, model="claude-nosuch", prices=prices)
    with pytest.raises(UserError, match=r"does not know qa\.model 'claude-nosuch'"):
        made_at_last(corpus)
    assert len(submissions(server)) == 1


def test_results_are_priced_as_they_were_asked_for(corpus: Corpus, server: ClaudeServer) -> None:
    prepare(corpus, server, model="claude-haiku-4-5")
    server.behave(batch_seconds=0.3)
    with pytest.raises(WaitingError):
        make(corpus)
    prepare(corpus, server)
    made_at_last(corpus)
    agrees(corpus, server)


def test_results_that_are_no_longer_kept_are_listed_as_unknown(
    corpus: Corpus, server: ClaudeServer
) -> None:
    prepare(corpus, server)
    server.behave(batch_seconds=60)
    with pytest.raises(WaitingError):
        make(corpus)
    for batch in server.batches.all.values():
        batch.times.processing, batch.archived = 0, True
    server.behave(batch_seconds=0)
    made_at_last(corpus)
    assert ledger_of(corpus).outcomes["unknown"] == len(submissions(server)[0])


def test_results_that_are_not_there_yet_are_waited_for(
    corpus: Corpus, server: ClaudeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(corpus, server)

    def missing(batch_id: str) -> str:
        raise ApiError(404, f"Message Batch {batch_id} has no results.")

    monkeypatch.setattr(server.batches, "results", missing)
    with pytest.raises(WaitingError, match="whose state cannot be checked now"):
        make(corpus)
    monkeypatch.undo()
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    made_at_last(corpus)
    agrees(corpus, server)


def tick(corpus: Corpus) -> Any:
    """The result of the sensor for a corpus's project."""
    with dg.DagsterInstance.ephemeral() as instance:
        resources = {"project": corpus.project}
        return build_batch_sensor()(dg.build_sensor_context(instance, resources=resources))


def test_one_sensor_looks_after_all_whatever_is_wrong_with_one(
    corpus: Corpus, server: ClaudeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(corpus, server)
    server.behave(batch_seconds=0.2)
    with pytest.raises(WaitingError):
        make(corpus)
    other = Corpus(corpus.project, "aground")
    other.write("a.txt", "The ship lies on the bank.")
    broken = corpus.project.storage.keep("aground", "qa_pairs") / "batches.jsonl"
    broken.parent.mkdir(parents=True)
    broken.write_text("{}\n")
    time.sleep(0.3)
    assert [request.partition_key for request in tick(corpus)] == [corpus.name]
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    free = {"input": 0.0, "output": 0.0}
    for qa in ({"enabled": False}, {"model": "openai:m", "prices": free}):
        enable_qa(corpus, server, base_url=f"{server.url}/v1", **qa)
        calls = len(server.calls())
        assert "back to collect them" in tick(corpus).skip_message
        assert len(server.calls()) == calls  # the key goes to nobody else


def test_a_batch_under_way_is_collected_though_messages_are_sent_now(
    corpus: Corpus, server: ClaudeServer
) -> None:
    prepare(corpus, server)
    server.behave(batch_seconds=0.5)
    with pytest.raises(WaitingError):
        make(corpus)
    enable_qa(corpus, server)
    made_at_last(corpus)
    assert len(submissions(server)) == 1
    assert set(server.billed().values()) == {1}
    agrees(corpus, server)


def test_the_sensor_goes_on_once_a_batch_has_ended(corpus: Corpus, server: ClaudeServer) -> None:
    prepare(corpus, server)
    assert "no batch" in tick(corpus).skip_message
    server.behave(batch_seconds=0.6)
    with pytest.raises(WaitingError):
        make(corpus)
    assert "waits for 1 batch" in tick(corpus).skip_message
    time.sleep(0.7)
    first, again = tick(corpus)[0], tick(corpus)[0]
    assert first.run_key == again.run_key
    assert first.partition_key == corpus.name
    assert dg.AssetKey("qa_pairs") in first.asset_selection
    make(corpus)
    assert "no batch" in tick(corpus).skip_message


def test_the_command_says_what_it_waits_for(
    corpus: Corpus, server: ClaudeServer, cli: RunCLI
) -> None:
    prepare(corpus, server)
    server.behave(batch_seconds=60)
    for _ in range(2):
        found = cli("generate-qa", corpus.name)
        assert found.returncode == 4
        assert "qa_pairs is not built yet: waiting for batch msgbatch_" in found.stderr
    assert "waiting for batches of requests: msgbatch_" in cli("status", corpus.name).stdout
    server.behave(batch_seconds=0)
    for batch in server.batches.all.values():
        batch.times.processing = 0
    found = cli("generate-qa", corpus.name)
    assert found.returncode == 0, found.stderr
    assert len(submissions(server)) == 1


class Ended(BaseException):
    """Raised in place of the death of the process."""


@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    "where", ["OpenLedger.send", "OpenLedger.outcome", "BatchLog.write", "ClaudeBatches.create"]
)
def test_a_process_that_ends_at_any_step_is_made_up_for(
    corpus: Corpus,
    server: ClaudeServer,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    before: bool,
    nth: int,
) -> None:
    prepare(corpus, server)
    server.behave(faults={"batch_errored": 0.4}, seed=4)
    owner, name = where.split(".")
    real, calls = getattr(getattr(qa_batches, owner), name), []

    def once(*arguments: Any, **named: Any) -> Any:
        calls.append(name)
        if before and len(calls) == nth:
            raise Ended
        found = real(*arguments, **named)
        if len(calls) == nth:
            raise Ended
        return found

    monkeypatch.setattr(getattr(qa_batches, owner), name, once)
    monkeypatch.setattr(qa_batches, "_WRITTEN_AT_ONCE", 4)
    with pytest.raises(Ended):
        made_at_last(corpus)
    monkeypatch.undo()
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    monkeypatch.setattr(qa_batches, "APPEARS", timedelta(0))
    made_at_last(corpus)
    assert set(server.billed().values()) == {1}
    agrees(corpus, server)


MAKE = """
import sys
from pathlib import Path
from ft_assets.errors import WaitingError
from ft_assets.engine.project import Project
try:
    for asset in ("raw_documents", "chunks", "qa_pairs"):
        Project(Path(sys.argv[1]), Path(sys.argv[2])).make("ferry", asset)
except WaitingError:
    sys.exit(4)
"""


def killed(process: "subprocess.Popen[bytes]", record: Path, chance: random.Random) -> bool:
    """Kills a process a moment after its n-th request reached the server, unless it ends first."""
    heard, size = chance.randint(1, 4), record.stat().st_size
    while process.poll() is None:
        if (now := record.stat().st_size) != size:
            size, heard = now, heard - 1
        if heard == 0:
            time.sleep(chance.uniform(0, 0.03))
            process.kill()
            return process.wait() != 0
        time.sleep(0.001)
    return False


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_or_paid_for_twice(
    corpus: Corpus, tmp_path: Path
) -> None:
    faults = {"batch_errored": 0.2, "batch_expired": 0.2}
    chance = random.Random(5)
    kills = 0
    with running(Behaviour(batch_seconds=0.3, faults=faults), tmp_path) as server:
        prepare(corpus, server)
        command = [sys.executable, "-c", MAKE]
        command += [str(corpus.project.data), str(corpus.project.storage.root)]
        code = None
        while code != 0:
            process = subprocess.Popen(command)
            if kills < 6 and killed(process, tmp_path / "calls.jsonl", chance):
                kills += 1
                continue
            code = process.wait(timeout=60)
            assert code in (0, 4)
        assert kills == 6
        server.wait_idle()
        assert set(server.billed().values()) == {1}
        assert len(server.billed()) == DOCUMENTS + 1
        agrees(corpus, server)
    assert len(make(corpus)) > DOCUMENTS


@pytest.mark.slow
def test_the_running_ui_collects_a_batch_that_a_command_left(
    corpus: Corpus, server: ClaudeServer, cli: RunCLI, tmp_path: Path
) -> None:
    """The command submits a batch and ends; after the batch has ended, the sensor of `ft-assets ui`
    requests the run."""
    prepare(corpus, server)
    server.behave(batch_seconds=100)  # past the run that the other sensor asks for at its start
    assert cli("generate-qa", corpus.name).returncode == 4
    home = tmp_path / "dagster"
    environment = {
        **os.environ,
        "FT_ASSETS_DATA": str(corpus.project.data),
        "FT_ASSETS_STORAGE": str(corpus.project.storage.root),
        "DAGSTER_HOME": str(home),
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "ft_assets.cli", "ui", "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        ui = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 400
        while corpus.project.storage.current_version(corpus.name, "qa_pairs") is None:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()[-4000:]
            time.sleep(1)
    finally:
        ui.terminate()
        ui.wait(timeout=60)
    assert len(submissions(server)) == 1
    agrees(corpus, server)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs(dg.RunsFilter(tags={"dagster/sensor_name": "batch_sensor"}))
