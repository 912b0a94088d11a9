"""The parts of `formatted_dataset`: origins of rows, augmentation, split, checks and writer."""
