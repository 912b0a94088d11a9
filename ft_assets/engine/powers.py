"""What a corpus's own settings file may not do.

`data/finetune.yaml` is the owner's. A corpus's own file shapes its artifacts, and nothing else: addresses,
providers, prices, where work runs and what a sensor may spend are the owner's alone, and every cap has
the owner's value as its upper bound. So a folder that somebody drops into `data/` has no powers over the
machine, the keys or the money.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ft_assets.config import FineTuneConfig, all_settings, declaration, settings_below, shown
from ft_assets.names import SETTINGS_FILE
from ft_assets.stages.models.base_model import is_local

Refusal = tuple[str, str]
"""A dotted key of the corpus's file, and why it is refused."""


def refusals(own: Mapping[str, object], owner: FineTuneConfig, data: Path) -> Iterator[Refusal]:
    """What of a corpus's own settings is refused. `own` is the content of its file, sections nested."""
    shared = data / SETTINGS_FILE
    only = f"only the shared settings file {shared} may set this: move it there"
    section = ""
    for key, field in all_settings():
        said = declaration(field)
        found, value = _value(own, key)
        if not found or (section and key.startswith(f"{section}.")):
            continue
        if said.whose == "owner":
            section = key
            yield key, only
        elif said.cap and _raises(value, _cap(owner, key)):
            most = shown(_cap(owner, key))
            yield (
                key,
                f"{shown(value)} is more than {most}, the cap: lower it, or raise the cap in {shared}",
            )
        elif (refuse := _REFUSED.get(key)) and (why := refuse(value, owner, data)):
            yield key, f"{why}; {only}"


def _value(content: Mapping[str, object], key: str) -> tuple[bool, object]:
    """Whether a nested mapping has a dotted key, and its value."""
    here: object = content
    for part in key.split("."):
        if not isinstance(here, dict) or part not in here:
            return False, None
        here = here[part]
    return True, here


def _cap(owner: FineTuneConfig, key: str) -> float | None:
    value = settings_below(owner, key)[key]
    return value if isinstance(value, int | float) else None


def _raises(value: object, cap: float | None) -> bool:
    """Whether a value is beyond a cap; null is beyond any."""
    if cap is None:
        return False
    return value is None or (isinstance(value, int | float) and value > cap)


def _model(value: object, owner: FineTuneConfig, data: Path) -> str:
    """A corpus may choose among Anthropic's models, or those of the provider that the owner uses."""
    provider, colon, _ = str(value).partition(":")
    if not colon or provider == owner.qa.model.partition(":")[0]:
        return ""
    return f"{shown(value)} would send to {provider!r}, which the shared settings do not use"


def _base(value: object, owner: FineTuneConfig, data: Path) -> str:
    """A corpus may use a hub model, or a local folder that the owner keeps or names."""
    if not isinstance(value, str) or not value or "\0" in value or not is_local(value):
        return ""
    allowed = [data, *map(Path, owner.model.local_bases or [])]
    base = Path(value).expanduser().resolve()
    if value == owner.model.base or any(
        base.is_relative_to(each.expanduser().resolve()) for each in allowed
    ):
        return ""
    return f"{shown(value)} is outside the data folder and not in model.local_bases"


_REFUSED: dict[str, Callable[[object, FineTuneConfig, Path], str]] = {
    "qa.model": _model,
    "model.base": _base,
}
"""Settings of the corpus some of whose values are the owner's alone: why one is refused."""
