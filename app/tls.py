"""What all HTTPS clients of a process share: reading the certificates of the authorities takes 13 ms each time."""

from __future__ import annotations

import ssl
from functools import cache

import httpx


@cache
def tls() -> ssl.SSLContext:
    """Certificates are checked against certifi's authorities; the environment is not asked for others."""
    return httpx.create_ssl_context(trust_env=False)
