"""Keys that say what a record is worth, or that it is more than text: they may turn it away."""

from typing import Any

from ft_assets.stages.loaders.records.entries import BadRecordError
from ft_assets.stages.loaders.records.spelling import Fields

_GOOD = {
    "label",
    "kto_tag",
    "is_good",
    "good",
    "desirable",
    "is_desirable",
    "chosen",
    "is_chosen",
    "preferred",
    "is_preferred",
    "accepted",
    "is_accepted",
    "correct",
    "is_correct",
    "valid",
    "is_valid",
    "approved",
    "is_approved",
    "keep",
    "safe",
    "is_safe",
    "helpful",
    "is_helpful",
    "useful",
    "is_useful",
}
"""Keys whose false value marks a bad answer."""
_BAD = {
    "rejected",
    "is_rejected",
    "bad",
    "is_bad",
    "undesirable",
    "is_undesirable",
    "flagged",
    "is_flagged",
    "toxic",
    "is_toxic",
    "unsafe",
    "is_unsafe",
    "harmful",
    "is_harmful",
    "thumbs_down",
    "disliked",
    "incorrect",
    "is_incorrect",
    "wrong",
    "is_wrong",
    "hallucinated",
    "is_hallucination",
    "deleted",
    "is_deleted",
    "excluded",
    "exclude",
    "spam",
    "is_spam",
}
"""Keys whose true value marks one."""
_RATINGS = {
    "rating",
    "score",
    "feedback",
    "reward",
    "votes",
    "vote",
    "quality",
    "preference",
    "grade",
    "verdict",
    "user_rating",
    "user_feedback",
    "human_feedback",
    "annotation",
}
"""Keys whose value rates the answer; a number is bad below 0."""
_MARKS = _GOOD | _BAD | _RATINGS
_BAD_WORDS = {
    "bad",
    "reject",
    "rejected",
    "dislike",
    "disliked",
    "thumbs_down",
    "thumb_down",
    "thumbsdown",
    "downvote",
    "downvoted",
    "down",
    "unsafe",
    "undesirable",
    "harmful",
    "unacceptable",
    "incorrect",
    "false",
    "-1",
    "👎",
}
_FALSE, _TRUE = {"false", "0", "0.0"}, {"true", "1", "1.0"}
FLAGS = ("weight", "loss_weight", "train", "training", "trainable", "trained", "loss")
"""Keys of a turn that say whether it carries loss."""
_RECORD_FLAGS = set(FLAGS) - {"loss"}
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
        elif key in _MARKS:
            check_mark(fields, key, is_text=is_text)


def _check_media(fields: Fields, key: str, of: str) -> None:
    if _is_there(fields.take(key)):
        raise BadRecordError(f"{of}has {fields.name(key)!r}: only text is read, remove the record")


def check_mark(fields: Fields, key: str, *, is_text: bool = False, of: str = "") -> None:
    """Raises BadRecordError if the value of a rating or flag says that the answer is bad.

    A number beside a text (`is_text`) is the number of a class, not a mark.
    """
    value, name = fields.peek(key), fields.name(key)
    if is_text and not isinstance(value, bool):
        return
    is_bad = key in _BAD and is_true(value)
    is_bad |= key in _GOOD and is_false(value)
    is_bad |= key in _RATINGS and (value is False or _is_negative(value))
    is_bad |= key in _GOOD | _RATINGS and (_is_bad_word(value) or _is_negative(value))
    if is_bad:
        reason = f"{of}{name!r} is {shown(value)}: the answer is marked as bad; remove the record"
        raise BadRecordError(reason)
    _use_if(isinstance(value, bool) or is_true(value) or is_false(value), fields, key)


def check_turn(turn: Fields, of: str) -> None:
    """Raises BadRecordError if a turn has more than text, or a flag or rating says that it is bad."""
    for key in list(turn):
        if key in _MEDIA:
            _check_media(turn, key, of)
        elif key in _MARKS:
            check_mark(turn, key, of=of)


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
    return value.strip().lower().replace(" ", "_").replace("-", "_") in _BAD_WORDS


_MAX_SHOWN = 40


def shown(value: Any) -> str:
    """A value as a reason shows it: as JSON writes it, cut if it is long."""
    if isinstance(value, bool):
        return str(value).lower()
    text = value if isinstance(value, str) else repr(value)
    return repr(text[:_MAX_SHOWN]) if isinstance(value, str) else text[:_MAX_SHOWN]
