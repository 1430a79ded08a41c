"""Fuzzers of what reads bytes from outside; ``make fuzz`` runs them (tests/fuzz/README.md)."""
