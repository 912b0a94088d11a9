"""One file of a package, from wherever pip would take it: `python -m ft_assets.stages.models.pip_fetch`.

`pip download` of a source distribution runs its build backend, to learn what it depends on. This uses
pip's own settings, index pages and connections (index addresses, find-links, proxies, certificates,
credentials) to find the file, writes it down, and neither unpacks nor builds anything. It imports
parts of pip that are private to it, all of them unchanged since pip 20; for the same reason it runs in
a process of its own.

Arguments: a package's name, its version, the sha256 of the file, `wheel` or `sdist`, and where to put
it. The hash is checked here too; nothing is written that does not have it.
"""

import hashlib
import sys
from importlib import import_module
from pathlib import Path
from typing import Any


def fetch(name: str, version: str, sha256: str, form: str, target: Path) -> None:
    """Writes the file of `name==version` that has this sha256 to `target`.

    Raises SystemExit with a message if pip does not find it.
    """
    command: Any = import_module("pip._internal.commands").create_command("download")
    only = "--only-binary" if form == "wheel" else "--no-binary"
    options, _ = command.parse_args(["--no-deps", only, name, f"{name}=={version}"])
    with command.main_context():
        session = command._build_session(options)
        link = _link(command._build_package_finder(options, session), name, version, sha256)
        reply = session.get(link.url_without_fragment, headers={"Accept-Encoding": "identity"})
        reply.raise_for_status()
        content: bytes = reply.content
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SystemExit(f"{link.filename} does not have the pinned hash: it was not kept")
    target.write_bytes(content)


def _link(finder: Any, name: str, version: str, sha256: str) -> Any:
    """The link to the file with this hash, or to the one that pip prefers if links have no hashes."""
    specifiers: Any = import_module("pip._vendor.packaging.specifiers")
    hashes: Any = import_module("pip._internal.utils.hashes").Hashes({"sha256": [sha256]})
    found = finder.find_best_candidate(name, specifiers.SpecifierSet(f"=={version}"), hashes)
    if found.best_candidate is None:
        raise SystemExit(f"no file of {name}=={version} has the pinned hash, or none was found")
    return found.best_candidate.link


if __name__ == "__main__":
    _name, _version, _sha256, _form, _target = sys.argv[1:]
    fetch(_name, _version, _sha256, _form, Path(_target))
