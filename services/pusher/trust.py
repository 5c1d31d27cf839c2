"""Whom the pusher believes to be the hub, and what is said of a certificate that it does not believe."""

import ssl

# OpenSSL's numbers (x509_vfy.h). What is not here is told in OpenSSL's own words.
_NOT_YET, _ENDED = 9, 10
_NOBODYS = frozenset({18, 19, 20, 21})
_OTHER_NAME = frozenset({62, 64})


def believing(authority: str) -> ssl.SSLContext | bool:
    """That authority and no other, or those whom everybody knows if it is empty; as aiohttp takes it.

    Args:
        authority: certificates in PEM form.

    Raises:
        ValueError: one sentence; they are none.
    """
    if not authority:
        return True
    try:
        return ssl.create_default_context(cadata=authority)
    except ssl.SSLError:
        raise ValueError("AUTHORITY cannot be read; it must be certificates in PEM form") from None


def why(error: Exception) -> str:
    """Why a certificate is not believed, and what to do."""
    if not isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not believed: {error}"
    if error.verify_code in _NOBODYS:
        return (
            "its certificate is signed by nobody who is known here: let it come with its whole chain, and name an "
            "authority of your own as portal.certificateAuthority"
        )
    if error.verify_code in _OTHER_NAME:
        return "its certificate is another name's: get one for this name, or mend portal.address"
    if error.verify_code == _ENDED:
        return "its certificate has ended: renew it where the TLS ends"
    if error.verify_code == _NOT_YET:
        return "its certificate is not valid yet: set the clocks right, here and where it was signed"
    return f"its certificate is not believed: {error.verify_message}"
