"""`init`: a settings file to start from."""

from ft_assets.cli.arguments import Corpus
from ft_assets.cli.console import out
from ft_assets.cli.verb import Verbs
from ft_assets.errors import UserError
from ft_assets.names import SETTINGS_FILE

verbs = Verbs()


@verbs.command()
def init(corpus: Corpus) -> None:
    """Write a commented settings file for a corpus, and create its folder if needed.

    The file lists every setting with its default and its allowed values, all commented out. An existing
    file is not changed.
    """
    from ft_assets.cli.settings_file import commented_settings
    from ft_assets.config import FineTuneConfig
    from ft_assets.engine.project import Project

    project = Project.from_environment()
    folder = project.data / corpus
    path = folder / SETTINGS_FILE
    if path.exists():
        raise UserError(f"{path} exists already; nothing was changed")
    if not project.is_corpus_name(corpus):
        raise UserError(f"{corpus!r} cannot name a corpus: use letters, digits, - and _")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(commented_settings(FineTuneConfig()), encoding="utf-8")
    out.print(f"wrote {path}", soft_wrap=True)
    out.print(f"put documents into {folder}, then: ft-assets refresh {corpus}", soft_wrap=True)
