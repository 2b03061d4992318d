"""Seals what the database may hold but not know: the tokens that open merchants' shops.

A sealed secret is `version | key id | nonce | AES-256-GCM ciphertext`. Its owner's id and what it is for are
authenticated along with it, so one copied into another merchant's row, or another column, does not open there.
`SECRET_KEY` may hold several keys, separated by commas: the first seals, all of them open, so a key is changed by
putting a new one in front, sealing anew (`Grants.reseal`) and taking the old one out.
"""

from __future__ import annotations

import secrets
from enum import StrEnum

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_LENGTH_MIN = 32
"""Characters: a key is drawn, not thought up (`openssl rand -base64 32`)."""

_VERSION = b"\x01"
_KEY_ID_BYTES = 4
_NONCE_BYTES = 12
_HEADER_BYTES = len(_VERSION) + _KEY_ID_BYTES + _NONCE_BYTES


class Purpose(StrEnum):
    """What a secret is for. The words are part of every seal: a changed one opens nothing that was sealed before."""

    ACCESS = "shop token"
    REFRESH = "refresh token"
    CLIENT = "client secret"


class SealError(ValueError):
    """A secret cannot be sealed or opened. No message holds any part of a secret or a key."""


class WeakKeyError(SealError):
    """SECRET_KEY cannot be used."""


class UnknownKeyError(SealError):
    """Sealed with a key that is not in SECRET_KEY."""


class BrokenSealError(SealError):
    """Altered, cut short, or sealed for another owner."""


class Seal:
    """Seals with the first key, opens with any."""

    def __init__(self, secret_key: str) -> None:
        keys = [part.strip() for part in secret_key.split(",") if part.strip()]
        if not keys:
            raise WeakKeyError("SECRET_KEY holds no key")
        if any(len(key) < KEY_LENGTH_MIN for key in keys):
            raise WeakKeyError(f"each key in SECRET_KEY needs at least {KEY_LENGTH_MIN} characters")
        self._ciphers = {_derived(key, b"key id", _KEY_ID_BYTES): AESGCM(_derived(key, b"seal", 32)) for key in keys}
        self._first = next(iter(self._ciphers))

    def seal(self, secret: str, *, owner: str, purpose: Purpose = Purpose.ACCESS) -> bytes:
        """The secret, readable by its owner and for its purpose only."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        ciphertext = self._ciphers[self._first].encrypt(nonce, secret.encode(), _bound(owner, purpose))
        return _VERSION + self._first + nonce + ciphertext

    def open(self, sealed: bytes, *, owner: str, purpose: Purpose = Purpose.ACCESS) -> str:
        """What was sealed for this owner and purpose. Raises UnknownKeyError or BrokenSealError."""
        if len(sealed) < _HEADER_BYTES or not sealed.startswith(_VERSION):
            raise BrokenSealError("this is not a sealed secret")
        key_id = sealed[len(_VERSION) : len(_VERSION) + _KEY_ID_BYTES]
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise UnknownKeyError("sealed with a key that is not in SECRET_KEY")
        nonce, ciphertext = sealed[_HEADER_BYTES - _NONCE_BYTES : _HEADER_BYTES], sealed[_HEADER_BYTES:]
        try:
            return cipher.decrypt(nonce, ciphertext, _bound(owner, purpose)).decode()
        except InvalidTag:
            raise BrokenSealError("altered, or sealed for another owner") from None


def _bound(owner: str, purpose: Purpose) -> bytes:
    return f"po-pipeline {purpose}\0{owner}".encode()


def _derived(key: str, purpose: bytes, length: int) -> bytes:
    """Independent bytes per purpose: a key's id, which stands in the clear, says nothing about the key."""
    return HKDF(algorithm=SHA256(), length=length, salt=None, info=b"po-pipeline " + purpose).derive(key.encode())
