"""Flask only here: the gateway in front, and one blueprint for each kind of address."""
