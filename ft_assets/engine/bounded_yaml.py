"""YAML read within bounds: a settings file can neither hang nor fill this process.

PyYAML is a recursive composer over a flat parser. So the flat events are counted first: depth, nodes,
length of scalars. Then the composed graph is measured with its aliases expanded, which finds cycles and
alias bombs before anything walks through it.
"""

import re
from collections.abc import Iterator

import yaml

MAX_DEPTH = 20
MAX_NODES = 10_000
MAX_SCALAR = 100_000
MAX_DIGITS = 40
"""Digits of a number. Python refuses to read integers of more than 4,300 digits, with an error."""


_NUMBER = re.compile(r"[-+.:_\da-fA-FxX]+")


class Loader(yaml.SafeLoader):
    """PyYAML's safe loader, but `2e-4` is a number, as YAML 1.2 has it, and not a string."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


class UnreadableYAMLError(Exception):
    """Why a text cannot be read, and its line, counted from 1, if one is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


def read_yaml(text: str) -> tuple[yaml.Node | None, object]:
    """A YAML text as its node graph (None if it is empty) and as its content.

    Raises UnreadableYAMLError for whatever is wrong with it.
    """
    try:
        _count(text)
        node = yaml.compose(text, Loader=Loader)
        if node is not None:
            _measure(node)
        return node, yaml.load(text, Loader=Loader)  # noqa: S506 (a subclass of SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = getattr(error, "problem", None) or str(error)
        raise UnreadableYAMLError(what, mark.line + 1 if mark else None) from error
    except (ValueError, OverflowError, RecursionError) as error:
        # The constructors of dates and numbers let these through.
        raise UnreadableYAMLError(f"a value cannot be read ({error})") from error


def _count(text: str) -> None:
    """Raises UnreadableYAMLError for a text that is nested too deep, has too many nodes or too long values."""
    depth = nodes = 0
    for event in yaml.parse(text, Loader=Loader):
        line = event.start_mark.line + 1 if event.start_mark else None
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if isinstance(event, yaml.NodeEvent):
            nodes += 1
        if depth > MAX_DEPTH:
            raise UnreadableYAMLError(f"it is nested more than {MAX_DEPTH} levels deep", line)
        if nodes > MAX_NODES:
            raise UnreadableYAMLError(f"it has more than {MAX_NODES:,} values", line)
        if isinstance(event, yaml.ScalarEvent):
            if "\0" in event.value:
                raise UnreadableYAMLError("a value contains a NUL character", line)
            if len(event.value) > MAX_SCALAR:
                raise UnreadableYAMLError(f"a value has more than {MAX_SCALAR:,} characters", line)
            if not event.style and _NUMBER.fullmatch(event.value) and len(event.value) > MAX_DIGITS:
                raise UnreadableYAMLError(f"a value has more than {MAX_DIGITS} digits", line)


def _measure(root: yaml.Node) -> None:
    """Raises UnreadableYAMLError for a graph that contains itself, or that aliases blow up."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        if id(node) in open_nodes:
            raise UnreadableYAMLError(
                "an alias refers to the value that contains it", node.start_mark.line + 1
            )
        if id(node) not in sizes:
            open_nodes.add(id(node))
            sizes[id(node)] = 1 + sum(map(size, _below(node)))
            open_nodes.discard(id(node))
        if sizes[id(node)] > MAX_NODES:
            raise UnreadableYAMLError(
                f"with its aliases it has more than {MAX_NODES:,} values", node.start_mark.line + 1
            )
        return sizes[id(node)]

    size(root)


def _below(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for pair in node.value:
            yield from pair
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value
