"""Real Valkey and PostgreSQL without an installation, for the demo, `serve` and the tests.

    with start_servers() as servers:
        ...  # servers.redis_url, servers.database_url

Starting and stopping block for about a second: put the event loop inside the block, not around it.
Read `servers` first, then `launch` and `guard`: what they promise is that nothing outlives its owner.
"""

from app.embedded.failures import DirectoryInUse, EmbeddedServerError, ProgramMissing
from app.embedded.home import Home, open_home
from app.embedded.postgres import start_postgres
from app.embedded.servers import Servers, start_servers
from app.embedded.valkey import start_redis

__all__ = [
    "DirectoryInUse",
    "EmbeddedServerError",
    "Home",
    "ProgramMissing",
    "Servers",
    "open_home",
    "start_postgres",
    "start_redis",
    "start_servers",
]
