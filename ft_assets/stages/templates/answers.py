"""The rows of a conversation as a template writes them; works in the process that renders."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ft_assets.stages.templates.reasoning_place import Place
from ft_assets.stages.templates.thinking import after, open_block

_Turns = list[dict[str, Any]]
_After = Callable[[str, str], str | None]


@dataclass(frozen=True)
class Answers:
    """The answers of a conversation, each after what it is asked with.

    `render` takes turns, whether to begin an answer, and tools. `stop` is the stop token. A prompt has at
    most `most_characters`. `place` is where the template takes reasoning.
    """

    render: Callable[[_Turns, bool, list[Any] | None], str]
    stop: str
    most_characters: int
    place: Place

    def rows(self, piece: dict[str, Any]) -> dict[str, Any]:
        """The rows, as `places` of the answers and `pieces` of text.

        The pieces are in turn what an answer is asked with and the answer. An answer joins the row before
        it if the template writes what came before as that row has it. `rows` is None if the template
        begins an answer otherwise than it asks for one. `beyond` counts the answers left out because
        they are asked with too much. `reasoning` says of each answer whether its record's reasoning is in
        it, None if it has none.
        """
        reasoned = {each["place"]: each["text"] for each in piece["reasoned"]}
        if reasoned:
            try:
                return self._rows(piece, reasoned, {*reasoned})
            except MemoryError:
                raise
            except Exception:  # noqa: S110 (gpt-oss refuses reasoning beside the words of a call)
                pass
        return self._rows(piece, {}, {*reasoned})

    def _rows(
        self, piece: dict[str, Any], reasoned: dict[int, str], having: set[int]
    ) -> dict[str, Any]:
        """The rows of turns that are given with the `reasoned` texts; `having` are all that have one."""
        rows: list[dict[str, list[Any]]] = []
        row = ""
        turns = [
            self.place.turn(turn, reasoned[number]) if number in reasoned else turn
            for number, turn in enumerate(piece["turns"])
        ]
        for count, number in enumerate(piece["trained"]):
            prompt = self.render(turns[:number], True, piece["tools"])
            if len(prompt) > self.most_characters:
                return {"rows": rows, "beyond": len(piece["trained"]) - count}
            answer, is_used = self._answer(piece, turns, number, prompt, reasoned.get(number))
            if answer is None:
                return {"rows": None, "beyond": 0}
            if not rows or not prompt.startswith(row):
                rows.append({"places": [], "pieces": [], "reasoning": []})
                row = ""
            rows[-1]["places"].append(number)
            rows[-1]["pieces"] += [prompt[len(row) :], answer]
            rows[-1]["reasoning"].append(is_used if number in having else None)
            row = prompt + answer
        return {"rows": rows, "beyond": 0}

    def _answer(
        self, piece: dict[str, Any], turns: _Turns, number: int, prompt: str, thought: str | None
    ) -> tuple[str | None, bool]:
        """What the model is to say after `prompt`, and whether it has the reasoning.

        If the template has no place for that, the turn in `turns` becomes the one without it.
        """
        plain, tools = piece["turns"][number], piece["tools"]
        if thought is not None:
            said = self._said(turns[: number + 1], prompt, _strictly_after, tools)
            answer = None if said is None else self._stopped(said, plain["content"])
            if answer is not None and _has(answer, thought, plain):
                return answer, True
        turns[number] = plain
        said = self._said(turns[: number + 1], prompt, after, tools)
        if said is None:
            return None, False
        answer = self._stopped(said, plain["content"])
        block = open_block(prompt)
        if thought is not None and block and answer.lstrip().startswith(block):
            # DeepSeek R1 is asked with an open block, and what is in it is left out of a past answer.
            return thought + answer, True
        return answer, False

    def _said(
        self, turns: _Turns, prompt: str, follows: _After, tools: list[Any] | None
    ) -> str | None:
        """What follows `prompt` when its answer, the last of `turns`, is rendered too."""
        said = follows(prompt, self.render(turns, False, tools))
        asked = next((turn for turn in reversed(turns) if turn["role"] == "user"), None)
        if said is not None or asked is None:
            return said
        # Some templates write earlier turns otherwise once there is an answer (Mistral Nemo's leaves out
        # the system message, Hermes' adds a line end to a result). The model is asked with `prompt`, so
        # that is trained; what follows it is the same when the answer follows the last question alone.
        alone = [asked, turns[-1]]
        return follows(self.render(alone[:1], True, tools), self.render(alone, False, tools))

    def _stopped(self, said: str, content: str) -> str:
        """An answer up to its stop token; where the template writes none, with one."""
        # Cohere's template writes the beginning of a next answer, asked for or not.
        answer, stopped, _ = said.partition(self.stop)
        if stopped:
            return answer + stopped
        # White space that the template adds is not learned; that of the answer is.
        return (said if content and said.endswith(content) else said.rstrip()) + self.stop


def _strictly_after(prompt: str, whole: str) -> str | None:
    return whole[len(prompt) :] if whole.startswith(prompt) else None


def _has(answer: str, reasoning: str, plain: dict[str, Any]) -> bool:
    """Whether an answer has the reasoning, and after it all that the turn says."""
    content, reasoning = plain["content"].strip(), reasoning.strip()
    _, found, rest = answer.partition(reasoning)
    calls = [call["function"]["name"] for call in plain.get("tool_calls", ())]
    return bool(found) and all(words in rest for words in (content, *calls))
