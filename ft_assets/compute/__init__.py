"""Where a worker runs."""

from typing import Protocol

import dagster as dg

from ft_assets.stages.job import Job, Outcome


class Compute(Protocol):
    """Runs the worker that a heavy asset needs, somewhere."""

    def run(self, context: dg.AssetExecutionContext, job: Job) -> Outcome:
        """Runs a job to its end. Raises the UserError or StageError that it ended with."""
