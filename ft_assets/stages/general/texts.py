"""The texts of this package."""

from importlib.resources import as_file, files

from ft_assets.stages.questions import Question, read_questions

_FOLDER = files("ft_assets.stages.general")


def general_questions() -> list[Question]:
    """School questions with short answers; none of them is among the prompts."""
    with as_file(_FOLDER / "questions.jsonl") as path:
        return read_questions(path)


def rehearsal_prompts() -> list[str]:
    """Short prompts on many subjects."""
    return (_FOLDER / "prompts.txt").read_text(encoding="utf-8").splitlines()


def general_text() -> str:
    """About 900 words of plain English in paragraphs, each on a subject of its own."""
    return (_FOLDER / "text.txt").read_text(encoding="utf-8")
