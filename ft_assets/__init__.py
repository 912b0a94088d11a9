"""Make for fine-tuned models: a folder of documents in, a tuned model and its lineage out."""

__version__ = "0.1.0"
