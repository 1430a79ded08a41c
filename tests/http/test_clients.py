from __future__ import annotations

import pytest

from llmsnap.http.hosts import TrustedProxies


@pytest.mark.parametrize(
    ("trusted", "remote", "forwarded", "real", "client"),
    [
        ((), "10.0.0.1", "1.2.3.4", "", "10.0.0.1"),
        (["10.0.0.0/8"], "::ffff:10.0.0.1", "1.2.3.4", "", "1.2.3.4"),
        (["10.0.0.0/8"], "192.168.0.9", "1.2.3.4", "", "192.168.0.9"),
        (["10.0.0.0/8"], "10.0.0.1", "6.6.6.6, 1.2.3.4, 10.0.0.7", "", "1.2.3.4"),
        (["10.0.0.0/8"], "10.0.0.1", "10.0.0.8, 10.0.0.7", "", "10.0.0.8"),
        (["10.0.0.0/8"], "10.0.0.1", "", "1.2.3.4", "1.2.3.4"),
        (["10.0.0.0/8"], "10.0.0.1", "", "", "10.0.0.1"),
        (["10.0.0.0/8"], "10.0.0.1", "unknown", "", "unknown"),
        (["::1"], "::1", "fe80::2", "", "fe80::2"),
        (["127.0.0.1"], "", "1.2.3.4", "", "1.2.3.4"),
    ],
)
def test_a_proxys_word_counts_only_when_it_is_trusted(
    trusted: list[str], remote: str, forwarded: str, real: str, client: str
) -> None:
    assert TrustedProxies(trusted).client_ip(remote, forwarded, real) == client
