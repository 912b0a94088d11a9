"""GGUF files and the files shipped with them."""
