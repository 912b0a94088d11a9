"""Question-answer pairs: what a making costs that sends nothing, by the number of chunks, and the pace.

The answers are put into the ledger beforehand, as a run would have; making is done in a process of its own.
The pace is that of the real client against the tests' server on loopback, with a rate limit and with
answers that take two seconds.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from ft_assets.engine.project import Project
from ft_assets.stages.qa.attempts import Attempts
from ft_assets.stages.qa.judge import judge_request
from ft_assets.stages.qa.ledger.ledger import Answered, OpenLedger, Sent, open_ledger
from ft_assets.stages.qa.plan import Plan
from ft_assets.stages.qa.prompt import Request

_CHUNKS = (10_000, 50_000)
_SENTENCES_A_DOCUMENT = 5_000
_SENTENCES_A_CHUNK = 10
_MAKE = """
import re, sys, time
from pathlib import Path
from ft_assets.engine.project import Project
def peak():  # of this program alone, where getrusage has what it was started from in it
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
project = Project(Path(sys.argv[1]), Path(sys.argv[2]))
project.make("lamps", "chunks")
import numpy, pyarrow.parquet
before, began = peak(), time.process_time()
made = project.make("lamps", "qa_pairs").manifest
assert made.counts["sent"] == 0 and made.counts["pairs"], made.counts
print(time.process_time() - began, peak() - before, made.counts["pairs"])
"""
_PACE = """
import sys
from pathlib import Path
from ft_assets.engine.project import Project
project = Project(Path(sys.argv[1]), Path(sys.argv[2]))
for asset in ("raw_documents", "chunks", "qa_pairs"):
    project.make("lamps", asset)
"""


def pairs() -> dict[str, Any]:
    """Making from the ledger alone, with and without a judge, and the share of a limit that is used."""
    figures: dict[str, Any] = {}
    for judge in (False, True):
        cost = {chunks: _made_from_the_ledger(chunks, judge=judge) for chunks in _CHUNKS}
        few, many = (cost[chunks] for chunks in _CHUNKS)
        figures["judged" if judge else "plain"] = {
            **{f"{chunks}_chunks": cost[chunks] for chunks in _CHUNKS},
            "ratio_of_chunks": _CHUNKS[1] / _CHUNKS[0],
            "ratio_of_cpu_s": round(many["cpu_s"] / few["cpu_s"], 2),
        }
    return {**figures, "share_of_the_rate_limit": _pace()}


def _made_from_the_ledger(chunks: int, *, judge: bool) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as scratch:
        data, storage = Path(scratch) / "data", Path(scratch) / "storage"
        _write_corpus(data / "lamps", chunks, {"enabled": True, "judge": judge, "max_usd": 0.0})
        project = Project(data, storage)
        for asset in ("raw_documents", "chunks"):
            project.make("lamps", asset)
        plan = Plan.of(project.job("lamps", "qa_pairs"))
        with open_ledger(plan.job.keep) as ledger:
            _answer(ledger, (request for _, request in plan.requests() if request))
            _answer(ledger, _to_judge(plan, ledger))
        said = _run(_MAKE, data, storage).split()
    return {"cpu_s": round(float(said[0]), 1), "mib": round(float(said[1])), "pairs": int(said[2])}


def _write_corpus(folder: Path, chunks: int, qa: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    (folder / "finetune.yaml").write_text(json.dumps({"qa": qa}))
    sentences = chunks * _SENTENCES_A_CHUNK
    for start in range(0, sentences, _SENTENCES_A_DOCUMENT):
        lines = (_sentence(n) for n in range(start, min(start + _SENTENCES_A_DOCUMENT, sentences)))
        (folder / f"{start}.txt").write_text("\n".join(lines))


def _sentence(number: int) -> str:
    """A sentence of about the tenth of a chunk, unlike all others."""
    words = (f"{(number * 2654435761 + place * 40503) % 99991:05d}" for place in range(8))
    return f"Lamp {number} is lit by keeper {' and '.join(words)}."


def _to_judge(plan: Plan, ledger: OpenLedger) -> Iterator[Request]:
    for chunk, request in plan.requests() if plan.judge else ():
        kept = Attempts.of(request, ledger).sift(chunk).kept if request else []
        if kept and plan.judge:
            yield judge_request(plan.judge, chunk, kept)


def _answer(ledger: OpenLedger, requests: Iterator[Request]) -> None:
    """Writes answers into the ledger, a thousand at a time."""
    while some := list(islice(requests, 1_000)):
        numbers = ledger.send(Sent(one.key, one.recipe.digest, 0.0) for one in some)
        ledger.outcome(
            (number, Answered(one.key, "answered", 0.0, _said(one), "end_turn"))
            for number, one in zip(numbers, some, strict=True)
        )


def _said(request: Request) -> str:
    """An answer as a model gives it: pairs with evidence, or verdicts."""
    if request.recipe.form.name == "verdicts":
        verdicts = [
            {"pair": number, "reason": "it follows", "keep": number != 2}
            for number in range(1, request.pairs + 1)
        ]
        return json.dumps({"verdicts": verdicts})
    lines = [line for line in request.user.split("\n") if line.startswith("Lamp ")]
    written = [
        {"question": f"Who lights {line[:12]}?", "answer": line, "evidence": line}
        for line in lines[: request.pairs]
    ]
    return json.dumps({"pairs": written})


def _pace() -> float:
    """The share of a rate limit of 10 requests a second that is used once it is reached."""
    from ft_assets_tests.stages.qa.claude_server import KEY, Behaviour, running

    said = Behaviour(latency=2.0, per_minute={"requests": 600.0}, burst_seconds=2.0)
    with tempfile.TemporaryDirectory() as scratch:
        data, storage = Path(scratch) / "data", Path(scratch) / "storage"
        with running(said, Path(scratch)) as server:
            qa = {"enabled": True, "base_url": server.url, "max_concurrency": 64}
            _write_corpus(data / "lamps", 300, qa)
            _run(_PACE, data, storage, ANTHROPIC_API_KEY=KEY)
            _, first, *rest = sorted(call.at for call in server.asked())
    return round(len(rest) / (rest[-1] - first) / 10, 3)


def _run(code: str, data: Path, storage: Path, **environment: str) -> str:
    """What a fresh process that runs `code` prints."""
    command = [sys.executable, "-c", code, str(data), str(storage)]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, **environment}
    )
    return done.stdout
