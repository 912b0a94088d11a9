"""A template that comes with a model cannot take the process down."""

from pathlib import Path

import pytest

from ft_assets.errors import UserError
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.templates.foreign import check_template
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager

FOREVER = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
GROWS = (
    "{% set x = namespace(v='aaaa') %}{% for i in range(60) %}{% set x.v = x.v + x.v %}{% endfor %}"
)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ 'a' * 10**10 }}", "memory"),
        ("{{ messages[0]['content'] * 10**9 }}", "memory"),
        (GROWS, "memory"),
        ("{{ 'abc' * 10**6 }}", "3,000,000 characters"),
        pytest.param(FOREVER, "CPU seconds", marks=pytest.mark.slow),
        pytest.param("{{ 9 ** (9 ** (9 ** 9)) }}", "CPU seconds", marks=pytest.mark.slow),
    ],
)
def test_a_template_that_takes_too_much_is_refused(template: str, says: str) -> None:
    with pytest.raises(UserError, match=f"the chat template is refused: .*{says}"):
        check_template(template)


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0]['content'] }}",
        "{{ raise_exception('no system message') }}",
        "{% generation %}{{ messages[-1]['content'] }}{% endgeneration %}",
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m }}{% endfor %}",
        "{% this is no template",
        "{{ 1 / 0 }}",
    ],
)
def test_one_that_works_or_only_fails_passes(template: str) -> None:
    check_template(template)


def test_a_base_model_with_such_a_template_is_refused(smollm: Path) -> None:
    tokenizer = tokenizer_of(smollm)
    tokenizer.chat_template = "{{ 'a' * 10**10 }}"
    with pytest.raises(UserError, match="the chat template is refused"):
        PromptTemplateManager(tokenizer)
