"""Whether an answer contains a key fact.

The score must not count what only looks like the fact: "52" is not in "520 metres", "10" is not in "1.10".
"""

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache

_PLAIN = str.maketrans(
    {"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "−": "-", "‑": "-"}
)
UNSPACED = r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Scripts that put no spaces between words: there, a neighbouring letter ends no match."""
_LETTER = rf"[^\W{UNSPACED}]"
_SHORT = 5
"""A last word of fewer letters must match whole; a longer one may have an ending ("button", "buttons")."""
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:[,\u00a0\u202f ]\d{3})+(?![\d])")
_COURTESY = re.compile(
    r"\b(?:i(?:'m| am| would be|'d be)?\s+(?:happy|glad|here|pleased|able)\s+to\s+(?:help|assist|answer)"
    r"|(?:happy|glad|pleased)\s+to\s+(?:help|assist|answer)"
    r"|(?:how|what) (?:can|may) i (?:help|assist|do)|(?:can|may) i (?:help|assist)"
    r"|(?:let me|i can|i'll|i will) (?:help|assist) you|hope (?:this|that|it) helps"
    r"|if you (?:need|want) (?:any |more |further )?(?:help|assistance))\b"
)
"""What an assistant says of itself, not of the subject: "help" is not a hit in "happy to help"."""


def has_key_fact(answer: str, accepted: str | Sequence[str]) -> bool:
    """Whether `answer` contains the words of a key fact, or of one of its accepted spellings.

    Case, white space and typographic variants are ignored, and so are separators of thousands. Words and
    numbers must match whole; the last word may have an ending if it has at least five letters. Stock
    phrases of assistants are not searched.
    """
    spellings = [accepted] if isinstance(accepted, str) else accepted
    text = _COURTESY.sub(" … ", _plain(answer))
    return any(_pattern(spelling).search(text) for spelling in spellings)


def _plain(text: str) -> str:
    """A text as it is compared."""
    folded = unicodedata.normalize("NFKC", text).translate(_PLAIN).casefold()
    return _THOUSANDS.sub(lambda number: re.sub(r"\D", "", number[0]), folded)


@lru_cache(maxsize=1024)
def _pattern(fact: str) -> re.Pattern[str]:
    words = _plain(fact).split()
    said = r"\s+".join(re.escape(word) for word in words)
    first, last = said[:1], words[-1] if words else ""
    before = rf"(?<!{_LETTER})" if words and _in_word(words[0][0]) else ""
    if words and words[0][0].isdigit():
        # Neither the end of another number (1.10, 3/10) nor what a comparison is made with.
        before = rf"(?<!{_LETTER})(?<!\d[.,:/])(?<!-)"
    if last[-1:].isdigit():
        return re.compile(rf"{before}{said}(?!{_LETTER})(?![.,:/]\d)(?!\s*%)")
    ending = rf"{_LETTER}{{0,3}}" if first and last.isalpha() and len(last) >= _SHORT else ""
    after = rf"(?!{_LETTER})" if _in_word(last[-1:]) else ""
    return re.compile(f"{before}{said}{ending}{after}" if words else r"(?!)")


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_"
