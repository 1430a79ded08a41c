"""A model server with the defects of real ones: ``odd_server.py --port N --dir DIR``.

A chat streams one frame and then, as cpp-httplib does, announces keep-alive and closes the
connection a little later. The text of the chat selects more: ``die`` ends the process after the
first frame, ``wait`` responds only if another process of the same DIR got a request before.
"""

import argparse
import os
import socket
import threading
import time
from pathlib import Path

HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
    b"Keep-Alive: timeout=5, max=100\r\n\r\n"
)
FRAME = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
ODD = (
    b"HTTP/1.1 200 OK\nX-Folded: one\r\n two\nContent-Length: 2\n"
    b"X-Blank : 1\ncontent-length: 2\n\nhi"
)
TRAILERS = (
    b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"2 \r\nhi\r\n0\r\nX-Trailer: 1\r\nSet-Cookie: a=b\r\n\r\n"
)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def read_request(sock: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return b"", b""
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    while len(body) < length and b"/refuse" not in head:
        body += sock.recv(65536)
    return head.split(b" ")[1], body


def chat(sock: socket.socket, body: bytes, folder: Path) -> None:
    if b"wait" in body:
        waited = folder / "waited"
        if not waited.exists():
            waited.touch()
            time.sleep(60)
    sock.sendall(HEAD + chunk(FRAME))
    if b"die" in body:
        os._exit(9)
    sock.sendall(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
    time.sleep(0.005)
    sock.shutdown(socket.SHUT_WR)
    time.sleep(0.06)


def serve(sock: socket.socket, folder: Path) -> None:
    with sock:
        path, body = read_request(sock)
        match path:
            case b"/v1/chat/completions":
                chat(sock, body, folder)
            case b"/refuse":
                sock.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
            case b"/odd":
                sock.sendall(ODD)
            case b"/trailers":
                sock.sendall(TRAILERS)
            case b"/health":
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--dir", type=Path)
    options = parser.parse_args()
    with socket.create_server(("127.0.0.1", options.port)) as listener:
        while True:
            sock, _ = listener.accept()
            threading.Thread(target=serve, args=(sock, options.dir), daemon=True).start()


if __name__ == "__main__":
    main()
