"""`demo`: the sample corpus through the whole graph."""

from typing import TYPE_CHECKING

from ft_assets.cli.console import escape, out, print_answers
from ft_assets.cli.verb import Verbs
from ft_assets.cli.verbs.refresh import refresh_until
from ft_assets.errors import StageError, UserError
from ft_assets.names import QUESTIONS_FILE

if TYPE_CHECKING:
    from ft_assets.engine.project import Project

_CORPUS = "lighthouse"

verbs = Verbs()


@verbs.command()
def demo() -> None:
    """Build the sample corpus up to GGUF, then ask the base and the tuned model one question."""
    from ft_assets.cli.chat import Chat
    from ft_assets.engine.project import Project
    from ft_assets.stages.questions import read_questions

    project = Project.from_environment()
    if _CORPUS not in project.corpora():
        raise UserError(
            f"the sample corpus {_CORPUS!r} is not in {project.data}: run this in a checkout "
            "of the repository, or set FT_ASSETS_DATA to its data folder"
        )
    refresh_until("gguf", [_CORPUS], force=False, as_json=False)
    _print_files(project)
    [first, *_] = read_questions(project.data / _CORPUS / QUESTIONS_FILE)
    out.print(f"\n[bold]question:[/] {escape(first.question)}", soft_wrap=True)
    with Chat(project, _CORPUS, compare=True) as talk:
        print_answers(talk.talks, first.question)


def _print_files(project: "Project") -> None:
    manifest = project.storage.current(_CORPUS, "gguf")
    evaluation = project.storage.current(_CORPUS, "evaluation")
    if manifest is None or evaluation is None:
        raise StageError("the demo's artifacts were removed: run the demo again")
    counts = evaluation.counts
    out.print(
        f"\nkey facts of {counts['questions']:.0f} closed-book questions: base "
        f"{counts['base_key_facts']:.0f}, tuned {counts['tuned_key_facts']:.0f}"
    )
    folder = project.storage.folder(_CORPUS, "gguf", manifest.version)
    for name in manifest.files:
        out.print(str(folder / name), soft_wrap=True)
