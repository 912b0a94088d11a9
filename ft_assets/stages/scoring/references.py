"""How much of a reference answer an answer has: exact match and token F1.

As SQuAD's evaluation has them (Rajpurkar et al., 2016), but in any language: articles stay, and a script
that puts no spaces between words is compared letter by letter. What was thought before an answer is not compared.
"""

import re
import unicodedata
from collections import Counter

from ft_assets.stages.key_facts import UNSPACED
from ft_assets.stages.templates.thinking import THINKING

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
    for _, end in THINKING:
        text = text.rpartition(end)[2]
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
