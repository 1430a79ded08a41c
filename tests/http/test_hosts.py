import pytest

from llmsnap.errors import Misdirected
from llmsnap.http.hosts import HostRule, TrustedProxies, host_name
from tests.parity import parity

RULE = HostRule(
    allowed=["ai.example.org", "*.intern.example"], own_names=["box.corp.example", "Listen.Name"]
)

LOCAL = """
    localhost LOCALHOST:8080 app.localhost llmsnap:8080 127.0.0.1 192.168.1.5:8080 8.8.8.8 [::1]
    [fe80::1%eth0]:8080 nas.local svc.internal:80 pc.lan pc.home.arpa box.tail1234.ts.net
    llm.team-a.svc:8080 llm.team-a.svc.cluster.local nas.local. box.corp.example:1 listen.name
    ai.example.org AI.Example.Org.:443 a.b.intern.example
"""
FOREIGN = """
    evil.example:8080 localhost.evil.example 127.0.0.1.evil.example 127.1 intern.example
    notlocal.lanx llm.team-a svc.evil.example . evil.example/x user@localhost localhost:80:80
    localhost:port [::1
"""


@parity(
    "Files and deployments",
    "any `Host` header, such as `name.namespace.svc`",
    "without keys: names of private networks, `.svc` among them; `allowedHosts` adds others",
)
def test_names_no_stranger_can_own_are_answered() -> None:
    for host in ["", *LOCAL.split()]:
        RULE.check(host)
    assert [host for host in ["a b", *FOREIGN.split()] if RULE.allows(host)] == []


def test_a_refusal_says_what_to_configure() -> None:
    with pytest.raises(Misdirected) as refused:
        RULE.check("Evil.Example:8080")
    assert 'allowedHosts: ["evil.example"]' in str(refused.value)
    assert refused.value.status == 421


def test_the_name_in_a_host_header() -> None:
    names = {"A.b.:1": "a.b", "[::1]:8080": "::1", "x:": "x", " x": "", "": ""}
    assert {host: host_name(host) for host in names} == names


CLOSED = HostRule()


@pytest.mark.parametrize("rule", [CLOSED, HostRule(allowed=["*"])])
def test_hosts_longer_than_names_can_be_are_not_remembered(rule: HostRule) -> None:
    assert rule.allows("a b") is rule.allows("evil.example") is (rule is not CLOSED)
    rule.check("h" * 255 + ":65535")
    assert len(rule._allowed) == 1
    long = "h" * 60_000
    if rule.allows(long):
        rule.check(long)
    else:
        with pytest.raises(Misdirected) as caught:
            rule.check(long)
        assert len(str(caught.value)) < 1000
    assert len(rule._allowed) == 1


CLIENTS = [
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
]


def test_a_proxys_word_counts_only_when_trusted() -> None:
    for trusted, remote, forwarded, real, client in CLIENTS:
        assert TrustedProxies(trusted).client_ip(remote, forwarded, real) == client
