"""The fake model: the same request always gets the same answer.

It answers with JSON that fits the schema. If the schema asks for evidence, it copies a sentence of the
fenced document word for word. A gullible model obeys orders outside the fence.
"""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Maker = Callable[[str, dict[str, Any], int], Any]
"""Makes the value of an answer from (prompt, schema, count of items)."""

OPENING = re.compile(r"<([A-Za-z][\w.:-]*)[^<>]*>")
SENTENCE = re.compile(r"[^\n.!?]*[^\n.!?\s][^\n.!?]*(?:[.!?]+(?=\s|$)|(?=\n|$)|[.!?])")
ORDER = re.compile(
    r"\b(?:ignore|disregard|forget)\s+(?:all\s+|everything\s+|what\s+is\s+)?(?:the\s+|your\s+)?"
    r"(?:above|previous|prior|earlier)[^\n]{0,80}?[,.;:\s]\s*(?:and\s+)?"
    r"(?:answer|say|reply|respond|write|output)(?:\s+(?:only|with|just))*\s*:?\s*"
    r"[\"“'`]?([^\n\"”`<]{1,80})",
    re.IGNORECASE,
)
COUNTS = re.compile(
    r"(?:minItems|maxItems|exactly|count)\W{1,3}(\d+)|\b(\d+)\s+(?:question|pair|item)", re.I
)
DEFAULT_COUNT = 3


def digest_of(*parts: object) -> int:
    """A number that depends only on the parts."""
    said = json.dumps(parts, sort_keys=True, default=str).encode()
    return int.from_bytes(hashlib.sha256(said).digest()[:8])


@dataclass
class Fenced:
    """A prompt, split into the fenced document and the text around it."""

    document: str
    around: str


def part(prompt: str, tag: str | None = None, last: bool = False) -> Fenced:
    """Splits a prompt at its fence: the longest block between matching tags (whose name matches `tag`).

    The first closing tag ends a block, so a document that contains one escapes; with `last`, the last
    closing tag ends it.
    """
    best = (0, 0)
    for opening in OPENING.finditer(prompt):
        if tag is not None and not re.fullmatch(tag, opening[1]):
            continue
        closing = f"</{opening[1]}>"
        find = prompt.rfind if last else prompt.find
        end = find(closing, opening.end())
        if end - opening.end() > best[1] - best[0]:
            best = (opening.end(), end)
    start, end = best
    if (start, end) == (0, 0):
        return Fenced(prompt, "")
    return Fenced(prompt[start:end], prompt[:start] + prompt[end:])


def sentences_of(text: str) -> list[str]:
    """The sentences of a text, word for word."""
    found = [match[0].strip() for match in SENTENCE.finditer(text)]
    telling = [sentence for sentence in found if len(sentence) >= 20]
    return telling or found or [text.strip()[:200] or "nothing"]


def count_asked(prompt: str, schema: dict[str, Any]) -> int:
    """How many items the schema's descriptions or the prompt ask for."""
    for text in (json.dumps(schema), prompt):
        if match := COUNTS.search(text):
            return int(match[1] or match[2])
    return DEFAULT_COUNT


@dataclass
class Answerer:
    """Creates answers; `obeyed` lists the orders that a gullible model has followed."""

    tag: str | None = None
    gullible: str = ""
    """`outside`: obeys orders around the fence, which ends at its last closing tag. `closed`: the fence
    ends at the first closing tag, so a document that contains one is obeyed."""
    maker: Maker | None = None
    obeyed: list[str] = field(default_factory=list)

    def answer(self, prompt: str, schema: dict[str, Any] | None) -> Any:
        """The value of the answer: JSON for a schema, a text without one."""
        fenced = part(prompt, self.tag, last=self.gullible != "closed")
        schema = schema or {"type": "string"}
        count = count_asked(fenced.around, schema)
        if order := self._order(fenced.around):
            self.obeyed.append(order)
            return _Filler(schema, [order], prompt, count).fill(schema, "", 0)
        if self.maker:
            return self.maker(prompt, schema, count)
        sentences = sentences_of(fenced.document)
        return _Filler(schema, sentences, prompt, count).fill(schema, "", 0)

    def _order(self, around: str) -> str | None:
        match = ORDER.search(around) if self.gullible else None
        return match[1].strip() if match else None


class _Filler:
    """Fills a schema from sentences."""

    def __init__(self, schema: dict[str, Any], sentences: list[str], prompt: str, count: int):
        self.root = schema
        self.sentences = sentences
        self.prompt = prompt
        self.count = count
        self.start = digest_of(prompt) % len(sentences)

    def fill(self, schema: dict[str, Any], name: str, place: int) -> Any:
        """A value that fits the schema; `place` is the item's number in its list."""
        if "$ref" in schema:
            return self.fill(self._definition(schema["$ref"]), name, place)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            return schema["enum"][digest_of(self.prompt, name, place) % len(schema["enum"])]
        for combined in ("anyOf", "allOf"):
            if combined in schema:
                return self.fill(schema[combined][0], name, place)
        kind = schema["type"]
        return self._of_kind(kind if isinstance(kind, str) else kind[0], schema, name, place)

    def _definition(self, reference: str) -> dict[str, Any]:
        found = self.root
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]
        return found

    def _of_kind(self, kind: str, schema: dict[str, Any], name: str, place: int) -> Any:
        if kind == "object":
            properties = schema.get("properties", {})
            return {key: self.fill(inner, key, place) for key, inner in properties.items()}
        if kind == "array":
            items = schema.get("items", {"type": "string"})
            return [self.fill(items, name, place) for place in range(self.count)]
        if kind == "string":
            return self._text(name, place)
        values: dict[str, Any] = {"integer": place + 1, "number": float(place), "boolean": True}
        return values.get(kind)

    def _text(self, name: str, place: int) -> str:
        sentence = self.sentences[(self.start + place) % len(self.sentences)]
        if "question" in name:
            about = " ".join(sentence.split()[:6]).rstrip(".!?,;:")
            return f"What is known of “{about}”?"
        return sentence
