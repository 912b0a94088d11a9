"""What `formatted_dataset` is made with: where rows come from, how they are split and written."""
