"""The Lua scripts, one per verb, loaded with what their headers declare.

A header is a contract that is read by this module and by the tests:

    -- KEYS queue [successor_queue]          names, in order; brackets: may be absent; dots: any number
    -- ARGV lease_ms [job_id token]...       brackets and dots: this group, repeated
    -- TOUCHES queue ALL_KEYS {job_id}:lock  what follows that key's name in the keys it may touch, all of them that
                                             the caller can know: sent along behind KEYS, because clusters, proxies and
                                             access lists judge a call by the keys it declares. A word in capitals is
                                             the Lua list of that name, one in braces the argument of that name
    -- FINDS queue * *:lock                  what follows it in the keys that only the script learns of: of the job it
                                             claims, of those it finds in a list; `*` is a job's id
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
    from collections.abc import Mapping, Sequence
    from importlib.resources.abc import Traversable

Argument = str | bytes | int
"""What Redis takes as an argument; numbers travel as decimal strings."""

_INCLUDE = re.compile(r"^-- @include (\w+)\n", re.MULTILINE)
_HEADER = re.compile(r"^-- (KEYS|ARGV) (.*)$", re.MULTILINE)
_BELOW = re.compile(r"^-- (TOUCHES|FINDS) (\w+) (.*)$", re.MULTILINE)
_LIST = re.compile(r"^local ([A-Z_]+) = \{(.*?)\}", re.MULTILINE | re.DOTALL)
_CALL = re.compile(r"redis\.p?call\(([^,)]*)")
_NAME = re.compile(r"'([A-Z]+)'")
_ARGUMENT = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Script:
    """One verb: its source with everything included, and the names its header gives to the arguments."""

    name: str
    source: str
    sha: str
    keys: tuple[str, ...]
    argv: tuple[str, ...]
    argv_group: tuple[str, ...]
    touches: dict[str, tuple[str, ...]]
    finds: dict[str, tuple[str, ...]]

    @property
    def commands(self) -> frozenset[str]:
        """The commands it calls, includes and all."""
        return frozenset(name for first in _CALL.findall(self.source) for name in _NAME.findall(first))

    def arguments(self, named: dict[str, Argument | None], group: Sequence[Argument] = ()) -> list[str | bytes | int]:
        """Put arguments in the header's order; None travels as an empty string. Names must match exactly."""
        if set(named) != set(self.argv):
            raise TypeError(f"{self.name}.lua takes {sorted(self.argv)}, not {sorted(named)}")
        if group and (not self.argv_group or len(group) % len(self.argv_group)):
            raise TypeError(f"{self.name}.lua takes groups of {self.argv_group}, not {len(group)} values")
        values = (named[name] for name in self.argv)
        return ["" if value is None else value for value in values] + list(group)

    def all_keys(self, keys: Sequence[str], arguments: Sequence[Argument]) -> list[str]:
        """Put behind `keys` every other key the script may touch that these `arguments` tell of."""
        touched: dict[str, None] = {}
        for place, key in enumerate(keys):
            given = self._arguments_of(place, arguments)
            for suffix in self.touches.get(self.key_name(place), ()):
                argument = _ARGUMENT.match(suffix)
                if argument is None:
                    touched[key + suffix] = None
                elif (value := given[argument[1]]) != "":
                    touched[f"{key}{value}{suffix[argument.end() :]}"] = None
        return [*keys, *touched]

    def key_name(self, place: int) -> str:
        """The header's name for the key at this place; a list of keys comes last and has one name."""
        return self.keys[min(place, len(self.keys) - 1)].strip("[].")

    def _arguments_of(self, place: int, arguments: Sequence[Argument]) -> Mapping[str, object]:
        """The arguments by name, with those of the group that belongs to the key at this place."""
        size = len(self.argv_group)
        start = len(self.argv) + place * size
        group = zip(self.argv_group, arguments[start : start + size], strict=False)
        return {**dict(zip(self.argv, arguments, strict=False)), **dict(group)}


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
        keys=tuple(header.get("KEYS", "").split()),
        argv=tuple(fixed.split()),
        argv_group=tuple(group.removesuffix("]...").split()),
        touches=_below("TOUCHES", source),
        finds=_below("FINDS", source),
    )


def _below(word: str, source: str) -> dict[str, tuple[str, ...]]:
    """What the header says follows each key's name, Lua's lists written out."""
    lists = {name: re.findall(r"'([^']+)'", items) for name, items in _LIST.findall(source)}
    return {
        key: tuple(suffix for name in suffixes.split() for suffix in lists.get(name, [name]))
        for found, key, suffixes in _BELOW.findall(source)
        if found == word
    }


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
