"""What a model is measured by: losses, answers beside references, and the verdicts on both."""
