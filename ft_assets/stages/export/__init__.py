"""GGUF files and what is shipped with them."""
