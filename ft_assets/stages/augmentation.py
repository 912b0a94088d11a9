"""Changes to instruction records before they are rendered."""

import re
from dataclasses import replace

from ft_assets.records import InstructionRecord, Message

_SPACES = re.compile(r"[ \t\u00a0]+")
_BLANK_LINES = re.compile(r"\n{3,}")


class DataAugmenter:
    """Applies the settings under `augment` to instruction records."""

    def __init__(self, settings, *, seed) -> None:
        self._normalize = settings["normalize_whitespace"]

    @staticmethod
    def normalize(text: str) -> str:
        """Runs of spaces become one, more than one blank line becomes one, the ends are cut off."""
        lines = (_SPACES.sub(" ", line).rstrip() for line in text.split("\n"))
        return _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip()

    def augment_instruction(self, record: InstructionRecord) -> InstructionRecord:
        """The record as it is to be rendered."""
        if not self._normalize:
            return record
        messages: list[Message] = [
            {"role": message["role"], "content": self.normalize(message["content"])}
            for message in record.messages
        ]
        context = self.normalize(record.input) if record.input else record.input
        return replace(record, messages=messages, input=context)

    def variants(self, messages, key):
        yield [
            {
                "role": m["role"],
                "content": self.normalize(m["content"]) if self._normalize else m["content"],
            }
            for m in messages
        ]
