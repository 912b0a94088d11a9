"""Prepares a checkout for Dagster's own tools, `dagster dev` and `dg`: `python -m ft_assets.defs.setup`.

`make setup` runs it; running it again changes nothing but adding new corpora.
"""

from pathlib import Path

import dagster as dg

from ft_assets.defs.instance import dagster_home
from ft_assets.defs.partitions import corpus_partitions
from ft_assets.engine.project import Project


def write_env_file(folder: Path, home: Path) -> None:
    """Writes `.env`, which Dagster's tools read, unless there is one.

    They let it override the environment, so it names `home` only for a shell that names none.
    """
    path = folder / ".env"
    if not path.exists():
        path.write_text(f'DAGSTER_HOME="${{DAGSTER_HOME:-{home}}}"\n', encoding="utf-8")


def register_corpora(project: Project) -> list[str]:
    """Makes every corpus a partition in the project's instance; returns those that are new.

    The sensor does this too, but a launch from the command line does not wait for it.
    """
    name = corpus_partitions.name or ""
    with dg.DagsterInstance.get() as instance:
        known = instance.get_dynamic_partitions(name)
        new = [corpus for corpus in project.corpora() if corpus not in known]
        instance.add_dynamic_partitions(name, new)
    return new


def main() -> None:
    """Prepares the working directory."""
    write_env_file(Path.cwd(), dagster_home())
    for corpus in register_corpora(Project.from_environment()):
        print(f"registered the corpus {corpus} as a partition")


if __name__ == "__main__":
    main()
