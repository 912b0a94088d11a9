"""What a stage is given and what it gives back; both are JSON, so a stage can run anywhere."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    manifest: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """One asset of one corpus to be made.

    `inputs` maps each upstream asset to its folder, `manifests` each asset the artifact hangs on,
    near or far, to its manifest. `settings` holds what the asset reads, by dotted key. `output` is
    an empty folder; whatever the stage leaves there is the artifact. `previous` is what rows may be
    taken from. `means` are settings that do not shape the artifact; `keep` is a folder of the
    asset's own that outlives its versions, there once the stage has made it.
    """

    asset: str
    corpus: str
    source: Path
    output: Path
    settings: dict[str, Any]
    inputs: dict[str, Path] = field(default_factory=dict)
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: list[CorpusFile] = field(default_factory=list)
    previous: Previous | None = None
    means: dict[str, Any] = field(default_factory=dict)
    keep: Path = Path()

    def reusable(self, tools: dict[str, str]) -> Previous | None:
        """The earlier version, where these very tools made it: another parser reads otherwise."""
        made_by = self.previous.manifest["tools"] if self.previous else None
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

    def dump(self, path: Path) -> None:
        """Writes the job as JSON."""
        path.write_text(json.dumps(asdict(self), default=str))

    @classmethod
    def load(cls, path: Path) -> "Job":
        """Reads what `dump` wrote."""
        content = json.loads(path.read_text())
        content["inputs"] = {asset: Path(folder) for asset, folder in content["inputs"].items()}
        content["files"] = [CorpusFile(**file) for file in content["files"]]
        for key in ("source", "output", "keep"):
            content[key] = Path(content[key])
        if content["previous"]:
            content["previous"]["folder"] = Path(content["previous"]["folder"])
            content["previous"] = Previous(**content["previous"])
        return cls(**content)


@dataclass(frozen=True)
class Outcome:
    """What a stage says of the artifact it made; it all ends in the manifest.

    `checks` maps a check to `{"passed": bool, "blocking": bool, "message": str, …}`. `sources` are
    the documents behind the artifact, `None` meaning those of the nearest input.
    """

    counts: dict[str, int | float] = field(default_factory=dict)
    checks: dict[str, dict[str, Any]] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    sources: list[dict[str, Any]] | None = None


def check(passed: bool, message: str, *, blocking: bool = True) -> dict[str, Any]:
    """A verdict for `Outcome.checks`; a blocking one stops what would be made from the artifact."""
    return {"passed": passed, "blocking": blocking, "message": message}


def versions(*distributions: str) -> dict[str, str]:
    """The installed versions of the libraries that did the work."""
    from importlib.metadata import version

    return {name: version(name) for name in distributions}
