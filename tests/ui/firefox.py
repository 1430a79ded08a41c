"""A person at Firefox, which speaks WebDriver BiDi itself: no driver program is needed.

Only what the few tests in Firefox need; `browser.py` is the person at Chromium.
"""

import json
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import gevent
from websocket import create_connection  # as selenium uses it

from tests.ui.browser import FOUND, PATIENCE_S, Patient

START_S = 60
LISTENS = re.compile(r"WebDriver BiDi listening on (ws://\S+)")
ENTER, ARROW_LEFT = "\ue007", "\ue012"


def program() -> str | None:
    """The program, by the name Debian gives it or its own."""
    return shutil.which("firefox-esr") or shutil.which("firefox")


class RefusedError(Exception):
    """The browser refused a command: what it names is gone, or a script failed."""


class Firefox(Patient):
    """One headless Firefox, with one page at a time that remembers nothing of the one before."""

    refusals = RefusedError

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="llmsnap-firefox-"))
        output = self._folder / "output"
        command = [program() or "", "--headless", "--no-remote", "--profile", str(self._folder)]
        with output.open("wb") as file:
            self._child = subprocess.Popen(
                [*command, "--remote-debugging-port", "0", "about:blank"], stdout=file, stderr=file
            )
        self._number = 0
        self._context = ""
        self._errors: list[str] = []
        try:
            address = self._address(output)
            self._socket = create_connection(address, timeout=PATIENCE_S, suppress_origin=True)
            self._call("session.new", capabilities={})
            self._call("session.subscribe", events=["log.entryAdded"])
        except BaseException:
            self._child.kill()
            raise

    def _address(self, output: Path) -> str:
        with gevent.Timeout(START_S):
            while not (found := LISTENS.search(output.read_text(errors="replace"))):
                assert self._child.poll() is None, output.read_text(errors="replace")
                gevent.sleep(0.05)
        return f"{found[1]}/session"

    def close(self) -> None:
        """End it and forget its profile."""
        self._socket.close()
        self._child.terminate()
        self._child.wait(PATIENCE_S)
        shutil.rmtree(self._folder, ignore_errors=True)

    def visit(self, base: str, page: str) -> None:
        """Come to *page* as if for the first time, and wait until it is live."""
        fresh = self._call("browser.createUserContext")["userContext"]
        before = self._context
        made = self._call("browsingContext.create", type="tab", userContext=fresh)
        self._context = made["context"]
        if before:
            self._call("browsingContext.close", context=before)
        self.size(1440, 900)
        self._call("browsingContext.navigate", **self._here, url=f"{base}/ui/#/{page}", wait="none")
        live = "return document.title.startsWith('🟢') && document.querySelector('main .page h1')"
        self.wait(lambda: self.run(f"{live} !== null"), "a live page")

    def size(self, width: int, height: int) -> None:
        """Make the page as wide and high as this."""
        viewport = {"width": width, "height": height}
        self._call("browsingContext.setViewport", **self._here, viewport=viewport)

    def reload(self) -> None:
        """Load the page again, until it can be asked."""
        self._call("browsingContext.reload", **self._here, wait="interactive")

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page and return what it returns, as JSON has it."""
        body = f"const made = (function () {{ {script} }}).apply(null, arguments);"
        return json.loads(
            self._evaluate(f"{body} return JSON.stringify(made ?? null)", *arguments)["value"]
        )

    def find(self, css: str, text: str = "") -> Any:
        """Wait for something visible that matches and contains *text*; return a reference to it."""
        found: dict[str, Any] = {}

        def look() -> bool:
            script = f"return (function () {{ {FOUND} }}).call(null, ...arguments, '')[0]"
            found.update(self._evaluate(script, css, text))
            return "sharedId" in found

        self.wait(look, f"{css} with {text!r}")
        return {"sharedId": found["sharedId"]}

    def click(self, css: str, text: str = "", *, at: tuple[int, int] = (0, 0)) -> None:
        """Click on something, *at* so many pixels from its middle."""
        self.point(css, text, at=at, press=True)

    def point(
        self, css: str, text: str = "", *, at: tuple[int, int] = (0, 0), press: bool = False
    ) -> None:
        """Move the pointer to something, and press its button there."""
        buttons = [{"type": kind, "button": 0} for kind in ("pointerDown", "pointerUp")]

        def act() -> bool:
            origin = {"type": "element", "element": self.find(css, text)}
            move = {"type": "pointerMove", "x": at[0], "y": at[1], "origin": origin}
            self._act("pointer", move, *(buttons if press else []))
            return True

        self.wait(act, f"pointing at {css}")

    def type(self, text: str) -> None:
        """Type *text* wherever the focus is."""
        self._act(
            "key", *({"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp"))
        )

    def errors(self) -> list[str]:
        """Errors the console has shown since the last call."""
        found, self._errors = self._errors, []
        return found

    @property
    def _here(self) -> dict[str, str]:
        return {"context": self._context}

    def _act(self, kind: str, *actions: dict[str, Any]) -> None:
        source = {"type": kind, "id": kind, "actions": list(actions)}
        self._call("input.performActions", **self._here, actions=[source])

    def _evaluate(self, script: str, *arguments: str) -> Any:
        """Return what *script* returns, as the protocol has it."""
        answer = self._call(
            "script.callFunction",
            functionDeclaration=f"function () {{ {script} }}",
            arguments=[{"type": "string", "value": each} for each in arguments],
            target=self._here,
            awaitPromise=False,
        )
        if answer["type"] != "success":
            raise RefusedError(answer)
        return answer["result"]

    def _call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv())
            if message.get("method") == "log.entryAdded" and message["params"]["level"] == "error":
                self._errors.append(message["params"]["text"])
            if message.get("id") == self._number:
                if message["type"] != "success":
                    raise RefusedError(message)
                return message["result"]
