"""What a token is called where it must not stand: in logs and in the audit. Pure."""

from __future__ import annotations

import hashlib


def fingerprint(token: str) -> str:
    """The same for the same token, and nothing to sign in with: `sha256:1f825aa2f0020ef7`.

    For what nobody could guess, such as a signed token. Never for a password: whoever reads the
    log could try out which one it is.
    """
    digest = hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
    return f"sha256:{digest[:16]}"
