"""The machines that workers run on."""

from typing import Protocol

import dagster as dg

from ft_assets.stages.job import Job, Outcome


class Compute(Protocol):
    """Runs the worker of a heavy asset."""

    def run(self, context: dg.AssetExecutionContext, job: Job) -> Outcome:
        """Runs a job to its end. Raises the UserError or StageError with which it failed."""
