"""OCR through the `ocrmypdf` program, which the user installs."""

import shutil
import subprocess
from pathlib import Path

from ft_assets.errors import UserError
from ft_assets.stages.loaders import UnreadableError

PROGRAM = "ocrmypdf"
_LAST_LINES = 3


def check_installed() -> None:
    """Raises UserError where `data.loaders.ocr` is set and there is nothing to do it with."""
    if shutil.which(PROGRAM) is None:
        raise UserError(
            "data.loaders.ocr: the program ocrmypdf is not installed; install it (apt-get install "
            "ocrmypdf, or brew install ocrmypdf) with the languages of your documents, or set ocr "
            "to false"
        )


def version() -> str:
    """The version of the program."""
    done = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or done.stderr.strip()


def add_text_layer(path: Path, scratch: Path) -> Path:
    """A copy of a PDF in `scratch` with text on the pages that had none.

    The parser process waits for it, and both are killed when their time is up.
    """
    output = scratch / "with-text.pdf"
    command = [PROGRAM, "--skip-text", "--quiet", "--jobs", "1", "--output-type", "pdf"]
    done = subprocess.run(
        [*command, str(path), str(output)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        cwd=scratch,
        env=_environment(scratch),
    )
    if done.returncode or not output.exists():
        said = "; ".join(done.stderr.strip().splitlines()[-_LAST_LINES:]) or done.returncode
        raise UnreadableError(f"ocrmypdf failed on it ({said})", final=True)
    return output


def _environment(scratch: Path) -> dict[str, str]:
    """One thread, and temporary files where they are cleared away even if it is killed."""
    import os

    return {**os.environ, "OMP_THREAD_LIMIT": "1", "TMPDIR": str(scratch)}
