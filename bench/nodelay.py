"""Measures TCP_NODELAY on the listener: requests/s over one connection, with and without it.

    bench/nodelay.py [--seconds S]

The response is written in two pieces, as a stream is: without the option the second one waits for
the client's delayed ACK of the first (about 40 ms on Linux).
"""

import llmsnap._monkey  # noqa: F401, I001 - first, as in the product

import argparse
import http.client
import time

import gevent
from gevent import socket
from gevent.pywsgi import WSGIServer

from llmsnap.server import open_listener


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    return iter([b"data: one\n\n", b"data: two\n\n"])


def requests_per_s(nodelay: bool, seconds: float) -> float:
    listener = open_listener("127.0.0.1:0")
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, int(nodelay))
    server = WSGIServer(listener, application, log=None)
    server.start()
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port)
    served, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        connection.request("GET", "/")
        connection.getresponse().read()
        served += 1
    connection.close()
    server.stop()
    gevent.idle()
    return served / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2)
    seconds = parser.parse_args().seconds
    without, with_it = requests_per_s(False, seconds), requests_per_s(True, seconds)
    print(f"without TCP_NODELAY {without:8.0f} requests/s")
    print(f"with TCP_NODELAY    {with_it:8.0f} requests/s, {with_it / without:.0f} times as many")


if __name__ == "__main__":
    main()
