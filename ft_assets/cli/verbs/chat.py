"""`chat`: questions to the GGUF file of a corpus, and on request to the base model too."""

from contextlib import suppress
from typing import Annotated

import typer

from ft_assets.cli.arguments import Corpus, project_with
from ft_assets.cli.console import out, print_answers
from ft_assets.cli.verb import Verbs

verbs = Verbs()


@verbs.command()
def chat(
    corpus: Corpus,
    question: Annotated[str | None, typer.Option(help="Ask one question and exit.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Let the base model answer too.")
    ] = False,
) -> None:
    """Chat with the GGUF file of a corpus.

    Each question is answered on its own; earlier questions and answers are not passed on.
    """
    from ft_assets.cli.chat import Chat

    if question is not None and not question.strip():
        raise typer.BadParameter("it is empty", param_hint="--question")
    project = project_with(corpus)
    with Chat(project, corpus, compare=compare) as talk:
        if question is not None:
            print_answers(talk.answer(question))
            return
        out.print("Press Enter on an empty line to quit.")
        while line := _ask_person():
            print_answers(talk.answer(line))


def _ask_person() -> str:
    with suppress(EOFError, KeyboardInterrupt):
        return input("> ").strip()
    return ""
