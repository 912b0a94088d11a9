"""What the assets lean on: where artifacts lie, and the project that holds data and storage."""
