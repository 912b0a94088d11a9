"""Chats rendered in a text are read back, or refused; texts that only mention markers stay."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ft_assets_tests.stages.loaders.records.loading import load_values

TURNS = [
    ("system", "You are a bosun."),
    ("user", "What is rope?"),
    ("assistant", "    hemp()\n\n  - tar"),
    ("user", "And sail?"),
    ("assistant", "Cloth."),
]
Turns = list[tuple[str, str]]


def chatml(turns: Turns) -> str:
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)


def phi4(turns: Turns) -> str:
    return "".join(f"<|im_start|>{role}<|im_sep|>{text}<|im_end|>" for role, text in turns)


def llama3(turns: Turns) -> str:
    marks = "<|start_header_id|>{}<|end_header_id|>\n\n{}<|eot_id|>"
    return "<|begin_of_text|>" + "".join(marks.format(*turn) for turn in turns)


def phi3(turns: Turns) -> str:
    return "".join(f"<|{role}|>\n{text}<|end|>\n" for role, text in turns) + "<|endoftext|>"


def zephyr(turns: Turns) -> str:
    return "".join(f"<|{role}|>\n{text}</s>\n" for role, text in turns)


def granite(turns: Turns) -> str:
    mark = "<|start_of_role|>{}<|end_of_role|>{}<|end_of_text|>\n"
    return "".join(mark.format(*turn) for turn in turns)


@pytest.mark.parametrize("render", [chatml, phi4, llama3, phi3, zephyr, granite])
def test_families_with_tokens_are_read_back_to_the_letter(render: object) -> None:
    assert callable(render)
    for turns in (TURNS, TURNS[1:], TURNS[1:3]):
        assert load_values({"text": render(turns)}).turns == turns
        assert load_values(render(turns)).turns == turns


OTHERS = {
    "gemma": "<bos><start_of_turn>user\nHi.<end_of_turn>\n<start_of_turn>model\nHo.<end_of_turn>\n",
    "llama2": "<s>[INST] <<SYS>>\nSys.\n<</SYS>>\n\nHi. [/INST] Ho. </s>",
    "mistral": "<s>[INST] Hi. [/INST] Ho.</s>[INST] More? [/INST] No.</s>",
    "mistral7": "<s>[SYSTEM_PROMPT]Sys.[/SYSTEM_PROMPT][INST]Hi.[/INST]Ho.</s>",
    "alpaca": "Below is an instruction that describes a task. Write a response that appropriately "
    "completes the request.\n\n### Instruction:\nHi.\n\n### Response:\nHo.",
    "vicuna": "A chat between a curious user and an artificial intelligence assistant. The assistant "
    "gives helpful, detailed, and polite answers to the user's questions. USER: Hi. ASSISTANT: Ho.</s>",
    "guanaco": "### Human: Hi.### Assistant: Ho.",
    "hh": "\n\nHuman: Hi.\n\nAssistant: Ho.",
    "deepseek": "<｜begin▁of▁sentence｜>Sys.<｜User｜>Hi.<｜Assistant｜>Ho.<｜end▁of▁sentence｜>",
    "qwen3": chatml([("user", "Hi."), ("assistant", "<think>\n\n</think>\n\nHo.")]),
    "llama3.1": llama3(
        [
            ("system", "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\nSys."),
            ("user", "Hi."),
            ("assistant", "Ho."),
        ]
    ),
}


@pytest.mark.parametrize("family", OTHERS)
def test_other_families_are_read_back(family: str) -> None:
    turns = load_values({"text": OTHERS[family]}).turns
    assert [turn for turn in turns if turn[0] != "system"][:2] == [
        ("user", "Hi."),
        ("assistant", "Ho."),
    ]
    if "Sys." in OTHERS[family]:
        assert turns[0] == ("system", "Sys.")


def test_the_input_of_alpaca_keeps_its_place() -> None:
    text = "### Instruction:\nAdd.\n\n### Input:\n2, 3\n\n### Response:\n5"
    found = load_values({"text": text})
    assert found.turns == [("user", "Add."), ("assistant", "5")]
    assert found.records[0].input == "2, 3"


@pytest.mark.parametrize(
    "text",
    [
        chatml(TURNS[:2]),
        chatml(TURNS[1:2] * 2 + TURNS[2:3]),
        chatml([*TURNS[:3], ("tool", "4")]),
        chatml(TURNS).replace("<|im_end|>", "", 1),
        llama3([("user", "Say <|eot_id|> twice."), ("assistant", "No.")]).replace(
            "twice", "<|eot_id|>"
        ),
        "[INST] Hi. [/INST]",
        "[INST] Hi. [/INST] Ho. </s> and more",
        "### Instruction:\nHi.\n\n### Response:\nHo.\n\n### Response:\nHo.",
        "USER: Hi. ASSISTANT: Ho. ASSISTANT: Ho.",
        "<|start|>user<|message|>Hi<|end|><|start|>assistant<|message|>Ho<|return|>",
        "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>Hi<|END_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>Ho",
    ],
)
def test_chats_that_cannot_be_read_back_are_refused(text: str) -> None:
    refusal = load_values({"text": text}).refusal
    assert "a chat already rendered" in refusal
    assert "'messages'" in refusal


@pytest.mark.parametrize(
    "text",
    [
        f"ChatML writes a turn like this: {chatml(TURNS)}",
        "<|im_start|> is the token that opens a turn.",
        "### Instruction manual\n\nPull the rope.",
        "The model expects ### Instruction: and then ### Response: in each row.",
        "USER: a word for whoever uses a thing.",
        "Human: the word for us.\nDog: another.",
        "[1] See the notes.",
        "<p>The user asked the assistant.</p>",
        "# System\n\nAssistant: none.",
    ],
)
def test_texts_that_mention_markers_stay_as_they_are(text: str) -> None:
    assert load_values({"text": text}).texts == [text]


PLAIN = st.text(
    st.characters(exclude_categories=("Cc", "Cs"), exclude_characters="<|>｜"),
    min_size=1,
    max_size=30,
).filter(str.strip)


@given(exchanges=st.lists(st.tuples(PLAIN, PLAIN), min_size=1, max_size=3))
def test_what_chatml_renders_is_read_back(exchanges: list[tuple[str, str]]) -> None:
    turns = [turn for q, a in exchanges for turn in (("user", q), ("assistant", a))]
    assert load_values({"text": chatml(turns)}).turns == turns
