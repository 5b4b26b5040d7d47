"""Which certificate a service must show over TLS, for every HTTP client of this package alike."""

import ssl
from typing import Any, Final

VARIABLE: Final = "TALLYBOARD_CA_FILE"


def pool_options(ca_file: str | None = None, fingerprint: str | None = None) -> dict[str, Any]:
    """Arguments for urllib3's PoolManager.

    ca_file: authorities in PEM, of which one has to vouch for the certificate; None: those of the system.
    fingerprint: SHA-256 in hex of the one certificate that is taken, whoever vouches for it and whatever name it has.
    """
    if fingerprint is not None:
        return {"cert_reqs": "CERT_NONE", "assert_hostname": False, "assert_fingerprint": fingerprint}
    return {} if ca_file is None else {"ca_certs": ca_file}


def ca_file_fault(ca_file: str) -> str | None:
    """What keeps a file from being one of authorities, in words that name the setting; None: nothing."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=ca_file)
    except ssl.SSLError as error:
        return f"{VARIABLE} {ca_file!r} holds no certificate in PEM ({error.reason or error})"
    except OSError as error:
        return f"{VARIABLE} {ca_file!r} can't be read: {error.strerror or error}"
    return None


def distrust(error: BaseException) -> str | None:
    """What to say if a request failed because the service's certificate is not trusted; None: for another reason."""
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        if isinstance(found, ssl.SSLCertVerificationError):
            return (
                f"its certificate is not trusted: {found.verify_message.rstrip('.')}; "
                f"name the file of the authority that made it by {VARIABLE}"
            )
        inner = [part for part in found.args if isinstance(part, BaseException)]
        found = inner[0] if inner else found.__cause__ or found.__context__
    return None
