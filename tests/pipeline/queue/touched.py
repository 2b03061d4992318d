"""What our scripts really touch, from the server's own account of every command: MONITOR."""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import uuid4

import redis

from pipeline.queue import scripts
from pipeline.queue.keys import RESERVED
from pipeline.queue.scripts import Script

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"')
_BULLS = re.compile("|".join([*map(re.escape, RESERVED), "(limiter|de|metrics):.*", ".*:(lock|logs|limited)"]))

KeysOf = Callable[[tuple[str, ...]], list[str]]
"""Which words of a command are keys."""


@dataclass
class Run:
    """One run of one of our scripts: what it declared, what it did."""

    script: Script
    keys: list[str]
    arguments: list[str]
    commands: list[tuple[str, ...]] = field(default_factory=list)

    def touched(self, keys_of: KeysOf) -> dict[str, str]:
        """Each key it touched, and by which command."""
        return {key: " ".join(command[:3]) for command in self.commands for key in keys_of(command)}

    def undeclared(self, keys_of: KeysOf) -> dict[str, str]:
        """Those it touched beside what it declared."""
        return {key: command for key, command in self.touched(keys_of).items() if key not in self.keys}

    def problems(self, keys_of: KeysOf) -> list[str]:
        """Each key it touched and its header does not tell of, in words that say what to write where."""
        unseen = {command[0].upper() for command in self.commands} - self.script.commands
        return [f"{self.script.name}.lua calls {name} so that Script.commands does not see it" for name in unseen] + [
            f"{self.script.name}.lua touches {key} ({command}), which its header names neither under TOUCHES nor FINDS"
            for key, command in self.undeclared(keys_of).items()
            if not any(fits(key, pattern) for pattern in self.found_patterns())
        ]

    def found_patterns(self) -> list[str]:
        bases = {key: self.script.key_name(place) for place, key in enumerate(self.keys) if key.endswith(":")}
        return [base + suffix for base, name in bases.items() for suffix in self.script.finds.get(name, ())]


def fits(key: str, pattern: str) -> bool:
    """Whether `*` stands for a job's id, which is none of the names that Bull gives."""
    match = re.fullmatch(re.escape(pattern).replace(r"\*", "(.+)"), key)
    return match is not None and not any(map(_BULLS.fullmatch, match.groups()))


@contextmanager
def watched(raw: redis.Redis) -> Iterator[Callable[[], list[Run]]]:
    """Watch the server; the call returns the runs of our scripts since the last one."""
    known = {scripts.load(name).sha: scripts.load(name) for name in scripts.names()}
    with raw.monitor() as monitor:

        def since_last_call() -> list[Run]:
            mark = uuid4().hex
            raw.echo(mark)
            found: list[Run] = []
            ours: Run | None = None
            while mark not in (line := monitor.connection.read_response()):
                where, words = _read(line)
                if where.endswith(" lua"):
                    if ours is not None:
                        ours.commands.append(words)
                else:
                    ours = _run_of(words, known)
                    found += [ours] if ours else []
            return found

        yield since_last_call


def key_reader(raw: redis.Redis) -> KeysOf:
    """Asks the server."""
    known: dict[tuple[str, ...], list[str]] = {}

    def keys_of(command: tuple[str, ...]) -> list[str]:
        if command not in known:
            try:
                known[command] = [str(key) for key in raw.execute_command("COMMAND GETKEYS", *command)]
            except redis.ResponseError:  # it takes none
                known[command] = []
        return known[command]

    return keys_of


def _read(line: str) -> tuple[str, tuple[str, ...]]:
    """`1.2 [0 lua] "GET" "key"` -> where from, and the words."""
    where = line.partition("[")[2].partition("]")[0]
    words = _WORD.findall(line.partition("] ")[2])
    return where, tuple(ast.literal_eval(f'b"{word}"').decode("utf-8", "replace") for word in words)


def _run_of(words: Sequence[str], known: dict[str, Script]) -> Run | None:
    match words:
        case [verb, code, count, *rest] if verb.upper() in {"EVAL", "EVALSHA"}:
            sha = code if verb.upper() == "EVALSHA" else hashlib.sha1(code.encode()).hexdigest()
            script = known.get(sha)
            return script and Run(script, rest[: int(count)], rest[int(count) :])
    return None
