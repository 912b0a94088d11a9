"""Chat templates that come with a model or a project: tried out where they can do no harm.

transformers' sandbox keeps a template from running code; it does not keep `{{ 'a' * 10**10 }}` from
filling the memory, nor nested loops from never ending. So before a template is rendered here, a
child process with limits renders conversations of marks by it. A template that behaves there and
not on some record's words is not caught by this.
"""

import json
import resource
import subprocess
import sys
from functools import lru_cache

from ft_assets.errors import UserError
from ft_assets.stages.templates.markers import PROBES

CPU_SECONDS = 3
_WALL_SECONDS = 120
"""A machine that is busy with other work gives a child its CPU time late."""
_MEMORY = 512 << 20
_MOST_CHARACTERS = 1_000_000
"""What a template may write of its own accord around a few words."""
_HARMFUL = 3
"""The child's exit status where the template ran into a limit."""


def check_template(chat_template: str) -> None:
    """Raises UserError for a template that takes too much time, memory or room.

    One that only fails passes: that is said where it is rendered, with its reason.
    """
    if problem := _problem(chat_template):
        raise UserError(f"the chat template is refused: {problem}")


@lru_cache(maxsize=64)
def _problem(chat_template: str) -> str | None:
    command = [sys.executable, "-m", "ft_assets.stages.templates.foreign"]
    try:
        done = subprocess.run(
            command,
            input=chat_template,
            encoding="utf-8",
            capture_output=True,
            timeout=_WALL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"it rendered a few words for more than {_WALL_SECONDS} seconds"
    if done.returncode < 0:
        return f"it rendered a few words for more than {CPU_SECONDS} CPU seconds, or crashed"
    return done.stdout.strip() if done.returncode == _HARMFUL else None


def _render_probes(chat_template: str) -> int:
    """The most characters that a probe is rendered to; in the child."""
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """The tag with which transformers finds the assistant's words; here it does nothing."""

        tags = {"generation"}  # noqa: RUF012 (as jinja2 declares it)

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message: str) -> None:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = json.dumps
    environment.globals.update(raise_exception=refuse, strftime_now=str)
    template = environment.from_string(chat_template)
    longest = 0
    for probe in PROBES:
        for messages, generate in ((probe, False), (probe[:-1], True)):
            try:
                text = template.render(
                    messages=messages, add_generation_prompt=generate, bos_token="", eos_token=""
                )
            except MemoryError:
                raise
            except Exception:  # noqa: S112 (whatever it is, it is harmless and said when rendering)
                continue
            longest = max(longest, len(text))
    return longest


def main() -> int:
    """The child: limits itself, then renders the template on its standard input."""
    chat_template = sys.stdin.read()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        longest = _render_probes(chat_template)
    except MemoryError:
        print(f"it wants more than {_MEMORY >> 20} MB of memory to render a few words")
        return _HARMFUL
    if longest > _MOST_CHARACTERS:
        print(f"it renders a few words to {longest:,} characters")
        return _HARMFUL
    return 0


if __name__ == "__main__":
    sys.exit(main())
