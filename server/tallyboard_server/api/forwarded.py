"""What proxies say of a request: believed of those that are trusted, and of nobody else."""

import ipaddress
import re
from collections.abc import Sequence
from typing import Final

from starlette.types import Scope

_MAPPED: Final = "::ffff:"
"""What the address of an IPv4 peer begins with on a socket for IPv6."""
_REQUEST_ID: Final = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_HOST: Final = re.compile(rb"[A-Za-z0-9.\-_:\[\]]{1,255}")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Proxies:
    """The proxies whose word is taken. A request of any other peer is left as it is, whatever it carries."""

    def __init__(self, networks: Sequence[str]) -> None:
        """networks: addresses and networks, `10.0.0.1` or `10.0.0.0/8`. Raises ValueError."""
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(text, strict=False) for text in networks)

    def apply(self, scope: Scope) -> str | None:
        """Put the client's address, scheme and Host into a scope; returns the request's id, if a proxy gave it one.

        Each header counts as the nearest proxy wrote it: the last of several. Of X-Forwarded-For it is the last
        address that is no proxy of ours; what stands before it, anybody may have written.
        """
        client = scope.get("client")
        if client is None:
            return None
        peer = client[0]
        if peer.startswith(_MAPPED) and "." in peer:
            peer = peer.removeprefix(_MAPPED)
            scope["client"] = (peer, client[1])
        if not self._networks or not self.trusts(peer):
            return None
        given: dict[bytes, bytes] = {}
        chain: list[bytes] = []
        for name, value in scope["headers"]:
            if name == b"x-forwarded-for":
                chain += value.split(b",")
            elif name in (b"x-forwarded-proto", b"x-forwarded-host", b"x-request-id"):
                given[name] = value.rpartition(b",")[2].strip()
        if (address := self._origin(chain)) is not None:
            scope["client"] = (address, 0)
        if (scheme := given.get(b"x-forwarded-proto", b"").lower()) in (b"http", b"https"):
            scope["scheme"] = scheme.decode()
        if _HOST.fullmatch(host := given.get(b"x-forwarded-host", b"")):
            others = [pair for pair in scope["headers"] if pair[0] != b"host"]
            scope["headers"] = [(b"host", host), *others]
        request_id = given.get(b"x-request-id", b"")
        return request_id.decode() if _REQUEST_ID.fullmatch(request_id) else None

    def trusts(self, address: str) -> bool:
        """Whether an address is one of theirs."""
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in network for network in self._networks)

    def _origin(self, chain: list[bytes]) -> str | None:
        """The address that the request came to our proxies from; None if what they say is no address."""
        found: str | None = None
        for part in reversed(chain):
            address = _address(part.decode("latin-1").strip())
            if address is None:
                return found
            found = address
            if not self.trusts(address):
                return found
        return found


def _address(text: str) -> str | None:
    """An address as X-Forwarded-For has it, maybe with a port; None if it is none."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])  # a zone means nothing elsewhere, and may be any text
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)
