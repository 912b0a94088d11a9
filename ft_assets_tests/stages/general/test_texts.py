"""The texts on general knowledge: what is rehearsed gives away nothing of what is asked."""

from ft_assets.stages.general.texts import general_questions, general_text, rehearsal_prompts
from ft_assets.stages.key_facts import has_key_fact


def test_there_are_twenty_questions_with_key_facts() -> None:
    questions = general_questions()
    assert len({item.question for item in questions}) == 20
    assert all(item.key_facts for item in questions)


def test_no_question_is_rehearsed_and_no_prompt_has_an_answer() -> None:
    prompts = rehearsal_prompts()
    assert len(set(prompts)) == len(prompts) >= 60
    for item in general_questions():
        assert item.question not in prompts
        assert not has_key_fact(item.question, item.key_facts)
        words = [fact for fact in item.key_facts if fact.isalpha() and len(fact) > 3]
        # A number or a plain word may stand in a prompt ("three countries"); a name is the answer itself.
        names = [fact for fact in words if fact[0].isupper()]
        assert not [prompt for prompt in prompts if names and has_key_fact(prompt, names)]


def test_the_text_has_paragraphs_that_fill_a_few_windows() -> None:
    text = general_text()
    assert 900 <= len(text.split()) <= 1_200
    assert text.count("\n\n") >= 10
