"""Records of paid work: the ledger of answers and the log of batches, both journals on disk."""
