"""What becomes of each file of a folder: `python -m benchmarks.cases FOLDER [--rows N]`.

For each file it prints what came in, what would be trained, and what was turned away and why. Each file
is a corpus of its own in a temporary project with the demo's base model; nothing is held out, and nothing
is trained. With `--rows N` it also prints the trained text of N rows, evenly spread, and what stands
right before it.
"""

import argparse
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ft_assets.engine.project import Project
from ft_assets.engine.reasons import grouped
from ft_assets.engine.show import show
from ft_assets.engine.shown import Part, shortened
from ft_assets.errors import StageError, UserError
from ft_assets.files import visible
from ft_assets.names import QUESTIONS_FILE, REVIEW_FILE, SETTINGS_FILE
from ft_assets.records import DroppedRow
from ft_assets.stages.words import counted
from ft_assets.tables import read_table

_DATA_HALF = ("raw_documents", "chunks", "qa_pairs", "formatted_dataset")
_NO_DOCUMENTS = {SETTINGS_FILE, QUESTIONS_FILE, REVIEW_FILE}
_SETTINGS = """\
data:
  eval_fraction: 0
"""
_SHOWN = 5
"""Reasons that are printed for a file."""
_BEFORE, _TRAINED = 60, 300
"""Characters that are printed of what is not trained, and of what is."""


def main() -> None:
    """Prints a paragraph for each file of the folder that is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=0, help="rows whose trained text is printed")
    given = parser.parse_args()
    found = (path for path in given.folder.rglob("*") if path.is_file())
    files = sorted(path for path in found if path.name not in _NO_DOCUMENTS)
    if not files:
        parser.error(f"{given.folder} has no files")
    for path in files:
        print(visible(str(path.relative_to(given.folder))), flush=True)
        for line in outcome(path, given.rows):
            print(f"  {line}", flush=True)


def outcome(path: Path, rows: int) -> Iterator[str]:
    """What becomes of one file, in lines."""
    with tempfile.TemporaryDirectory(prefix="ft-assets-cases-") as scratch:
        folder = Path(scratch) / "data" / "case"
        folder.mkdir(parents=True)
        (folder / "finetune.yaml").write_text(_SETTINGS)
        shutil.copyfile(path, folder / path.name)
        project = Project(Path(scratch) / "data", Path(scratch) / "storage")
        try:
            for asset in _DATA_HALF:
                project.make("case", asset, force=asset == "formatted_dataset")
        except (UserError, StageError) as error:
            yield f"stopped: {_in_line(str(error).replace(str(folder), ''))}"
        yield from _came_in(project)
        yield from _trained(project, rows)
        yield from _turned_away(project)


def _came_in(project: Project) -> Iterator[str]:
    manifest = project.storage.current("case", "raw_documents")
    if manifest is None:
        return
    counts = manifest.counts
    named = (("pages", "page"), ("records", "record"), ("characters", "character of text"))
    parts = [counted(int(counts[key]), what) for key, what in named if counts.get(key)]
    yield f"came in: {', '.join(parts).replace('character of texts', 'characters of text')}"


def _trained(project: Project, rows: int) -> Iterator[str]:
    manifest = project.storage.current("case", "formatted_dataset")
    if manifest is None:
        yield "trained: nothing"
        return
    counts = manifest.counts
    yield (
        f"trained: {counted(int(counts['train_rows']), 'row')} with "
        f"{counted(int(counts['train_trained_tokens']), 'trained token')} of {counts['train_tokens']:,}"
    )
    if not rows:
        return
    for row in show(project, "case", "train", most=rows).rows:
        yield f"  {row.heading}"
        yield from (f"    {line}" for line in _segments(row.parts))


def _segments(parts: list[Part]) -> Iterator[str]:
    """A line for each segment: `+` before what is trained."""
    for part in parts:
        most = _TRAINED if part.trained else _BEFORE
        text = visible(part.text).replace("\n", "⏎")
        said = shortened(text, most, most // 3) if part.trained else f"…{text[-most:]}"
        yield f"{'+' if part.trained else ' '} {said}"


def _turned_away(project: Project) -> Iterator[str]:
    if manifest := project.storage.current("case", "raw_documents"):
        row = next(project.storage.sources(manifest))
        reasons = grouped(row.rejected)
        yield from (f"turned away: {_in_line(str(reason))}" for reason in reasons[:_SHOWN])
        if more := len(reasons[_SHOWN:]):
            yield f"turned away: {counted(more, 'more reason')}"
        if row.unused_keys:
            keys = (f"{each['key']} ({each['records']:,})" for each in row.unused_keys[:_SHOWN])
            yield f"keys that are not used: {visible(', '.join(keys))}"
    if manifest := project.storage.current("case", "formatted_dataset"):
        folder = project.storage.folder("case", manifest.asset, manifest.version)
        dropped = read_table(folder / "dropped.parquet", DroppedRow)
        for reason, count in Counter(each.reason for each in dropped).most_common(_SHOWN):
            yield f"left out of the dataset: {counted(count, 'row')}: {_in_line(reason)}"


def _in_line(text: str) -> str:
    return shortened(visible(" ".join(text.split())), 300, 60)


if __name__ == "__main__":
    main()
