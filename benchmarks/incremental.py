"""What an edit costs against a clean build, and what asking for the state of many corpora costs."""

import gc
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from reportlab.pdfgen.canvas import Canvas

from ft_assets.engine.graph import GRAPH, upstream
from ft_assets.engine.project import Project
from ft_assets.stages.job import Job, Outcome

DATA_HALF = [*upstream("formatted_dataset"), "formatted_dataset"]
_WORDS = [
    "keeper",
    "lamp",
    "gallery",
    "oil",
    "lens",
    "storm",
    "harbour",
    "ledger",
    "rope",
    "anchor",
    "tide",
    "granite",
    "stair",
    "window",
    "brass",
    "signal",
    "watch",
    "kettle",
    "boat",
    "island",
    "cable",
    "winter",
    "gull",
    "parish",
    "letter",
    "barrel",
    "engine",
    "fog",
    "horn",
    "candle",
]


def _write_pdf(path: Path, seed: int, pages: int = 10) -> None:
    """A PDF of text pages, 40 lines of 11 words each, different for every seed."""
    draw = random.Random(seed)
    canvas = Canvas(str(path), invariant=1)
    for _ in range(pages):
        for line in range(40):
            canvas.drawString(60, 780 - 17 * line, " ".join(draw.choices(_WORDS, k=11)))
        canvas.showPage()
    canvas.save()


def _build(project: Project, corpus: str) -> float:
    """CPU seconds that the data half of a corpus takes, in this process and those it started."""
    before = _cpu_seconds()
    for asset in DATA_HALF:
        project.make(corpus, asset)
    return _cpu_seconds() - before


def _cpu_seconds() -> float:
    """CPU time of this process and of all below it, those that ended included."""
    own = psutil.Process()
    family = [own, *own.children(recursive=True)]
    return sum(sum(each.cpu_times()[:4]) for each in family)


def one_of_a_thousand() -> dict[str, Any]:
    """CPU time of the data half: a clean build of 1,000 PDFs of ten pages, then one edited: the median
    of three edits, one after the other."""
    with tempfile.TemporaryDirectory() as scratch:
        project = Project(Path(scratch) / "data", Path(scratch) / "storage")
        for name, count in (("warm", 2), ("many", 1_000)):
            folder = project.data / name
            folder.mkdir(parents=True)
            for number in range(count):
                _write_pdf(folder / f"{number}.pdf", number)
        for seed in (0, 5_000):  # imports, and whatever else happens once
            _write_pdf(project.data / "warm" / "0.pdf", seed)
            _build(project, "warm")
        gc.collect()
        gc.freeze()  # what was imported is not gone through again in either figure
        clean = _build(project, "many")
        unchanged = _build(project, "many")
        edits = []
        for number in (500, 501, 502):
            _write_pdf(project.data / "many" / f"{number}.pdf", 5_000 + number)
            edits.append(_build(project, "many"))
        edited = statistics.median(edits)
        manifest = project.storage.current("many", "formatted_dataset")
        rows = manifest.counts["train_rows"] + manifest.counts["eval_rows"] if manifest else 0
    return {
        "rows": rows,
        "clean_cpu_s": round(clean, 2),
        "one_edited_cpu_s": round(edited, 3),
        "each_edit_cpu_s": [round(edit, 3) for edit in edits],
        "unchanged_cpu_s": round(unchanged, 3),
        "ratio": round(edited / clean, 4),
    }


def status_of_a_hundred() -> dict[str, Any]:
    """CPU time of the status of 100 corpora with every asset made, after imports.

    What the heavy assets hold is left empty: status reads manifests, not artifacts.
    """

    def empty(job: Job) -> Outcome:
        (job.output / "empty").write_bytes(b"")
        return Outcome()

    with tempfile.TemporaryDirectory() as scratch:
        project = Project(Path(scratch) / "data", Path(scratch) / "storage")
        for number in range(100):
            folder = project.data / f"corpus-{number}"
            folder.mkdir(parents=True)
            for document in range(10):
                (folder / f"{document}.txt").write_text(f"Document {document} of {number}. " * 40)
            (folder / "finetune.yaml").write_text(f"training: {{learning_rate: {number + 1}.0e-5}}")
            for asset in GRAPH:
                project.make(folder.name, asset, empty if asset not in DATA_HALF[:3] else None)
        time.sleep(2.1)  # files this young are hashed each time
        seconds = []
        for _ in range(3):
            project = Project(project.data, project.storage.root)
            before = time.process_time()
            states = [project.status(corpus) for corpus in project.corpora()]
            seconds.append(time.process_time() - before)
    assert all(state.state == "fresh" for of in states for state in of.values())
    return {
        "artifacts": sum(map(len, states)),
        "first_cpu_s": round(seconds[0], 3),
        "again_cpu_s": round(min(seconds[1:]), 3),
    }
