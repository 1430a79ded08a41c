LIMIT_S = 20
"""Seconds that a process may take on a busy machine."""
