"""What fuzzers of streams share: an input says in its first byte how it is cut into pieces."""


class Pieces:
    """A socket that gives *data* in pieces of *size* bytes at most."""

    def __init__(self, data: bytes, size: int) -> None:
        self.left = data
        self._size = size

    def recv(self, size: int) -> bytes:
        end = min(size, self._size)
        piece, self.left = self.left[:end], self.left[end:]
        return piece


def size_and_rest(data: bytes) -> tuple[int, bytes]:
    """The size of the pieces, 1 to 64, and what is cut."""
    return (data[0] % 64 + 1, data[1:]) if data else (1, b"")


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]
