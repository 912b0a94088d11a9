"""The input and the result of a stage; both can be written as JSON, so a stage can run anywhere."""

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


_REUSED = " reused"


def reused_line(done: int, of: int, what: str) -> str:
    """The line of progress that says how much was made now and how much was taken over.

    `what` is what was done to things, as in `documents parsed`.
    """
    return f"{done:,} of {of:,} {what}, {of - done:,}{_REUSED}"


def is_reused_line(line: str) -> bool:
    """Whether a line of progress is one of `reused_line`."""
    return line.endswith(_REUSED)


@dataclass(frozen=True)
class CorpusFile:
    """One file of a corpus folder: its POSIX path inside the folder, its size in bytes and its sha256.

    If the file could not be read, `sha256` is empty and `problem` says why.
    """

    path: str
    size: int
    sha256: str
    problem: str | None = None


@dataclass(frozen=True)
class Previous:
    """An earlier version of the artifact, built by the same code with the same settings.

    Its rows of an unchanged document are what a rebuild would give.
    """

    folder: Path
    manifest: Manifest


@dataclass(frozen=True)
class Job:
    """One asset of one corpus to build.

    `inputs` maps each direct upstream asset to its folder, `manifests` each direct or indirect one to
    its manifest. `settings` are the settings that the asset reads, by dotted key. `output` is an empty
    folder; the files that the stage leaves there are the artifact. Rows may be reused from `previous`.
    `means` are settings that do not affect the artifact's content: those by whose means it is made, and
    those that only tell whether to make it. `keep` is the asset's own folder that outlives its versions;
    the stage creates it if needed. `checkpoints` is a folder that a long stage resumes from after it
    was interrupted: the next build of the same fingerprint is given the same one, any other an empty one,
    and it is removed once the artifact is published. `runs` is a folder for logs of the work, which are
    not part of the artifact; it is the same for each build of the same fingerprint. `may_spend` says whether the stage may send requests
    that cost money.
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
    checkpoints: Path | None = None
    runs: Path | None = None
    may_spend: bool = True

    def reusable(self, tools: dict[str, str]) -> Previous | None:
        """The earlier version if the same tool versions built it, because other ones may differ."""
        made_by = self.previous.manifest.tools if self.previous else None
        return self.previous if made_by == tools else None

    def section(self, section: "type[AnySection]") -> "AnySection":
        """A section of the settings, with only the settings that the asset reads.

        Reading a setting that the asset does not declare in `engine/asset_settings.py` raises
        AttributeError; otherwise a stage could read settings that are in no fingerprint.
        """
        from ft_assets.config import partial_section, path_of

        path = path_of(section)
        known = {**self.settings, **self.means}
        values = {k.removeprefix(path): v for k, v in known.items() if k.startswith(path)}
        return partial_section(section, values)

    def text(self, key: str) -> str | None:
        """The text of a file that the settings name, as in `data.template.text`; None if there is none."""
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
        for key in ("checkpoints", "runs"):
            content[key] = content[key] and Path(content[key])
        if content["previous"]:
            folder, manifest = content["previous"].values()
            content["previous"] = Previous(Path(folder), Manifest(**manifest))
        return cls(**content)


@dataclass(frozen=True)
class Outcome:
    """What a stage reports about its artifact; all of it is written to the manifest.

    `checks` maps the name of each of the stage's CHECKS to its verdict. A stage that uses only some of
    its inputs' documents writes them to SOURCES in its output; else they are those of the nearest
    input. `chosen` are the values that it chose for settings that are null, by dotted key.
    """

    counts: dict[str, int | float] = field(default_factory=dict)
    checks: dict[str, Verdict] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)
    chosen: Settings = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A check of an artifact, declared in its stage's CHECKS.

    `says` is what is true if it passes. If a blocking check fails, nothing is built on the artifact;
    `blocks_if` says when a check that otherwise only warns blocks.
    """

    name: str
    says: str
    blocking: bool = True
    blocks_if: str = ""

    def verdict(
        self, passed: bool, message: str, *, blocking: bool | None = None, **numbers: float
    ) -> dict[str, Verdict]:
        """The verdict by the check's name; `message` says what was found, `numbers` by what."""
        blocks = self.blocking if blocking is None else blocking
        verdict = Verdict(passed=passed, blocking=blocks, message=message)
        if numbers:
            verdict["numbers"] = numbers
        return {self.name: verdict}


def versions(*distributions: str) -> dict[str, str]:
    """The installed versions of `distributions`."""
    from importlib.metadata import version

    return {name: version(name) for name in distributions}
