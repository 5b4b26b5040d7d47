"""What proxies say: believed of those that are trusted, as the nearest of them wrote it, and never otherwise."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tallyboard_server.api.forwarded import Proxies
from tallyboard_server.settings import Settings


def asked(networks: str, peer: str, **headers: str) -> tuple[dict[str, Any], str | None]:
    """The scope of a request after the proxies had their say, and the id that it was given."""
    given = [(b"host", b"inside:6007")]
    given += [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    scope: dict[str, Any] = {"type": "http", "client": (peer, 5), "scheme": "http", "headers": given}
    return scope, Proxies(networks.split(",") if networks else ()).apply(scope)


EVERYTHING = {
    "x_forwarded_for": "192.0.2.9", "x_forwarded_proto": "https", "x_forwarded_host": "tally.example",
    "x_request_id": "abc-1",
}  # fmt: skip


@pytest.mark.parametrize(("networks", "peer"), [
    ("10.0.0.1", "10.0.0.1"), ("10.0.0.0/8,::1", "10.2.3.4"), ("::1", "::1"), ("2001:db8::/32", "2001:db8::7"),
    ("10.0.0.1", "::ffff:10.0.0.1"),
])  # fmt: skip
def test_of_trusted_ones_all_is_believed(networks: str, peer: str) -> None:
    scope, request_id = asked(networks, peer, **EVERYTHING)
    assert (scope["client"][0], scope["scheme"], request_id) == ("192.0.2.9", "https", "abc-1")
    assert scope["headers"][0] == (b"host", b"tally.example")
    assert [name for name, _ in scope["headers"]].count(b"host") == 1


@pytest.mark.parametrize(("networks", "peer"), [
    ("", "127.0.0.1"), ("10.0.0.1", "10.0.0.2"), ("10.0.0.0/8", "11.0.0.1"), ("::1", "127.0.0.1"), ("10.0.0.1", ""),
])  # fmt: skip
def test_of_others_nothing_is(networks: str, peer: str) -> None:
    scope, request_id = asked(networks, peer, **EVERYTHING)
    assert (scope["client"], scope["scheme"], request_id) == ((peer, 5), "http", None)
    assert scope["headers"][0] == (b"host", b"inside:6007")


@pytest.mark.parametrize(("chain", "address"), [
    ("192.0.2.9", "192.0.2.9"), ("6.6.6.6, 192.0.2.9", "192.0.2.9"), ("6.6.6.6, 192.0.2.9, 10.0.0.2", "192.0.2.9"),
    ("192.0.2.9:4711", "192.0.2.9"), ("[2001:db8::9]:4711", "2001:db8::9"), ("2001:db8::9", "2001:db8::9"),
    ("10.0.0.3, 10.0.0.2", "10.0.0.3"), ("", "10.0.0.1"), ("unknown", "10.0.0.1"), ("evil\x1b[2J, x", "10.0.0.1"),
    ("192.0.2.9, unknown, 10.0.0.2", "10.0.0.2"), ("::ffff:192.0.2.9", "192.0.2.9"),
    ("fe80::9%a b\x1b", "fe80::9"),
])  # fmt: skip
def test_the_address_is_the_last_that_is_no_proxy(chain: str, address: str) -> None:
    scope, _ = asked("10.0.0.0/8", "10.0.0.1", x_forwarded_for=chain)
    assert scope["client"][0] == address


@pytest.mark.parametrize(("name", "value"), [
    ("x_forwarded_proto", "javascript"), ("x_forwarded_host", "a b"), ("x_forwarded_host", "a/b"),
    ("x_forwarded_host", ""), ("x_request_id", "a b"), ("x_request_id", "x" * 65), ("x_request_id", "a\x1b"),
    ("x_request_id", ""),
])  # fmt: skip
def test_what_can_t_be_is_left_out(name: str, value: str) -> None:
    scope, request_id = asked("10.0.0.1", "10.0.0.1", **{name: value})
    assert (scope["scheme"], scope["headers"][0], request_id) == ("http", (b"host", b"inside:6007"), None)


def test_of_several_values_the_nearest_proxys_counts() -> None:
    scope, request_id = asked(
        "10.0.0.1", "10.0.0.1", x_forwarded_proto="https, http", x_forwarded_host="evil.example, tally.example",
        x_request_id="one,two",
    )  # fmt: skip
    assert (scope["scheme"], scope["headers"][0][1], request_id) == ("http", b"tally.example", "two")


@given(st.text(alphabet=st.characters(max_codepoint=255)), st.text(alphabet=st.characters(max_codepoint=255)))
def test_nothing_that_is_said_breaks_it(chain: str, other: str) -> None:
    scope, _ = asked(
        "10.0.0.0/8", "10.0.0.1", x_forwarded_for=chain, x_forwarded_host=other, x_forwarded_proto=other,
        x_request_id=other,
    )  # fmt: skip
    assert scope["client"][0].replace(":", "").replace(".", "").isalnum()


@pytest.mark.parametrize("networks", ["*", "proxy.example", "10.0.0.0/33", "10.0.0.1, x"])
def test_settings_take_nothing_but_addresses_and_networks(networks: str) -> None:
    with pytest.raises(ValidationError, match="is no address or network"):
        Settings(trusted_proxies=networks)


@pytest.mark.parametrize(("given", "kept"), [("", ""), ("/", ""), ("/tally/", "/tally"), ("/a/b-c.d", "/a/b-c.d")])
def test_a_root_path_has_no_slash_at_its_end(given: str, kept: str) -> None:
    assert Settings(root_path=given).root_path == kept


@pytest.mark.parametrize("path", ["tally", "//x", "/a//b", "/../x", "/a b", "/a?b", "https://x/"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ValidationError, match="a path such as"):
        Settings(root_path=path)
