"""What `validate` looks at: everything that would stop a run, and files that would be left out."""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ft_assets.config import FineTuneConfig, QAConfig
from ft_assets.engine.asset_settings import qa_judge_prompt, qa_prompt, template_text
from ft_assets.engine.data_folder import DataFolder
from ft_assets.engine.settings_files import Problem, SettingsError, locate
from ft_assets.engine.words import counted
from ft_assets.errors import UserError
from ft_assets.names import QUESTIONS_FILE, REVIEW_FILE, TEMPLATE_SUFFIX
from ft_assets.stages.loaders.formats import UNKNOWN
from ft_assets.stages.loaders.ocr import check_installed
from ft_assets.stages.models.base_model import find_base_model
from ft_assets.stages.qa.money import price_of
from ft_assets.stages.qa.prompt import render_prompt
from ft_assets.stages.qa.review import read_reviews
from ft_assets.stages.questions import read_questions
from ft_assets.stages.raw_documents import read_files, unused_keys

_Probe = tuple[str | None, Callable[[], Any]]
"""The key that a problem belongs to, None for a file's own, and what raises UserError for it."""


def problems(folder: DataFolder, corpus: str) -> list[Problem]:
    """Everything that would stop a run of this corpus, found without running it."""
    try:
        config = folder.config(corpus)
    except SettingsError as error:
        return error.problems
    found: list[Problem] = []
    for key, probe in _probes(folder, corpus, config):
        try:
            probe()
        except UserError as error:
            if key:
                found.append(Problem(*locate(folder.data, corpus, key), key, str(error)))
            else:
                found.append(_placed(error))
    if not folder.files(corpus):
        found.append(Problem(folder.data / corpus, None, None, "has no documents"))
    return found


def _probes(folder: DataFolder, corpus: str, config: FineTuneConfig) -> Iterator[_Probe]:
    own = folder.data / corpus
    yield "model.base", lambda: find_base_model(config.model.base)
    yield None, lambda: read_questions(own / QUESTIONS_FILE)
    if config.qa.enabled:
        yield from _qa_probes(folder, corpus, config)
        yield None, lambda: read_reviews(own / REVIEW_FILE)
    if config.data.template.endswith(TEMPLATE_SUFFIX):
        yield "data.template", lambda: template_text(folder, corpus, config)
    if config.data.loaders.ocr:
        yield "data.loaders.ocr", check_installed


def _qa_probes(folder: DataFolder, corpus: str, config: FineTuneConfig) -> Iterator[_Probe]:
    qa: QAConfig = config.qa

    def rendered(text: Callable[[DataFolder, str, FineTuneConfig], str]) -> str:
        return render_prompt(text(folder, corpus, config), list(qa.kinds), qa.audience)

    yield "qa.model", lambda: price_of(qa.model, qa.prices)
    yield "qa.prompt", lambda: rendered(qa_prompt)
    yield "qa.judge", lambda: rendered(qa_judge_prompt)


@dataclass(frozen=True)
class Reading:
    """What reading all files of a corpus gives: what would be left out, and the documents by outcome."""

    left_out: list[Problem]
    read: int
    rejected: int
    warnings: list[str]


def read_all(folder: DataFolder, corpus: str) -> Reading:
    """Reads all files of a corpus. Raises SettingsError if the settings are wrong.

    Files of an unknown type are left out, but do not count as documents, as in the dataset's check.
    """
    config = folder.config(corpus)
    settings = config.data.loaders
    found: list[Problem] = []
    read, rejected, unused = set(), set(), list[str]()
    with tempfile.TemporaryDirectory(prefix="ft-assets-validate-") as scratch:
        files = folder.files(corpus)
        for file, parsed in read_files(files, folder.data / corpus, settings, Path(scratch)):
            path = folder.data / corpus / file.path
            found += [Problem(path, None, None, reason) for reason in parsed.rejected]
            if keys := unused_keys(parsed):
                unused.append(f"{file.path}: keys (of so many records) that are not used: {keys}")
            if parsed.text_id is not None:
                read.add(parsed.text_id)
            elif parsed.media_type != UNKNOWN:
                rejected.add(file.sha256)
    found.sort(key=lambda problem: problem.file)
    allowed = config.data.gates.rejected_documents
    warnings = _warnings(len(rejected), len(read) + len(rejected), allowed)
    return Reading(found, len(read), len(rejected), warnings + sorted(unused))


def _warnings(rejected: int, documents: int, allowed: float) -> list[str]:
    """What will block training once the data is built."""
    if not documents or rejected / documents <= allowed:
        return []
    return [
        f"{rejected:,} of {counted(documents, 'document')} cannot be read ({rejected / documents:.0%}): "
        f"training is blocked above {allowed:.0%} (data.gates.rejected_documents)"
    ]


def _placed(error: UserError) -> Problem:
    """A problem of a file of the corpus's own, whose message begins with the file and the line."""
    place, _, message = str(error).partition(": ")
    path, _, line = place.rpartition(":")
    if line.isdecimal():
        return Problem(Path(path), int(line), None, message)
    return Problem(Path(place), None, None, message)
