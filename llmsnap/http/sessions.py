"""Sessions of the web UI: a random id in a cookie stands for the API key it was exchanged for.

A cookie is sent by browsers for every page of the host, so the gateway accepts an id only with
requests that prove to come from a page of this origin (``web.access``).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from llmsnap.http.auth import ClientKey, Keyring

LIFETIME_S = 12 * 3600
MOST_SESSIONS = 1000
COOKIE = "llmsnap-session"


@dataclass(frozen=True, slots=True)
class _Session:
    key: ClientKey
    ends_at: float


class Sessions:
    """The open sessions, by the digest of their id. They end with the process."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sessions: dict[bytes, _Session] = {}

    def __repr__(self) -> str:
        return f"<Sessions {len(self._sessions)}>"

    def open(self, key: ClientKey) -> str:
        """Return the id of a new session of *key*; the oldest one ends if there are too many."""
        now = self._clock()
        while self._sessions:
            oldest = next(iter(self._sessions))
            if len(self._sessions) < MOST_SESSIONS and self._sessions[oldest].ends_at > now:
                break
            del self._sessions[oldest]
        session_id = secrets.token_urlsafe(32)
        self._sessions[_digest(session_id)] = _Session(key, now + LIFETIME_S)
        return session_id

    def find(self, session_id: str) -> ClientKey | None:
        """Return the key of an open session; None if there is no such session, or it has ended."""
        found = self._sessions.get(_digest(session_id))
        return found.key if found is not None and found.ends_at > self._clock() else None

    def close(self, session_id: str) -> None:
        """End a session, if it is open."""
        self._sessions.pop(_digest(session_id), None)

    def retain(self, keyring: Keyring) -> None:
        """End the sessions whose key is not in *keyring*, or has other rights there."""
        self._sessions = {
            digest: each for digest, each in self._sessions.items() if keyring.holds(each.key)
        }


def _digest(session_id: str) -> bytes:
    """Lookups compare digests, so that their time reveals nothing about the ids."""
    return hashlib.sha256(session_id.encode("utf-8", "replace")).digest()


# --- the cookie ---------------------------------------------------------------------------------


def cookie_name(host: str) -> str:
    """Return the cookie's name at *host*, a Host header: all ports of a host share its cookies."""
    _, colon, port = host.rpartition(":")
    return f"{COOKIE}-{port}" if colon and port.isdecimal() else COOKIE


def session_ids(cookies: str, host: str) -> list[str]:
    """Return the session ids in a Cookie header; a browser may send several, of different paths."""
    pairs = (part.strip().partition("=") for part in cookies.split(";"))
    name = cookie_name(host)
    return [value for found, _, value in pairs if found == name and value]


def set_cookie(session_id: str, host: str, *, secure: bool) -> str:
    """Return the Set-Cookie header that stores *session_id*, or deletes it if it is empty.

    Host-only, since it has no Domain. Without Path it applies to the folder of the sign-in route:
    to everything here, and to nothing else beside it behind a reverse proxy with a path prefix.
    """
    lifetime_s = LIFETIME_S if session_id else 0
    flags = "; Secure" if secure else ""
    return (
        f"{cookie_name(host)}={session_id}; Max-Age={lifetime_s}; HttpOnly; SameSite=Strict{flags}"
    )


def without_sessions(cookies: str) -> str:
    """Return a Cookie header without session ids, which no server of a model may receive."""
    parts = (part.strip() for part in cookies.split(";"))
    return "; ".join(part for part in parts if not part.startswith(COOKIE))
