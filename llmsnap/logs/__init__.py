"""Logs: what llmsnap and its models print, kept in memory, shown on stdout and followed by readers.

Read ``stream`` first: a LogStream keeps the last bytes, and each LogReader follows it at its own
speed. ``model`` limits what a model may print, ``handler`` writes Python's log records, ``hub``
holds the logs of one server and passes them on to stdout.
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
