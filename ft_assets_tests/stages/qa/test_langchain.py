"""Pairs from other providers: the same ledger, counts and caps, through LangChain."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from ft_assets.engine.project import Project
from ft_assets.engine.settings_files import load_config
from ft_assets.engine.validation import problems
from ft_assets.errors import StageError, UserError, WaitingError
from ft_assets.records import Chunk
from ft_assets.stages.qa.ledger.ledger import REQUESTS
from ft_assets.stages.qa.prompt import Recipe, Request, request_of
from ft_assets.stages.qa.providers import langchain as qa_langchain
from ft_assets.stages.qa.providers.langchain import langchain_call
from ft_assets.stages.qa.retry import MESSAGES
from ft_assets_tests.conftest import Corpus
from ft_assets_tests.stages.qa.claude_api.openai_peer import PRICE
from ft_assets_tests.stages.qa.claude_server import KEY, ClaudeServer
from ft_assets_tests.stages.qa.pairs_corpus import (
    enable_qa,
    lamps_corpus,
    ledger_of,
    make_pairs,
    published_pairs,
    requests_sent,
)

MODEL = "openai:local-model"
PRICES = {"input": PRICE[0], "output": PRICE[1]}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ClaudeServer]:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ClaudeServer() as made:
        yield made


@pytest.fixture
def qa_corpus(project: Project, server: ClaudeServer) -> Corpus:
    """Six documents of about two chunks each, with QA on."""
    corpus = lamps_corpus(project, 6)
    enable_openai_qa(corpus, server)
    return corpus


def enable_openai_qa(corpus: Corpus, server: ClaudeServer, **settings: Any) -> None:
    qa = {"model": MODEL, "base_url": f"{server.url}/v1", "prices": PRICES, **settings}
    enable_qa(corpus, server, **qa)


def test_pairs_are_made_kept_and_priced_and_a_second_run_sends_nothing(
    qa_corpus: Corpus, server: ClaudeServer
) -> None:
    manifest = make_pairs(qa_corpus)
    counts = manifest.counts
    assert counts["requested"] == counts["answered"] == counts["sent"] == requests_sent(server) > 6
    assert counts["pairs"] == len(published_pairs(qa_corpus)) > 2 * counts["requested"]
    assert manifest.cost["usd"] == pytest.approx(server.usd())
    assert all(verdict["passed"] for verdict in manifest.checks.values())
    assert "langchain" in manifest.tools
    assert make_pairs(qa_corpus, force=True).counts["sent"] == 0
    assert requests_sent(server) == counts["requested"]


def test_the_request_holds_the_model_to_the_schema_and_the_length(
    qa_corpus: Corpus, server: ClaudeServer
) -> None:
    enable_openai_qa(qa_corpus, server, max_tokens=777)
    make_pairs(qa_corpus)
    body = server.asked()[0].body
    assert body["response_format"]["json_schema"]["strict"]
    assert body.get("max_completion_tokens", body.get("max_tokens")) == 777
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert "Lamp" not in body["messages"][0]["content"]


@pytest.mark.parametrize(
    ("fault", "state", "tries"),
    [
        ("invalid_json", "invalid", 2),
        ("wrong_count", "invalid", 2),
        ("max_tokens", "truncated", 2),
        ("refusal", "refused", 1),
    ],
)
def test_an_answer_of_no_use_is_paid_for_and_asked_for_once_more(
    qa_corpus: Corpus, server: ClaudeServer, fault: str, state: str, tries: int
) -> None:
    server.behave(rigged={"Lamp 2-3 is": fault})
    manifest = make_pairs(qa_corpus)
    counts = manifest.counts
    assert counts[state] == 1
    assert counts["answered"] == counts["requested"] - 1
    assert requests_sent(server) == counts["requested"] - 1 + tries
    assert manifest.cost["usd"] == pytest.approx(server.usd())


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        ("api_error", "failed"),
        ("overloaded", "failed"),
        ("rate_limited", "failed"),
        ("closed_before", "unknown"),
        ("closed_after", "unknown"),
        ("half_answer", "unknown"),
        ("timeout_after", "unknown"),
    ],
)
def test_a_request_without_an_answer_is_sent_again_by_the_ledger_alone(
    qa_corpus: Corpus,
    server: ClaudeServer,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    outcome: str,
) -> None:
    monkeypatch.setattr(qa_langchain, "TIMEOUT_SECONDS", 1.0)
    server.behave(first=["", fault], retry_after=0.7, slow_seconds=1.5)
    manifest = make_pairs(qa_corpus)
    server.wait_idle()
    assert manifest.counts["answered"] == manifest.counts["requested"] == requests_sent(server) - 1
    assert ledger_of(qa_corpus).outcomes == {outcome: 1, "answered": manifest.counts["requested"]}
    assert not server.violations()
    assert manifest.cost["usd"] >= server.usd() - 1e-12


def test_a_cap_holds_and_raising_it_goes_on(qa_corpus: Corpus, server: ClaudeServer) -> None:
    enable_openai_qa(qa_corpus, server, max_usd=0.006)
    with pytest.raises(StageError, match=r"qa\.max_usd is reached"):
        make_pairs(qa_corpus)
    paid = requests_sent(server)
    assert paid > 0
    assert server.usd() <= 0.006
    enable_openai_qa(qa_corpus, server)
    counts = make_pairs(qa_corpus).counts
    assert requests_sent(server) == counts["sent"] == counts["requested"] > paid


def test_a_wrong_key_or_model_stops_at_once(
    qa_corpus: Corpus, server: ClaudeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other")
    with pytest.raises(UserError, match="does not accept the key in OPENAI_API_KEY"):
        make_pairs(qa_corpus)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    enable_openai_qa(qa_corpus, server, model="openai:other-model")
    with pytest.raises(UserError, match=r"does not know qa\.model 'openai:other-model'"):
        make_pairs(qa_corpus)
    assert len(server.calls()) == 2


def test_the_key_is_in_no_file(qa_corpus: Corpus, server: ClaudeServer) -> None:
    server.behave(first=["", "api_error"])
    make_pairs(qa_corpus)
    files = [path for path in qa_corpus.project.storage.root.rglob("*") if path.is_file()]
    assert any(path.name == REQUESTS for path in files)
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


def test_a_local_server_needs_no_key_and_costs_nothing(
    qa_corpus: Corpus, server: ClaudeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    server.behave(api_key="none")
    enable_openai_qa(qa_corpus, server, prices={"input": 0.0, "output": 0.0}, max_usd=0.0)
    manifest = make_pairs(qa_corpus)
    assert manifest.counts["answered"] == manifest.counts["requested"]
    assert manifest.cost["usd"] == 0


def test_without_a_server_or_a_key_nothing_is_sent(
    qa_corpus: Corpus, server: ClaudeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MESSAGES, "first_wait", 0.01)
    enable_openai_qa(qa_corpus, server, base_url="http://127.0.0.1:9/v1")
    with pytest.raises(StageError, match=r"127\.0\.0\.1:9.*refused"):
        make_pairs(qa_corpus)
    assert ledger_of(qa_corpus).outcomes == {"failed": 6}
    monkeypatch.delenv("OPENAI_API_KEY")
    enable_openai_qa(qa_corpus, server, base_url=None)
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        make_pairs(qa_corpus)
    assert ledger_of(qa_corpus).sent == 6
    assert not server.calls()


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("groq:llama", r"'groq:llama' cannot be used: .*pip install langchain-groq"),
        ("nobody:llama", r"'nobody:llama' cannot be used: .*nobody.*openai"),
    ],
)
def test_a_missing_package_or_provider_is_named(
    qa_corpus: Corpus, server: ClaudeServer, model: str, says: str
) -> None:
    enable_openai_qa(qa_corpus, server, model=model)
    with pytest.raises(UserError, match=says):
        make_pairs(qa_corpus)
    assert ledger_of(qa_corpus).sent == 0


def test_prices_are_wanted(qa_corpus: Corpus, server: ClaudeServer) -> None:
    enable_openai_qa(qa_corpus, server, prices=None)
    with pytest.raises(UserError, match=r"no price is known .*openai:local-model.*qa\.prices"):
        make_pairs(qa_corpus)
    [problem] = problems(qa_corpus.project, "lamps")
    assert problem.key == "qa.model"
    assert "0 and 0 for a server of your own" in problem.message
    assert not server.calls()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"model": MODEL, "send": "batches"}, "batches works with Claude only"),
        ({"model": "openai:"}, "expected provider:model"),
        ({"model": ":local-model"}, "expected provider:model"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    project: Project, settings: dict[str, str], says: str
) -> None:
    Corpus(project, "lamps").settings(json.dumps({"qa": settings}))
    with pytest.raises(UserError, match=says):
        load_config(project.data, "lamps")


def test_batches_under_way_are_not_lost_by_another_model(
    qa_corpus: Corpus, server: ClaudeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    server.behave(batch_seconds=60.0)
    claude = {"model": None, "prices": None, "base_url": server.url, "send": "batches"}
    enable_openai_qa(qa_corpus, server, **claude)
    with pytest.raises(WaitingError):
        make_pairs(qa_corpus)
    enable_openai_qa(qa_corpus, server)
    with pytest.raises(UserError, match=r"pending.*set qa\.model and qa\.base_url back"):
        make_pairs(qa_corpus)
    assert not server.asked()
    assert ledger_of(qa_corpus).under_way > 6


# Answers of an integration without a JSON schema, or of a server without token counts


def ask() -> Request:
    chunk = Chunk("a", "a", 1, 0, 9, "Lamp text", "")
    return request_of(Recipe(MODEL, 500, "Ask."), chunk, 1)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ('```json\n{"pairs": []}\n```\n', '{"pairs": []}'),
        ('```\n{"pairs": []}\n```', '{"pairs": []}'),
        ('{"pairs": "```"}', '{"pairs": "```"}'),
    ],
)
def test_json_in_the_text_is_taken_and_uncounted_tokens_count_most(
    monkeypatch: pytest.MonkeyPatch, said: str, text: str
) -> None:
    from langchain_core.language_models import FakeListChatModel

    monkeypatch.setattr(
        qa_langchain, "_model_of", lambda recipe, url: FakeListChatModel(responses=[said])
    )
    reply = langchain_call(None, ask().recipe)(ask())
    assert (reply.outcome, reply.text, reply.stop_reason) == ("answered", text, "end_turn")
    assert reply.usage["output_tokens"] == 500
    assert reply.usage["input_tokens"] > len(ask().user)


def test_texts_go_to_nobody_but_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    from langchain_core.messages import AIMessage
    from langsmith import tracing_context
    from langsmith.utils import tracing_is_enabled

    seen = []

    def model(turns: Any) -> AIMessage:
        seen.append(tracing_is_enabled())
        return AIMessage("{}")

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(qa_langchain, "_asking", lambda chat, form: model)
    with tracing_context(enabled=True):
        langchain_call(None, ask().recipe)(ask())
    assert seen == [False]


def test_an_error_that_names_the_key_is_kept_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def model(turns: Any) -> Any:
        raise RuntimeError(f"the key {KEY} is odd")

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(qa_langchain, "_asking", lambda chat, form: model)
    reply = langchain_call(None, ask().recipe)(ask())
    assert (reply.outcome, reply.again) == ("unknown", "later")
    assert reply.error == "openai: RuntimeError: the key … is odd"
