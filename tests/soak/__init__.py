"""A long run of the real server under disturbances; ``make soak`` starts it."""
