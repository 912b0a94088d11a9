"""General ability: what a model could do before it was trained on a corpus, and should still do after it.

Texts of the project's own: `questions.jsonl` and `text.txt` measure it, `prompts.txt` rehearses it.
"""
