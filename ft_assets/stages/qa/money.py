"""The cost of requests: prices, estimates, caps, and the bill."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ft_assets.config import QAPrices
from ft_assets.errors import StageError, UserError, WaitingError
from ft_assets.stages.job import Job
from ft_assets.stages.qa.prompt import Request

PRICES_OF = "October 2026"
BATCH_SHARE = 0.5
"""The price of a request in a batch, as a share of its price as a message."""
CACHE_WRITE, CACHE_READ = 1.25, 0.1
"""The price of a token written to or read from the prompt cache, as a share of an input token's."""
_BYTES_PER_TOKEN = 3.0
"""For English text; the tokenizer of the 5.5 models makes about 30% more tokens than earlier ones."""
_OVERHEAD_TOKENS = 300
"""Approximate tokens of the schema and of what the API adds."""
_ANY_LENGTH = 1_000_000


@dataclass(frozen=True)
class Price:
    """USD per million tokens, for prompts up to `longest` tokens; `source` says where the price is from."""

    input: float
    output: float
    longest: int = _ANY_LENGTH
    cached_from: int | None = None
    """The prompt cache keeps a shared beginning of at least this many tokens; None: never."""
    batched: bool = True
    """Whether the model is available in Message Batches."""
    source: str = f"prices of {PRICES_OF}"

    def usd(self, usage: Mapping[str, int]) -> float:
        """The cost of an answer in USD, from the usage that it reports."""
        written = usage.get("cache_creation_input_tokens", 0)
        read = usage.get("cache_read_input_tokens", 0)
        tokens = usage.get("input_tokens", 0) + CACHE_WRITE * written + CACHE_READ * read
        return (tokens * self.input + usage.get("output_tokens", 0) * self.output) / 1e6


PRICES = {
    "claude-haiku-5-5": Price(0.10, 0.50, longest=100_000, cached_from=512),
    "claude-haiku-4-5": Price(1.00, 5.00, longest=200_000, cached_from=4096),
}


def price_of(model: str, prices: QAPrices | None, setting: str = "qa.model") -> Price:
    """The price of a model: the setting `qa.prices` if set, else the price in `PRICES`.

    Raises UserError for a model without either; `setting` is the key that names it.
    """
    known = PRICES.get(model)
    if prices:
        limits = (known.longest, known.cached_from) if known else (_ANY_LENGTH, None)
        batched = ":" not in model
        return Price(prices.input, prices.output, *limits, batched=batched, source="qa.prices")
    if ":" in model:
        raise UserError(
            f"no price is known for {setting} {model!r}, a model of another provider: set qa.prices: "
            "{input: …, output: …} in USD per million tokens (0 and 0 for a server of your own)"
        )
    if known is None:
        raise UserError(
            f"no price is known for {setting} {model!r} (known in {PRICES_OF}: {', '.join(PRICES)}): "
            "check the name, or set qa.prices: {input: …, output: …} in USD per million tokens"
        )
    return known


def estimate_tokens(text: str) -> int:
    """The approximate number of tokens in a text."""
    return -(-len(text.encode("utf-8", "surrogatepass")) // int(_BYTES_PER_TOKEN))


@dataclass(frozen=True)
class Estimate:
    """The approximate cost of requests in USD; `usd_in_batches` is None if batches are unavailable."""

    requests: int
    input_tokens: int
    output_tokens: int
    usd: float
    usd_in_batches: float | None
    prices: str
    largest: float = 0.0
    """The most that a single message of them can cost; a cap must have that much left."""

    @property
    def ways(self) -> dict[str, float]:
        """The cost by `qa.send`: as messages, and in batches if available."""
        ways = {"messages": self.usd, "batches": self.usd_in_batches}
        return {way: usd for way, usd in ways.items() if usd is not None}

    def __mul__(self, times: int) -> "Estimate":
        """The estimate for `times` as many requests."""
        batches = None if self.usd_in_batches is None else self.usd_in_batches * times
        return Estimate(
            self.requests * times,
            self.input_tokens * times,
            self.output_tokens * times,
            self.usd * times,
            batches,
            self.prices,
            self.largest,
        )

    def __str__(self) -> str:
        cost = ", ".join(f"{dollars(usd)} in {way}" for way, usd in self.ways.items())
        return (
            f"{self.requests:,} requests, about {self.input_tokens:,} tokens in and "
            f"{self.output_tokens:,} out: about {cost} ({self.prices})"
        )


def cap_warning(
    expected: Estimate, way: str, spent: float, cap: float, setting: str = "qa.max_usd"
) -> str:
    """A warning if the cap in `setting` may stop requests that are sent this way; else ""."""
    share = BATCH_SHARE if way == "batches" else 1.0
    needed = spent + share * (expected.usd + expected.largest) if expected.requests else 0.0
    if needed <= cap:
        return ""
    return (
        f"{setting} ({dollars(cap)}) may stop this before the end: about {dollars(needed)} is needed, "
        "including what must be left for the last request"
    )


def prompt_tokens(request: Request) -> int:
    """The approximate number of tokens that a request sends."""
    return estimate_tokens(request.recipe.system) + estimate_tokens(request.user) + _OVERHEAD_TOKENS


def estimate(requests: Iterable[Request], price: Price) -> Estimate:
    """The approximate cost of requests, if each is answered at the first try."""
    count = tokens_in = tokens_out = 0
    largest = 0.0
    for request in requests:
        largest = max(largest, at_most(request, price))
        count += 1
        tokens_in += prompt_tokens(request)
        tokens_out += min(request.pairs * request.recipe.form.tokens, request.recipe.max_tokens)
    usd = price.usd({"input_tokens": tokens_in, "output_tokens": tokens_out})
    in_batches = usd * BATCH_SHARE if price.batched else None
    return Estimate(count, tokens_in, tokens_out, usd, in_batches, price.source, largest)


def at_most(request: Request, price: Price) -> float:
    """The most that a request can cost in USD: no text has more tokens than bytes."""
    size = len(request.recipe.system.encode()) + len(request.user.encode("utf-8", "surrogatepass"))
    return price.usd(
        {
            "cache_creation_input_tokens": size + _OVERHEAD_TOKENS,
            "output_tokens": request.recipe.max_tokens,
        }
    )


class Budget:
    """The money that may still be spent. A request passes only if the most it can cost is left.

    `caps` and what is `spent` of each are by the settings' keys; the first is the cap of one build.
    """

    def __init__(self, caps: Mapping[str, float], spent: Mapping[str, float]):
        self.caps, self.spent = dict(caps), dict(spent)
        self._under_way = 0.0

    @property
    def cap(self) -> float:
        """The cap of one build."""
        return next(iter(self.caps.values()))

    def reserve(self, usd: float) -> bool:
        """Reserves what a request can cost; False if a cap does not have that much left."""
        needed = self._under_way + usd
        if any(self.spent[key] + needed > cap for key, cap in self.caps.items()):
            return False
        self._under_way = needed
        return True

    def under_way(self, usd: float) -> None:
        """Reserves the cost of what earlier processes have sent, even above the current caps."""
        self._under_way += usd

    def settle(self, reserved: float, usd: float) -> None:
        """Releases what was reserved for a request, and counts what it did cost."""
        self._under_way -= reserved
        self.spent = {key: spent + usd for key, spent in self.spent.items()}

    def reached(self, usd: float, left: int) -> StageError:
        """The error for a cap that leaves `left` requests unsent; `usd` is what the next may cost."""
        key = min(self.caps, key=lambda name: self.caps[name] - self.spent[name])
        spent, cap = self.spent[key], self.caps[key]
        return StageError(
            f"{key} is reached: {dollars(spent)} of {dollars(cap)} is spent and one more request "
            f"may cost up to {dollars(usd)}; {left:,} more to send. All answers so far are kept and "
            f"will not be paid for again: raise {key} ({dollars(spent + usd * left)} is enough in any "
            "case), then run again"
        )


def require_leave(job: Job, what: str, command: str) -> None:
    """Raises WaitingError if nothing may be sent, because a sensor started this run, not a person.

    `what` says what would cost money, `command` what a person runs instead.
    """
    if not job.may_spend:
        raise WaitingError(
            f"{what}, and a sensor started this run: nothing was sent. Run {command}, or materialize "
            f"{job.asset} in the UI. automation.spend: true in the owner's data/finetune.yaml lets "
            "sensors spend, within the caps"
        )


def dollars(usd: float) -> str:
    """An amount for people; below a dollar, to the hundredth of a cent."""
    return f"${usd:,.2f}" if usd >= 1 or usd == 0 else f"${usd:.4f}"
