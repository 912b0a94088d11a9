"""Whether a base model can become a GGUF file, found before it is trained.

llama.cpp's converter writes the vocabulary alone (`--vocab-only`), which needs no weights. That shows what
would otherwise fail after the training: an architecture or pre-tokenizer that it does not know, a missing
`tokenizer.model`. What it wrote is opened and must give the tokenizer's own ids. It takes some ten
seconds; the verdict is kept in the tool cache, by the digest of the model's small files and the versions
of all that takes part.
"""

import hashlib
import json
import os
import re
import sys
import tempfile
from pathlib import Path

from ft_assets.children import here, python, restrict, run
from ft_assets.errors import StageError, UserError
from ft_assets.extras import missing
from ft_assets.files import hash_files
from ft_assets.stages.export.converter import ADVICE, CANNOT, reason_of, run_converter
from ft_assets.stages.export.llama_cpp import vocabulary_parity
from ft_assets.stages.job import Report
from ft_assets.stages.models.pinned_packages import (
    PINS,
    cache_folder,
    llama_cpp_folder,
    package_folder,
)
from ft_assets.stages.models.sealed import Origin, sealed_folder
from ft_assets.stages.models.tokenizer_cache import small_files

ROOM = "conversions"
"""The part of the tool cache that the verdicts are kept in."""
_FORM = "2"
"""To be counted up if what is tried changes."""
_VERDICT = "verdict.json"
_DIFFER = 3
_OF_THE_MACHINE = re.compile(
    r"(MemoryError|OSError|PermissionError|\w*ImportError|ModuleNotFoundError)\b"
)
"""Errors that say nothing of the model: no verdict is kept."""


def check_convertible(folder: Path, report: Report) -> None:
    """Raises UserError if the model in `folder`, whose weights may be missing, cannot become a GGUF file.

    If that cannot be found out on this machine, it only says so.
    """
    if names := missing("gguf"):
        why = f"the extra 'gguf' is not installed (no module {', '.join(names)})"
        report(f"not checked whether the base model can become a GGUF file: {why}")
        return
    try:
        llama_cpp_folder()
    except StageError as error:
        why = str(error).splitlines()[0]
        report(f"not checked whether the base model can become a GGUF file: {why}")
        return
    if refused := refusal(folder):
        raise UserError(f"export.gguf: {CANNOT} ({refused}): {ADVICE}")


def can_be_checked() -> bool:
    """Whether the check can run here without a network."""
    is_there = "FT_ASSETS_LLAMA_CPP" in os.environ or package_folder("llama-cpp-python").is_dir()
    return is_there and not missing("train") and not missing("gguf")


def refusal(folder: Path) -> str | None:
    """Why the model in `folder` cannot become a GGUF file; None if it can.

    Raises StageError if the verdict was changed in the cache, or the machine did not let it be found.
    """
    origin = _origin(folder)
    kept = cache_folder() / ROOM / hashlib.sha256(repr(origin).encode()).hexdigest()[:32]
    sealed_folder(kept, origin, lambda empty: _try(folder, empty))
    refused: str | None = json.loads((kept / _VERDICT).read_text())["refused"]
    return refused


def _origin(folder: Path) -> Origin:
    from importlib.metadata import version

    tools = ("transformers", "tokenizers", "llama-cpp-python")
    made_by = [f"{name} {version(name)}" for name in tools]
    made_by += [f"converter {_converter()}", f"form {_FORM}"]
    return Origin("conversion", ", ".join(made_by), hash_files(folder, small_files(folder)))


def _converter() -> str:
    """What tells one converter from another."""
    own = os.environ.get("FT_ASSETS_LLAMA_CPP")
    if not own:
        return PINS["llama-cpp-python"].sha256
    tree = here() / own
    return hash_files(tree, [*tree.glob("convert_hf_to_gguf.py"), *tree.glob("conversion/*.py")])


def _try(model: Path, empty: Path) -> None:
    """Writes the verdict on a model."""
    with tempfile.TemporaryDirectory(prefix="ft-assets-vocabulary-") as scratch:
        target = Path(scratch) / "vocabulary.gguf"
        done = run_converter(model, target, "--vocab-only")
        refused = reason_of(done.stderr) if done.returncode else None
        if done.returncode < 0 or (refused and _OF_THE_MACHINE.match(refused)):
            raise StageError(f"llama.cpp's converter could not run: {refused}")
        refused = refused or _parity(target, model)
    (empty / _VERDICT).write_text(json.dumps({"refused": refused}) + "\n")


def _parity(gguf: Path, model: Path) -> str | None:
    """What differs in the vocabulary, found in a process of its own: two llama.cpp libraries in one abort."""
    done = run("converter", python("ft_assets.stages.export.convertible", str(gguf), str(model)))
    if done.returncode not in (0, _DIFFER):
        raise StageError(f"llama.cpp could not open the vocabulary: {reason_of(done.stderr)}")
    return done.stdout.strip() if done.returncode else None


def main(gguf: Path, model: Path) -> int:
    """Compares the token ids of a vocabulary's file with those of a model's tokenizer."""
    from llama_cpp import Llama

    try:
        opened = Llama(str(gguf), vocab_only=True, verbose=False)
    except ValueError as error:
        print(f"llama.cpp cannot open its vocabulary: {error}")
        return _DIFFER
    try:
        is_equal, said = vocabulary_parity(opened, model)
    finally:
        opened.close()
    print(said)
    return 0 if is_equal else _DIFFER


if __name__ == "__main__":
    restrict("converter")
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
