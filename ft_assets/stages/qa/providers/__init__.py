"""The clients of Claude, of its batches, and of other providers."""
