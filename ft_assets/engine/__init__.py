"""How an artifact is made, kept and found fresh. Nothing here imports Dagster."""
