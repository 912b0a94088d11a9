"""llama.cpp's converters, which write GGUF files of Hugging Face folders and of PEFT adapters.

Each runs in a process of its own, by this module: `python -P -m ft_assets.stages.export.converter SCRIPT MODEL
NAME ARGUMENT…`. What it must be told of the tokenizer (`converter_input.py`) is found out there too: a converter
imports transformers and torch anyway, and the caller need not.
"""

import os
import re
import runpy
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ft_assets.children import environment, python, restrict, run
from ft_assets.errors import StageError, UserError
from ft_assets.stages.export.converter_input import converter_input
from ft_assets.stages.models.mtp import lacks_mtp_head
from ft_assets.stages.models.pinned_packages import llama_cpp_folder
from ft_assets.stages.models.tokenizer import tokenizer_of

if TYPE_CHECKING:
    import subprocess

CANNOT = "llama.cpp cannot convert the model to GGUF"
ADVICE = "set export.gguf to [] to train without GGUF files, or choose another model.base"
_MODEL, _NAME = "{model}", "{name}"
"""Arguments that stand for the folder that a converter should see, and for the model's name in the file."""
_NO_MTP_FLAG = "are not supported for"
"""What the converter says of `--no-mtp` if it knows nothing of such a head in a family."""


def convert(model: Path, target: Path, kind: str, name: str) -> None:
    """Converts a Hugging Face folder to a GGUF file of the type f32, f16 or bf16.

    `name` is the model's name in the file. Raises StageError with the converter's reason if it cannot.
    """
    done = run_converter(model, target, "--outtype", kind, name=name)
    if done.returncode:
        raise StageError(f"{CANNOT} ({reason_of(done.stderr)}): {ADVICE}")


def run_converter(
    model: Path, target: Path, *options: str, name: str = "model"
) -> "subprocess.CompletedProcess[str]":
    """Runs llama.cpp's converter on a Hugging Face folder; its log is in the standard error.

    `name` is the model's name in the file.
    """
    arguments = [_MODEL, "--outfile", str(target.absolute()), "--model-name", _NAME, *options]
    script = "convert_hf_to_gguf.py"
    done = run_script(
        script, model, [*arguments, *(["--no-mtp"] if lacks_mtp_head(model) else [])], name
    )
    if done.returncode and _NO_MTP_FLAG in done.stderr:
        done = run_script(script, model, arguments, name)
    return done


def run_lora_converter(
    model: Path, adapter: Path, target: Path
) -> "subprocess.CompletedProcess[str]":
    """Runs llama.cpp's converter on the folder of a PEFT adapter; its log is in the standard error.

    `model` is the Hugging Face folder of its base model, whose weights are not read.
    """
    arguments = [str(adapter.absolute()), "--base", _MODEL, "--outfile", str(target.absolute())]
    return run_script("convert_lora_to_gguf.py", model, arguments)


def run_script(
    script: str, model: Path, arguments: list[str], name: str = "model"
) -> "subprocess.CompletedProcess[str]":
    """Runs one of llama.cpp's Python scripts.

    Raises StageError if the llama.cpp in use has no such script.
    """
    path = llama_cpp_folder() / script
    if not path.is_file():
        raise StageError(f"there is no {script} in {path.parent}")
    # The script imports modules from its own folder, which -P removes from the path. Bytecode files
    # beside it would break its seal, which lists every file.
    folders = os.pathsep.join([str(path.parent), environment("converter")["PYTHONPATH"]])
    command = python(
        "ft_assets.stages.export.converter", str(path), str(model.absolute()), name, *arguments
    )
    return run(
        "converter",
        command,
        PYTHONPATH=folders.strip(os.pathsep),
        PYTHONDONTWRITEBYTECODE="1",
    )


_LOG = re.compile(r"(INFO|WARNING|ERROR|CRITICAL):[\w.-]+:")
_BARE = re.compile(r"[\w.]+Error")


def reason_of(log: str) -> str:
    """Why the converter failed, in one line: the end of its log, and the line of code of a bare assertion."""
    lines = [line.strip() for line in log.splitlines() if line.strip(" ^~")]
    last = _LOG.sub("", lines[-1]).strip() if lines else "no message"
    return f"{last} at: {lines[-2]}" if _BARE.fullmatch(last) and len(lines) > 1 else last


def _name_in_file(model: Path, name: str) -> str:
    """The name with what llama.cpp must know of a tokenizer and takes from the model's name alone.

    Special tokens of Phi-3 take the white space after them. llama.cpp strips it if the model's name has
    `phi3` in it, as it had under its publisher's name.
    """
    added = tokenizer_of(model).added_tokens_decoder.values()
    strips = any(token.special and token.rstrip for token in added)
    return f"{name} (phi3)" if strips and "phi3" not in name.lower() else name


def main(script: str, model: Path, name: str, arguments: list[str]) -> None:
    """Runs a script of llama.cpp in this process, as if it had been started by itself."""
    restrict("converter")
    try:
        said = {_NAME: _name_in_file(model, name)}
        with converter_input(model) as folder:
            said[_MODEL] = str(folder.absolute())
            sys.argv = [script, *(said.get(each, each) for each in arguments)]
            runpy.run_path(script, run_name="__main__")
    except UserError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
