"""Who is served when: names, the scheduler and the driver that carries its decisions out."""
