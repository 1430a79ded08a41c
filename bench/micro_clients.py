"""Measures one small POST with each HTTP client, in CPU time of this process.

    bench/micro_clients.py URL [--requests N]

URL is any server that answers POST, such as ``llmsnap sim``'s /v1/chat/completions. The clients
take turns in rounds; figures are medians. Clients that are not installed are left out.
"""

import llmsnap._monkey  # noqa: F401, I001 - first, as in the product

import argparse
import http.client
import json
import statistics
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from llmsnap.proxy import ConnectionPool, Exchange, UpstreamRequest, UpstreamTimeouts
from llmsnap.models import parse_address

BODY = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
HEADERS = {"Content-Type": "application/json"}
ROUNDS = 5


def ours(url: str) -> Callable[[], bytes]:
    parts = urlsplit(url)
    address, pool = parse_address(f"{parts.scheme}://{parts.netloc}"), ConnectionPool()
    headers = [("Host", parts.netloc), *HEADERS.items()]

    def post() -> bytes:
        exchange = Exchange(pool, address, UpstreamTimeouts())
        exchange.send(UpstreamRequest("POST", parts.path, headers, BODY))
        answer = b"".join(iter(exchange.read, b""))
        exchange.close()
        return answer

    return post


def http_client(url: str) -> Callable[[], bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port)

    def post() -> bytes:
        connection.request("POST", parts.path, BODY, HEADERS)
        return connection.getresponse().read()

    return post


def urllib3(url: str) -> Callable[[], bytes]:
    import urllib3 as library

    pool = library.PoolManager()
    return lambda: pool.request("POST", url, body=BODY, headers=HEADERS).data


def requests(url: str) -> Callable[[], bytes]:
    import requests as library

    session = library.Session()
    session.trust_env = False
    return lambda: session.post(url, data=BODY, headers=HEADERS).content


def geventhttpclient(url: str) -> Callable[[], bytes]:
    from geventhttpclient import HTTPClient

    client = HTTPClient.from_url(url)
    path = urlsplit(url).path
    return lambda: bytes(client.post(path, body=BODY, headers=HEADERS).read())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url")
    parser.add_argument("--requests", type=int, default=1000)
    args = parser.parse_args()
    posts = {}
    for make in (ours, http_client, urllib3, requests, geventhttpclient):
        try:
            posts[make.__name__] = make(args.url)
            posts[make.__name__]()
        except ImportError:
            print(f"{make.__name__:18} not installed")
    costs: dict[str, list[float]] = {name: [] for name in posts}
    for _ in range(ROUNDS):
        for name, post in posts.items():
            began = time.process_time()
            for _ in range(args.requests):
                post()
            costs[name].append((time.process_time() - began) / args.requests * 1e6)
    for name, rounds in costs.items():
        print(f"{name:18} {statistics.median(rounds):7.0f} us of CPU for each POST")


if __name__ == "__main__":
    main()
