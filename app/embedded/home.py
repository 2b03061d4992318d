"""The directory the servers of one process live in: theirs alone while it runs, swept when it was killed.

lock           held (flock) by the owner, its guards and its servers: free means nothing runs here
secrets.json   the passwords, 0600; only a kept directory outlives them
valkey/ postgres/ valkey.log postgres.log
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.embedded.account import is_reachable_by_others
from app.embedded.failures import DirectoryInUse

PREFIX = "po-pipeline-"
# A killed owner's guards need up to this long to stop their servers and free the directory.
WAIT_FOR_LOCK_S = 20.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Home:
    """A directory held by this process; `lock` is the open file that says so."""

    path: Path
    lock: int

    def log(self, server: str) -> Path:
        """Where `server` writes its log, made here: its own may quote data, so it is not for others to read."""
        log = self.path / f"{server}.log"
        log.touch(mode=0o600)
        return log

    def get_password(self, server: str) -> str:
        """The password of `server` in this directory: made once, then read again."""
        file = self.path / "secrets.json"
        known: dict[str, str] = json.loads(file.read_text()) if file.exists() else {}
        if server not in known:
            known[server] = secrets.token_hex(16)
            write_private(file, json.dumps(known))
        return known[server]


@contextmanager
def open_home(directory: Path | None) -> Iterator[Home]:
    """Hold `directory`, whose contents are kept; without one, a temporary directory removed at the end."""
    if directory is not None:
        directory = directory.resolve()
        directory.mkdir(parents=True, exist_ok=True)
        with _held(directory, wait_s=WAIT_FOR_LOCK_S) as home:
            yield home
        return
    root = _temporary_root()
    sweep(root)
    # Under a name no sweep looks for until it is locked; Postgres as another user must be able to pass through.
    new = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=root))
    new.chmod(0o711)
    with _held(new, wait_s=0) as home:
        path = new.rename(root / new.name.removeprefix("."))
        try:
            yield Home(path, home.lock)
        finally:
            shutil.rmtree(path, ignore_errors=True)


def sweep(root: Path) -> int:
    """Remove our temporary directories in `root` that nobody holds any more; return how many."""
    swept = 0
    for path in root.glob(f"{PREFIX}*"):
        try:
            if path.stat().st_uid == os.geteuid():
                with _held(path, wait_s=0):
                    shutil.rmtree(path, ignore_errors=True)
                    swept += 1
        except (DirectoryInUse, FileNotFoundError):
            continue  # in use, or another process was faster
    return swept


def write_private(file: Path, text: str) -> None:
    """Replace `file` by `text` in one step, readable by its owner alone from the first byte."""
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as out:  # noqa: PTH123 - takes a descriptor
        out.write(text)
    new.replace(file)


@contextmanager
def _held(path: Path, *, wait_s: float) -> Iterator[Home]:
    """Hold the lock of `path`.

    Closing the file does not free the lock while a guard or a server still has it open: that is the point.
    """
    lock = os.open(path / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        _lock(lock, path, deadline=time.monotonic() + wait_s)
        yield Home(path, lock)
    finally:
        os.close(lock)


def _lock(lock: int, path: Path, *, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise DirectoryInUse(f"{path} is in use: another process runs its servers there.") from None
            time.sleep(POLL_S)
        else:
            return


def _temporary_root() -> Path:
    """The first temporary directory every user can pass through; Postgres may have to run as another user."""
    roots = [Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]  # noqa: S108 - mkdtemp makes the name
    return next((root for root in roots if is_reachable_by_others(root)), roots[0])
