"""Both servers the service needs: those that were given, ours for the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.embedded.home import open_home
from app.embedded.postgres import start_postgres
from app.embedded.valkey import start_redis


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the two servers are."""

    redis_url: str
    database_url: str


@contextmanager
def start_servers(
    directory: Path | None = None,
    *,
    redis_url: str | None = None,
    database_url: str | None = None,
    durable: bool = True,
) -> Iterator[Servers]:
    """Run the servers while the block runs; one whose URL is given is used as it is.

    `directory` keeps data and passwords from one run to the next; without it both end with the block.
    """
    with ExitStack() as stack:
        if redis_url is None or database_url is None:
            home = stack.enter_context(open_home(directory))
            redis_url = redis_url or stack.enter_context(start_redis(home, durable=durable))
            database_url = database_url or stack.enter_context(start_postgres(home, durable=durable))
        yield Servers(redis_url, database_url)
