"""The process that renders templates which others wrote: `python -P -m ft_assets.stages.templates.process`.

It reads requests from its standard input and writes answers to its standard output, each as eight
bytes of length and JSON. A request names a kind of work, what all of its pieces share, and the pieces.
Each piece may take so much CPU time and memory: one that takes more ends this process, and the file
whose number is its argument then says which piece that was. It imports jinja2, and neither
transformers nor anything else that would make it big.
"""

import json
import os
import struct
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import lru_cache, partial
from typing import IO, TYPE_CHECKING, Any

from ft_assets.children import limit_cpu, limit_memory, restrict
from ft_assets.stages.templates.answers import Answers
from ft_assets.stages.templates.reasoning_place import Place

if TYPE_CHECKING:
    from jinja2 import Template
    from jinja2.sandbox import ImmutableSandboxedEnvironment

CPU_SECONDS = 3
MEMORY = 512 << 20
MOST_CHARACTERS = 1_000_000
"""What a template may write of its own accord around what it is given."""
NO_MEMORY = 3
"""The exit code after a piece that needs more than MEMORY."""

_LENGTH = struct.Struct(">Q")
_PLACE = struct.Struct(">q")
_MEMORY_BY_BYTE = 16
"""Bytes of memory that a byte of a request may take: a row may be a whole book."""
_GROWTH = 10
_FLUSHED = 1 << 20

Answer = dict[str, Any]
"""What came of a piece: `text`, `rows` and more; or `error`, or `harm` for one beyond a limit."""


def send(to: IO[bytes], content: bytes) -> None:
    """Writes one message."""
    left = memoryview(_LENGTH.pack(len(content)) + content)
    while left:
        left = left[to.write(left) :]
    to.flush()


def receive(of: IO[bytes]) -> bytes | None:
    """Reads one message; None once the other end is gone."""
    head = _read(of, _LENGTH.size)
    return _read(of, _LENGTH.unpack(head)[0]) if head else None


def _read(of: IO[bytes], size: int) -> bytes | None:
    parts: list[bytes] = []
    while size:
        parts.append(of.read(size))
        if not parts[-1]:
            return None
        size -= len(parts[-1])
    return b"".join(parts)


def place_in(file: int) -> int:
    """The number of the piece that the process is at; -1 before the first."""
    return int(_PLACE.unpack(os.pread(file, _PLACE.size, 0))[0])


def put_place(file: int, place: int) -> None:
    """Notes the piece that is next."""
    os.pwrite(file, _PLACE.pack(place), 0)


def pack(value: object) -> bytes:
    """A value as JSON. Text may hold halves of surrogate pairs, as strings of Python may."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _chat_environment() -> "ImmutableSandboxedEnvironment":
    """The sandbox that transformers compiles a chat template in, addition by addition."""
    from jinja2 import TemplateError, nodes, pass_eval_context
    from jinja2.exceptions import SecurityError
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Generation(Extension):
        """The tag with which transformers finds the assistant's words; here it does nothing."""

        tags = {"generation"}  # noqa: RUF012 (as jinja2 declares it)

        def parse(self, parser: Parser) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            call = self.call_method("_said")
            return nodes.CallBlock(call, [], [], body).set_lineno(line)

        @pass_eval_context
        def _said(self, context: nodes.EvalContext, caller: Callable[[], str]) -> str:
            return caller()

    def refuse(message: str) -> None:
        raise TemplateError(message)

    def to_json(
        value: Any,
        ensure_ascii: bool = False,
        indent: Any = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(
            value,
            ensure_ascii=ensure_ascii,
            indent=indent,
            separators=separators,
            sort_keys=sort_keys,
        )

    class Dict:
        """`dict` without its attributes."""

        def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
            return dict(*args, **kwargs)

        def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
            return dict.fromkeys(*args, **kwargs)

    class OpenNamespace(Namespace):
        """A namespace without attributes that begin with an underscore."""

        def __init__(*args: Any, **kwargs: Any) -> None:
            self, given = args[0], dict(*args[1:], **kwargs)
            for name in given:
                OpenNamespace._check(name)
            Namespace.__init__(self, given)

        def __setitem__(self, name: str, value: Any) -> None:
            OpenNamespace._check(name)
            Namespace.__setitem__(self, name, value)

        @staticmethod
        def _check(name: Any) -> None:
            if isinstance(name, str) and name.startswith("_"):
                raise SecurityError(
                    "Chat templates cannot store underscore-prefixed attributes on a namespace, but "
                    f"got {name!r}. Please rename the attribute."
                )

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = to_json
    environment.globals.update(
        raise_exception=refuse,
        strftime_now=lambda form: datetime.now().strftime(form),
        dict=Dict(),
        namespace=OpenNamespace,
    )
    return environment


@lru_cache(maxsize=16)
def _compiled(chat_template: str) -> "Template":
    return _chat_environment().from_string(chat_template)


def _render(
    common: dict[str, Any], messages: list[Any], generate: bool, tools: list[Any] | None = None
) -> str:
    return _compiled(common["template"]).render(
        messages=messages,
        tools=tools,
        documents=None,
        add_generation_prompt=generate,
        **common["tokens"],
    )


def _messages(common: dict[str, Any], piece: Any) -> Answer:
    """A conversation rendered once."""
    return {"text": _render(common, piece["messages"], piece["generate"])}


def _rows(common: dict[str, Any], piece: Any) -> Answer:
    """The rows of a conversation: see `Answers.rows`."""
    place = Place(common["way"])
    most = common["most_characters"]
    return Answers(partial(_render, common), str(common["stop"]), most, place).rows(piece)


def _fields(common: dict[str, Any], text: Any) -> Answer:
    """The names that a template leaves open, and what it renders a few words in them to, if it can."""
    from jinja2 import meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment()
    fields = sorted(meta.find_undeclared_variables(environment.parse(text)))
    said = ""
    for words in ("a few words", ""):
        try:
            said += _chat_environment().from_string(text).render(dict.fromkeys(fields, words))
        except MemoryError:
            raise
        except Exception:  # noqa: S112 (one that fails is harmless, and said when rows are rendered)
            continue
    return {"fields": fields, "tried": said}


def _prompt(common: dict[str, Any], text: Any) -> Answer:
    """A prompt file rendered."""
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    return {"text": environment.from_string(text).render(**common)}


_KINDS: dict[str, Callable[[dict[str, Any], Any], Answer]] = {
    "messages": _messages,
    "rows": _rows,
    "fields": _fields,
    "prompt": _prompt,
}


def _done(kind: str, common: dict[str, Any], piece: Any, room: int) -> Answer:
    """What came of a piece, whose text may have so many characters."""
    try:
        answer = _KINDS[kind](common, piece)
    except MemoryError:
        os._exit(NO_MEMORY)  # what is left of the memory is in pieces
    except Exception as error:  # a template raises whatever its expressions do
        return {"error": str(error), "line": getattr(error, "lineno", None)}
    size = sum(len(value) for value in answer.values() if isinstance(value, str))
    size += sum(len(text) for row in answer.get("rows") or () for text in row["pieces"])
    return {"harm": f"writes {size:,} characters"} if size > room else answer


def _answers(content: bytes, file: int) -> Iterator[Answer]:
    request = json.loads(content)
    room = MOST_CHARACTERS + _GROWTH * len(content)
    for place, piece in enumerate(request["pieces"]):
        put_place(file, place)
        limit_cpu(CPU_SECONDS)
        yield _done(request["kind"], request["common"], piece, room)


def main() -> None:
    """Answers requests until nobody is left who asks."""
    restrict("template")
    import jinja2.sandbox  # noqa: F401

    file = int(sys.argv[1])
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    while (content := receive(requests)) is not None:
        limit_memory(MEMORY + _MEMORY_BY_BYTE * len(content))
        waiting: list[bytes] = []
        size = 0
        for answer in _answers(content, file):
            waiting.append(pack(answer))
            size += len(waiting[-1])
            if size > _FLUSHED:
                send(answers, b"[" + b",".join(waiting) + b"]")
                waiting, size = [], 0
        send(answers, b"[" + b",".join(waiting) + b"]")


if __name__ == "__main__":
    main()
