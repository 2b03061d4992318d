#!/usr/bin/env python3
"""Runs everything from a fresh clone. Needs Python 3.11+ with pip, and nothing else.

    python3 run.py                  the demo: sample orders through eleven stages into a sandbox shop
    python3 run.py demo FILE...     the same with your own documents
    python3 run.py serve            keeps running, with the page's address printed
    python3 run.py test             the tests, but for those that kill and starve (`test tests` runs these, too)
    python3 run.py test ARGS...     pytest with these arguments
    python3 run.py VERB...          any other command of `python -m app`; `--help` there lists them

The first run installs the locked dependencies into `.venv`; later runs see that nothing has changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Iterator, NoReturn, Sequence  # noqa: UP035 - an old Python must get as far as `check_python`

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
# Present only while .venv is complete: which locks are installed, and by which Python.
STAMP = VENV / "installed.json"

RUN_LOCK = "requirements.lock"
TEST_LOCK = "requirements-dev.lock"
# Most of a test's time is waiting: two at once keep a core busy. Each brings servers of its own, hence the bound.
PYTEST = ("-m", "pytest", "-q", "-n", str(min(2 * (os.cpu_count() or 1), 8)), "--dist", "worksteal")
QUICK = ("-m", "not chaos")

MINIMUM_PYTHON = (3, 11)
MINIMUM_PIP = (22, 3)  # the first with `pip --python`


def main(arguments: Sequence[str]) -> NoReturn:
    """Install what is missing, then become the command that was asked for."""
    check_python()
    if arguments and arguments[0] in ("-h", "--help"):
        sys.exit(__doc__)
    if arguments and arguments[0] == "test":
        install([RUN_LOCK, TEST_LOCK])
        os.chdir(ROOT)
        become([*PYTEST, *(arguments[1:] or QUICK)])
    install([RUN_LOCK])
    # -P: the working directory is the user's, and may hold an `app` of its own.
    become(["-P", "-m", "app", *(arguments or ["demo"])])


def check_python() -> None:
    """Say what is wrong in one line instead of failing somewhere later."""
    if os.name != "posix":
        sys.exit("run.py needs Linux or macOS (on Windows: WSL); there is no Valkey for this system.")
    if sys.version_info < MINIMUM_PYTHON:
        needed, found = _dotted(MINIMUM_PYTHON), _dotted(sys.version_info[:3])
        sys.exit(f"run.py needs Python {needed} or newer, and {sys.executable} is {found}.")


def install(locks: Sequence[str]) -> None:
    """Bring `.venv` to hold exactly what `locks` say."""
    wanted = {lock: fingerprint(lock) for lock in locks}
    with only_one_at_a_time():
        installed = read_stamp()
        if all(installed.get(lock) == wanted[lock] for lock in locks):
            return
        if not installed or any(fingerprint(lock) != installed[lock] for lock in installed):
            create_venv()
            installed = {}
        STAMP.unlink(missing_ok=True)  # interrupted from here on means: start over
        for lock in locks:
            if lock not in installed:
                install_lock(lock)
                installed[lock] = wanted[lock]
        STAMP.write_text(json.dumps(installed))


def fingerprint(lock: str) -> str:
    """Changes with the lock and with the Python it was installed for."""
    content = (ROOT / lock).read_bytes() if (ROOT / lock).exists() else b""
    return hashlib.sha256(content + sys.version.encode()).hexdigest()


def read_stamp() -> dict[str, str]:
    """What is completely installed; nothing, when an installation was interrupted or its Python is gone."""
    if not (STAMP.exists() and PYTHON.exists()):
        return {}
    try:
        return dict(json.loads(STAMP.read_text()))
    except ValueError:
        return {}


def create_venv() -> None:
    """Make an empty environment, without pip: Debian's Python cannot put one there (no ensurepip)."""
    import venv  # noqa: PLC0415 - needed once, and not free

    say("Setting up .venv (once)")
    venv.EnvBuilder(clear=True, symlinks=True, with_pip=False).create(VENV)


def install_lock(lock: str) -> None:
    """Install a lock into `.venv` with the pip of the Python outside it: wheels only, every hash checked."""
    say(f"Installing {lock}")
    pip = [find_outer_python(), "-m", "pip"]
    check_pip(pip)
    quiet = ["--quiet", "--no-input", "--disable-pip-version-check"]
    # Compiling all modules costs more time than compiling those that are used, at their first import.
    options = ["--require-hashes", "--only-binary", ":all:", "--no-compile", "--no-user"]
    command = [*pip, "--python", str(PYTHON), "install", *quiet, *options, "--requirement", str(ROOT / lock)]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, close_fds=False
    )
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nrun.py: installing {lock} failed; pip's own words are above.")


def check_pip(pip: Sequence[str]) -> None:
    """Say that pip is missing or too old before it says something less clear."""
    done = subprocess.run(
        [*pip, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"run.py needs pip for {pip[0]}; on Debian and Ubuntu: apt-get install python3-pip")
    version = done.stdout.split()[1]
    if tuple(map(int, version.split(".")[:2])) < MINIMUM_PIP:
        sys.exit(f"run.py needs pip {_dotted(MINIMUM_PIP)} or newer, and {pip[0]} has {version}.")


def find_outer_python() -> str:
    """The Python that has pip, also when `.venv`'s own runs this file."""
    return getattr(sys, "_base_executable", None) or sys.executable


@contextlib.contextmanager
def only_one_at_a_time() -> Iterator[None]:
    """Two runs in two terminals must not install over each other; this file itself is the lock."""
    import fcntl  # noqa: PLC0415 - does not exist on Windows, and `check_python` must be able to say so

    with Path(__file__).open() as lock:
        os.set_inheritable(lock.fileno(), True)  # a pip that outlives this process, killed, still installs
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def become(arguments: Sequence[str]) -> NoReturn:
    """Replace this process, so that signals and the exit status are the command's own."""
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    sys.stdout.flush()
    os.execve(PYTHON, [str(PYTHON), *arguments], environment)


def say(line: str) -> None:
    """Progress is not output: it goes to standard error."""
    print(f"run.py: {line} ...", file=sys.stderr, flush=True)


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
