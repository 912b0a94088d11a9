"""The parts of `qa_pairs`: prompts, providers, the ledger, money, quality checks and reviews."""
