"""What holds for the token ids of every row of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ft_assets.stages.templates.chat import adds_bos

if TYPE_CHECKING:
    from ft_assets.stages.models.light_tokenizer import AnyTokenizer


@dataclass(frozen=True)
class TokenRules:
    """The tokens at which a row begins and its answers end.

    `bos` is the begin-of-sequence token that each row begins with, `no_bos` the one that no row may
    have. Where the template marks turns with it, as ChatML on SmolLM2 does, or ends with it, it is
    neither. `repeats` is true if the template writes `bos` before later questions too, as Llama 2's.
    """

    stop: int | None
    bos: int | None = None
    no_bos: int | None = None
    repeats: bool = False

    @classmethod
    def of(cls, tokenizer: "AnyTokenizer", probe: str) -> "TokenRules":
        """The rules of a tokenizer and of the template that rendered `probe`."""
        bos, stop = tokenizer.bos_token_id, tokenizer.eos_token_id
        if bos is None or bos == stop:
            return cls(stop)
        ids = tokenizer(probe, add_special_tokens=False)["input_ids"]
        if adds_bos(tokenizer) or (ids[:1] == [bos] and ids.count(bos) == 1):
            return cls(stop, bos, repeats=ids.count(bos) > 1)
        return cls(stop, no_bos=None if bos in ids else bos)

    def faults(self, ids: Sequence[list[int]], trained: Sequence[bool]) -> str | None:
        """What is wrong with the token ids of a row's segments; None if nothing is.

        The stop token must be the last one of each trained segment and stand nowhere else in it, and the
        begin-of-sequence token must stand where it should.
        """
        for said in (each for each, learned in zip(ids, trained, strict=True) if learned):
            if said[-1:] != [self.stop]:
                return "the last trained token of an answer is not the stop token"
            if said.count(said[-1]) > 1:
                return "a stop token stands within what is trained"
        row = [token for each in ids for token in each]
        if self.bos is not None:
            if row[0] != self.bos:
                return "it does not begin with the begin-of-sequence token"
            if row.count(self.bos) > 1 and not self.repeats:
                return "it has more than one begin-of-sequence token"
        elif self.no_bos in row:
            return "it has a begin-of-sequence token, which the model does not use"
        return None
