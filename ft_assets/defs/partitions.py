"""The one partition of the graph: the corpus. A new folder becomes a key without a reload."""

import warnings

import dagster as dg

# Partitioned checks and observable sources are what the design stands on, and both are still
# marked as previews; said here once and not at every start of every command.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)

corpus_partitions = dg.DynamicPartitionsDefinition(name="corpus")
