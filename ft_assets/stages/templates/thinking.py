"""The blocks of reasoning models: how templates begin and end what is thought before an answer."""

THINKING = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>thought", "<channel|>"),
)
"""The beginnings and ends of blocks."""


def open_block(prompt: str) -> str | None:
    """How the block that a model is asked to continue ends; None if there is none."""
    bare = prompt.rstrip()
    return next((end for begin, end in THINKING if bare.endswith(begin)), None)


def after(prompt: str, whole: str) -> str | None:
    """What a rendered conversation says after `prompt`; None if it has another beginning.

    Templates of reasoning models ask with a block of thoughts, begun or empty, that they leave out of a
    past answer. It is trained as an empty block: closed as the template does, or as its model does.
    """
    if whole.startswith(prompt):
        return whole[len(prompt) :]
    for begin, end in THINKING:
        before, found, block = prompt.rpartition(begin)
        if not (found and whole.startswith(before) and block.strip() in ("", end)):
            continue
        said = whole[len(before) :].removeprefix(begin)
        ends_here = said.lstrip().startswith(end)
        if block.strip():
            return said.lstrip().removeprefix(end) if ends_here else said
        if ends_here:
            return said
        return (f"\n{end}\n\n" if block.endswith("\n") else end) + said
    return None
