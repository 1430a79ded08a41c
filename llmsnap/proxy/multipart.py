"""An upload (multipart/form-data): received as a stream, kept on disk, forwarded with edits.

The model's name may follow the file, so all of it is received before it is forwarded. The data of
parts goes into one spool, in memory while small; only their headers stay in memory.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from tempfile import SpooledTemporaryFile
from typing import IO

from werkzeug.http import parse_options_header

from llmsnap.errors import BadRequest, LlmsnapError, TooLarge
from llmsnap.http import FormParser, FormProblem, PartData, PartHead
from llmsnap.proxy.jsonbody import MAX_MODEL_BYTES, means_model

CHUNK_BYTES = 1 << 16
IN_MEMORY_BYTES = 1 << 20
MAX_HEADS_BYTES = 1 << 20
MAX_TEXT_BYTES = 1 << 16
MAX_BOUNDARY_BYTES = 200
MAX_STRAY_PIECES = 1000
"""Limit of chunks beyond parts and reads: data that begins like the boundary causes more."""
MAX_PARAMETERS = 16
DEFAULT_LIMIT_BYTES = 4 << 30
FOLD = re.compile(r"\r\n[ \t]+")  # obsolete, but part headers may still be folded
_PARAMETER = re.compile(
    r';[ \t]*+([^\s=;"]++)[ \t]*+=[ \t]*+(?:"((?:[^"\\]++|\\.)*+)"|([^";]*+))[ \t]*+', re.DOTALL
)
_BOUNDARY_NAMES = re.compile(r"(?<![\w-])boundary\s*(?:\*\s*\d*\s*\*?\s*)?=", re.IGNORECASE)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
MODEL_HEAD = b'Content-Disposition: form-data; name="model"\r\n'


@dataclass(slots=True)
class FormPart:
    """One part: its header lines as sent, and where in the spool its data is.

    *doubt* names what in the head other parsers may read differently; "" for nothing.
    """

    name: str
    head: bytes
    is_file: bool
    start: int
    doubt: str = ""
    length: int = 0
    new: bytes | None = field(default=None, repr=False)

    @property
    def size(self) -> int:
        """The size in bytes of the data that is forwarded for this part."""
        return self.length if self.new is None else len(self.new)


class Upload:
    """A form that has been received completely. *model* is the model it names.

    Close it at the end of the request; `chunks` may be called more than once before that.
    """

    def __init__(
        self, content_type: str, parts: Sequence[FormPart], spool: IO[bytes], query_model: str = ""
    ) -> None:
        self.content_type = content_type
        self._boundary = _boundary(content_type)
        self._parts = list(parts)
        self._spool = spool
        self.doubt = next((part.doubt for part in self._parts if part.doubt), "")
        """What other parsers may read differently, so that they would find another model."""
        self.model = self._settle_model() or query_model
        self._received = [replace(part) for part in self._parts]

    def __repr__(self) -> str:
        return f"<Upload for {self.model!r}, {len(self._parts)} parts, {self.content_length} bytes>"

    @property
    def field_names(self) -> list[str]:
        """The names of the fields, in their order; files are no fields."""
        return [part.name for part in self._parts if not part.is_file]

    @property
    def content_length(self) -> int:
        """How many bytes `chunks` yields."""
        framing = len(self._boundary) + 8
        parts = sum(framing + len(part.head) + part.size for part in self._parts)
        return parts + len(self._boundary) + 6

    def text(self, name: str) -> str | None:
        """The text of the first field of that name, None without one."""
        for part in self._parts:
            if part.name == name and not part.is_file:
                data = part.new if part.new is not None else self._start_of(part)
                return data[:MAX_TEXT_BYTES].decode("utf-8", "replace")
        return None

    def _start_of(self, part: FormPart) -> bytes:
        self._spool.seek(part.start)
        return self._spool.read(min(part.length, MAX_TEXT_BYTES))

    def _settle_model(self) -> str:
        """Return the model the form names, after removing all parts that might name another.

        It is the first field of that name, else the first file, which some programs send; it is
        forwarded as a plain field.
        """
        naming = [part for part in self._parts if means_model(part.name)]
        exact = [part for part in naming if part.name == "model"]
        chosen = next((part for part in exact if not part.is_file), exact[0] if exact else None)
        if any(part.is_file for part in naming):
            self.doubt = self.doubt or "the part `model` has a file name"
        if len(naming) > 1 or chosen is None:
            self._parts = [
                part for part in self._parts if part is chosen or not means_model(part.name)
            ]
        if chosen is None:
            return ""
        if chosen.length > MAX_MODEL_BYTES:
            raise BadRequest(f"the `model` field is longer than {MAX_MODEL_BYTES} bytes", "model")
        if chosen.is_file or chosen.doubt:
            chosen.is_file, chosen.head = False, MODEL_HEAD
        model = self.text("model") or ""
        if not model:
            self._parts.remove(chosen)
        return model

    def rewrite(self, edits: Mapping[str, str | None]) -> None:
        """Set each field named in *edits* to its new text; None removes all fields of that name.

        A set field replaces the first of its name and removes the others; new ones are appended.
        """
        waiting = dict(edits)
        kept = []
        for part in self._parts:
            if part.is_file or part.name not in edits:
                kept.append(part)
            elif (new := waiting.pop(part.name, None)) is not None:
                part.new = new.encode()
                kept.append(part)
        added = [_new_field(name, text) for name, text in waiting.items() if text is not None]
        self._parts = kept + added

    def reset(self) -> None:
        """Undo what was rewritten."""
        self._parts = [replace(part) for part in self._received]

    def chunks(self) -> Iterator[bytes]:
        """Yield the bytes of the form as it is forwarded."""
        for part in self._parts:
            yield b"--%s\r\n%s\r\n" % (self._boundary, part.head)
            if part.new is None:
                yield from self._data(part)
            else:
                yield part.new
            yield b"\r\n"
        yield b"--%s--\r\n" % self._boundary

    def close(self) -> None:
        """Release the disk space."""
        self._spool.close()

    def _data(self, part: FormPart) -> Iterator[bytes]:
        position, end = part.start, part.start + part.length
        while position < end:
            self._spool.seek(position)
            chunk = self._spool.read(min(CHUNK_BYTES, end - position))
            position += len(chunk)
            yield chunk


def is_form(content_type: str) -> bool:
    """Whether a body of this Content-Type is parsed as a form."""
    return content_type.lstrip()[:10].lower() == "multipart/"


def receive(
    read: Callable[[int], bytes],
    content_type: str,
    *,
    limit_bytes: int = DEFAULT_LIMIT_BYTES,
    limit_key: str = "maxUpload",
    query_model: str = "",
    strict: bool = False,
) -> Upload:
    """Receive a form from *read* until that returns nothing.

    The model is the form's own, else *query_model*, from the URL. *strict* refuses what other
    parsers may read differently. *limit_key* is the setting that holds the limit. Blocks
    while reading.
    Raises: BadRequest if it is not such a form or names no model; TooLarge.
    """
    with ExitStack() as stack:
        intake = _Intake(_boundary(content_type))
        stack.callback(intake.spool.close)
        taken = 0
        while chunk := read(CHUNK_BYTES):
            taken += len(chunk)
            if taken > limit_bytes:
                raise TooLarge(f"the upload is larger than {limit_bytes} bytes ({limit_key})")
            intake.take(chunk)
        intake.take(b"")
        upload = Upload(content_type, intake.parts, intake.spool, query_model)
        if strict and upload.doubt:
            raise BadRequest(
                f"{upload.doubt}; with a key limited to some models it must be clear which is meant"
            )
        if not upload.model:
            raise BadRequest("missing or invalid `model` parameter in form data", "model")
        stack.pop_all()
    return upload


class _Intake:
    """Parses a form as it arrives: parts into a list, their data into the spool."""

    def __init__(self, boundary: bytes) -> None:
        self.parts: list[FormPart] = []
        self.spool = SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 - goes to Upload
        self._parser = FormParser(boundary)
        self._head_bytes = 0
        self._stray = 0

    def take(self, chunk: bytes) -> None:
        """Parse *chunk*; an empty one marks the end of the form."""
        try:
            if not chunk:
                self._parser.finish()
            for event in self._feed(chunk):
                if isinstance(event, PartData):
                    self._append(event.data)
                else:
                    self._begin(event)
        except FormProblem as problem:
            raise BadRequest(f"error parsing multipart form: {problem}") from problem

    def _feed(self, chunk: bytes) -> list[PartHead | PartData]:
        events = self._parser.feed(chunk)
        heads = sum(isinstance(event, PartHead) for event in events)
        # The data of a part arrives in one chunk, and in one or two more for each read.
        self._stray += max(0, len(events) - 3 * heads - 2)
        if self._stray > MAX_STRAY_PIECES:
            raise FormProblem("too much within its parts begins like the boundary")
        return events

    def _begin(self, head: PartHead) -> None:
        self._head_bytes += len(head.text)
        if self._head_bytes > MAX_HEADS_BYTES:
            raise FormProblem("its parts have too many headers")
        name, is_file, doubt = _disposition(head.text)
        self.parts.append(FormPart(name, head.text, is_file, self.spool.tell(), doubt))

    def _append(self, data: bytes) -> None:
        try:
            self.spool.write(data)
        except OSError as error:
            raise LlmsnapError(f"cannot store the upload: {error.strerror}") from error
        self.parts[-1].length += len(data)


def _disposition(head: bytes) -> tuple[str, bool, str]:
    """Return a part's name, "" without one, whether it is a file, and what is ambiguous."""
    unfolded = FOLD.sub(" ", head.decode("utf-8", "replace"))
    lines = [line.partition(":") for line in unfolded.split("\r\n")]
    found = [value for key, _, value in lines if key.strip().lower() == "content-disposition"]
    if not found:
        raise FormProblem("a part has no Content-Disposition")
    options, doubt = _options(found[0])
    if len(found) > 1:
        doubt = "a part has two Content-Dispositions"
    return options.get("name", ""), "filename" in options or "filename*" in options, doubt


def _options(disposition: str) -> tuple[dict[str, str], str]:
    """Return the parameters of a Content-Disposition, the first of each name, and the ambiguity.

    Parsers differ on repeated and extended parameters, on backslashes, and on what they skip.
    """
    kind, semicolon, _ = disposition.partition(";")
    doubt = "" if kind.strip().lower() == "form-data" else "a part is no form-data"
    options: dict[str, str] = {}
    at = len(kind) if semicolon else len(disposition)
    for _ in range(MAX_PARAMETERS):
        match = _PARAMETER.match(disposition, at)
        if match is None:
            break
        at = match.end()
        key, quoted, plain = match[1].lower(), match[2], match[3]
        text = plain.strip() if quoted is None else _ESCAPED.sub(r"\1", quoted)
        if key in options or key.startswith("name*") or (key == "name" and "\\" in match[0]):
            doubt = "the name of a part can be read in more than one way"
        options.setdefault(key, text)
    if disposition[at:].strip(" \t;"):
        doubt = "a Content-Disposition cannot be read to its end"
    return options, doubt


def _boundary(content_type: str) -> bytes:
    kind, options = parse_options_header(content_type)
    if kind.lower() != "multipart/form-data":
        raise BadRequest(
            f"a multipart/form-data body is needed here, not {kind or 'an unnamed one'}"
        )
    boundary = options.get("boundary", "")
    # Chromium's boundaries have the word in them: ----WebKitFormBoundary...
    if len(_BOUNDARY_NAMES.findall(content_type)) > 1 or "\\" in content_type:
        raise BadRequest("the Content-Type of the form has a boundary that can be read in two ways")
    if not boundary.isascii() or not 0 < len(boundary) <= MAX_BOUNDARY_BYTES:
        raise BadRequest("the Content-Type of the form has no usable boundary")
    return boundary.encode()


def _new_field(name: str, text: str) -> FormPart:
    quoted = name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
    head = f'Content-Disposition: form-data; name="{quoted}"\r\n'.encode()
    return FormPart(name, head, is_file=False, start=0, new=text.encode())
