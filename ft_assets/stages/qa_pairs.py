"""Question-answer pairs generated from chunks; an empty table while `qa.enabled` is off.

Requests without an answer in the ledger are sent; then the pairs are read from the ledger alone.
"""

import json
from collections import Counter
from dataclasses import asdict
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from ft_assets.config import QAConfig
from ft_assets.errors import UserError
from ft_assets.manifest import Verdict
from ft_assets.names import REVIEW_FILE
from ft_assets.records import ChunkYield, DroppedPair, QAPair
from ft_assets.stages.job import Check, Job, Outcome, Report, versions
from ft_assets.stages.qa.attempts import STATES
from ft_assets.stages.qa.batches import BatchSending, close_unsent
from ft_assets.stages.qa.harvest import Harvest, harvest
from ft_assets.stages.qa.ledger.batch_log import BatchLog
from ft_assets.stages.qa.ledger.ledger import OpenLedger, open_ledger
from ft_assets.stages.qa.money import Budget, Estimate, cap_warning, require_leave
from ft_assets.stages.qa.pace import Pacer
from ft_assets.stages.qa.plan import Plan
from ft_assets.stages.qa.providers.choice import call_of
from ft_assets.stages.qa.providers.claude_batches import ClaudeBatches
from ft_assets.stages.qa.review import REVIEWED, Overlay, by_person, read_reviews
from ft_assets.stages.qa.send import Sending
from ft_assets.tables import Rows, TextWriter, to_table, write_table

REQUESTS_ADD_UP = Check(
    "requests_add_up", "Every request is answered, refused, truncated, invalid or failed."
)
REQUESTS_ARE_ANSWERED = Check(
    "requests_are_answered",
    "Every request returned pairs.",
    blocking=False,
    blocks_if="more than 5% of the requests failed",
)
PAIRS_ARE_KEPT = Check("pairs_are_kept", "Most of the requested pairs are kept.")
REVIEWS_APPLY = Check("reviews_apply", "Every review still matches a chunk.", blocking=False)
CHECKS = (REQUESTS_ADD_UP, REQUESTS_ARE_ANSWERED, PAIRS_ARE_KEPT, REVIEWS_APPLY)
PAIRS = "qa_pairs.parquet"
DROPPED = "dropped.parquet"
YIELDS = "yields.parquet"
QUARANTINE = "quarantine.jsonl"
_MOST_TURNED_AWAY = 0.05
"""If a larger share of the requests failed, nothing is built on the pairs."""


def generate_qa_pairs(plan: Plan, ledger: OpenLedger, report: Report) -> Estimate:
    """Sends every request of `plan` that has no answer in the ledger; returns the cost estimate.

    Raises WaitingError while a batch is pending, and UserError or StageError if requests end without
    an answer.
    """
    batches = None
    close_unsent(ledger)
    if BatchLog(plan.job.keep).under_way:
        _require_leave(plan, "batches are pending")
        if ":" in plan.recipe.model:
            raise UserError(
                f"Claude batches are pending, and {plan.recipe.model} cannot collect them: set qa.model "
                "and qa.base_url back, and run again until they are collected"
            )
        batches = batches_of(plan, ledger, report)
        batches.collect()
    expected = plan.estimate(ledger)
    report(f"to send: {expected}")
    qa = plan.qa
    if said := cap_warning(expected, qa.send, ledger.making.usd, qa.max_usd):
        report(said)
    if expected.requests:
        _require_leave(plan, f"{expected.requests:,} requests would be sent")
    if expected.requests and qa.send == "batches":
        batches = batches or batches_of(plan, ledger, report)
        batches.run(lambda: plan.missing(ledger))
    elif expected.requests:
        _send_messages(plan, ledger, report)
    if left_out := ledger.left_out:
        report(
            f"{len(left_out):,} requests were refused for their content and left out; the last error: "
            f"{list(left_out.values())[-1]}. --force sends them once more"
        )
    return expected


def _require_leave(plan: Plan, what: str) -> None:
    """Raises WaitingError if a sensor started this run and may not spend."""
    require_leave(plan.job, what, f"ft-assets generate-qa {plan.job.corpus}")


def _send_messages(plan: Plan, ledger: OpenLedger, report: Report) -> None:
    """Sends the requests for pairs, then the requests for verdicts on them."""
    call = call_of(plan.recipe, plan.qa.base_url, plan.price)
    budget = budget_of(plan, ledger)
    pacer = Pacer(plan.qa.max_concurrency)
    for what, requests in (("pairs", plan.unwritten), ("verdicts", plan.unjudged)):
        if count := sum(1 for _ in requests(ledger)):
            report(f"{count:,} requests for {what}")
            sending = Sending(call, ledger, budget, plan.price, pacer, report)
            sending.run(requests(ledger), count)


def budget_of(plan: Plan, ledger: OpenLedger) -> Budget:
    """The money that may still be spent."""
    caps, spent = {"qa.max_usd": plan.qa.max_usd}, {"qa.max_usd": ledger.making.usd}
    if plan.qa.max_usd_total is not None:
        caps["qa.max_usd_total"] = plan.qa.max_usd_total
        spent["qa.max_usd_total"] = ledger.usd
    return Budget(caps, spent)


def batches_of(plan: Plan, ledger: OpenLedger, report: Report) -> BatchSending:
    """The sender and collector of a ledger's batches."""
    service = ClaudeBatches(plan.qa.base_url)
    budget = budget_of(plan, ledger)
    return BatchSending(service, ledger, budget, plan.price, report, plan.recipe.model)


def build(job: Job, report: Report) -> Outcome:
    """Builds `qa_pairs`: `qa_pairs.parquet`, and three more files if `qa.enabled` is on.

    These are `dropped.parquet` (each dropped pair with its reason), `yields.parquet` (each chunk) and
    `quarantine.jsonl` (each request without pairs, with its answers).
    """
    if not job.section(QAConfig).enabled:
        _write_pairs(job.output / PAIRS, [])
        return Outcome(counts={"pairs": 0}, checks=_off())
    plan = Plan.of(job)
    overlay = Overlay(read_reviews(job.source / REVIEW_FILE))
    with open_ledger(job.keep, report) as ledger:
        spent = ledger.making.usd
        expected = generate_qa_pairs(plan, ledger, report)
        found = harvest(plan, ledger, overlay)
        making = ledger.making
        counts = {"sent": making.sent, "lost_answers": making.outcomes["unknown"]}
        cost = _cost(ledger, expected, spent, found)
        ledger.complete()
    _write(job.output, found)
    homeless = overlay.homeless()
    for review in homeless:
        report(
            f"a review no longer applies, because the text of its chunk has changed: {review.question!r}. "
            f"Review the new pairs, and remove its line from {REVIEW_FILE}"
        )
    counts["reviews_without_chunk"] = len(homeless)
    return _outcome(plan.qa, found, counts, cost)


def _write(output: Path, found: Harvest) -> None:
    _write_pairs(output / PAIRS, found.pairs)
    write_table(output / DROPPED, DroppedPair, found.dropped)
    write_table(output / YIELDS, ChunkYield, found.yields)
    lines = (json.dumps(asdict(line)) + "\n" for line in found.quarantine.values())
    (output / QUARANTINE).write_text("".join(lines))


def _write_pairs(path: Path, pairs: list[QAPair]) -> None:
    with TextWriter(path, QAPair) as writer:
        for text_id, group in groupby(pairs, key=attrgetter("text_id")):
            writer.add(text_id, [Rows.of(to_table(QAPair, group))])


def _cost(ledger: OpenLedger, expected: Estimate, spent: float, found: Harvest) -> dict[str, float]:
    """The cost of this build, its estimate, and the cost of the answers behind the pairs; in USD.

    `spent` is what earlier processes spent on this build.
    """
    usd, batches = sum(found.usd.values()), expected.usd_in_batches
    per_pair = {"usd_per_kept_pair": usd / len(found.pairs)} if found.pairs else {}
    return {
        "usd": ledger.making.usd,
        "usd_estimated": spent + expected.usd,
        **({"usd_estimated_in_batches": spent + batches} if batches is not None else {}),
        "usd_of_answers": usd,
        "usd_of_corpus": ledger.usd,
        **per_pair,
    }


def _outcome(
    qa: QAConfig, found: Harvest, counts: dict[str, int], cost: dict[str, float]
) -> Outcome:
    """What the manifest says about the pairs."""
    states = Counter(found.states.values())
    kept_rate = _kept_rate(found)
    client = "langchain" if ":" in qa.model else "anthropic"
    return Outcome(
        counts={
            "pairs": len(found.pairs),
            "dropped": len(found.dropped),
            "judged": sum(found.judged.values()),
            "kept_rate": kept_rate,
            "requested": len(found.states),
            **{state: states[state] for state in STATES},
            **counts,
            "skipped_chunks": sum(row.outcome == "skipped" for row in found.yields),
            "by_hand": sum(pair.request_id == REVIEWED for pair in found.pairs),
        },
        checks={
            **_request_checks(states, len(found.states)),
            **PAIRS_ARE_KEPT.verdict(
                kept_rate >= qa.min_kept_rate,
                f"{kept_rate:.0%} of the requested pairs are kept; qa.min_kept_rate requires "
                f"{qa.min_kept_rate:.0%}",
                kept_rate=kept_rate,
                required=qa.min_kept_rate,
            ),
            **REVIEWS_APPLY.verdict(
                not counts["reviews_without_chunk"],
                f"{counts['reviews_without_chunk']} reviews match no chunk",
            ),
        },
        cost=cost,
        tools=versions(client, "jinja2", "numpy", "pyarrow"),
    )


def _kept_rate(found: Harvest) -> float:
    """The share of the requested pairs that are kept; pairs that a person edited or rejected count as
    kept, because the rate measures the model and the settings.
    """
    asked = sum(found.asked.values())
    by_hand = sum(pair.request_id == REVIEWED for pair in found.pairs)
    reviewed = {by_person(action) for action in ("edit", "reject")}
    gone = {(pair.request_id, pair.question) for pair in found.dropped if pair.reason in reviewed}
    return (len(found.pairs) - by_hand + len(gone)) / asked if asked else 1.0


def _request_checks(states: Counter[str], requested: int) -> dict[str, Verdict]:
    said = " + ".join(f"{states[state]} {state}" for state in STATES)
    whole = sum(states[state] for state in STATES) == requested
    useless = requested - states["answered"]
    return {
        **REQUESTS_ADD_UP.verdict(
            whole and not states["unknown"] + states["pending"], f"{requested} requested = {said}"
        ),
        **REQUESTS_ARE_ANSWERED.verdict(
            not useless,
            f"{useless} of {requested} requests returned no usable answer",
            blocking=states["failed"] > _MOST_TURNED_AWAY * requested,
        ),
    }


def _off() -> dict[str, Verdict]:
    """The verdicts on an empty table: all passed."""
    found: dict[str, Verdict] = {}
    for check in CHECKS:
        found |= check.verdict(True, "qa.enabled is off", blocking=False)
    return found
