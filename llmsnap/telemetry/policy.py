"""What of a request may be captured: which routes, which bodies, without which secrets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache, partial

from msgspec.structs import replace

from llmsnap.telemetry.capture import MIB, Body, Capture, Mask
from llmsnap.telemetry.observer import Headers, header
from llmsnap.telemetry.redact import Redactor

# Audio and images are large, and nobody reads them in a capture viewer.
DEFAULT_MASKS: Mapping[str, Mask] = {
    "/v1/audio/*": Mask.HEADERS,
    "/v1/images/*": Mask.HEADERS,
    "/sdapi/*": Mask.HEADERS,
}
_TEXT_TYPES = ("application/json", "text/", "application/x-ndjson", "application/x-www-form")


class CapturePolicy:
    """The rules for captures; *masks* are (route or glob) -> how much, before the built-in ones."""

    def __init__(
        self,
        *,
        max_body: int = MIB,
        redact: Iterable[str] = (),
        masks: Mapping[str, str] | None = None,
    ) -> None:
        self.max_body = max_body
        self.redactor = Redactor(redact)
        self._masks = {route: Mask(mask) for route, mask in (masks or {}).items()}
        self.mask: Callable[[str], Mask] = lru_cache(maxsize=256)(partial(_mask, self._masks))
        """Returns how much of a request for a path is captured. Refers to no method: a circle."""

    def prepare(self, capture: Capture) -> Capture:
        """Return the capture without the secrets in its bodies."""
        return replace(
            capture,
            req_body=self._redacted(capture.req_body),
            resp_body=self._redacted(capture.resp_body),
        )

    def _redacted(self, body: Body) -> Body:
        return replace(body, data=self.redactor.body(body.data)) if body.data else body

    def omitted_reason(self, size: int, headers: Headers, path: str) -> str:
        """Return why a body of *size* with these headers is not kept, or "" if it is."""
        if self.mask(path) is not Mask.FULL:
            return "captureMask keeps bodies of this route out"
        if size > self.max_body:
            return "larger than captureMaxBody"
        asked_for = self._masks.get(path) is Mask.FULL
        kind = header(headers, "content-type").strip().lower()
        if kind and not kind.startswith(_TEXT_TYPES) and "+json" not in kind and not asked_for:
            return f"not text ({kind.partition(';')[0][:60]})"
        return ""


def _mask(masks: Mapping[str, Mask], path: str) -> Mask:
    if path in masks:
        return masks[path]
    for route, mask in [*masks.items(), *DEFAULT_MASKS.items()]:
        if fnmatchcase(path, route):
            return mask
    return Mask.FULL
