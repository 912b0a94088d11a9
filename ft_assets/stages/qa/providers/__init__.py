"""Who answers: the clients of Claude, of its batches, and of other providers."""
