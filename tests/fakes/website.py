"""A web site, or a model's server with pages: a program that answers every request.

python website.py --port PORT
"""

import argparse
from collections.abc import Iterable, Iterator
from typing import Any

import gevent
from gevent.pywsgi import WSGIServer

PAGE = b"<!doctype html><title>quiet</title><p>page</p><script>document.title = 'ran'</script>"
WORKER = b"addEventListener('fetch', (event) => event.respondWith(new Response('owned')));"
WHOLE_ORIGIN = [
    ("Clear-Site-Data", '"storage"'),
    ("Strict-Transport-Security", "max-age=1"),
    ("Service-Worker-Allowed", "/"),
]
KINDS = {
    "/health": ("text/plain", b"OK"),
    "/sw.js": ("text/javascript", WORKER),
    "/props": ("text/javascript", WORKER),
    "/file": ("text/plain", b"x" * 1000),
}


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer one request: a page by default, endless events at ``/events``."""
    path = environ["PATH_INFO"]
    environ["wsgi.input"].read()
    if path == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream"), *WHOLE_ORIGIN])
        return _events()
    kind, body = KINDS.get(path, ("text/html", PAGE))
    length = ("Content-Length", str(len(body)))
    start_response("200 OK", [("Content-Type", kind), length, *WHOLE_ORIGIN])
    return [body]


def _events() -> Iterator[bytes]:
    yield b"data: first\n\n"
    while True:
        gevent.sleep(0.1)
        yield b"data: more\n\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    args = parser.parse_args()
    WSGIServer((args.host, args.port), application, log=None).serve_forever()
