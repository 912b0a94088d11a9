"""Keys that say what a record is worth, or that it is more than text: they may turn it away."""

import re
from functools import lru_cache
from typing import Any

from ft_assets.stages.loaders.records.entries import BadRecordError
from ft_assets.stages.loaders.records.spelling import Fields, spelled

_GOOD = {
    *("label", "kto_tag", "good", "desirable", "chosen", "preferred", "accepted"),
    *("correct", "valid", "approved", "keep", "safe", "helpful", "useful", "passed"),
    *("success", "successful", "succeeded", "resolved"),
}
"""Keys whose false value marks a bad answer."""
_BAD = {
    *("rejected", "bad", "undesirable", "flagged", "toxic", "unsafe", "harmful"),
    *("thumbs_down", "disliked", "incorrect", "wrong", "hallucinated", "hallucination"),
    *("deleted", "excluded", "exclude", "spam"),
}
"""Keys whose true value marks one."""
_RATINGS = {
    *("rating", "score", "feedback", "reward", "votes", "vote", "quality", "preference"),
    *("grade", "verdict", "user_rating", "user_feedback", "human_feedback", "annotation"),
    *("status", "judge", "judgement", "judgment", "evaluation", "guard", "moderation"),
    *("openai_moderation",),
}
"""Keys whose value rates the answer; a number is bad below 0."""
_MARKS = _GOOD | _BAD | _RATINGS
_OF_THE_ANSWER = re.compile(
    r"^(?:[a-z]+_)?(?:is|was)_"
    r"|^(?:response|answer|output|completion|assistant|model|llama|user|human)[_.]|_?\d+$"
)
"""Words of a key that only say whose mark it is: `is_response_safe` is `safe`."""
_BAD_WORDS = {
    *("bad", "reject", "rejected", "dislike", "disliked", "thumbs_down", "thumb_down"),
    *("thumbsdown", "downvote", "downvoted", "down", "unsafe", "undesirable", "harmful"),
    *("unacceptable", "incorrect", "deleted", "discarded", "failed", "flagged", "false"),
    *("-1", "👎"),
}
_FALSE, _TRUE = {"false", "0", "0.0"}, {"true", "1", "1.0"}
FLAGS = ("weight", "loss_weight", "loss_mask", "train", "training", "trainable", "trained", "loss")
"""Keys of a turn that say whether it carries loss."""
_RECORD_FLAGS = set(FLAGS) - {"loss", "loss_mask"}
_UNTRAINED = ("masked", "ignore", "ignored", "mask_loss", "no_loss", "is_masked")
"""Keys of a turn whose true value says that it carries none."""
_MEDIA = {"images", "image", "videos", "video", "audios", "audio", "image_url", "image_urls"}
_PREFERENCES = (
    "rejected",
    "rejected_messages",
    "rejected_response",
    "response_rejected",
    "non_preferred_output",
)
_PREFERENCE = (
    "a preference record: training has no place for the rejected answer. To learn the chosen one, "
    "write it as 'completion' and remove the rejected one"
)


def check_preference(fields: Fields) -> None:
    """Raises BadRecordError if a record has a rejected answer."""
    for key in fields.among(_PREFERENCES):
        value = fields.peek(key)
        if (
            isinstance(value, str | list | dict)
            and value
            and not (is_false(value) or is_true(value))
        ):
            raise BadRecordError(_PREFERENCE)
        if value in ("", [], {}):
            fields.take(key)


def check_record(fields: Fields, *, is_text: bool) -> None:
    """Raises BadRecordError if a key of a record says that it is not to be learned as it stands."""
    for key in list(fields):
        if key in _MEDIA:
            _check_media(fields, key, "it ")
        elif key in _RECORD_FLAGS:
            value = fields.peek(key)
            if is_false(value):
                reason = (
                    f"{fields.name(key)!r} is {shown(value)}: it is not to be learned, remove it"
                )
                raise BadRecordError(reason)
            _use_if(is_true(value), fields, key)
        else:
            check_mark(fields, key, is_text=is_text)


def _check_media(fields: Fields, key: str, of: str) -> None:
    if _is_there(fields.take(key)):
        raise BadRecordError(f"{of}has {fields.name(key)!r}: only text is read, remove the record")


def check_mark(fields: Fields, key: str, *, is_text: bool = False, of: str = "") -> None:
    """Raises BadRecordError if the value of a rating or flag says that the answer is bad.

    A number beside a text (`is_text`) is the number of a class, not a mark.
    """
    mark = _mark_of(key)
    value, name = fields.peek(key), fields.name(key)
    if mark is None or (is_text and not isinstance(value, bool)):
        return
    if inner := _bad_inside(mark, value):
        raise BadRecordError(_marked(f"{of}{name!r}", inner))
    if _is_bad(mark, value):
        raise BadRecordError(_marked(f"{of}{name!r}", value))
    _use_if(isinstance(value, bool) or is_true(value) or is_false(value), fields, key)


@lru_cache(4_096)
def _mark_of(key: str) -> str | None:
    """The mark that a key is, without the words that say whose it is; None for another key."""
    bare = key
    while bare not in _MARKS and (shorter := _OF_THE_ANSWER.sub("", bare)) != bare:
        bare = shorter
    return bare if bare in _MARKS else None


def _is_bad(mark: str, value: Any) -> bool:
    word = value.strip().lower() if isinstance(value, str) else None
    if mark in _BAD:
        return is_true(value) or word == "yes"
    if mark in _GOOD and (is_false(value) or (word == "no" and mark != "label")):
        return True
    return value is False or _is_negative(value) or _is_bad_word(value)


def _bad_inside(mark: str, value: Any) -> Any:
    """The first bad mark inside a rating that is an object or a list of them; None if there is none."""
    if mark not in _RATINGS or not isinstance(value, dict | list):
        return None
    for item in value if isinstance(value, list) else [value]:
        for key, inner in item.items() if isinstance(item, dict) else ():
            within = _mark_of(spelled(str(key)))
            is_simple = isinstance(inner, bool | int | float | str)
            if is_simple and (_is_bad(within, inner) if within else _is_thumb(inner)):
                return {str(key): inner}
    return None


def _is_thumb(value: Any) -> bool:
    return isinstance(value, str) and value.lower() in ("thumbsdown", "thumbs_down", "thumbs down")


def _marked(name: str, value: Any) -> str:
    return f"{name} is {shown(value)}: the answer is marked as bad; remove the record"


def check_turn(turn: Fields, of: str) -> None:
    """Raises BadRecordError if a turn has more than text, or a flag or rating says that it is bad."""
    for key in list(turn):
        if key in _MEDIA:
            _check_media(turn, key, of)
        else:
            check_mark(turn, key, of=of)
    for key in turn.among(("tools", "functions")):
        if turn.peek(key) not in _NO_TOOLS:
            raise BadRecordError(f"{of}has {key!r}: write them beside the turns, under 'tools'")
        turn.take(key)
    channel = turn.peek("channel")
    if isinstance(channel, str) and channel in ("analysis", "commentary"):
        raise BadRecordError(
            f"{of}is of the channel {channel!r}: only final answers are read, remove the turn"
        )


_NO_TOOLS: tuple[Any, ...] = ("", "[]", "[{}]", "{}", "null", [], [{}], {})


def is_trained(turn: Fields, of: str) -> bool:
    """Whether a turn carries loss, by its weight and its flags; raises BadRecordError for others."""
    trained = True
    for key in FLAGS:
        if key not in turn:
            continue
        value = turn.take(key)
        if not is_false(value) and not is_true(value):
            wrong = f"{of}{turn.name(key)!r} is {shown(value)}: a turn is learned (1, true) or not "
            raise BadRecordError(f"{wrong}(0, false)")
        trained &= not is_false(value)
    for key in turn.among(_UNTRAINED):
        trained &= not is_true(turn.take(key))
    if "mask" in turn:
        raise BadRecordError(f"{of}'mask' may mean either: write weight 0 or 1")
    return trained


def _use_if(condition: bool, fields: Fields, key: str) -> None:
    if condition:
        fields.take(key)


def _is_there(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return any(map(_is_there, value))
    return value not in (None, "", "[]", {}, False)


def is_false(value: Any) -> bool:
    """Whether a value says no: as a truth value, a number or the text of a cell."""
    if isinstance(value, str):
        return value.strip().lower() in _FALSE
    return isinstance(value, bool | int | float) and not value


def is_true(value: Any) -> bool:
    """Whether a value says yes."""
    if isinstance(value, str):
        return value.strip().lower() in _TRUE
    return isinstance(value, bool | int | float) and value == 1


def _is_negative(value: Any) -> bool:
    if isinstance(value, str):
        try:
            value = float(value) if len(value) < _MAX_SHOWN else 0
        except ValueError:
            return False
    return isinstance(value, int | float) and not isinstance(value, bool) and value < 0


def _is_bad_word(value: Any) -> bool:
    if not isinstance(value, str) or len(value) > _MAX_SHOWN:
        return False
    first = value.strip().partition("\n")[0]
    return first.strip().lower().replace(" ", "_").replace("-", "_") in _BAD_WORDS


_MAX_SHOWN = 40


def shown(value: Any) -> str:
    """A value as a reason shows it: as JSON writes it, cut if it is long."""
    if isinstance(value, bool):
        return str(value).lower()
    text = value if isinstance(value, str) else repr(value)
    return repr(text[:_MAX_SHOWN]) if isinstance(value, str) else text[:_MAX_SHOWN]
