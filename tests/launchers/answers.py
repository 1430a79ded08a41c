"""A server at the port of its argument that starts fast: each request is answered with 200."""

import socket
import sys

with socket.create_server(("", int(sys.argv[1]))) as server:
    while True:
        client, _ = server.accept()
        with client:
            if client.recv(4096):
                client.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n")
