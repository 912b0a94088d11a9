"""py3langid's model of languages, unpacked once.

Its package holds it compressed; unpacking takes 0.4 CPU seconds, most of what a parser host costs. So
it is kept unpacked (50 MB, no pickles) in the tool cache, sealed and checked as all that is there.
"""

import json
from pathlib import Path
from typing import Any

from ft_assets.errors import StageError
from ft_assets.stages.models.pinned_packages import cache_folder
from ft_assets.stages.models.sealed import Origin, sealed_folder

ROOM = "languages"
"""The part of the tool cache that it is kept in."""
_CLASSES = "classes.json"
_ARRAYS = ("ptc", "pc", "nextmove", "row", "output")


def language_identifier() -> Any:
    """py3langid's identifier of languages.

    If the cache cannot be written, or was changed, the model is read from the package instead.
    """
    from importlib.metadata import version

    origin = Origin("py3langid", version("py3langid"), "model")
    folder = cache_folder() / ROOM / f"{origin.name}-{origin.version}"
    try:
        return _identifier(sealed_folder(folder, origin, _unpack))
    except (StageError, OSError):
        return _from_package()


def _from_package() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _unpack(folder: Path) -> None:
    import numpy as np

    model = _from_package()
    parts = (model.nb_ptc, model.nb_pc, model.tk_nextmove, model.tk_row, model.tk_output)
    for name, part in zip(_ARRAYS, parts, strict=True):
        np.save(folder / f"{name}.npy", np.asarray(part), allow_pickle=False)
    (folder / _CLASSES).write_text(json.dumps(model.nb_classes))


def _identifier(folder: Path) -> Any:
    """The identifier as py3langid makes it, but that its two large tables are mapped, not read."""
    import numpy as np
    from py3langid.langid import LanguageIdentifier

    ptc, pc, nextmove, row, output = (
        np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS
    )
    classes = json.loads((folder / _CLASSES).read_text())
    # What is looked up number by number is no array: numpy's numbers are slow one by one.
    moves, rows, outputs = nextmove.data, row.tolist(), output.tolist()
    return LanguageIdentifier(
        np.asarray(ptc), np.array(pc), classes, moves, outputs, norm_probs=True, tk_row=rows
    )
