"""Variants of a conversation: other wordings of its last question, with the same answer.

White space is content and stays as it is unless the settings say otherwise.

Variants are off by default; each kind has its own setting. A variant changes only the wording: no rule
here knows what a question means. The rules and framings are English; a question that they do not match
gets fewer variants.
"""

import hashlib
import re
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from ft_assets.config import AugmentConfig
from ft_assets.records import InstructionRecord, Message
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager

_SPACES = re.compile(r"(?<=\S)[ \t\u00a0]+")
_BLANK_LINES = re.compile(r"\n{3,}")
_FENCE = re.compile(r"^ {0,3}(```|~~~)", re.MULTILINE)
_LAYOUT = re.compile(r"^[ \t]|\t|\|")
"""What marks a line of code, or of a table."""

_RULES = [
    (r"(What|Where|Who|When|How) is\b(?! it\b)", r"\1's"),
    (r"Why\b", "For what reason"),
    (r"Where (did|does|do|will|was|were|is|are|can)\b", r"In what place \1"),
    (r"How (do|does|did|can|could|should|would|is|are|was|were)\b", r"In what way \1"),
    (r"How many\b", "What number of"),
    (r"Which\b", "What"),
    (r"Who (is|was|has|had|can|will|did|does)\b", r"Which person \1"),
    (r"Who (are|were|have)\b", r"Which people \1"),
    (r"What (kind|sort|type) of\b", r"Which \1 of"),
    (r"(?:Please )?[Ee]xplain\b", "Give an explanation of"),
    (r"(?:Please )?[Dd]escribe\b", "Give a description of"),
    (r"(?:Please )?[Ss]ummari[sz]e\b", "Give a summary of"),
    (r"(?:Please )?[Tt]ranslate\b", "Give a translation of"),
    (r"(?:Please )?[Ll]ist\b", "Make a list of"),
    (r"(?:Please )?[Dd]efine\b", "Give a definition of"),
    (r"(?:Please )?[Tt]ell me\b", "Let me know"),
    (r"(?:Please )?[Nn]ame\b", "Give the name of"),
]
_PARAPHRASES = [(re.compile(rf"^{pattern}"), wording) for pattern, wording in _RULES]
"""Beginnings of a question, each with another wording of it."""

_CASES: list[Callable[[str], str]] = [
    str.lower,
    lambda text: re.sub(r"(?<!\S)\w", lambda first: first[0].upper(), text),
]


class DataAugmenter:
    """Applies the settings under `augment`.

    The result depends only on the settings, the seed and a row's key, not on the row's position or on
    other rows.
    """

    def __init__(self, settings: AugmentConfig, seed: int = 0) -> None:
        self._settings = settings
        self._seed = seed

    def normalize(self, text: str) -> str:
        """Normalises white space in a message, if `normalize_whitespace` is `all`.

        Runs of spaces become one space, runs of blank lines one blank line, and both ends are
        stripped. Indentation is kept, because code needs it.
        """
        if self._settings.normalize_whitespace != "all":
            return text
        if text[:1].isspace():
            text = textwrap.dedent(text)
        lines = (_SPACES.sub(" ", line).rstrip() for line in text.split("\n"))
        return _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip()

    def normalize_prose(self, text: str) -> str:
        """Normalises white space in a document's text, unless `normalize_whitespace` is off.

        Runs of spaces become one space, and runs of blank lines one blank line. Lines of code and of
        tables stay as they are; if code begins or ends outside of the text, all of it does.
        """
        fences = [found.start() for found in _FENCE.finditer(text)]
        if not self._settings.normalize_whitespace or len(fences) % 2:
            return text
        made, at = "", 0
        for begin, end in zip(fences[::2], fences[1::2], strict=True):
            made += _normal_prose(text[at:begin]) + text[begin:end]
            at = end
        return made + _normal_prose(text[at:])

    def changes(self, messages: Sequence[Message]) -> bool:
        """Whether normalising changes one of the messages."""
        return self._normalized(messages) != list(messages)

    def augment_instruction(self, record: InstructionRecord) -> InstructionRecord:
        """The record itself, normalised if that was asked for, ready to be rendered."""
        context = self.normalize(record.input) if record.input else record.input
        return replace(record, messages=self._normalized(record.messages), input=context)

    def augment_dataset(self, record: InstructionRecord) -> Iterator[InstructionRecord]:
        """The record (variant 0) and its variants, all with its id."""
        own = self.augment_instruction(record)
        for messages in self.variants(record.messages, record.record_id):
            yield replace(own, messages=messages)

    def variants(self, messages: Sequence[Message], key: str) -> Iterator[list[Message]]:
        """The messages, then their variants in order; no two of them are equal.

        `key` identifies the origin of the messages. Only the last question changes.
        """
        own = self._normalized(messages)
        yield own
        asked = [place for place, message in enumerate(own) if message["role"] == "user"]
        question = own[asked[-1]]["content"] if asked else ""
        if not question:
            return
        seen = {question}
        for wording in self._wordings(question, key):
            if wording not in seen:
                seen.add(wording)
                other = list(own)
                other[asked[-1]] = {**own[asked[-1]], "content": wording}
                yield other

    def paraphrase(self, question: str) -> list[str]:
        """Other beginnings for a question, by rule; [] if no rule matches."""
        made = (rule.sub(wording, question, count=1) for rule, wording in _PARAPHRASES)
        return [wording for wording in dict.fromkeys(made) if wording != question]

    def _normalized(self, messages: Sequence[Message]) -> list[Message]:
        return [self._normal(message) for message in messages]

    def _normal(self, message: Message) -> Message:
        normal: Message = {**message, "content": self.normalize(message["content"])}
        if reasoning := message.get("reasoning"):
            normal["reasoning"] = self.normalize(reasoning)
        return normal

    def _wordings(self, question: str, key: str) -> Iterator[str]:
        """Wordings of a question, kind by kind; duplicates within a kind count once."""
        framed = PromptTemplateManager.get_instruction_variations(question)
        kinds = (
            (self._settings.instruction_variations, self._drawn(framed, key)),
            (self._settings.paraphrases, self._drawn(self.paraphrase(question), key)),
            (self._settings.case_variations, [change(question) for change in _CASES]),
        )
        for most, wordings in kinds:
            new = (wording for wording in dict.fromkeys(wordings) if wording != question)
            yield from islice(new, most)

    def _drawn(self, wordings: list[str], key: str) -> list[str]:
        """The wordings in an order drawn by a hash, so that asking for more keeps the first ones."""

        def draw(place: int) -> bytes:
            text = f"{self._seed}:{place}:{key}"
            return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

        return [wordings[place] for place in sorted(range(len(wordings)), key=draw)]


def _normal_prose(text: str) -> str:
    lines = [
        line if _LAYOUT.search(line) else re.sub(" +", " ", line).rstrip(" ")
        for line in text.split("\n")
    ]
    return _BLANK_LINES.sub("\n\n", "\n".join(lines))
