"""The unpacked model of languages says what the package's own says, and a changed one is not used."""

from pathlib import Path

import numpy as np
import pytest

from ft_assets.stages.models.pinned_packages import cache_folder
from ft_assets.stages.models.sealed import damage
from ft_assets.stages.models.sealed_cache import remove_damaged
from ft_assets.stages.parsing import languages
from ft_assets.stages.parsing.languages import language_identifier
from ft_assets_tests.conftest import own_cache

TEXTS = (
    "The ferry leaves the north quay at six, and its captain keeps a goat.",
    "Die Fähre legt um sechs am Nordkai ab, und ihr Kapitän hält eine Ziege.",
    "Le bac quitte le quai nord à six heures; son capitaine élève une che\u0301vre.",
    "Паром отходит от северного причала в шесть, у капитана есть коза.",
    "渡し船は六時に北の埠頭を出て、船長は山羊を飼っている。",
    "HOLA, QUE TAL",
    "x",
    "",
)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the model is kept: in a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(own_cache(tmp_path / "cache")))
    language_identifier()
    [folder] = (cache_folder() / "languages").iterdir()
    return folder


def _said() -> list[tuple[str, float]]:
    return [language_identifier().classify(text) for text in TEXTS]


def test_it_says_what_the_packages_own_says(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = languages._from_package()
    monkeypatch.delattr(languages, "_from_package")  # so the cache is what is used
    assert damage(kept) is None
    assert _said() == [own.classify(text) for text in TEXTS]


def test_a_changed_one_is_not_used_but_named_and_removed(kept: Path) -> None:
    expected = _said()
    prior = np.load(kept / "pc.npy")
    np.save(kept / "pc.npy", prior[::-1].copy())
    assert _said() == expected
    assert kept in [folder for folder, _ in remove_damaged()]
    assert _said() == expected
    assert damage(kept) is None


def test_without_room_for_it_the_packages_own_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert _said()[0][0] == "en"
