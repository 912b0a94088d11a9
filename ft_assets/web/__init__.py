"""The guarded web server: Dagster's application, its daemon beside it, and what ends them together."""
