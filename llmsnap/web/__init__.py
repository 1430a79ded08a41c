"""The HTTP side: a gateway in front of Flask, and one module for each group of Flask views.

To follow a request: ``gateway`` builds it from the WSGI environ (``incoming``), checks its Host
header, key and origin (``access``), and hands inference to the dispatcher; everything else goes to
the Flask application (``app``), whose views are in ``models``, ``admin_api``, ``configuration``,
``events`` with ``websocket``, ``logs``, ``llama_swap``, ``openapi`` and ``ui``. ``current`` gives
views the running request. ``broadcast`` collects events once for all readers of the event feed and
encodes them as ``frames``; ``accesslog`` writes one line per request. ``http.routes`` defines the
paths.
"""

from llmsnap.web.app import create_app

__all__ = ["create_app"]
