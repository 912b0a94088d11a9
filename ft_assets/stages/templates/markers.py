"""The texts that mark a turn, and how they are kept out of what people write.

A document may hold `<|im_end|>` or a line `### Response:`. Rendered as it is, it would end a turn
and begin another. So a space is put after a marker's first character: `< |im_end|>`,
`# ## Response:`. A reader sees it and undoes it by eye, and it holds wherever the rendered text is
searched for special tokens again, as llama.cpp and Ollama do; encoding contents apart would not.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

_MARKS = ("@@SYSTEM@@", "@@USER@@", "@@INPUT@@", "@@ASSISTANT@@", "@@REASONING@@")
_MARK = re.compile("|".join(_MARKS))
_SYSTEM_MARK, QUESTION_MARK, _INPUT_MARK, ANSWER_MARK, REASONING_MARK = _MARKS
_BRACKETED = re.compile(r"<[^<>\n]{1,60}>|\[[^\[\]\n]{1,60}\]")
_BREAKS = r"\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029"
_INVISIBLE = r"\u00ad\u200b-\u200f\u2060-\u2064\ufeff"
_BLANKS = rf"(?:[^\S{_BREAKS}]|[{_INVISIBLE}])*"
_LINE_START = rf"(?:^|(?<=[{_BREAKS}])){_BLANKS}"

_SYSTEM = {"role": "system", "content": _SYSTEM_MARK}
_TURN = [
    {"role": "user", "content": QUESTION_MARK, "input": _INPUT_MARK},
    {"role": "assistant", "content": ANSWER_MARK},
]
PROBES = [[_SYSTEM, *_TURN, *_TURN], [*_TURN, *_TURN], _TURN]
"""Conversations of marks: what a template writes around the marks is its own. The later ones are
for templates that refuse a system message or a second question."""


def rendered_probes(render: Callable[[list[dict[str, str]], bool], str]) -> list[str]:
    """A conversation of marks, with its last answer and without; none where all are refused.

    `render` takes messages and whether to begin an answer.
    """
    for probe in PROBES:
        try:
            return [render(probe, False), render(probe[:-1], True)]
        except Exception:  # noqa: S112 (a template refuses with whatever it raises)
            continue
    return []


def escape_for(
    special: Iterable[str], others: Iterable[str], chat_template: str, probes: list[str]
) -> "Escape":
    """The escape for a tokenizer and a template, which renders `PROBES` to `probes`.

    `special` are the tokens that no text may hold, `others` are added tokens that are ordinary text
    unless the template writes them.
    """
    template = chat_template + "".join(probes)
    used = [token for token in others if token in template and _BRACKETED.fullmatch(token)]
    pieces = (piece for text in probes for piece in _MARK.split(text))
    lines = (line.strip() for piece in pieces for line in piece.splitlines())
    return Escape([*special, *used], filter(None, lines))


class Escape:
    """Escapes the markers in a text; a text without any comes back as the same object.

    Markers are `tokens` and the bracketed runs (`<...>`, `[...]`) of the template's own `lines`,
    wherever they stand, and those lines themselves at the start of a line, blanks and invisible
    characters before them not counted. A line without punctuation marks a turn only where it fills
    the line: `Answer` is a word too. A marker of one character cannot be escaped and is left.
    """

    def __init__(self, tokens: Iterable[str], lines: Iterable[str]) -> None:
        lines = list(lines)
        anywhere = {*tokens, *(run for line in lines for run in _BRACKETED.findall(line))}
        self._anywhere = _alternatives(anywhere)
        parts = {part.strip() for line in lines for part in _parts(line) if part.strip()[1:]}
        self._of_lines = sorted(part for part in parts if not self._begins(part))
        starts = [_first(part, _line_end(part)) for part in self._of_lines]
        self._lines = re.compile(f"{_LINE_START}(?:{'|'.join(starts)})") if starts else None

    def _begins(self, line: str) -> bool:
        return bool(self._anywhere and self._anywhere.match(line))

    def __call__(self, text: str) -> str:
        """The text without markers; to be read as `text` was."""
        escaped = text
        if self._anywhere:
            escaped = self._anywhere.sub(r"\g<0> ", escaped)
        if self._lines and any(marker in escaped for marker in self._of_lines):
            escaped = self._lines.sub(r"\g<0> ", escaped)
        # A space can complete a marker that has one, so it goes on until nothing changes.
        return text if escaped == text else self(escaped)


def _first(marker: str, after: str = "") -> str:
    """A pattern of a marker's first character where the rest follows: the rest is searched anew."""
    return f"{re.escape(marker[0])}(?={re.escape(marker[1:])}{after})"


def _alternatives(markers: Iterable[str]) -> re.Pattern[str] | None:
    """One pattern of all markers, by first characters: the search skips to those."""
    stripped = sorted({marker.strip() for marker in markers})
    groups = groupby((marker for marker in stripped if len(marker) > 1), key=lambda text: text[0])
    branches = [
        f"{re.escape(first)}(?={'|'.join(re.escape(marker[1:]) for marker in group)})"
        for first, group in groups
    ]
    return re.compile("|".join(branches)) if branches else None


def _punctuated(text: str) -> bool:
    return any(not (character.isalnum() or character.isspace()) for character in text)


def _parts(line: str) -> Iterator[str]:
    """A line of the template, and what of it stands beside bracketed runs and has punctuation."""
    yield line
    yield from filter(_punctuated, _BRACKETED.split(line))


def _line_end(marker: str) -> str:
    """What must follow a line's marker: the line's end for mere words, else the end of a word."""
    if not _punctuated(marker):
        return f"{_BLANKS}(?:$|[{_BREAKS}])"
    return r"(?!\w)" if marker[-1].isalnum() else ""
