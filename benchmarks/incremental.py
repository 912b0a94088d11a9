"""What an edit costs against a clean build, and what asking for the state of many corpora costs."""

import gc
import os
import random
import resource
import statistics
import subprocess
import sys
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


def _bytes(root: Path) -> int:
    """What the files below a folder take, those with several names once."""
    stats = (path.stat() for path in root.rglob("*") if path.is_file())
    return sum({stat.st_ino: stat.st_size for stat in stats}.values())


def growth() -> dict[str, Any]:
    """What 10,000 texts of 2.2 kB cost in the storage: the largest manifest, the bytes that one edit
    adds (of seven, one after the other), and the CPU time of `ft-assets status` as a whole process,
    with nothing changed and with one document changed."""
    with tempfile.TemporaryDirectory() as scratch:
        project = Project(Path(scratch) / "data", Path(scratch) / "storage")
        folder = project.data / "many"
        folder.mkdir(parents=True)
        for number in range(10_000):
            draw = random.Random(number)
            words = " ".join(draw.choices(_WORDS, k=370))
            (folder / f"{number}.txt").write_text(f"Document {number}. {words}")
        _build(project, "many")
        added = []
        for number in range(500, 10_000, 1_500):
            before = _bytes(project.storage.root)
            with (folder / f"{number}.txt").open("a") as file:
                file.write(" And one line more.")
            _build(project, "many")
            added.append((_bytes(project.storage.root) - before) / 1e6)
        manifests = [
            project.storage.folder("many", asset, made.version) / "manifest.json"
            for asset in DATA_HALF
            if (made := project.storage.current("many", asset))
        ]
        time.sleep(2.1)  # files this young are hashed each time
        fresh = [_status_seconds(project) for _ in range(5)]
        with (folder / "0.txt").open("a") as file:
            file.write(" And one line more.")
        stale = [_status_seconds(project) for _ in range(5)]
        largest = max(path.stat().st_size for path in manifests)
    return {
        "largest_manifest_kb": round(largest / 1e3, 1),
        "one_edit_adds_mb": round(statistics.median(added), 2),
        "one_edit_adds_most_mb": round(max(added), 2),
        "status_cpu_s": round(statistics.median(fresh), 2),
        "status_of_a_change_cpu_s": round(statistics.median(stale), 2),
    }


def _status_seconds(project: Project) -> float:
    """CPU seconds of `ft-assets status` from its start to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    where = {"FT_ASSETS_DATA": project.data, "FT_ASSETS_STORAGE": project.storage.root}
    subprocess.run(
        [sys.executable, "-m", "ft_assets.cli", "status", "many"],
        env={**os.environ, **{name: str(path) for name, path in where.items()}},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


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
