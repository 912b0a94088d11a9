"""What a stage is given and what it gives back; both are JSON, so a stage can run anywhere."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ft_assets.manifest import Manifest, Settings, Verdict, sources_path

if TYPE_CHECKING:
    from ft_assets.config import AnySection

Report = Callable[[str], None]
"""Takes one line of progress."""


@dataclass(frozen=True)
class CorpusFile:
    """One file of a corpus folder: its POSIX path inside it, its size and the hash of its bytes.

    `sha256` is empty and `problem` says why where the file could not be read.
    """

    path: str
    size: int
    sha256: str
    problem: str | None = None


@dataclass(frozen=True)
class Previous:
    """An earlier version of the artifact, made by the same code with the same settings.

    What it has of an unchanged document is what would be made of it again.
    """

    folder: Path
    manifest: Manifest


@dataclass(frozen=True)
class Job:
    """One asset of one corpus to be made.

    `inputs` maps each upstream asset to its folder, `manifests` each asset the artifact hangs on,
    near or far, to its manifest. `settings` holds what the asset reads, by dotted key. `output` is
    an empty folder; whatever the stage leaves there is the artifact. `previous` is what rows may be
    taken from. `means` are settings that do not shape the artifact; `keep` is a folder of the
    asset's own that outlives its versions, there once the stage has made it. `may_spend` says whether
    the stage may send requests that cost money.
    """

    asset: str
    corpus: str
    source: Path
    output: Path
    settings: Settings
    inputs: dict[str, Path] = field(default_factory=dict)
    manifests: dict[str, Manifest] = field(default_factory=dict)
    files: list[CorpusFile] = field(default_factory=list)
    previous: Previous | None = None
    means: Settings = field(default_factory=dict)
    keep: Path = Path()
    may_spend: bool = True

    def reusable(self, tools: dict[str, str]) -> Previous | None:
        """The earlier version, where these very tools made it: another parser reads otherwise."""
        made_by = self.previous.manifest.tools if self.previous else None
        return self.previous if made_by == tools else None

    def section(self, section: "type[AnySection]") -> "AnySection":
        """A section of the settings with what the asset reads of it; the rest is not there.

        Reading a setting that the asset does not declare in `engine/asset_settings.py` raises
        AttributeError.
        """
        from ft_assets.config import partial_section, path_of

        path = path_of(section)
        known = {**self.settings, **self.means}
        values = {k.removeprefix(path): v for k, v in known.items() if k.startswith(path)}
        return partial_section(section, values)

    def text(self, key: str) -> str | None:
        """The text of a file that the settings name, such as `data.template.text`; None if there is none."""
        text = self.settings.get(key)
        return None if text is None else str(text)

    def sources(self, asset: str) -> Path:
        """The documents behind an input: rows of `records.SourceDocument`."""
        return sources_path(self.inputs[asset], self.manifests[asset])

    def dump(self, path: Path) -> None:
        """Writes the job as JSON."""
        path.write_text(json.dumps(asdict(self), default=str))

    @classmethod
    def load(cls, path: Path) -> "Job":
        """Reads what `dump` wrote."""
        content = json.loads(path.read_text())
        manifests = content["manifests"].items()
        content["manifests"] = {asset: Manifest(**manifest) for asset, manifest in manifests}
        content["inputs"] = {asset: Path(folder) for asset, folder in content["inputs"].items()}
        content["files"] = [CorpusFile(**file) for file in content["files"]]
        for key in ("source", "output", "keep"):
            content[key] = Path(content[key])
        if content["previous"]:
            folder, manifest = content["previous"].values()
            content["previous"] = Previous(Path(folder), Manifest(**manifest))
        return cls(**content)


@dataclass(frozen=True)
class Outcome:
    """What a stage says of the artifact it made; it all ends in the manifest.

    `checks` maps the name of each of the stage's CHECKS to its verdict. A stage that knows better which
    documents are behind its artifact writes them to SOURCES in its output; else they are those of the
    nearest input.
    """

    counts: dict[str, int | float] = field(default_factory=dict)
    checks: dict[str, Verdict] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A check of an artifact, declared where its verdict is reached: in its stage's CHECKS.

    `says` is what holds if it passes. A blocking one that fails stops what would be made from the
    artifact; `blocks_if` says when a check that only warns otherwise blocks.
    """

    name: str
    says: str
    blocking: bool = True
    blocks_if: str = ""

    def verdict(
        self, passed: bool, message: str, *, blocking: bool | None = None
    ) -> dict[str, Verdict]:
        """The verdict under the check's name, with what was seen in words."""
        blocks = self.blocking if blocking is None else blocking
        return {self.name: Verdict(passed=passed, blocking=blocks, message=message)}


def versions(*distributions: str) -> dict[str, str]:
    """The installed versions of the libraries that did the work."""
    from importlib.metadata import version

    return {name: version(name) for name in distributions}
