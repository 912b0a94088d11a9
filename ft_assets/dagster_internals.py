"""The only file that touches Dagster's private names; each has a contract test.

Tried on Dagster 1.13.27.
"""

import dagster as dg


def forget_cached_inputs(context: dg.AssetExecutionContext, keys: list[dg.AssetKey]) -> None:
    """Makes the running step look its inputs' versions up again when it records its provenance.

    Dagster reads them at step start, which is before the body has observed the files and settings
    that it is about to read; without this a freshly made asset can be marked stale at once.
    """
    step = context.get_step_execution_context()
    for key in keys:
        step._data_version_cache.wipe_input_asset_version_info(key)
