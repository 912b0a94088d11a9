"""Where a worker runs. Here: a process on this machine. A pod comes later, behind the same call."""
