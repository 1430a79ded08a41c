"""The gateway without its features: the cost of llmsnap's server and upstream client alone.

    bench/bare.py --port N --upstream http://127.0.0.1:M

Reads a request, forwards it, returns the response. No keys, metrics, captures, scheduler or log:
the difference to llmsnap is the price of those.
"""

import llmsnap._monkey  # noqa: F401, I001 - first, as in the product

import argparse
import signal
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import gevent
from gevent.event import Event

from llmsnap.limits import raise_open_files
from llmsnap.proxy import ConnectionPool, Exchange, UpstreamRequest, UpstreamTimeouts
from llmsnap.server import HttpServer, open_listener
from llmsnap.models import Address, parse_address
from llmsnap.http.headers import HOP_BY_HOP, from_environ

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse

FRAMING = HOP_BY_HOP | {"content-length"}
LIMITS = UpstreamTimeouts()


class Bare:
    """The WSGI application."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._pool = ConnectionPool()

    def __call__(self, environ: dict[str, Any], start_response: "StartResponse") -> Iterable[bytes]:
        """Pass one request on."""
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length) if length else b""
        headers = [one for one in from_environ(environ) if one[0].lower() not in FRAMING]
        method, target = environ["REQUEST_METHOD"], environ["RAW_URI"]
        exchange = Exchange(self._pool, self._address, LIMITS)
        exchange.send(UpstreamRequest(method, target, headers, body))
        kept = [one for one in exchange.headers if one[0].lower() not in HOP_BY_HOP]
        start_response(f"{exchange.status} {exchange.reason}", kept)
        return Pieces(exchange)


class Pieces:
    """The body of an answer."""

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        data = self._exchange.read()
        if not data:
            raise StopIteration
        return data

    def close(self) -> None:
        """Return the connection to the pool."""
        self._exchange.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, metavar="URL")
    options = parser.parse_args()
    raise_open_files()
    asked = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        gevent.signal_handler(number, asked.set)
    server = HttpServer(
        open_listener(f"127.0.0.1:{options.port}"), Bare(parse_address(options.upstream))
    )
    server.start()
    asked.wait()
    server.finish(1.0)


if __name__ == "__main__":
    main()
