"""The HTTP side: a gateway in front of Flask, and one module for each thing Flask answers.

Follow a request: ``gateway`` makes it one (``incoming``), checks host, key and page (``access``),
and hands inference to the dispatcher; everything else goes to Flask's application (``app``), whose
views are in ``models``, ``admin_api``, ``configuration``, ``events`` with ``websocket``, ``logs``,
``llama_swap``, ``openapi`` and ``ui``. ``current`` gives views the running request. ``broadcast``
gathers what happens once for all readers of the event feed, as ``frames``; ``accesslog`` writes the
line of each request. Which paths there are is the business of ``http.routes``.
"""

from llmsnap.web.app import create_app

__all__ = ["create_app"]
