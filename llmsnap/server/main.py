"""``serve``: llmsnap's own server from bind to the last signal.

It listens, opens the service, and shuts both down from outside in at SIGINT or SIGTERM. Meanwhile
SIGHUP and changes of the file reload the configuration, systemd gets its notifications, and with
``--debug`` changes of the code restart the process.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import gevent
from gevent import socket
from gevent.event import Event

from llmsnap.errors import ConfigError
from llmsnap.event_loop import freeze_heap
from llmsnap.http import PAGES
from llmsnap.installation import identify
from llmsnap.options import Options
from llmsnap.reload import watch
from llmsnap.server.bind import address_of, open_listener, split_host_port
from llmsnap.server.deadlines import ConnectionLimits
from llmsnap.server.listener import HttpServer, TlsWrap
from llmsnap.server.tls import Certificate
from llmsnap.service import Service
from llmsnap.tasks import TaskGroup

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

log = logging.getLogger(__name__)

PAGES_CONNECTIONS = 256
"""Connections of the port for pages of models, which few users have open at a time."""
PAGES_SHARE = 0.2
"""The share of the file descriptors that this port gets."""
FINISH_S = 1.0
"""How long remaining connections may finish sending after the drain."""
CODE_POLL_S = 0.5
PACKAGE = Path(__file__).parent.parent
NOTIFY_SOCKET, WATCHDOG, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


def serve(
    options: Options,
    service: Service,
    application: WSGIApplication,
    say: Callable[[str], None],
    *,
    pages_port: int = 0,
) -> int:
    """Bind, serve until a signal, shut down from outside in; return the exit code. Blocks.

    *pages_port* is a second port, for pages of models alone. *say* prints the address.
    Raises: OSError when an address cannot be bound or the certificate not be used, ValueError.
    """
    wrap = None
    if options.tls:
        wrap = Certificate(options.tls_cert_file, options.tls_key_file).wrap
    listen = options.listen or (":8443" if options.tls else ":8080")
    listener = open_listener(listen)
    limits = ConnectionLimits(files_share=1 - PAGES_SHARE if pages_port else 1.0)
    servers = [HttpServer(listener, application, wrap=wrap, limits=limits)]
    if pages_port:
        servers.append(_pages_server(listen, pages_port, application, wrap))
    with stop_signals(service.kill) as stop_requested:
        service.open()
        for server in servers:
            server.start()
        if pages_port:
            log.info("pages of models are shown on port %d", pages_port)
        freeze_heap()
        listening = f"listening on {address_of(listener, tls=options.tls)}"
        say(f"{identify().short} {listening}")
        with systemd_notified(listening) as systemd:
            with ExitStack() as watches:
                watches.enter_context(reloading(service, watch_file=options.watch_config))
                code = None
                if options.debug:
                    code = watches.enter_context(watching_code(stop_requested.set))
                stop_requested.wait()
            systemd.send("STOPPING=1")
            shut_down(servers, service, options.drain_timeout)
    if code is not None and code.has_changed:
        restart()
    return 0


def _pages_server(
    listen: str, port: int, application: WSGIApplication, wrap: TlsWrap | None
) -> HttpServer:
    """Return a server on the host of *listen* and *port*. Raises: OSError, ValueError."""
    if listen.startswith("unix:"):
        raise ValueError(f"upstream.origin: port {port} needs an address beside it, not {listen}")
    host, _ = split_host_port(listen)
    listener = open_listener(f"{f'[{host}]' if ':' in host else host}:{port}")
    limits = ConnectionLimits(connections=PAGES_CONNECTIONS, files_share=PAGES_SHARE)
    return HttpServer(listener, application, wrap=wrap, limits=limits, environ={PAGES: True})


def shut_down(servers: Sequence[HttpServer], service: Service, drain_timeout_s: float) -> None:
    """Stop accepting, drain, stop all models, close the remaining connections. Blocks."""
    for server in servers:
        server.drain()
    service.close(drain_timeout_s)
    for server in servers:
        server.finish(FINISH_S)


# --- signals -----------------------------------------------------------------------------------


@contextmanager
def stop_signals(
    kill_models: Callable[[], None], leave: Callable[[int], object] = os._exit
) -> Iterator[Event]:
    """Yield the event that the first SIGINT or SIGTERM sets, for an orderly shutdown.

    The second one calls *kill_models* and *leave*.
    """
    stop_requested = Event()

    def on_signal(name: str) -> None:
        if stop_requested.is_set():
            log.warning("second %s: killing all models", name)
            kill_models()
            leave(1)
            return
        log.info("%s: shutting down", name)
        stop_requested.set()

    handlers = [
        gevent.signal_handler(number, on_signal, signal.Signals(number).name)
        for number in (signal.SIGINT, signal.SIGTERM)
    ]
    try:
        yield stop_requested
    finally:
        for handler in handlers:
            handler.cancel()


@contextmanager
def reloading(service: Service, *, watch_file: bool) -> Iterator[None]:
    """Reload *service* at SIGHUP, and with *watch_file* whenever its file changes."""
    tasks = TaskGroup("reload")

    def on_hangup() -> None:
        log.info("SIGHUP: reloading the configuration")
        if len(tasks) < 2:  # one that runs, and one after it that sees all later changes
            tasks.spawn("SIGHUP", _reload, service)

    handler = gevent.signal_handler(signal.SIGHUP, on_hangup)
    watcher = watch(service) if watch_file else None
    try:
        yield
    finally:
        handler.cancel()
        if watcher is not None:
            watcher.close()
        tasks.kill()


def _reload(service: Service) -> None:
    try:
        service.reload()
    except ConfigError as error:
        log.debug("reload refused: %s", error)  # the service has logged every problem


# --- systemd -----------------------------------------------------------------------------------


class SystemdNotifier:
    """Sends sd_notify(3) messages to the service manager at *address*; "": there is none."""

    def __init__(self, address: str) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address

    def __repr__(self) -> str:
        return f"<SystemdNotifier {self._address!r}>"

    def send(self, *lines: str) -> None:
        """Send ``NAME=value`` lines as one message; a failure is only logged."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            log.warning("sd_notify(%s) failed: %s", lines[0], error)


@contextmanager
def systemd_notified(
    status: str, environ: MutableMapping[str, str] = os.environ
) -> Iterator[SystemdNotifier]:
    """Send READY=1, then WATCHDOG=1 as often as the unit asks, until the block ends.

    systemd's variables are removed from *environ*, so that models do not inherit them. The watchdog
    messages come from a greenlet, and so cease when something blocks the event loop.
    """
    notifier = SystemdNotifier(environ.pop(NOTIFY_SOCKET, ""))
    every_s = _watchdog_interval_s(environ.pop(WATCHDOG, ""), environ.pop(WATCHDOG_PID, ""))
    tasks = TaskGroup("systemd")
    notifier.send("READY=1", f"STATUS={status}")
    if every_s:
        tasks.spawn("watchdog", _send_watchdog, notifier, every_s)
    try:
        yield notifier
    finally:
        tasks.kill()


def _watchdog_interval_s(usec: str, pid: str) -> float:
    """Return half of the unit's watchdog time; 0 without one, or one of another process."""
    if not usec.isdigit() or pid not in {"", str(os.getpid())}:
        return 0.0
    return int(usec) / 2_000_000


def _send_watchdog(notifier: SystemdNotifier, every_s: float) -> None:
    while True:
        notifier.send("WATCHDOG=1")
        gevent.sleep(every_s)


# --- --debug: restart on code changes ----------------------------------------------------------


class CodeWatcher:
    """Polls the files of the loaded modules; calls *on_change* once when one has changed."""

    def __init__(
        self,
        on_change: Callable[[], object],
        folder: Path = PACKAGE,
        modules: Mapping[str, ModuleType] = sys.modules,
    ) -> None:
        self.has_changed = False
        self._on_change = on_change
        self._folder = folder
        self._modules = modules
        self._known = self._stamps()

    def __repr__(self) -> str:
        return f"<CodeWatcher {self._folder}, {'changed' if self.has_changed else 'as loaded'}>"

    def run(self) -> None:
        """Poll until a file has changed. Blocks."""
        while not self.has_changed:
            gevent.sleep(CODE_POLL_S)
            self.check()

    def check(self) -> None:
        """Compare once. A changed file that does not compile is treated as half written."""
        found = self._stamps()
        changed = [path for path, stamp in found.items() if self._known.get(path, stamp) != stamp]
        self._known = found
        if changed and all(map(_compiles, changed)):
            log.info("%s changed: restarting", ", ".join(path.name for path in changed))
            self.has_changed = True
            self._on_change()

    def _stamps(self) -> dict[Path, int]:
        """Return the modification times of all files."""
        found, ours = {}, f"{self._folder}{os.sep}"
        for module in tuple(self._modules.values()):
            file = getattr(module, "__file__", None)
            if file and file.startswith(ours) and (path := Path(file)).exists():
                found[path] = path.stat().st_mtime_ns
        return found


@contextmanager
def watching_code(on_change: Callable[[], object]) -> Iterator[CodeWatcher]:
    """Call *on_change* when the code of llmsnap has changed, until the block ends."""
    watcher = CodeWatcher(on_change)
    tasks = TaskGroup("code")
    tasks.spawn("watch", watcher.run)
    try:
        yield watcher
    finally:
        tasks.close(0)


def restart() -> None:
    """Replace the process by a new one of the same command; returns only when that fails."""
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command


def _compiles(path: Path) -> bool:
    try:
        compile(path.read_bytes(), path, "exec")
    except (OSError, SyntaxError, ValueError) as error:
        log.warning("%s changed, and is not loaded: %s", path.name, error)
        return False
    return True
