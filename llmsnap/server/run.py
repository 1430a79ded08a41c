"""Our own server from bind to the last signal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llmsnap.collector import spare_what_stays
from llmsnap.options import Options
from llmsnap.server.bind import address_of, bind
from llmsnap.server.listener import Server
from llmsnap.server.reloading import reloading
from llmsnap.server.signals import stop_signals
from llmsnap.server.systemd import notified
from llmsnap.server.tls import Certificate
from llmsnap.service import Service

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

FINISH_S = 1.0
"""How long connections that are left get to finish what they send, after the drain."""


def serve(
    options: Options, service: Service, application: WSGIApplication, say: Callable[[str], None]
) -> int:
    """Bind, serve until a signal, shut down from outside in; return the exit code. Blocks.

    Raises: OSError when the address cannot be bound or the certificate not be used.
    """
    wrap = None
    if options.tls:
        wrap = Certificate(options.tls_cert_file, options.tls_key_file).wrap
    listener = bind(options.listen or (":8443" if options.tls else ":8080"))
    server = Server(listener, application, wrap=wrap)
    with stop_signals(service.kill) as asked:
        service.open()
        server.start()
        spare_what_stays()
        listening = f"listening on {address_of(listener, tls=options.tls)}"
        say(f"llmsnap {listening}")
        with notified(listening) as systemd:
            with reloading(service, watch_file=options.watch_config):
                asked.wait()
            systemd.send("STOPPING=1")
            shut_down(server, service, options.drain_timeout)
    return 0


def shut_down(server: Server, service: Service, drain_timeout_s: float) -> None:
    """Stop accepting, drain, stop all models, close what is left of the connections. Blocks."""
    server.drain()
    service.close(drain_timeout_s)
    server.finish(FINISH_S)
