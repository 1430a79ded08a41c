"""Who a request comes from, when trusted proxies stand in between."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_network


class TrustedProxies:
    """The addresses whose word about their own clients is taken."""

    def __init__(self, networks: Iterable[str] = ()) -> None:
        self._networks = [ip_network(text.strip(), strict=False) for text in networks]

    @property
    def known(self) -> bool:
        """Whether there are any."""
        return bool(self._networks)

    def client_ip(self, remote: str, forwarded_for: str, real_ip: str = "") -> str:
        """The client's address: *remote*, the other end of the connection, unless it is trusted.

        Then it is the last address in *forwarded_for* that no trusted proxy has, else *real_ip*.
        A remote without an address came over a Unix socket, and counts as trusted with any.
        """
        if not self._networks or not self._trusts(remote):
            return remote
        passed = [text.strip() for text in forwarded_for.split(",") if text.strip()]
        for text in reversed(passed):
            if not self._trusts(text):
                return text
        return passed[0] if passed else real_ip.strip() or remote

    def _trusts(self, text: str) -> bool:
        if not text:
            return True
        try:
            address = ip_address(text)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return any((mapped or address) in network for network in self._networks)
