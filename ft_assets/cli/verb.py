"""How verbs are declared, and what they change of Typer: its help, and its words for a wrong value.

Typer 0.29 gives every flag a value in its help (`--force <bool>`), puts braces around a required
argument in the usage line, keeps the line breaks of a docstring, and passes on pydantic's words for
an error. Importing this loads only typer.
"""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.models import CommandFunctionType

if TYPE_CHECKING:
    _Command = TyperCommand
else:
    _Command = object


class _PlainHelp(_Command):
    """The changes, for a verb and for a family of verbs alike."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The arguments and options; a flag has no value in the help."""
        found = super().get_params(ctx)
        for each in found:
            if getattr(each, "is_flag", False):
                each.metavar = ""
        return found

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The parts of the usage line, without braces."""
        return [re.sub(r"[{}]", "", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Prints the help, each paragraph as wide as the terminal."""
        self.help = "\n\n".join(" ".join(each.split()) for each in (self.help or "").split("\n\n"))
        super().format_help(ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Reads the arguments; a wrong value is said in plain words."""
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter as error:
            error.message = _plain(error.message)
            raise


class _Verb(_PlainHelp, TyperCommand):
    """A verb."""


class _Family(_PlainHelp, TyperGroup):
    """A family of verbs."""


class Verbs(typer.Typer):
    """The verbs of a file, or of the whole command line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(cls=_Family, **options)

    def command(
        self, name: str | None = None, **options: Any
    ) -> Callable[[CommandFunctionType], CommandFunctionType]:
        """Declares a verb."""
        return super().command(name, cls=_Verb, **options)


def _plain(message: str) -> str:
    """What is wrong with a value, without pydantic's name for the error, and what may be meant."""
    from ft_assets.config import did_you_mean

    plain = message.removeprefix("Value error, ")
    if " is not one of " not in plain:
        return plain
    given, *choices = re.findall(r"'([^']*)'", plain)
    return plain.removesuffix(".") + did_you_mean(given, choices, "; ")
