"""How much of a reference answer an answer has: exact match and token F1.

As SQuAD's evaluation has them (Rajpurkar et al., 2016), but in any language: articles stay, and a script
that puts no spaces between words is compared letter by letter.
"""

import re
import unicodedata
from collections import Counter

from ft_assets.stages.key_facts import UNSPACED

_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")


def exact_match(answer: str, reference: str) -> bool:
    """Whether both have the same words, whatever their case and punctuation."""
    return _words(answer) == _words(reference)


def token_f1(answer: str, reference: str) -> float:
    """The harmonic mean of the shares of each one's words that are also in the other; 0 to 1."""
    said, wanted = _words(answer), _words(reference)
    if not said or not wanted:
        return float(said == wanted)
    shared = sum((Counter(said) & Counter(wanted)).values())
    return 2 * shared / (len(said) + len(wanted))


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
