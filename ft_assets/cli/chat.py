"""Questions to the GGUF file of a corpus, and on request to the base model too."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.engine.project import Project
from ft_assets.errors import UserError
from ft_assets.stages.export.llama_cpp import ask, convert, open_gguf
from ft_assets.stages.models.pinned_packages import PINS, cache_folder
from ft_assets.stages.models.sealed import Origin, sealed_folder
from ft_assets.stages.models.tuned_model import adapter_base

if TYPE_CHECKING:
    from llama_cpp import Llama


class Chat:
    """The models of a corpus, opened. Each question is answered on its own. Use as a context manager."""

    def __init__(self, project: Project, corpus: str, *, compare: bool) -> None:
        manifest = project.storage.current(corpus, "gguf")
        if manifest is None:
            raise UserError(f"{corpus} has no GGUF file yet: ft-assets export {corpus}")
        project.storage.require_whole(manifest)
        folder = project.storage.folder(corpus, "gguf", manifest.version)
        files = [folder / name for name in manifest.files if name.endswith(".gguf")]
        self._max_new_tokens = project.config(corpus).evaluation.max_new_tokens
        self._models: dict[str, Llama] = {}
        if compare:
            self._models["base"] = open_gguf(_base_gguf(project, corpus))
        self._models["tuned"] = open_gguf(max(files, key=lambda path: path.stat().st_size))

    def answer(self, question: str) -> dict[str, str]:
        """What each model says, by `base` and `tuned`."""
        return {
            name: ask(model, question, self._max_new_tokens) for name, model in self._models.items()
        }

    def __enter__(self) -> "Chat":
        return self

    def __exit__(self, *exc: Any) -> None:
        for model in self._models.values():
            model.close()


def _base_gguf(project: Project, corpus: str) -> Path:
    """The base model of a corpus's adapter as an f16 GGUF file, converted once."""
    adapter = project.storage.current(corpus, "adapter")
    if adapter is None:
        raise UserError(f"{corpus} has no adapter to compare: ft-assets train {corpus}")
    base = adapter_base(project.storage.folder(corpus, "adapter", adapter.version))
    # A local model's revision is the digest of its files. Its location is not part of what the file is
    # made from: two folders with the same content share one conversion. The folder's name has all that
    # it is made from, so that another converter writes another folder.
    name, converter = Path(base.base.replace(":", "-")).name, PINS["llama-cpp-python"].sha256
    folder = sealed_folder(
        cache_folder() / "models" / f"{name}-{base.revision[:16]}-f16-{converter[:8]}",
        Origin(name, base.revision, converter),
        lambda empty: convert(base.folder, empty / "base-f16.gguf", lambda line: None),
    )
    return folder / "base-f16.gguf"
