"""Reads a multipart form that is in memory."""

from __future__ import annotations

from dataclasses import dataclass
from email.message import Message
from email.parser import BytesParser

from llmsnap.simulator.exchange import Refusal, Request


@dataclass(frozen=True, slots=True)
class FormPart:
    """One field of a form; *filename* is empty unless it is a file."""

    name: str
    filename: str
    content_type: str
    data: bytes

    @property
    def text(self) -> str:
        """The data as text."""
        return self.data.decode("utf-8", "replace")


def parse_form(request: Request) -> list[FormPart]:
    """Return the parts of *request* in order. Raises Refusal 400 if it is no multipart form."""
    head = Message()
    head["Content-Type"] = request.header("Content-Type")
    boundary = head.get_boundary()
    if head.get_content_type() != "multipart/form-data" or not boundary:
        raise Refusal(400, "the body is not multipart/form-data")
    # The first delimiter has no line break before it.
    pieces = (b"\r\n" + request.body).split(b"\r\n--" + boundary.encode())
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise Refusal(400, "the multipart body is cut short")
    return [_part(piece) for piece in pieces[1:-1]]


def field(parts: list[FormPart], name: str) -> str:
    """Return the text of the first field *name*, empty if there is none."""
    return next((part.text for part in parts if part.name == name and not part.filename), "")


def file(parts: list[FormPart], *names: str) -> FormPart:
    """Return the first file called one of *names*. Raises Refusal 400 if there is none."""
    for part in parts:
        if part.name in names and part.filename:
            return part
    raise Refusal(400, f"the file {names[0]} is missing")


def _part(piece: bytes) -> FormPart:
    head, separator, data = piece.partition(b"\r\n\r\n")
    if not separator:
        raise Refusal(400, "a part of the form has no headers")
    headers = BytesParser().parsebytes(head.lstrip(b"\r\n"), headersonly=True)
    name = headers.get_param("name", "", header="Content-Disposition")
    return FormPart(str(name), headers.get_filename(""), headers.get_content_type(), data)
