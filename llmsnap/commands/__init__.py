"""The subcommands of ``llmsnap``."""
