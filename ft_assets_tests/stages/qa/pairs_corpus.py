"""A corpus about lamps, with question-answer pairs from a server on loopback, and its artifacts."""

import json
from pathlib import Path
from typing import Any

from ft_assets.engine.project import Project
from ft_assets.manifest import Manifest
from ft_assets.records import CHUNKS, Chunk, QAPair
from ft_assets.stages.qa.ledger.ledger import Ledger
from ft_assets.stages.qa_pairs import PAIRS
from ft_assets.tables import read_table
from ft_assets_tests.conftest import Corpus
from ft_assets_tests.stages.qa.claude_server import ClaudeServer, Remote


def prose(document: int, sentences: int = 24) -> str:
    """A document whose sentences start differently from all other documents'."""
    return " ".join(
        f"Lamp {document}-{n} is lit at dusk by its keeper, who burns {n} litres of oil a night."
        for n in range(sentences)
    )


def lamps_corpus(project: Project, documents: int, sentences: int = 24) -> Corpus:
    """A corpus of `count` documents, of about two chunks each unless they are longer."""
    corpus = Corpus(project, "lamps")
    for number in range(documents):
        corpus.write(f"{number}.txt", prose(number, sentences))
    return corpus


def enable_qa(corpus: Corpus, server: ClaudeServer | Remote, **settings: Any) -> None:
    """Enables QA with these settings; None removes a setting."""
    qa = {"enabled": True, "base_url": server.url, **settings}
    said = {key: value for key, value in qa.items() if value is not None}
    corpus.settings(json.dumps({"qa": said, "automation": {"spend": True}}))


def make_pairs(corpus: Corpus, **options: Any) -> Manifest:
    """Builds everything up to the pairs."""
    for asset in ("raw_documents", "chunks"):
        corpus.project.make(corpus.name, asset)
    return corpus.project.make(corpus.name, "qa_pairs", **options).manifest


def artifact_folder(corpus: Corpus, asset: str = "qa_pairs") -> Path:
    """The current artifact."""
    version = corpus.project.storage.current_version(corpus.name, asset)
    return corpus.project.storage.folder(corpus.name, asset, version or "")


def published_pairs(corpus: Corpus) -> list[QAPair]:
    """The pairs that are published."""
    return list(read_table(artifact_folder(corpus) / PAIRS, QAPair))


def published_chunks(corpus: Corpus) -> list[Chunk]:
    """The chunks that are published."""
    return list(read_table(artifact_folder(corpus, "chunks") / CHUNKS, Chunk))


def ledger_of(corpus: Corpus) -> Ledger:
    """The current ledger."""
    return Ledger(corpus.project.storage.keep(corpus.name, "qa_pairs"))


def requests_sent(server: ClaudeServer) -> int:
    """How many requests the server has seen."""
    return len(server.asked())
