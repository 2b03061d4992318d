"""One file for everything the sandbox must not forget: a row per shop, a row per image's bytes."""

from __future__ import annotations

import hashlib
import sqlite3
from typing import TYPE_CHECKING

from app.sandbox.state import Shop

if TYPE_CHECKING:
    from pathlib import Path

_TABLES = """
CREATE TABLE IF NOT EXISTS shops (domain TEXT PRIMARY KEY, state TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS files (sha256 TEXT PRIMARY KEY, content BLOB NOT NULL);
"""


class Store:
    """Keeps shops in memory for answering and in SQLite for surviving.

    A reply is sent only after `save` returned, so what a client was told is what a restart shows.
    SQLite's own transaction makes the write atomic; it guards against a killed process, not a lost disk.
    """

    def __init__(self, path: Path | None) -> None:
        self._survives = path is not None
        self._database = sqlite3.connect(":memory:" if path is None else path, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.executescript(_TABLES)
        rows = self._database.execute("SELECT state FROM shops ORDER BY rowid")
        loaded = [Shop.model_validate_json(state) for (state,) in rows]
        self.shops: dict[str, Shop] = {shop.domain: shop for shop in loaded}

    def save(self, shop: Shop) -> None:
        """Write one shop; when this returns, a restart finds it. Without a file there is nothing to find."""
        self.shops[shop.domain] = shop
        if not self._survives:
            return
        self._database.execute(
            "INSERT INTO shops VALUES (?, ?) ON CONFLICT (domain) DO UPDATE SET state = excluded.state",
            (shop.domain, shop.model_dump_json()),
        )

    def keep_file(self, content: bytes) -> str:
        """Keep bytes under their own hash, once."""
        sha256 = hashlib.sha256(content).hexdigest()
        self._database.execute("INSERT OR IGNORE INTO files VALUES (?, ?)", (sha256, content))
        return sha256

    def find_file(self, sha256: str) -> bytes | None:
        """The bytes behind a hash, or None."""
        row = self._database.execute("SELECT content FROM files WHERE sha256 = ?", (sha256,)).fetchone()
        return None if row is None else bytes(row[0])

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()
