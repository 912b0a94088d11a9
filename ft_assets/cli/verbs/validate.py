"""`validate`: every mistake in the user's input, and what will be learned, before anything is built."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ft_assets.cli.arguments import AsJson, Corpora, corpora_named
from ft_assets.cli.console import err, escape, out
from ft_assets.cli.verb import Verbs
from ft_assets.errors import in_words

if TYPE_CHECKING:
    from ft_assets.engine.glance import Glance
    from ft_assets.engine.project import Project
    from ft_assets.engine.settings_files import Problem
    from ft_assets.stages.training.estimate import Estimate

verbs = Verbs()


@verbs.command()
def validate(corpora: Corpora = None, as_json: AsJson = False) -> None:
    """Check settings, documents and the base model before anything is built.

    Reports every error, not only the first, with its file, line and key, and exits with 1 if there is
    one. Reads every document, says what will be learned from the corpus and what is left out, and
    exits with 1 if a gate will stop training. A base model on this disk is tried: whether it can become
    a GGUF file (ten seconds, once a model) and be trained as asked, and what time and memory that takes. Nothing is downloaded: a model on the
    Hugging Face hub is not looked up.
    """
    from ft_assets.engine.project import Project

    project = Project.from_environment()
    verdicts = {}
    for corpus in corpora_named(project, corpora):
        verdicts[corpus] = _verdict_on(project, corpus)
        if not as_json:
            _print_verdict(project, corpus, verdicts[corpus])
    if as_json:
        told = {corpus: verdict.to_json() for corpus, verdict in verdicts.items()}
        print(json.dumps({"corpora": told}, default=_plain))
    if any(verdict.problems or verdict.stops for verdict in verdicts.values()):
        raise typer.Exit(1)


@dataclass
class _Verdict:
    """What is wrong with a corpus, and what will be learned from it if its files could be read."""

    problems: "list[Problem]" = field(default_factory=list)
    glance: "Glance | None" = None
    estimate: "Estimate | None" = None

    @property
    def stops(self) -> list[str]:
        """The gates that will stop training, in words."""
        return [stop.message for stop in self.glance.stops] if self.glance else []

    def to_json(self) -> dict[str, Any]:
        return {
            "problems": self.problems,
            "left_out": self.glance.left_out if self.glance else [],
            "glance": self.glance.to_json() if self.glance else None,
            "estimate": self.estimate.to_json() if self.estimate else None,
        }


def _verdict_on(project: "Project", corpus: str) -> _Verdict:
    """What is wrong with a corpus; whatever it is, the others are looked at too."""
    from ft_assets.engine.estimates import training_ahead
    from ft_assets.engine.glance import glance_at
    from ft_assets.engine.settings_files import Problem
    from ft_assets.engine.validation import problems

    verdict = _Verdict()
    try:
        verdict.problems = problems(project, corpus)
        if not verdict.problems:
            verdict.glance = glance_at(project, corpus)
            if not verdict.glance.files:
                place = project.data / corpus
                verdict.problems = [Problem(place, None, None, "no file can be used")]
            elif verdict.glance.rows:
                verdict.estimate = training_ahead(project, corpus, verdict.glance.rows)
    except Exception as error:
        verdict.problems = [Problem(project.data / corpus, None, None, in_words(error))]
    return verdict


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else vars(value)


def _print_verdict(project: "Project", corpus: str, verdict: _Verdict) -> None:
    """Prints every problem of a corpus, or what will be learned from it."""
    from ft_assets.cli.glance import print_glance, print_left_out
    from ft_assets.stages.models.base_model import is_hub_id

    for problem in verdict.problems:
        err.print(escape(str(problem)), soft_wrap=True)
    if verdict.glance:
        print_left_out(verdict.glance)
    for stop in verdict.stops:
        err.print(f"[red]stopped:[/] {corpus}: {escape(stop)}", soft_wrap=True)
    if verdict.problems or verdict.glance is None:
        return
    base = project.config(corpus).model.base
    looked_up = " (on the model hub; not looked up)" if is_hub_id(base) else ""
    print_glance(corpus, verdict.glance, f"{base}{looked_up}")
    if estimate := verdict.estimate:
        out.print(f"  training: {escape(str(estimate))}", soft_wrap=True)
        if estimate.warning:
            err.print(f"[yellow]warning:[/] {corpus}: {escape(estimate.warning)}", soft_wrap=True)
