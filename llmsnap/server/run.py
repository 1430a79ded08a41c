"""Our own server from bind to the last signal."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from llmsnap.event_loop import freeze_heap
from llmsnap.http.pageorigin import PAGES
from llmsnap.installation import identify
from llmsnap.options import Options
from llmsnap.server.bind import address_of, bind, split_host_port
from llmsnap.server.connections import Limits
from llmsnap.server.development import start_anew, watching_code
from llmsnap.server.listener import Server, Wrap
from llmsnap.server.reloading import reloading
from llmsnap.server.signals import stop_signals
from llmsnap.server.systemd import notified
from llmsnap.server.tls import Certificate
from llmsnap.service import Service

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

PAGES_CONNECTIONS = 256
"""On the port for pages: people look at them, a few at a time."""
PAGES_SHARE = 0.2
"""Of the descriptors, where there are few."""
FINISH_S = 1.0
"""How long connections that are left get to finish what they send, after the drain."""


def serve(
    options: Options,
    service: Service,
    application: WSGIApplication,
    say: Callable[[str], None],
    *,
    pages_port: int = 0,
) -> int:
    """Bind, serve until a signal, shut down from outside in; return the exit code. Blocks.

    *pages_port* is a second port, for pages of models alone.
    Raises: OSError when an address cannot be bound or the certificate not be used, ValueError.
    """
    wrap = None
    if options.tls:
        wrap = Certificate(options.tls_cert_file, options.tls_key_file).wrap
    listen = options.listen or (":8443" if options.tls else ":8080")
    listener = bind(listen)
    limits = Limits(files_share=1 - PAGES_SHARE if pages_port else 1.0)
    servers = [Server(listener, application, wrap=wrap, limits=limits)]
    if pages_port:
        servers.append(_pages_server(listen, pages_port, application, wrap))
    with stop_signals(service.kill) as asked:
        service.open()
        for server in servers:
            server.start()
        if pages_port:
            log.info("pages of models are shown on port %d", pages_port)
        freeze_heap()
        listening = f"listening on {address_of(listener, tls=options.tls)}"
        say(f"{identify().short} {listening}")
        with notified(listening) as systemd:
            with ExitStack() as watches:
                watches.enter_context(reloading(service, watch_file=options.watch_config))
                code = watches.enter_context(watching_code(asked.set)) if options.debug else None
                asked.wait()
            systemd.send("STOPPING=1")
            shut_down(servers, service, options.drain_timeout)
    if code is not None and code.has_changed:
        start_anew()
    return 0


def _pages_server(
    listen: str, port: int, application: WSGIApplication, wrap: Wrap | None
) -> Server:
    """Return a server on the same address as *listen*, but *port*. Raises: OSError, ValueError."""
    if listen.startswith("unix:"):
        raise ValueError(f"upstream.origin: port {port} needs an address beside it, not {listen}")
    host, _ = split_host_port(listen)
    listener = bind(f"{f'[{host}]' if ':' in host else host}:{port}")
    limits = Limits(connections=PAGES_CONNECTIONS, files_share=PAGES_SHARE)
    return Server(listener, application, wrap=wrap, limits=limits, environ={PAGES: True})


def shut_down(servers: Sequence[Server], service: Service, drain_timeout_s: float) -> None:
    """Stop accepting, drain, stop all models, close what is left of the connections. Blocks."""
    for server in servers:
        server.drain()
    service.close(drain_timeout_s)
    for server in servers:
        server.finish(FINISH_S)
