"""What ``llmsnap`` can do besides serving."""
