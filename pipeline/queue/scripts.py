"""The Lua scripts, one per verb, loaded with what their headers declare.

A header is a contract that is read by this module and by the tests:

    -- KEYS queue [successor_queue]          names, in order; brackets: may be absent
    -- ARGV lease_ms [job_id token]...       brackets and dots: this group, repeated
    -- RETURNS {'claimed', ..} | {'empty'}   what comes back

`-- @include push` brings in `lua/include/push.lua` once, before the script, together with what that includes.
"""

from __future__ import annotations

import functools
import hashlib
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.resources.abc import Traversable

Argument = str | bytes | int
"""What Redis takes as an argument; numbers travel as decimal strings."""

_INCLUDE = re.compile(r"^-- @include (\w+)\n", re.MULTILINE)
_HEADER = re.compile(r"^-- (KEYS|ARGV) (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Script:
    """One verb: its source with everything included, and the names its header gives to the arguments."""

    name: str
    source: str
    sha: str
    keys: tuple[str, ...]
    argv: tuple[str, ...]
    argv_group: tuple[str, ...]

    def arguments(self, named: dict[str, Argument | None], group: Sequence[Argument] = ()) -> list[str | bytes | int]:
        """Put arguments in the header's order; None travels as an empty string. Names must match exactly."""
        if set(named) != set(self.argv):
            raise TypeError(f"{self.name}.lua takes {sorted(self.argv)}, not {sorted(named)}")
        if group and (not self.argv_group or len(group) % len(self.argv_group)):
            raise TypeError(f"{self.name}.lua takes groups of {self.argv_group}, not {len(group)} values")
        values = (named[name] for name in self.argv)
        return ["" if value is None else value for value in values] + list(group)


@functools.cache
def load(name: str) -> Script:
    """Read `lua/<name>.lua`."""
    text = _read(_lua() / f"{name}.lua")
    header = dict(_HEADER.findall(text))
    fixed, _, group = header.get("ARGV", "").partition("[")
    source = _with_includes(text, seen=set())
    return Script(
        name=name,
        source=source,
        sha=hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest(),
        keys=tuple(header["KEYS"].split()),
        argv=tuple(fixed.split()),
        argv_group=tuple(group.removesuffix("]...").split()),
    )


def names() -> list[str]:
    """Every verb there is a script for."""
    return sorted(entry.name.removesuffix(".lua") for entry in _lua().iterdir() if entry.name.endswith(".lua"))


def _lua() -> Traversable:
    return resources.files("pipeline.queue") / "lua"


def _read(path: Traversable) -> str:
    return path.read_text(encoding="utf-8")


def _with_includes(text: str, seen: set[str]) -> str:
    """Replace each include by its text the first time it is met, and by nothing afterwards."""

    def expand(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return ""
        seen.add(name)
        return _with_includes(_read(_lua() / "include" / f"{name}.lua"), seen) + "\n"

    return _INCLUDE.sub(expand, text)
