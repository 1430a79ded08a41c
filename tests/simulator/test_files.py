import io
import struct
import wave
import zlib

from llmsnap.simulator import files


def test_the_wav_is_one():
    with wave.open(io.BytesIO(files.wav("hello"))) as sound:
        assert (sound.getnchannels(), sound.getsampwidth()) == (1, 2)
        assert sound.getframerate() == files.SAMPLE_RATE
        assert sound.readframes(sound.getnframes()) == files.samples("hello")


def test_a_longer_text_sounds_longer_up_to_a_limit():
    assert len(files.samples("hello")) > len(files.samples("hi"))
    assert len(files.samples("x" * 1000)) == files.SAMPLE_RATE * 2 * 2


def test_the_png_is_one():
    data = files.png("a")
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    kinds, rest = [], data[8:]
    while rest:
        (length,) = struct.unpack(">I", rest[:4])
        chunk, check, rest = (
            rest[4 : 8 + length],
            rest[8 + length : 12 + length],
            rest[12 + length :],
        )
        assert struct.unpack(">I", check) == (zlib.crc32(chunk),)
        kinds.append(chunk[:4])
    assert kinds == [b"IHDR", b"IDAT", b"IEND"]


def test_another_prompt_has_another_picture():
    assert files.png("a") == files.png("a") != files.png("b")
