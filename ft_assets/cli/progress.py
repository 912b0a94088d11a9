"""What a refresh prints while it runs, and its results."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console

from ft_assets.cli.console import escape
from ft_assets.engine.project import Made
from ft_assets.manifest import sources_path
from ft_assets.records import SourceDocument
from ft_assets.tables import read_table

_TELLING = {"qa_pairs"}
"""The assets that cost money."""
_BAR = "█░"

Name = tuple[str, str]
"""A corpus and an asset."""


class Progress:
    """Prints a line for each artifact made or failed, and keeps the lists of them."""

    def __init__(self, out: Console, err: Console) -> None:
        self._out, self._err = out, err
        self.materialized: dict[Name, None] = {}
        self.reused: dict[Name, None] = {}
        self.failed: dict[Name, None] = {}

    def plan(self, corpus: str, making: list[str]) -> None:
        """Says what will be made."""
        if making:
            self._out.print(f"[bold]{corpus}[/]: making {', '.join(making)}", soft_wrap=True)
        else:
            self._out.print(f"[bold]{corpus}[/]: telling Dagster what is there", soft_wrap=True)

    def fresh(self, corpus: str, assets: list[str], until: str, *, nothing_done: bool) -> None:
        """Notes which assets needed no work."""
        self.reused |= dict.fromkeys((corpus, asset) for asset in assets)
        if nothing_done:
            self._out.print(f"{corpus}: everything up to {until} is fresh")

    def made(self, made: Made) -> None:
        """Notes an artifact that was made or found unchanged."""
        name = (made.manifest.corpus, made.manifest.asset)
        (self.reused if made.reused else self.materialized)[name] = None
        if made.reused:
            return
        manifest = made.manifest
        counts = ", ".join(f"{_number(value)} {name}" for name, value in manifest.counts.items())
        self._out.print(
            f"  [green]{manifest.asset}[/] {made.seconds:.1f} s  {counts}", soft_wrap=True
        )
        if manifest.cost and manifest.asset in _TELLING:
            costs = ", ".join(f"{name} {usd:.4f}" for name, usd in manifest.cost.items())
            self._out.print(f"    {costs}", soft_wrap=True)
        for line in _warnings(made):
            self._out.print(f"    [yellow]{escape(line)}[/]", soft_wrap=True)

    def say(self, asset: str, line: str) -> None:
        """Shows a line of a stage that tells what it spends; a bar is drawn over the one before."""
        if asset not in _TELLING:
            return
        if line[0] in _BAR and self._out.is_terminal:
            self._out.print(f"    {line:<{self._out.width - 5}}", end="\r", soft_wrap=True)
        else:
            self._out.print(f"    {escape(line)}", soft_wrap=True)

    def fail(self, corpus: str, asset: str | None, message: str, *, waits: bool = False) -> None:
        """Says what failed; without an asset it is the corpus that cannot be refreshed."""
        if asset:
            self.failed[corpus, asset] = None
        end = "is not made yet:" if waits else "failed:"
        what = f"{corpus}: {asset} {end}" if asset else f"{corpus}:"
        colour = "yellow" if waits else "red"
        self._err.print(f"[{colour}]{what}[/] {escape(message)}", soft_wrap=True)

    def line(self, corpus: str, text: str) -> None:
        """Shows a line that another process printed."""
        self._err.print(f"[dim]{corpus} │[/] {escape(text)}", soft_wrap=True)

    def add(self, lists: dict[str, list[list[str]]]) -> None:
        """Takes over the results of another process."""
        for name, names in lists.items():
            getattr(self, name).update(dict.fromkeys((corpus, asset) for corpus, asset in names))

    def lists(self) -> dict[str, Any]:
        """All results, for `--json`."""
        return {
            "materialized": list(self.materialized),
            "reused": [name for name in self.reused if name not in self.materialized],
            "failed": list(self.failed),
        }


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.3g}"


def _warnings(made: Made) -> Iterator[str]:
    if made.manifest.asset == "raw_documents":
        for row in read_table(sources_path(made.folder, made.manifest), SourceDocument):
            yield from (f"{row.path}: {reason}" for reason in row.rejected)
    for name, verdict in made.manifest.checks.items():
        if not verdict["passed"]:
            yield f"check {name} failed: {verdict['message']}"
