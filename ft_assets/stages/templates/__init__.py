"""Chat templates, and the marker text that none of them may find in a document."""
