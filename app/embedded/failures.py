"""Why a server of our own could not be had, in words that say what to do.

Permanent
└── EmbeddedServerError    a server did not come up; the message ends with the tail of its log
    ├── ProgramMissing     neither the wheel nor the system has the program
    └── DirectoryInUse     another process runs servers in that directory
"""

from __future__ import annotations

from pipeline.errors import Permanent


class EmbeddedServerError(Permanent):
    """A server of our own did not come up."""


class ProgramMissing(EmbeddedServerError):
    """The server program is neither in the installed wheels nor on this system."""


class DirectoryInUse(EmbeddedServerError):
    """Another process runs its servers in this directory."""
