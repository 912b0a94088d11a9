"""PDF extraction on real books that their publisher gives as text too: is it right, and what does it cost.

The books are Debian packages, fetched with `apt-get download` and unpacked into a temporary folder.
Right is measured by word F1: both texts as multisets of words. The cost is CPU time of a process that
reads all books, once with our loaders (the pool's start and its processes included) and once with
LangChain's PyPDFLoader, each with the imports that it needs.
"""

import gzip
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from ft_assets.config import LoaderSettings

BOOKS = {
    "debian-faq": ("debian-faq", "debian-faq.en"),
    "maint-guide": ("maint-guide", "maint-guide.en"),
    "developers-reference": ("developers-reference", "developers-reference"),
    "debian-policy": ("debian-policy", "policy"),
    "fhs": ("debian-policy", "fhs-3.0"),
    "debian-reference": ("debian-reference-en", "debian-reference.en"),
}
"""The package of each book, and the name of its PDF and TXT files."""
ONLY_PDF = {"octave-doc": "octave.pdf", "gnuplot-doc": "gnuplot.pdf", "r-doc-pdf": "R-*.pdf"}
"""Packages with books in PDF alone, and these: more pages for the speed."""
_SETTINGS = LoaderSettings().model_dump()
_ROUNDS = 3


def _fetch(package: str, folder: Path) -> Path:
    """Unpacks a Debian package, and its compressed files."""
    unpacked = folder / package
    if not unpacked.exists():
        subprocess.run(["apt-get", "download", "-qq", package], cwd=folder, check=True)
        [archive] = folder.glob(f"{package}_*.deb")
        subprocess.run(["dpkg-deb", "-x", str(archive), str(unpacked)], check=True)
        for path in unpacked.rglob("*.gz"):
            if path.is_file():
                path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    return unpacked


def _words(text: str) -> Counter[str]:
    return Counter(re.findall(r"\w+", text.casefold()))


def _f1(text: str, publisher: str) -> dict[str, float]:
    """Word F1, and recall: some PDFs print more than their text has, such as the targets of links."""
    ours, theirs = _words(text), _words(publisher)
    both = (ours & theirs).total()
    return {
        "f1": round(2 * both / (ours.total() + theirs.total()), 4),
        "recall": round(both / theirs.total(), 4),
    }


_OURS = """
import json, sys, tempfile
from pathlib import Path
from ft_assets.config import LoaderSettings
from ft_assets.records import Document
from ft_assets.tables import from_rows
from ft_assets.stages.parsing.pool import parse_files
from ft_assets.stages.parsing.files import Task
from ft_assets.stages.parsing.row_spool import spooled_rows
settings = LoaderSettings(**json.loads(sys.argv[1]))
files, output = sys.argv[2:-1], sys.argv[-1]
texts = {}
with tempfile.TemporaryDirectory() as scratch:
    tasks = [Task(Path(file), "pdf", settings, Path(scratch)) for file in files]
    for task, parsed in parse_files(tasks):
        rows = spooled_rows(str(parsed.text_id), parsed.batches["documents"], Document)
        texts[str(task.path)] = [row.text for row in from_rows(rows, Document)]
Path(output).write_text(json.dumps(texts))
"""
_PEER = """
import json, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
from langchain_community.document_loaders import PyPDFLoader
files, output = sys.argv[2:-1], sys.argv[-1]
texts = {file: [page.page_content for page in PyPDFLoader(file).load()] for file in files}
Path(output).write_text(json.dumps(texts))
"""


def _read(code: str, files: list[str], output: Path) -> tuple[dict[str, list[str]], float]:
    """The texts of the pages of each file, and the CPU seconds of it all, children included."""
    timed = (
        "import os, sys, subprocess\n"
        "subprocess.run([sys.executable, '-c', *sys.argv[1:]], check=True)\n"
        "print(sum(os.times()[2:4]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", timed, code, json.dumps(_SETTINGS), *files, str(output)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return json.loads(output.read_text()), float(done.stdout.split()[-1])


def extraction() -> dict[str, Any]:
    """Word F1 on each book, and pages a CPU second, ours against pypdf and LangChain's loader."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        books = {}
        for book, (package, name) in BOOKS.items():
            unpacked = _fetch(package, folder)
            [pdf] = [p for p in unpacked.rglob(f"{name}.pdf") if not p.is_symlink()]
            [text] = [p for p in unpacked.rglob(f"{name}.txt") if not p.is_symlink()]
            books[book] = (str(pdf), text.read_text(errors="replace"))
        more = [
            str(path)
            for package, books_of in ONLY_PDF.items()
            for path in _fetch(package, folder).rglob(books_of)
            if not path.is_symlink()
        ]
        files = [pdf for pdf, _ in books.values()] + sorted(more)
        seconds: dict[str, list[float]] = {"ours": [], "peer": []}
        for _ in range(_ROUNDS):
            ours, cost = _read(_OURS, files, folder / "ours.json")
            seconds["ours"].append(cost)
            peer, cost = _read(_PEER, files, folder / "peer.json")
            seconds["peer"].append(cost)
    pages = sum(map(len, ours.values()))
    best = {who: min(costs) for who, costs in seconds.items()}
    ratios = [theirs / own for own, theirs in zip(seconds["ours"], seconds["peer"], strict=True)]
    return {
        "word_f1": {
            book: {
                "ours": _f1("\n\n".join(ours[pdf]), text),
                "pypdf": _f1("\n\n".join(peer[pdf]), text),
                "pages": len(ours[pdf]),
            }
            for book, (pdf, text) in books.items()
        },
        "pages": pages,
        "ours_pages_a_cpu_s": round(pages / best["ours"], 1),
        "langchain_pypdfloader_pages_a_cpu_s": round(pages / best["peer"], 1),
        "ratio": round(sorted(ratios)[len(ratios) // 2], 2),
    }
