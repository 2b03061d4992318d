"""Who Postgres runs as, and what that account can reach. Postgres refuses to run as root."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from app.embedded.failures import EmbeddedServerError

UNPRIVILEGED = "nobody"


@dataclass(frozen=True, slots=True)
class Account:
    """The user and group to become; `None` for both means: stay who we are."""

    user: int | None = None
    group: int | None = None

    @property
    def is_other(self) -> bool:
        """Whether the server runs as somebody else than this process."""
        return self.user is not None

    def own(self, path: Path) -> None:
        """Give `path` itself to this account."""
        if self.user is not None and self.group is not None:
            os.chown(path, self.user, self.group, follow_symlinks=False)

    def own_tree(self, path: Path) -> None:
        """Give `path` and everything below it to this account."""
        for entry in [path, *path.rglob("*")]:
            self.own(entry)


def get_postgres_account() -> Account:
    """The present user, or `nobody` when that is root."""
    try:
        if os.geteuid() != 0:
            pwd.getpwuid(os.geteuid())
            return Account()
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise EmbeddedServerError(
            f"PostgreSQL needs a user with an entry in the password database; user {os.geteuid()} has none "
            f"(as root it takes `{UNPRIVILEGED}`). Run as another user, or set DATABASE_URL to a running server."
        ) from None
    return Account(entry.pw_uid, entry.pw_gid)


def is_reachable_by_others(path: Path) -> bool:
    """Whether any user can read `path` and pass through every directory above it."""
    if not path.stat().st_mode & stat.S_IROTH and not path.is_dir():
        return False
    directories = [path, *path.parents] if path.is_dir() else list(path.parents)
    return all(directory.stat().st_mode & stat.S_IXOTH for directory in directories)
