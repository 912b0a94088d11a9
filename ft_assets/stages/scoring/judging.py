"""The verdicts of the judge: what they may cost, sending for them, and what is published of them.

This happens in the process that refreshes, before and after the worker's run: a worker has no keys.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ft_assets.config import EvaluationConfig
from ft_assets.errors import StageError, UserError
from ft_assets.manifest import Verdict
from ft_assets.records import ComparedAnswer, JudgedAnswer
from ft_assets.stages.job import Job, Outcome, Report, versions
from ft_assets.stages.qa.answer import JUDGED as VERDICTS
from ft_assets.stages.qa.attempts import Attempts
from ft_assets.stages.qa.ledger.ledger import Ledger, OpenLedger, open_ledger
from ft_assets.stages.qa.money import Budget, Estimate, cap_warning, estimate, require_leave
from ft_assets.stages.qa.pace import Pacer
from ft_assets.stages.qa.plan import unanswered
from ft_assets.stages.qa.prompt import Request
from ft_assets.stages.qa.providers.choice import call_of, provider_of
from ft_assets.stages.qa.send import Sending
from ft_assets.stages.scoring.files import (
    ANSWERS,
    HELD_OUT_ANSWERS,
    JUDGED,
    read_metrics,
    write_metrics,
)
from ft_assets.stages.scoring.judge import CAP, JUDGE, MODELS, Case, JudgePlan
from ft_assets.stages.scoring.verdicts import ANSWERS_ARE_JUDGED
from ft_assets.tables import read_table, write_table

UNJUDGED = "unjudged"
_TOO_LONG = "too long"


def upper_estimate(plan: JudgePlan, job: Job, rows: Iterable[ComparedAnswer]) -> Estimate:
    """What judging both models' answers to these questions costs at most, if no verdict is known yet."""
    cases = plan.longest_cases(rows, job.section(EvaluationConfig).max_new_tokens)
    return estimate((case.request for case in cases), plan.price)


def prepare_judge(job: Job, rows: list[ComparedAnswer], report: Report) -> None:
    """Makes sure that the answers to these questions can be judged, and reports what that may cost.

    Raises UserError without a price or a key, WaitingError if a sensor started this run and may not spend,
    and StageError if the ledger is damaged or cannot be written.
    """
    plan = JudgePlan.of(job)
    if plan is None or not rows:
        return
    most = upper_estimate(plan, job, rows)
    _require_leave(job, most.requests)
    call_of(plan.recipe, plan.base_url, plan.price)
    with open_ledger(job.keep, report) as ledger:
        spent = ledger.making.usd
    report(f"to judge, at most: {most}")
    if said := cap_warning(most, "messages", spent, plan.max_usd, CAP):
        report(said)


def judge_answers(job: Job, outcome: Outcome, report: Report) -> Outcome:
    """Has the answers in the job's output judged, and adds the verdicts to it and to the outcome.

    What cannot be judged, because the cap is reached or no answers come, is published as unjudged.
    """
    plan = JudgePlan.of(job)
    if plan is None:
        return outcome
    cases = list(plan.cases(_rows(job.output)))
    with open_ledger(job.keep, report) as ledger:
        found = _found(job, plan, cases, ledger, report)
    write_table(job.output / JUDGED, JudgedAnswer, found.answers)
    write_metrics(job.output, {**read_metrics(job.output), **found.metrics})
    client = "langchain" if provider_of(plan.recipe.model) else "anthropic"
    return replace(
        outcome,
        counts={**outcome.counts, **found.metrics, **found.sent},
        checks={**outcome.checks, **found.check},
        cost={**outcome.cost, **found.cost},
        tools={**outcome.tools, **versions(client)},
    )


def _found(
    job: Job, plan: JudgePlan, cases: list[Case], ledger: OpenLedger, report: Report
) -> "_Found":
    """The verdicts, once all that can be sent for them was sent."""
    spent = ledger.making.usd
    missing = unanswered((case.request for case in cases), ledger)
    requests = [request for request in missing if plan.fits(request)]
    expected = estimate(requests, plan.price)
    stopped = _sent(job, plan, ledger, requests, expected, report)
    making = ledger.making
    sent = {"sent": making.sent, "lost_verdicts": making.outcomes["unknown"]}
    cost = {
        "usd": making.usd,
        "usd_estimated": spent + expected.usd,
        "usd_of_verdicts": _usd(cases, ledger),
    }
    if not stopped:
        ledger.complete()
    answers = [_judged(plan, case, ledger) for case in cases]
    return _Found(job, plan.recipe.model, answers, stopped, sent, cost)


def _require_leave(job: Job, requests: int) -> None:
    command = f"ft-assets refresh {job.corpus} --until {job.asset}"
    require_leave(job, f"{JUDGE} would send up to {requests:,} requests", command)


def _rows(output: Path) -> list[ComparedAnswer]:
    """The answers to the corpus's questions and to held-out rows, each once."""
    tables = (read_table(output / name, ComparedAnswer) for name in (ANSWERS, HELD_OUT_ANSWERS))
    return list(dict.fromkeys(row for table in tables for row in table))


def _sent(
    job: Job,
    plan: JudgePlan,
    ledger: OpenLedger,
    requests: list[Request],
    expected: Estimate,
    report: Report,
) -> str:
    """Sends requests; returns what stopped that before the end, or "".

    The models were run by now: no error may lose what they answered.
    """
    report(f"to judge: {expected}")
    if not requests:
        return ""
    if said := cap_warning(expected, "messages", ledger.making.usd, plan.max_usd, CAP):
        report(said)
    try:
        _require_leave(job, len(requests))
        call = call_of(plan.recipe, plan.base_url, plan.price)
        budget = Budget({CAP: plan.max_usd}, {CAP: ledger.making.usd})
        pacer = Pacer(plan.max_concurrency)
        sending = Sending(call, ledger, budget, plan.price, pacer, report)
        sending.run(requests, len(requests))
    except (UserError, StageError) as error:
        refused = ledger.blocked_reason
        return f"every request is refused: {refused}" if refused else str(error)
    return ""


def _judged(plan: JudgePlan, case: Case, ledger: Ledger) -> JudgedAnswer:
    """An answer with its verdict, or with why it has none."""
    attempts = Attempts.of(case.request, ledger)
    verdict, remark, key = UNJUDGED, attempts.state, case.request.key
    if attempts.state == "answered":
        [judgement] = attempts.answer.judgements
        verdict, remark, key = judgement.verdict, judgement.remark, attempts.all[-1][1].key
    elif not plan.fits(case.request):
        remark = _TOO_LONG
    known = case.row.key_fact or ""
    return JudgedAnswer(case.row.question, known, case.model, case.answer, verdict, remark, key)


def _usd(cases: list[Case], ledger: Ledger) -> float:
    """What the answers of the judge behind these verdicts cost, whenever that was."""
    requests = {case.request.key: case.request for case in cases}
    found = {
        answered.key: answered.usd
        for request in requests.values()
        for _, answered in Attempts.of(request, ledger).all
    }
    return sum(found.values())


@dataclass(frozen=True)
class _Found:
    """The verdicts of one evaluation, what they cost, and what stopped the sending, if anything did."""

    job: Job
    judge: str
    answers: list[JudgedAnswer]
    stopped: str
    sent: dict[str, int]
    cost: dict[str, float]

    @property
    def metrics(self) -> dict[str, float]:
        """How many answers of each model have which verdict, and how many have none."""
        seen = Counter((each.model, each.verdict) for each in self.answers)
        verdicts = ((model, verdict) for model in MODELS for verdict in VERDICTS)
        return {
            "judged_questions": len(self.answers) // len(MODELS),
            **{f"{model}_judged_{verdict}": seen[model, verdict] for model, verdict in verdicts},
            UNJUDGED: sum(seen[model, UNJUDGED] for model in MODELS),
        }

    @property
    def check(self) -> dict[str, Verdict]:
        """The verdict of ANSWERS_ARE_JUDGED."""
        left = Counter(each.remark for each in self.answers if each.verdict == UNJUDGED)
        if not left:
            said = f"{len(self.answers)} answers judged by {self.judge}"
            return ANSWERS_ARE_JUDGED.verdict(True, said, unjudged=0)
        again = f"ft-assets refresh {self.job.corpus} --until {self.job.asset} --force"
        what = (
            f"{self.stopped} ({again})"
            if self.stopped
            else f"{again} sends once more what failed; another {JUDGE} may judge the others"
        )
        states = ", ".join(f"{count:,} {state}" for state, count in left.most_common())
        said = (
            f"{left.total():,} of {len(self.answers):,} answers have no verdict ({states}): {what}"
        )
        return ANSWERS_ARE_JUDGED.verdict(False, said, unjudged=left.total())
