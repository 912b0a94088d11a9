"""What `validate` looks at first: everything that would stop a run. `glance.py` then reads the files."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ft_assets.config import FineTuneConfig, QAConfig
from ft_assets.engine.asset_settings import qa_judge_prompt, qa_prompt, template_text
from ft_assets.engine.data_folder import DataFolder
from ft_assets.engine.settings_files import Problem, SettingsError, locate
from ft_assets.errors import StageError, UserError
from ft_assets.extras import missing
from ft_assets.names import QUESTIONS_FILE, REVIEW_FILE, TEMPLATE_SUFFIX
from ft_assets.stages.export.convertible import can_be_checked, check_convertible
from ft_assets.stages.loaders.ocr import check_installed
from ft_assets.stages.models.base_model import find_base_model, model_on_disk
from ft_assets.stages.qa.money import price_of
from ft_assets.stages.qa.prompt import render_prompt
from ft_assets.stages.qa.review import read_reviews
from ft_assets.stages.questions import QuestionsError, read_questions
from ft_assets.stages.scoring.judge import JUDGE, judge_price
from ft_assets.stages.training.base_checks import check_modules, check_template_tokens, config_of
from ft_assets.stages.training.lora_trial import check_lora_convertible

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
        except QuestionsError as error:
            found += [Problem(error.path, line, None, said) for line, said in error.mistakes]
        except UserError as error:
            if key:
                said = str(error).removeprefix(f"{key}: ")
                found.append(Problem(*locate(folder.data, corpus, key), key, said))
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
    if judge := config.evaluation.judge:
        yield JUDGE, lambda: judge_price(judge, config.qa.model, config.qa.prices)
    if config.data.template.endswith(TEMPLATE_SUFFIX):
        yield "data.template", lambda: template_text(folder, corpus, config)
    if config.data.loaders.ocr:
        yield "data.loaders.ocr", check_installed
    if base := _base_on_disk(config):
        yield from _base_probes(base, config)


def _base_on_disk(config: FineTuneConfig) -> Path | None:
    with suppress(UserError, StageError):  # `model.base` has a probe of its own
        find_base_model(config.model.base)
        return model_on_disk(config.model.base, config.model.revision)
    return None


def _base_probes(base: Path, config: FineTuneConfig) -> Iterator[_Probe]:
    """What is known of a base model that is on this disk before it is trained."""
    lora = config.model.lora
    yield "model.base", lambda: check_template_tokens(base)
    if isinstance(lora.target_modules, list) and not missing("train"):
        yield "model.lora.target_modules", lambda: check_modules(config_of(base), lora)
    export = config.export
    if (export.gguf or export.lora_gguf) and can_be_checked():
        yield "export.gguf", lambda: _convertible(base)
    if export.lora_gguf and can_be_checked():
        yield "export.lora_gguf", lambda: check_lora_convertible(base, lora, lambda line: None)


def _convertible(base: Path) -> None:
    with suppress(StageError):  # of this machine, not of the corpus: a build says it
        check_convertible(base, lambda line: None)


def _qa_probes(folder: DataFolder, corpus: str, config: FineTuneConfig) -> Iterator[_Probe]:
    qa: QAConfig = config.qa

    def rendered(text: Callable[[DataFolder, str, FineTuneConfig], str]) -> str:
        return render_prompt(text(folder, corpus, config), list(qa.kinds), qa.audience)

    yield "qa.model", lambda: price_of(qa.model, qa.prices)
    yield "qa.prompt", lambda: rendered(qa_prompt)
    yield "qa.judge", lambda: rendered(qa_judge_prompt)


def _placed(error: UserError) -> Problem:
    """A problem of a file of the corpus's own, whose message begins with the file and the line."""
    place, _, message = str(error).partition(": ")
    path, _, line = place.rpartition(":")
    if line.isdecimal():
        return Problem(Path(path), int(line), None, message)
    return Problem(Path(place), None, None, message)
