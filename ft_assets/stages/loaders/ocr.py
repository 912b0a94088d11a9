"""OCR through the `ocrmypdf` program, which the user installs."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ft_assets.children import environment, launched, run
from ft_assets.errors import UserError
from ft_assets.stages.loaders.interface import UnreadableError

PROGRAM = "ocrmypdf"
_LAST_LINES = 3


def check_installed() -> None:
    """Raises UserError if `ocrmypdf` is not installed. Call it only if `data.loaders.ocr` is set."""
    if shutil.which(PROGRAM, path=environment("ocr").get("PATH")) is None:
        raise UserError(
            "data.loaders.ocr: the program ocrmypdf is not installed; install it (apt-get install "
            "ocrmypdf, or brew install ocrmypdf) with the languages of your documents, or set ocr "
            "to false"
        )


def version() -> str:
    """The version of the program."""
    done = run("ocr", launched("ocr", [PROGRAM, "--version"]))
    return done.stdout.strip() or done.stderr.strip()


@contextmanager
def text_layer(path: Path, scratch: Path) -> Iterator[Path]:
    """A temporary copy of a PDF with text on the pages that had none.

    The parser process waits for the program. At the time limit both are killed; the files that they
    leave are in `scratch`, where the caller removes them.
    """
    with tempfile.TemporaryDirectory(dir=scratch, ignore_cleanup_errors=True) as folder:
        output = Path(folder) / "with-text.pdf"
        command = [PROGRAM, "--skip-text", "--quiet", "--jobs", "1", "--output-type", "pdf"]
        done = run(
            "ocr",
            launched("ocr", [*command, str(path.absolute()), str(output)]),
            cwd=folder,
            OMP_THREAD_LIMIT="1",
            TMPDIR=folder,
        )
        if done.returncode or not output.exists():
            said = "; ".join(done.stderr.strip().splitlines()[-_LAST_LINES:]) or done.returncode
            raise UnreadableError(f"ocrmypdf failed on it ({said})", final=True)
        yield output
