"""TLS of `tallyboard serve`: certificate and key, looked at before anything is started."""

import hashlib
import ssl
from pathlib import Path

from tallyboard_server.cli.output import fail
from tallyboard_server.settings import Settings


def tls_context(settings: Settings) -> ssl.SSLContext | None:
    """What connections are wrapped with; None without TLS. Ends the command if the files are not what they must be."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    for option, path in (("--tls-cert", settings.tls_cert), ("--tls-key", settings.tls_key)):
        try:
            path.read_bytes()
        except OSError as error:
            fail(f"{option}: {path} can't be read: {error.strerror or error}")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key, password=_no_passphrase)
    except ssl.SSLError as error:
        fail(_fault(error, settings.tls_cert, settings.tls_key))
    except _PassphraseError:
        fail(f"--tls-key: {settings.tls_key} is encrypted; give a key without a passphrase, readable to nobody else")
    return context


def fingerprint(cert: Path) -> str:
    """SHA-256, in hex, of the certificate that a file begins with."""
    text = cert.read_text(encoding="ascii", errors="replace")
    begin = text.index("-----BEGIN CERTIFICATE-----")
    end = text.index("-----END CERTIFICATE-----", begin) + len("-----END CERTIFICATE-----")
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[begin:end] + "\n")).hexdigest()


class _PassphraseError(Exception):
    """A key asks for what nobody is there to type."""


def _no_passphrase() -> str:
    raise _PassphraseError


def _fault(error: ssl.SSLError, cert: Path, key: Path) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"--tls-key: {key} is not the key of the certificate {cert}; give the two that belong together"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cert)
    except ssl.SSLError:
        return f"--tls-cert: {cert} holds no certificate in PEM; give a file that has -----BEGIN CERTIFICATE-----"
    return f"--tls-key: {key} holds no private key in PEM ({error.reason or error}); give a file that has one"
