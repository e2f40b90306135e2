"""Sealing: what must be kept secret at rest, encrypted and authenticated (Fernet), with keys that can be changed.

Keys are texts, newest first: the first seals, all open. What an older one sealed is sealed anew when it is next read, so
an old key can be taken out once everything was.
"""

import base64
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

SHORTEST = 32


class UnsealedError(ValueError):
    """None of the keys opens it."""


class Seal:
    """Seals with the first of some keys and opens with any. Raises ValueError for a key of less than 32 characters."""

    def __init__(self, keys: Sequence[str]) -> None:
        if not keys or min(map(len, keys)) < SHORTEST:
            raise ValueError(f"a key has at least {SHORTEST} characters, as `openssl rand -base64 32` gives")
        fernets = [Fernet(_derived(key)) for key in keys]
        self._first, self._all = fernets[0], MultiFernet(fernets)

    def close(self, plain: bytes) -> bytes:
        """The sealed form; another one each time."""
        return self._first.encrypt(plain)

    def open(self, sealed: bytes) -> bytes:
        """What was sealed. Raises UnsealedError where no key fits, or it was changed."""
        try:
            return self._all.decrypt(sealed)
        except InvalidToken:
            raise UnsealedError("no key opens it") from None

    def aged(self, sealed: bytes) -> bool:
        """Whether another key than the first sealed it."""
        try:
            self._first.decrypt(sealed)
        except InvalidToken:
            return True
        return False


def _derived(key: str) -> bytes:
    """A Fernet key from a text with enough randomness in it, for this use alone."""
    raw = HKDF(SHA256(), 32, None, b"integration-hub/tokens").derive(key.encode())
    return base64.urlsafe_b64encode(raw)
