"""Contracts with Dagster's private names: what breaks here breaks on an upgrade of Dagster."""

from dagster._core.execution.context.data_version_cache import DataVersionCache
from dagster._core.execution.context.system import StepExecutionContext


def test_a_step_can_be_made_to_forget_its_inputs_versions() -> None:
    """`forget_cached_inputs`: without it provenance names what was observed before the body ran."""
    assert callable(DataVersionCache.wipe_input_asset_version_info)
    assert "_data_version_cache" in StepExecutionContext.__init__.__code__.co_names
