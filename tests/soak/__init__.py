"""A long run of the real thing; ``make soak`` starts it."""
