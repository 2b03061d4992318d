"""Looks at the Redis we were given before anything is claimed from it: what it is, and what it lets us do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from app.finding import Finding
from app.permissions import find_denied
from pipeline.errors import BrokenQueue, CommandRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.queue.bull import Commands
    from pipeline.queue.keys import Keys

OLDEST_SERVER = (6, 2)


async def check_server(
    commands: Commands, keys: Keys, queues: Sequence[str], *, allow_eviction: bool = False
) -> list[Finding]:
    """List what speaks against working on this server with these queues.

    What makes every further question fail is the whole answer.
    """
    findings = [*await _check_slots(commands, keys, queues), *await find_denied(commands, keys, queues)]
    if any(finding.level == "refuse" for finding in findings):
        return findings
    found = [await _check_version(commands), await _check_eviction(commands, allow_eviction=allow_eviction)]
    found += [await _check_queue(commands, keys, queue) for queue in queues]
    return findings + [finding for finding in found if finding is not None]


async def _check_slots(commands: Commands, keys: Keys, queues: Sequence[str]) -> list[Finding]:
    """Our scripts go over several queues, and a cluster runs a script only on keys of one slot."""
    try:
        await commands.call("EXISTS", keys.epoch, keys.guard, *map(keys.base, queues))
    except CommandRefused as error:
        if error.code == "CROSSSLOT":
            return [Finding("refuse", "cluster", _CROSSING.format(prefix=keys.prefix))]
    # Whoever may not ask is told below what else is denied.
    return [Finding("warn", "cluster", _ELSEWHERE)] * (await _count_nodes(commands) > 1)


_CROSSING = (
    "this Redis is a cluster, and keys with the prefix {prefix} lie in many of its slots: set QUEUE_PREFIX={{{prefix}}}"
    " here and prefix: '{{{prefix}}}' in the options of every Queue in the Node code, the same on both sides"
)
_ELSEWHERE = (
    "this Redis is a cluster, and all queues lie on one of its nodes; upstream's keys workflow:<id> mostly do not, and"
    " are not written there: its upload page sees no progress, its open pages do"
)


async def _count_nodes(commands: Commands) -> int:
    """How many nodes of a cluster hold slots; 0 where there is no cluster, or it does not say."""
    try:
        info = str(await commands.call("CLUSTER", "INFO"))
    except CommandRefused:
        return 0
    return int(_fields(info).get("cluster_size", 0))


async def _check_version(commands: Commands) -> Finding | None:
    return judge_version((await read_info(commands, "server")).get("redis_version"))


def judge_version(version: str | None) -> Finding | None:
    """The scripts use LPOS (6.0.6); 6.2 is the oldest server they are meant for. None: it does not say."""
    if version is None or tuple(map(int, version.split(".")[:2])) >= OLDEST_SERVER:
        return None
    oldest = ".".join(map(str, OLDEST_SERVER))
    return Finding("refuse", "version", f"Redis {version} is too old; it must be {oldest} or newer")


async def read_info(commands: Commands, section: str) -> dict[str, str]:
    """Read a section of INFO; empty where that is denied."""
    try:
        info = str(await commands.call("INFO", section))
    except CommandRefused:
        return {}
    return _fields(info)


def _fields(info: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in info.splitlines() if ":" in line)


async def _check_eviction(commands: Commands, *, allow_eviction: bool) -> Finding | None:
    """Anything but noeviction may delete a job, or half of one, when memory is short."""
    policy = await _eviction_policy(commands)
    if policy is None:
        text = "maxmemory-policy cannot be read, CONFIG and INFO being denied; it must be noeviction"
        return Finding("warn", "eviction", text)
    if policy == "noeviction":
        return None
    level: Literal["refuse", "warn"] = "warn" if allow_eviction else "refuse"
    return Finding(level, "eviction", f"maxmemory-policy is {policy}: Redis may delete jobs; set noeviction")


async def _eviction_policy(commands: Commands) -> str | None:
    """Ask CONFIG, then INFO: hosted servers deny the one or the other."""
    try:
        answer: Any = await commands.call("CONFIG", "GET", "maxmemory-policy")
        if answer:
            return str(answer[1])
    except CommandRefused:
        pass  # as good as no answer
    return (await read_info(commands, "memory")).get("maxmemory_policy")


async def _check_queue(commands: Commands, keys: Keys, queue: str) -> Finding | None:
    """What is wrong with one queue keeps no other from running, so a broken one is a warning."""
    try:
        return await _check_owner(commands, keys, queue)
    except BrokenQueue:
        text = (
            f"{keys.meta(queue)} is not what Bull keeps there; `python -m app obliterate {queue} --force` starts anew"
        )
        return Finding("warn", "broken queue", text)
    except CommandRefused as error:
        return Finding("refuse", "denied", f"Redis refuses what every worker asks of {queue}: {error}")


async def _check_owner(commands: Commands, keys: Keys, queue: str) -> Finding | None:
    """BullMQ stores queues of the same names differently; it leaves its version, Bull does not."""
    version = await commands.call("HGET", keys.meta(queue), "version")
    if version is None:
        return None
    return Finding("refuse", "foreign queue", f"{queue} belongs to {version}, not to Bull 4")
