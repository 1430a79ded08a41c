"""One supervised inference server: its states, its child process, its health."""
