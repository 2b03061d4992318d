"""`python -m app`."""

import sys

from app import stop_signals

if sys.argv[1:2] == ["worker"]:
    stop_signals.leave_when_told()  # before the imports below, which take a second

from app.cli import app

app(prog_name="python -m app")
