"""The work itself: plain functions without Dagster, one file a noun of the graph.

Each noun's file has a `build(job)` that reads the job's inputs and settings, writes the artifact's
files into `job.output` and says what it made. Belongs here: everything that makes an artifact.
Does not: where artifacts lie, whether they are fresh, who asked for them.
"""
