"""How `raw_documents` has files parsed: in processes that may fail, with limits."""
