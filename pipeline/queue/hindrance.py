"""Why a role cannot do its work for now: the log hears once that it began and once that it is over."""

from __future__ import annotations

import structlog

from pipeline.errors import CommandRefused, PipelineError, Temporary

HINDRANCES = (Temporary, CommandRefused)
"""What hinders a role and does not end it. Redis may refuse today (an access list) what it granted at start."""

_log = structlog.get_logger()


class Hindrance:
    """One role's, kept by the role; `reason` is empty while nothing hinders it."""

    def __init__(self, **role: str) -> None:
        self.reason = ""
        self._role = role

    def met(self, error: PipelineError) -> None:
        """It failed again, or for the first time; another error's text while it lasts is shown, not told."""
        if not self.reason:
            _log.warning("role hindered", reason=str(error), **self._role)
        self.reason = str(error)

    def over(self) -> None:
        """It succeeded."""
        if self.reason:
            _log.info("role goes on", **self._role)
        self.reason = ""
