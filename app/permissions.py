"""Asks the server which of the commands we need it denies our user, before any of them is needed.

Nothing is run for it: since Redis 7 a script may ask (`redis.acl_check_cmd`). What we cannot do without is a reason
not to start, and comes with the words for ACL SETUSER that allow it; of the rest it is said what its lack costs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.finding import Finding
from pipeline.errors import CommandRefused
from pipeline.queue import scripts
from pipeline.queue.notifier import patterns_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.queue.bull import Commands
    from pipeline.queue.keys import Keys

DIRECT = frozenset({"EXISTS", "HGET", "HGETALL", "SET"})
"""What is called on keys without a script."""

KEYLESS = frozenset({"TIME", "PUBLISH"})
"""What scripts call that touches no key."""


@dataclass(frozen=True, slots=True)
class Need:
    """A call as we would make it, and the words that allow it. Without `cost` nothing works if it is denied."""

    name: str
    call: tuple[str, ...]
    grant: str
    keys: str = ""
    """The pattern of the keys it is for."""
    cost: str = ""


OPTIONAL = (
    Need("INFO", ("INFO", "server"), "+info", cost="the server's version is not looked at"),
    Need("CLIENT LIST", ("CLIENT", "LIST"), "+client|list", cost="nobody sees a Node worker that takes our jobs"),
    Need("CLIENT SETNAME", ("CLIENT", "SETNAME", "po"), "+client|setname", cost="our connections have no names there"),
    Need("SET workflow:*", ("SET", "workflow:po", ""), "~workflow:*", cost="upstream's upload page stands still"),
    Need("PUBLISH merchant:*", ("PUBLISH", "merchant:po:error", ""), "allchannels", cost="its open pages do too"),
)


async def find_denied(commands: Commands, keys: Keys, queues: Sequence[str]) -> list[Finding]:
    """Everything our user may not do: at most one refusal that names it all, a warning for each thing that costs."""
    needs = [*_required(keys, queues), *OPTIONAL]
    script = scripts.load("denied")
    args = script.arguments({"calls": json.dumps([need.call for need in needs])})
    user = await _user(commands)
    try:
        places: list[int] | None = await commands.run(script, [], args)
    except CommandRefused as error:
        return [Finding("refuse", "denied", f"{user} may not run scripts ({error}): ACL SETUSER {user} +evalsha +eval")]
    if places is None:
        unknown = "this server does not say what it denies (Redis does since 7): a denied command shows when it is used"
        return [Finding("warn", "denied", unknown)]
    denied = [needs[place - 1] for place in places]
    refusal = _refusal(user, keys.prefix, needs, [need for need in denied if not need.cost])
    warnings = [
        Finding("warn", "denied", f"{user} may not {need.name}: {need.cost} (ACL SETUSER {user} {need.grant})")
        for need in denied
        if need.cost
    ]
    return [*refusal, *warnings]


def _required(keys: Keys, queues: Sequence[str]) -> list[Need]:
    used = DIRECT.union(*(scripts.load(name).commands for name in scripts.names()))
    bases = [*map(keys.base, queues), keys.base("po")]
    return [
        Need("PING", ("PING",), "+ping"),
        Need("EVALSHA", ("EVALSHA", "", "0"), "+evalsha"),
        Need("EVAL", ("EVAL", "", "0"), "+eval"),
        Need("TIME", ("TIME",), "+time"),
        *(Need("PUBLISH", ("PUBLISH", f"{base}po", ""), "+publish allchannels") for base in bases),
        # An access list compares the pattern of a PSUBSCRIBE letter by letter: &bull:* would not allow it.
        Need("PSUBSCRIBE", ("PSUBSCRIBE", *patterns_of(keys, queues)), "+psubscribe allchannels"),
        *(
            Need(name, (name, f"{base}po", f"{base}po"), f"+{name.lower()}", keys=f"{base}*")
            for base in bases
            for name in sorted(used - KEYLESS)
        ),
    ]


def _refusal(user: str, prefix: str, needs: Sequence[Need], denied: Sequence[Need]) -> list[Finding]:
    """One sentence. Keys on which every command is denied are keys that are denied."""
    if not denied:
        return []
    open_keys = {need.keys for need in needs if need not in denied} | {""}
    closed = {need.keys for need in denied} - open_keys
    runs = dict.fromkeys(need.name for need in denied if need.keys not in closed)
    words = [word for need in denied for word in (f"~{need.keys}" if need.keys in closed else need.grant).split()]
    every = {f"~{need.keys}" for need in needs if need.keys}
    grants = list(dict.fromkeys(f"~{prefix}:*" if word in every <= set(words) else word for word in words))
    keys = [word[1:] for word in grants if word.startswith("~")]
    said = [f"run {', '.join(runs)}"] * bool(runs) + [f"touch the keys {', '.join(keys)}"] * bool(keys)
    return [Finding("refuse", "denied", f"{user} may not {' nor '.join(said)}: ACL SETUSER {user} {' '.join(grants)}")]


async def _user(commands: Commands) -> str:
    """Our name on the server, if it tells."""
    try:
        return str(await commands.call("ACL", "WHOAMI"))
    except CommandRefused:
        return "<user>"
