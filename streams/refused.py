"""Refused: credentials that a system refused are known again, without being kept."""

import hashlib
import hmac
import os

SALT_BYTES = 16


def digest(secret: bytes, salt: bytes | None = None) -> str:
    """A salted hash that takes long to guess from; hex."""
    salt = salt or os.urandom(SALT_BYTES)
    return (salt + hashlib.scrypt(secret, salt=salt, n=2**12, r=8, p=1)).hex()


def same(secret: bytes, known: str) -> bool:
    """Whether a digest is of this secret; false where there is none."""
    return bool(known) and hmac.compare_digest(known, digest(secret, bytes.fromhex(known)[:SALT_BYTES]))
