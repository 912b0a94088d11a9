"""The work itself: plain functions without Dagster, one file per asset of the graph.

Each asset's file has a `build(job, report)` that reads the job's inputs and settings, writes the
artifact's files into `job.output` and returns an Outcome. Belongs here: everything that builds an
artifact. Does not: where artifacts are stored, whether they are fresh, who asked for them.
"""
