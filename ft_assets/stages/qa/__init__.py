"""What `qa_pairs` is made with: prompts, providers, the ledger, money, quality and reviews."""
