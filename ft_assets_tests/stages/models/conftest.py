"""Parts that tests of models share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ft_assets_tests.stages.models.package_index import PackageIndex, serve


@pytest.fixture
def package_index(tmp_path: Path) -> Iterator[PackageIndex]:
    with serve(tmp_path / "something-was-run") as index:
        yield index
