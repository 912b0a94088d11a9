"""Questions to the GGUF file of a corpus, and on request to the base model too."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ft_assets.engine.project import Project
from ft_assets.errors import UserError
from ft_assets.stages.export.base_gguf import base_gguf
from ft_assets.stages.export.llama_cpp import escape_of, is_model_file, open_gguf
from ft_assets.stages.models.tuned_model import adapter_base

if TYPE_CHECKING:
    from llama_cpp import Llama


MAX_NEW_TOKENS = 512
"""The most tokens of an answer; half of the context if the model has less than twice that."""


class Talk:
    """A conversation with one model: each question is asked with the ones before it and their answers."""

    def __init__(self, model: "Llama") -> None:
        self._model, self._escape = model, escape_of(model)
        self._messages: list[dict[str, str]] = []
        self._limit = min(MAX_NEW_TOKENS, model.n_ctx() // 2)

    def answer(self, question: str) -> Iterator[str]:
        """The pieces of the model's answer, as they come. Raises UserError for too long a question."""
        self._messages.append({"role": "user", "content": self._escape(question)})
        self._make_room()
        return self._stream()

    def _stream(self) -> Iterator[str]:
        """The answer to the last question."""
        said: list[str] = []
        for chunk in self._model.create_chat_completion(
            messages=self._messages,
            max_tokens=self._limit,
            temperature=0.0,
            stream=True,
        ):
            piece = chunk["choices"][0]["delta"].get("content")
            if piece:
                said.append(piece)
                yield piece
        self._messages.append({"role": "assistant", "content": "".join(said)})

    def _make_room(self) -> None:
        """Forgets the oldest questions and answers until an answer has room."""
        room = self._model.n_ctx() - self._limit
        while len(self._messages) > 1 and self._tokens() > room:
            del self._messages[:2]
        if self._tokens() > room:
            self._messages.clear()
            raise UserError(f"the question is too long: it may have about {room:,} tokens")

    def _tokens(self) -> int:
        """About how many tokens the conversation has."""
        text = "".join(message["content"] for message in self._messages)
        return len(self._model.tokenize(text.encode(), add_bos=False)) + 32 * len(self._messages)

    def close(self) -> None:
        """Closes the model."""
        self._model.close()


class Chat:
    """The models of a corpus, opened, by `base` and `tuned`. Use as a context manager."""

    def __init__(self, project: Project, corpus: str, *, compare: bool) -> None:
        manifest = project.storage.current(corpus, "gguf")
        if manifest is None:
            raise UserError(f"{corpus} has no GGUF file yet: ft-assets export {corpus}")
        project.storage.require_whole(manifest)
        folder = project.storage.folder(corpus, "gguf", manifest.version)
        files = [folder / name for name in manifest.files if is_model_file(name)]
        if not files:
            raise UserError(f"{corpus} has no GGUF file: export.gguf is empty")
        self.talks: dict[str, Talk] = {}
        if compare:
            self.talks["base"] = Talk(open_gguf(_base_gguf(project, corpus), context=0))
        tuned = max(files, key=lambda path: path.stat().st_size)
        self.talks["tuned"] = Talk(open_gguf(tuned, context=0))

    def __enter__(self) -> "Chat":
        return self

    def __exit__(self, *exc: Any) -> None:
        for talk in self.talks.values():
            talk.close()


def _base_gguf(project: Project, corpus: str) -> Path:
    """The base model of a corpus's adapter as a GGUF file."""
    adapter = project.storage.current(corpus, "adapter")
    if adapter is None:
        raise UserError(f"{corpus} has no adapter to compare: ft-assets train {corpus}")
    return base_gguf(adapter_base(project.storage.folder(corpus, "adapter", adapter.version)))
