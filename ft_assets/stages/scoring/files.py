"""The files of an evaluation."""

METRICS = "metrics.json"
ANSWERS = "answers.parquet"
"""Answers to the questions of the corpus; to held-out rows if it has none."""
HELD_OUT_ANSWERS = "held_out.parquet"
GENERAL_ANSWERS = "general.parquet"
