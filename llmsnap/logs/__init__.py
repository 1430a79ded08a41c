"""Logs: output of llmsnap and its models, kept in memory, written to stdout, followed by readers.

Read ``stream`` first: a LogStream keeps the last bytes, and each LogReader follows it at its own
speed. ``model`` limits the output rate of a model, ``handler`` formats Python's log records,
``hub`` owns the logs of one server and copies them to stdout, ``marks`` says who wrote what when.
"""

from llmsnap.logs.handler import TEXT, LogHandler, LogStyle
from llmsnap.logs.hub import LogHub, StdoutWriter
from llmsnap.logs.stream import Chunk, LogReader, LogStream

__all__ = [
    "TEXT",
    "Chunk",
    "LogHandler",
    "LogHub",
    "LogReader",
    "LogStream",
    "LogStyle",
    "StdoutWriter",
]
