"""A template that comes with a model or a corpus cannot take the process down."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ft_assets.errors import UserError
from ft_assets.records import DroppedRow, Message
from ft_assets.stages.models.tokenizer import tokenizer_of
from ft_assets.stages.qa.prompt import render_prompt
from ft_assets.stages.templates.chat import check_custom_template
from ft_assets.stages.templates.conversations import CannotRenderError, Conversation
from ft_assets.stages.templates.foreign import check_template
from ft_assets.stages.templates.prompt_templates import PromptTemplateManager
from ft_assets.stages.templates.renderer import HarmError, Renderer
from ft_assets.tables import read_table
from ft_assets_tests.conftest import Corpus

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
        ("{% generation %}{{ 'abc' * 10**6 }}{% endgeneration %}", "3,000,000 characters"),
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


HUGE = "{{ 'a' * 6000000000 }}"
PLAIN = "Q: {{ instruction }}\nA: {{ output }}"
ON_ONE_WORD = "{% if 'xyzzy' in instruction %}" + HUGE + "{% endif %}" + PLAIN
LOOPS_ON_ONE_WORD = "{% if 'xyzzy' in instruction %}" + FOREVER + "{% endif %}" + PLAIN


def _turn(question: str) -> tuple[list[Message], None]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": "Yes."}], None


def test_a_template_or_a_prompt_that_takes_too_much_to_try_is_refused() -> None:
    for text in (HUGE, HUGE + PLAIN):
        with pytest.raises(UserError, match="the template takes more than 512 MB of memory"):
            check_custom_template(text)
    with pytest.raises(UserError, match="the prompt takes more than 512 MB of memory"):
        render_prompt(HUGE, ["why"], "keepers")
    with pytest.raises(UserError, match="the prompt writes 3,000,000 characters"):
        render_prompt("{{ 'abc' * 10**6 }}", ["why"], "keepers")


def test_a_row_on_which_a_template_takes_too_much_is_left_out(tokenizer: Any) -> None:
    manager = PromptTemplateManager(tokenizer, "custom", custom=ON_ONE_WORD)
    questions = [f"Is {number}?" for number in range(700)]
    for place in (0, 499, 500, 699):
        questions[place] = "xyzzy"
    found = manager.rows([Conversation(*_turn(question)) for question in questions])
    for question, row in zip(questions, found, strict=True):
        if question == "xyzzy":
            assert str(row) == "the template takes more than 512 MB of memory for it"
        else:
            assert not isinstance(row, CannotRenderError)
            assert question in row.rows[0].prompt


def test_a_template_that_takes_too_much_on_many_rows_is_refused(tokenizer: Any) -> None:
    manager = PromptTemplateManager(tokenizer, "custom", custom=ON_ONE_WORD)
    says = "the chat template is refused: it takes more than 512 MB of memory for more than 10 conv"
    with pytest.raises(UserError, match=says):
        manager.rows([Conversation(*_turn(f"xyzzy {number}")) for number in range(500)])


@pytest.mark.slow
def test_a_dataset_leaves_out_the_row_that_a_template_loops_on(
    corpus: Corpus, pico_model: Path
) -> None:
    records = [{"question": f"What is {n}?", "answer": f"It is {n}."} for n in range(40)]
    records[7]["question"] = "What is xyzzy?"
    corpus.write("crates.json", json.dumps(records))
    corpus.write("house.jinja", LOOPS_ON_ONE_WORD)
    corpus.settings(f'model: {{base: "{pico_model}"}}\ndata: {{template: house.jinja}}')
    for asset in ("raw_documents", "chunks", "qa_pairs", "formatted_dataset"):
        made = corpus.project.make(corpus.name, asset)
    dropped = list(read_table(made.folder / "dropped.parquet", DroppedRow))
    assert [row.reason for row in dropped] == ["the template takes more than 3 CPU seconds for it"]
    corpus.write("house.jinja", ON_ONE_WORD.replace("xyzzy", "What"))
    with pytest.raises(
        UserError, match=r"data\.template house\.jinja: .* is refused: it takes more"
    ):
        corpus.project.make(corpus.name, "formatted_dataset")


_MEASURED = """\
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
print(done.stdout, done.stderr)
"""


@pytest.mark.parametrize("text", [HUGE, HUGE + PLAIN])
def test_status_and_validate_name_a_corpus_s_template_soon(corpus: Corpus, text: str) -> None:
    corpus.write("house.jinja", text)
    corpus.settings("data:\n  template: house.jinja")
    environment = {
        **os.environ,
        "FT_ASSETS_DATA": str(corpus.project.data),
        "FT_ASSETS_STORAGE": str(corpus.project.storage.root),
    }
    for verb in ("status", "validate"):
        command = [sys.executable, "-m", "ft_assets.cli", verb, corpus.name]
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", _MEASURED, *command],
            env=environment,
            capture_output=True,
            text=True,
        )
        code, memory = map(int, done.stdout.splitlines()[0].split())
        assert code == 1
        assert "house.jinja" in done.stdout
        assert "512 MB of memory" in done.stdout
        assert memory < 600_000  # kilobytes
        assert time.monotonic() - began < 30


def test_a_process_that_is_killed_is_replaced() -> None:
    rendering = Renderer()
    try:
        assert rendering.ask("fields", {}, ["{{ a }}"])[0]["fields"] == ["a"]
        assert rendering._process
        os.kill(rendering._process._process.pid, signal.SIGKILL)
        assert rendering.ask("fields", {}, ["{{ b }}"])[0]["fields"] == ["b"]
        with pytest.raises(HarmError):
            rendering.ask("fields", {}, [HUGE])
        assert rendering.ask("fields", {}, ["{{ c }}"])[0]["fields"] == ["c"]
    finally:
        rendering.close()


def test_many_threads_and_a_fork_share_no_answer() -> None:
    rendering = Renderer()
    wrong: list[str] = []

    def ask(name: str) -> None:
        for _ in range(20):
            if rendering.ask("fields", {}, [f"{{{{ {name} }}}}"])[0]["fields"] != [name]:
                wrong.append(name)

    threads = [threading.Thread(target=ask, args=[f"name{number}"]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            rendering.forget()
            ask("forked")
            rendering.close()
            code = len(wrong)
        finally:
            os._exit(code)
    ask("own")
    assert os.waitpid(pid, 0)[1] == 0
    rendering.close()
    assert wrong == []


def test_text_that_is_no_unicode_comes_back_as_it_was(tokenizer: Any) -> None:
    manager = PromptTemplateManager(tokenizer, "chatml")
    assert "a\ud800b" in manager.format(_turn("a\ud800b")[0]).prompt
