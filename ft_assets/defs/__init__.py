"""All that is Dagster: assets, checks, sensors, runs and the instance.

The work itself is in `stages/`; how an artifact is made, without Dagster, in `engine/`.
"""
