"""Seal: tells later whether a secret is still the same, without keeping it."""

import hashlib
import hmac
import os

SALT_BYTES = 16


def sealed(secret: bytes, salt: bytes | None = None) -> str:
    """A salted hash that takes long to guess from; hex."""
    salt = salt or os.urandom(SALT_BYTES)
    return (salt + hashlib.scrypt(secret, salt=salt, n=2**12, r=8, p=1)).hex()


def matches(secret: bytes, seal: str) -> bool:
    """Whether the secret is the one that was sealed."""
    return bool(seal) and hmac.compare_digest(seal, sealed(secret, bytes.fromhex(seal)[:SALT_BYTES]))
