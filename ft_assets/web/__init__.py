"""The guarded web server: Dagster's application and daemon, and the processes that end them together."""
