"""The names that runs and assets carry and that more than one module looks for."""

CORPUS, DATA, MODEL = GROUPS = ("corpus", "data", "model")
"""The groups of assets. Dagster sorts them by name, which here is the order of the work."""


SENSOR_TAG = "dagster/sensor_name"
"""Dagster's own tag on a run that a sensor asked for."""
PARTITION_TAG = "dagster/partition"
"""Dagster's own tag on a run of one partition: here, of one corpus."""
USER_TAG = "user"
"""Dagster's own tag, which its pages show as who launched a run."""
TERMINAL = "terminal"
"""The value of `USER_TAG` on runs of the command line."""
FORCE_TAG = "ft_assets/force"


REUSE_TAG = "ft_assets/reuse"
"""The assets, by comma, that the run may only find unchanged."""


SETTLED_TAG = "ft_assets/settled"
"""The version of `corpus_files` that the run was asked for."""


WAITING_TAG = "ft_assets/waiting"
"""On a run that ended because this asset of it waits for a batch: no failure."""


WORKER_POOL = "worker"
"""What heavy assets wait for: `dagster.yaml` lets one at a time through."""


REFRESH_JOB = "refresh"


PROCESS_TAG = "ft_assets/process"
