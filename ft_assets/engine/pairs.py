"""What the command line says and does about question-answer pairs, beside making them.

Nothing here sends anything, and nothing needs a key.
"""

from pathlib import Path

from ft_assets.config import FineTuneConfig
from ft_assets.engine.asset_settings import qa_judge_prompt, qa_prompt
from ft_assets.engine.data_folder import DataFolder
from ft_assets.engine.lineage import require_made
from ft_assets.engine.project import Project
from ft_assets.errors import UserError
from ft_assets.files import write_atomically
from ft_assets.manifest import Manifest
from ft_assets.names import REVIEW_FILE
from ft_assets.records import CHUNKS, Chunk, DroppedPair, QAPair
from ft_assets.stages.qa.judge import judge_recipe, judge_request
from ft_assets.stages.qa.ledger.batch_log import BatchLog
from ft_assets.stages.qa.ledger.ledger import Ledger
from ft_assets.stages.qa.money import Estimate, dollars, estimate, price_of
from ft_assets.stages.qa.plan import TYPICAL, Plan, pairs_of
from ft_assets.stages.qa.prompt import recipe_of, request_of
from ft_assets.stages.qa.review import by_person, exported, imported, read_reviews, written
from ft_assets.stages.qa_pairs import DROPPED, PAIRS
from ft_assets.stages.words import counted
from ft_assets.tables import read_table

_QA = "qa_pairs"
_CHARACTERS_PER_TOKEN = 4


def estimate_pairs(project: Project, corpus: str) -> tuple[Estimate, Ledger]:
    """What making the pairs of the current chunks would cost now, also while `qa.enabled` is off.

    With it the ledger as it is. Raises StageError if there are no chunks, UserError if the
    settings, the reviews or a chunk are wrong.
    """
    config = project.config(corpus)
    on = config.model_copy(update={"qa": config.qa.model_copy(update={"enabled": True})})
    read_reviews(project.data / corpus / REVIEW_FILE)
    job = project.job(corpus, _QA, on)
    ledger = Ledger(job.keep)
    return Plan.of(job).estimate(ledger), ledger


def cost_line(project: Project, corpus: str) -> str | None:
    """What making the pairs would cost, from the chunks' manifest alone.

    None if QA is off. Raises UserError if the settings are wrong.
    """
    config = project.config(corpus)
    if not config.qa.enabled:
        return None
    if batches := BatchLog(project.storage.keep(corpus, _QA)).under_way:
        told = ", ".join(f"{one.id or 'not confirmed'} ({one.requests:,})" for one in batches)
        return f"pairs: waiting for batches of requests: {told}"
    command = f"ft-assets generate-qa {corpus} --dry-run"
    chunks = project.storage.current(corpus, "chunks")
    if chunks is None:
        return f"what the pairs cost: {command}, once there are chunks"
    count = int(chunks.counts["chunks"])
    most = price_of_chunk(project, corpus, config) * count
    cap = dollars(config.qa.max_usd)
    return (
        f"pairs of all {counted(count, 'chunk')}: {most}; what the ledger has costs nothing; qa.max_usd {cap}; "
        f"counted by {command}"
    )


def price_of_chunk(
    folder: DataFolder, corpus: str, config: FineTuneConfig, size: int | None = None
) -> Estimate:
    """What the pairs of one chunk cost, by default of one as long as they get, also while QA is off.

    Raises UserError if the prompts or the price are wrong.
    """
    writer = recipe_of(config.qa, qa_prompt(folder, corpus, config))
    judge_text = qa_judge_prompt(folder, corpus, config) if config.qa.judge else None
    judge = judge_recipe(config.qa, judge_text)
    if size is None:
        size = config.langchain.chunk_size
        size *= _CHARACTERS_PER_TOKEN if config.langchain.splitter == "token" else 1
    chunk = Chunk("", "", 1, 0, size, "x" * size, "")
    pairs = pairs_of(chunk.text, config.qa)
    requests = [request_of(writer, chunk, pairs)]
    if judge:
        requests.append(judge_request(judge, chunk, [TYPICAL] * pairs))
    return estimate(requests, price_of(writer.model, config.qa.prices))


def export_pairs(project: Project, corpus: str, path: Path) -> int:
    """Writes the current pairs to a JSON Lines file for a person to look at; gives their number."""
    if path.exists():
        raise UserError(f"{path} exists already; nothing was changed")
    if path.resolve().is_relative_to(project.data.resolve()):
        raise UserError(
            f"{path} is in {project.data}, where it could be read as a document: choose another place"
        )
    manifest = require_made(project, corpus, _QA)
    headings = {chunk.chunk_id: chunk.heading for chunk in _chunks(project, manifest)}
    found = [
        *((pair, "keep") for pair in _pairs(project, manifest)),
        *((pair, "reject") for pair in _reviewed(project, manifest, "reject")),
    ]
    lines = [exported(pair, headings.get(pair.chunk_id, ""), said) for pair, said in found]
    _write(path, written(lines))
    return len(lines)


def import_reviews(project: Project, corpus: str, path: Path) -> tuple[int, Path]:
    """Takes the verdicts of a file that `export_pairs` wrote into the corpus's review file.

    Gives how many are new, and that file. Raises UserError for a line that cannot be used; then
    nothing is changed.
    """
    manifest = require_made(project, corpus, _QA)
    target = project.data / corpus / REVIEW_FILE
    gone = _reviewed(project, manifest, "reject", "edit")
    pairs = {pair.pair_id: pair for pair in [*gone, *_pairs(project, manifest)]}
    texts = {chunk.chunk_id: chunk.text for chunk in _chunks(project, manifest)}
    reviews, new = imported(path, pairs, texts, read_reviews(target))
    if new:
        _write(target, written(vars(review) for review in reviews))
    return new, target


def _write(path: Path, text: str) -> None:
    try:
        write_atomically(path, text)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror})") from error


def _pairs(project: Project, manifest: Manifest) -> list[QAPair]:
    folder = project.storage.folder(manifest.corpus, _QA, manifest.version)
    return list(read_table(folder / PAIRS, QAPair))


def _reviewed(project: Project, manifest: Manifest, *actions: str) -> list[QAPair]:
    """The pairs that are not in the artifact by a person's verdict."""
    path = project.storage.folder(manifest.corpus, _QA, manifest.version) / DROPPED
    reasons = {by_person(action) for action in actions}
    names = QAPair.__dataclass_fields__
    return [
        QAPair(**{name: getattr(pair, name) for name in names})
        for pair in (read_table(path, DroppedPair) if path.exists() else ())
        if pair.reason in reasons
    ]


def _chunks(project: Project, manifest: Manifest) -> list[Chunk]:
    """The chunks that the pairs were made from."""
    folder = project.storage.folder(manifest.corpus, "chunks", manifest.inputs["chunks"])
    return list(read_table(folder / CHUNKS, Chunk))
