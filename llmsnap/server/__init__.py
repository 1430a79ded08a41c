"""Our own server: gevent's pywsgi behind a strict reader of heads."""

from llmsnap.server.run import serve

__all__ = ["serve"]
