"""The counts of an artifact that are worth a line in the terminal, in words.

Manifests and `--json` have all counts under their names.
"""

from collections.abc import Callable, Iterator, Mapping

from ft_assets.manifest import Manifest
from ft_assets.stages.words import counted, files_read, size_of

_Counts = Mapping[str, float]

_UNANSWERED = ("refused", "truncated", "invalid", "failed", "unknown", "pending")
"""States of requests that a person may want to know of."""


_OFF = "off (qa.enabled is false)"


def unchanged(manifest: Manifest) -> str:
    """What is said of an artifact that was found unchanged."""
    return _OFF if _is_off(manifest) else "unchanged"


def _is_off(manifest: Manifest) -> bool:
    return manifest.asset == "qa_pairs" and manifest.settings.get("qa.enabled") is False


def in_words(manifest: Manifest) -> str:
    """What an artifact contains, in one line; counts of zero are left out."""
    counts, asset = manifest.counts, manifest.asset
    if _is_off(manifest):
        return _OFF
    return ", ".join(_PHRASES[asset](counts)) if counts else ""


def _some(counts: _Counts, key: str, one: str, many: str = "") -> Iterator[str]:
    """A number of things, unless there are none."""
    if number := int(counts.get(key, 0)):
        yield counted(number, one, many)


def _raw_documents(counts: _Counts) -> Iterator[str]:
    files, read = int(counts["files"]), int(counts["files_read"])
    left_out = files - read
    yield files_read(read, int(counts["files_with_rejects"]) - left_out, left_out)
    yield from _some(counts, "pages", "page")
    yield from _some(counts, "records", "record")
    yield from _some(counts, "records_rejected", "record left out", "records left out")
    yield from _some(counts, "pages_without_text", "page without text", "pages without text")
    yield from _some(counts, "unsound_texts", "text looks damaged", "texts look damaged")


def _chunks(counts: _Counts) -> Iterator[str]:
    yield counted(int(counts["chunks"]), "chunk")


def _qa_pairs(counts: _Counts) -> Iterator[str]:
    yield counted(int(counts["pairs"]), "pair")
    if "kept_rate" in counts:
        yield f"{counts['kept_rate']:.0%} kept"
    yield from _some(counts, "by_hand", "written by hand", "written by hand")
    yield from _some(counts, "requested", "request")
    for state in _UNANSWERED:
        yield from _some(counts, state, state, state)
    yield from _some(counts, "skipped_chunks", "chunk skipped", "chunks skipped")


def _formatted_dataset(counts: _Counts) -> Iterator[str]:
    tokens = counted(int(counts["train_tokens"]), "token")
    yield f"{counted(int(counts['train_rows']), 'training row')} ({tokens})"
    yield counted(int(counts["eval_rows"]), "eval row")
    yield from _some(
        counts, "documents_held_out", "document held out whole", "documents held out whole"
    )
    yield from _some(counts, "dropped_rows", "row left out", "rows left out")
    yield from _some(counts, "rows_cut_by_max_length", "row cut", "rows cut")
    yield from _some(
        counts,
        "normalized_rows",
        "row with white space normalised",
        "rows with white space normalised",
    )


def _adapter(counts: _Counts) -> Iterator[str]:
    yield counted(int(counts["steps"]), "step")
    if counts.get("rehearsed_rows"):
        yield counted(int(counts["rehearsed_rows"]), "rehearsed row")
    yield f"loss {counts['first_loss']:.3g} → {counts['last_loss']:.3g}"
    if "last_eval_loss" in counts:
        yield f"held-out loss {counts['first_eval_loss']:.3g} → {counts['last_eval_loss']:.3g}"


def _evaluation(counts: _Counts) -> Iterator[str]:
    if "tuned_eval_loss" in counts:
        losses = f"{counts['base_eval_loss']:.3g} → {counts['tuned_eval_loss']:.3g}"
        yield f"eval loss {losses} on {counted(int(counts['eval_rows']), 'row')}"
    if "questions" in counts:
        base, tuned = int(counts["base_key_facts"]), int(counts["tuned_key_facts"])
        yield f"key facts {base:,} → {tuned:,} of {int(counts['questions']):,}"
    if "judged_questions" in counts:
        base, tuned = int(counts["base_judged_right"]), int(counts["tuned_judged_right"])
        yield f"judged right {base:,} → {tuned:,} of {int(counts['judged_questions']):,}"
        yield from _some(counts, "unjudged", "answer unjudged", "answers unjudged")
    if "general_questions" in counts:
        base, tuned = int(counts["base_general_answers"]), int(counts["tuned_general_answers"])
        yield f"general answers {base:,} → {tuned:,} of {int(counts['general_questions']):,}"


def _merged_model(counts: _Counts) -> Iterator[str]:
    yield f"largest change of a logit {counts['max_logit_change']:.2g}"
    if "merged_key_facts" in counts:
        yield f"key facts {int(counts['merged_key_facts']):,} of {int(counts['questions']):,}"


def _gguf(counts: _Counts) -> Iterator[str]:
    for name, megabytes in counts.items():
        kind, is_size, _ = name.rpartition("_megabytes")
        if is_size:
            said = size_of(int(megabytes * 1_000_000))
            if f"{kind}_kl" in counts:
                said += f" (KL {counts[f'{kind}_kl']:.2g}, top-1 {counts[f'{kind}_top1']:.1%})"
            yield f"{kind} {said}"


_PHRASES: dict[str, Callable[[_Counts], Iterator[str]]] = {
    "raw_documents": _raw_documents,
    "chunks": _chunks,
    "qa_pairs": _qa_pairs,
    "formatted_dataset": _formatted_dataset,
    "adapter": _adapter,
    "evaluation": _evaluation,
    "merged_model": _merged_model,
    "gguf": _gguf,
}
