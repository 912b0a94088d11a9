"""The rows of a conversation as a template writes them; works in the process that renders."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ft_assets.stages.templates.thinking import after, open_block

_Turns = list[dict[str, Any]]
_After = Callable[[str, str], str | None]


@dataclass(frozen=True)
class Answers:
    """The answers of a conversation, each after what it is asked with.

    `render` takes turns, whether to begin an answer, and tools. `stop` is the stop token. A prompt has at
    most `most_characters`.
    """

    render: Callable[[_Turns, bool, list[Any] | None], str]
    stop: str
    most_characters: int

    def rows(self, piece: dict[str, Any]) -> dict[str, Any]:
        """The rows, as `places` of the answers and `pieces` of text.

        The pieces are in turn what an answer is asked with and the answer. An answer joins the row before
        it if the template writes what came before as that row has it. `rows` is None if the template
        begins an answer otherwise than it asks for one. `beyond` counts the answers left out because
        they are asked with too much. `reasoning` says of each answer whether its record's reasoning is in
        it, None if it has none.
        """
        reasoned = {each["place"]: each for each in piece["reasoned"]}
        if reasoned:
            try:
                return self._rows(piece, reasoned)
            except MemoryError:
                raise
            except Exception:  # noqa: S110 (gpt-oss refuses reasoning beside the words of a call)
                pass
        return self._rows(piece, {})

    def _rows(self, piece: dict[str, Any], reasoned: dict[int, Any]) -> dict[str, Any]:
        rows: list[dict[str, list[Any]]] = []
        row, tools = "", piece["tools"]
        having = {each["place"] for each in piece["reasoned"]}
        turns = [
            reasoned[place]["turn"] if place in reasoned else turn
            for place, turn in enumerate(piece["turns"])
        ]
        for count, place in enumerate(piece["trained"]):
            prompt = self.render(turns[:place], True, tools)
            if len(prompt) > self.most_characters:
                return {"rows": rows, "beyond": len(piece["trained"]) - count}
            plain = piece["turns"][place]
            answer, is_used = self._answer(turns, place, prompt, plain, reasoned.get(place), tools)
            if answer is None:
                return {"rows": None, "beyond": 0}
            if not rows or not prompt.startswith(row):
                rows.append({"places": [], "pieces": [], "reasoning": []})
                row = ""
            rows[-1]["places"].append(place)
            rows[-1]["pieces"] += [prompt[len(row) :], answer]
            rows[-1]["reasoning"].append(is_used if place in having else None)
            row = prompt + answer
        return {"rows": rows, "beyond": 0}

    def _answer(
        self,
        turns: _Turns,
        place: int,
        prompt: str,
        plain: dict[str, Any],
        reasoned: dict[str, Any] | None,
        tools: list[Any] | None,
    ) -> tuple[str | None, bool]:
        """What the model is to say after `prompt`, and whether it has the reasoning.

        Where the template has no place for that, the turn in `turns` becomes the `plain` one.
        """
        if reasoned:
            said = self._said(turns, place, prompt, _strictly_after, tools)
            answer = None if said is None else self._stopped(said, plain["content"])
            if answer is not None and _has(answer, reasoned["text"], plain):
                return answer, True
        turns[place] = plain
        said = self._said(turns, place, prompt, after, tools)
        if said is None:
            return None, False
        answer = self._stopped(said, plain["content"])
        block = open_block(prompt) if reasoned else None
        if reasoned and block and answer.lstrip().startswith(block):
            # DeepSeek R1 is asked with an open block, and what is in it is left out of a past answer.
            return reasoned["text"] + answer, True
        return answer, False

    def _said(
        self, turns: _Turns, place: int, prompt: str, after: _After, tools: list[Any] | None
    ) -> str | None:
        """What follows `prompt` when its answer is rendered too."""
        said = after(prompt, self.render(turns[: place + 1], False, tools))
        asked = next((n for n in range(place - 1, -1, -1) if turns[n]["role"] == "user"), None)
        if said is not None or asked is None:
            return said
        # Some templates write earlier turns otherwise once there is an answer (Mistral Nemo's leaves out
        # the system message, Hermes' adds a line end to a result). The model is asked with `prompt`, so
        # that is trained; what follows it is the same when the answer follows the last question alone.
        alone = [turns[asked], turns[place]]
        return after(self.render(alone[:1], True, tools), self.render(alone, False, tools))

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
