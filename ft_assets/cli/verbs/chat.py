"""`chat`: questions to the GGUF file of a corpus, and on request to the base model too."""

from contextlib import suppress
from typing import Annotated

import typer

from ft_assets.cli.arguments import Corpus, project_with
from ft_assets.cli.console import err, escape, out, print_answers
from ft_assets.cli.verb import Verbs
from ft_assets.errors import UserError

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

    A question may refer to earlier ones and their answers. Answers have at most 512 tokens.
    """
    from ft_assets.cli.chat import Chat

    if question is not None and not question.strip():
        raise typer.BadParameter("it is empty", param_hint="--question")
    project = project_with(corpus)
    with Chat(project, corpus, compare=compare) as talk:
        if question is not None:
            print_answers(talk.talks, question)
            return
        out.print("Press Enter on an empty line to quit.")
        while line := _ask_person():
            try:
                print_answers(talk.talks, line)
            except UserError as error:
                err.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)


def _ask_person() -> str:
    with suppress(EOFError, KeyboardInterrupt):
        return input("> ").strip()
    return ""
