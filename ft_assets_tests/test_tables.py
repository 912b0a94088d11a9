"""How pyarrow is loaded for our tables."""

import subprocess
import sys

_LEAN = """
import os, sys
from ft_assets.tables import load_lean_pyarrow
load_lean_pyarrow()
import pyarrow as pa
table = pa.table({"goat": ["Biscuit"]})
assert "pandas" not in sys.modules and "OPENBLAS_NUM_THREADS" not in os.environ
assert pa.repeat("x", 2).to_pylist() == ["x", "x"]
assert table.to_pandas()["goat"][0] == "Biscuit"
assert pa.array(__import__("pandas").Series([1, 2])).to_pylist() == [1, 2]
"""


def test_pandas_is_imported_for_those_who_ask_for_it_alone() -> None:
    subprocess.run([sys.executable, "-c", _LEAN], check=True)
