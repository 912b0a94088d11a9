"""Base models: found, fetched and loaded."""
