"""What a refresh prints while it runs, and its results."""

from collections.abc import Iterator
from typing import Any

from rich.console import Console

from ft_assets.cli.console import escape, left_out
from ft_assets.cli.counts import in_words, unchanged
from ft_assets.engine.project import Made
from ft_assets.engine.verdicts import failures
from ft_assets.manifest import sources_path
from ft_assets.records import SourceDocument
from ft_assets.stages.job import is_reused_line
from ft_assets.stages.raw_documents import EVERY_FILE_READ
from ft_assets.tables import read_table

_TELLING = {"qa_pairs", "evaluation"}
"""The assets that cost money."""
_BAR = "█░"

Name = tuple[str, str]
"""A corpus and an asset."""


class Progress:
    """Prints a line for each artifact built or failed, and keeps the lists of them."""

    def __init__(self, out: Console, err: Console) -> None:
        self._out, self._err = out, err
        self._planned: dict[str, list[str]] = {}
        self._reused_lines: dict[str, str] = {}
        self.materialized: dict[Name, None] = {}
        self.reused: dict[Name, None] = {}
        self.failed: dict[Name, None] = {}

    def plan(self, corpus: str, making: list[str]) -> None:
        """Prints what will be built; of that, what is found unchanged is said, too."""
        self._planned[corpus] = making
        if making:
            self._out.print(f"[bold]{corpus}[/]: building {', '.join(making)}", soft_wrap=True)
        else:
            self._out.print(
                f"[bold]{corpus}[/]: registering fresh artifacts with Dagster", soft_wrap=True
            )

    def fresh(self, corpus: str, assets: list[str], until: str, *, nothing_done: bool) -> None:
        """Notes which assets needed no work."""
        self.reused |= dict.fromkeys((corpus, asset) for asset in assets)
        if nothing_done:
            self._out.print(f"{corpus}: everything up to {until} is fresh")

    def made(self, made: Made) -> None:
        """Notes an artifact that was built or found unchanged."""
        name = (made.manifest.corpus, made.manifest.asset)
        (self.reused if made.reused else self.materialized)[name] = None
        manifest = made.manifest
        if made.reused:
            if manifest.asset in self._planned.get(manifest.corpus, ()):
                self._out.print(f"  {manifest.asset} {unchanged(manifest)}", soft_wrap=True)
            return
        said = [in_words(manifest), self._reused_lines.pop(manifest.asset, "")]
        line = f"  [green]{manifest.asset}[/] {made.seconds:.1f} s  {'; '.join(filter(None, said))}"
        self._out.print(line.rstrip(), soft_wrap=True)
        if manifest.cost and manifest.asset in _TELLING:
            costs = ", ".join(f"{name} {usd:.4f}" for name, usd in manifest.cost.items())
            self._out.print(f"    {costs}", soft_wrap=True)
        for line in _warnings(made):
            self._out.print(f"    [yellow]{escape(line)}[/]", soft_wrap=True)

    def say(self, asset: str, line: str) -> None:
        """Shows a line of a stage that costs money; a progress bar overwrites the one before.

        What a stage says of reused rows is shown once it is made.
        """
        if is_reused_line(line):
            self._reused_lines[asset] = line
        if asset not in _TELLING:
            return
        if line[0] in _BAR and self._out.is_terminal:
            self._out.print(f"    {line:<{self._out.width - 5}}", end="\r", soft_wrap=True)
        else:
            self._out.print(f"    {escape(line)}", soft_wrap=True)

    def notice(self, asset: str, line: str) -> None:
        """Shows what is worth knowing of an asset before it is made, as that it is waited for."""
        self._out.print(f"  {asset}: [dim]{escape(line)}[/]", soft_wrap=True)

    def fail(self, corpus: str, asset: str | None, message: str, *, waits: bool = False) -> None:
        """Prints what failed; without an asset, that the corpus cannot be refreshed."""
        if asset:
            self.failed[corpus, asset] = None
        end = "is not built yet:" if waits else "failed:"
        own = f"{asset} of {corpus} "
        if message.startswith(own):  # it says itself what became of the asset
            end, message = "", message.removeprefix(own)
        what = f"{corpus}: {asset} {end}".rstrip() if asset else f"{corpus}:"
        colour = "yellow" if waits else "red"
        self._err.print(f"[{colour}]{what}[/] {escape(message)}", soft_wrap=True)

    def line(self, corpus: str, text: str) -> None:
        """Shows a line that another process printed."""
        self._err.print(f"[dim]{corpus} │[/] {escape(text)}", soft_wrap=True)

    def add(self, lists: dict[str, list[list[str]]]) -> None:
        """Adds the results of another process."""
        for name, names in lists.items():
            getattr(self, name).update(dict.fromkeys((corpus, asset) for corpus, asset in names))

    def lists(self) -> dict[str, Any]:
        """All results, for `--json`."""
        return {
            "materialized": list(self.materialized),
            "reused": [name for name in self.reused if name not in self.materialized],
            "failed": list(self.failed),
        }


def _warnings(made: Made) -> Iterator[str]:
    if made.manifest.asset == "raw_documents":
        for row in read_table(sources_path(made.folder, made.manifest), SourceDocument):
            yield from left_out(row.path, row.rejected)
    for name, said in failures(made.manifest).items():
        if name != EVERY_FILE_READ.name:  # said above, file by file
            yield said
