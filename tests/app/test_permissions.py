"""What an operator denies our user is found before it is needed, with the words that allow it: real access lists."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from app.connections import open_connections
from app.core import open_core
from app.doctor import examine
from app.finding import Finding
from app.permissions import DIRECT, OPTIONAL, Need
from app.redis_socket import Address
from app.server_checks import check_server
from app.worker_main import RefusedToStartError, check_start
from pipeline import flow
from pipeline.clock import SystemClock
from pipeline.queue import scripts
from pipeline.queue.bull import Commands
from pipeline.queue.keys import Keys
from pipeline.queue.scripts import Script
from tests.chaos.conftest import sandbox
from tests.shop import articles, check_once, connect_merchant, csv_of, settings_for, settled, submit, working

__all__ = ["sandbox"]

DOCUMENT = Path(__file__).parents[2] / "docs" / "redis.md"
NEEDED = sorted({"PING", "PSUBSCRIBE"} | DIRECT.union(*(scripts.load(name).commands for name in scripts.names())))

Grant = Callable[..., str]


@pytest.fixture
def grant(redis_url: str, redis_admin: redis.Redis) -> Iterator[Grant]:
    """Give the user `few` exactly these rights; returns the URL to come in by."""
    address = Address.parse(redis_url)

    def give(*words: str) -> str:
        redis_admin.execute_command("ACL", "SETUSER", "few", "reset", "on", ">x", *words)
        return f"redis://few:x@{address.host}:{address.port}"

    yield give
    redis_admin.acl_deluser("few")


@asynccontextmanager
async def commands_at(url: str) -> AsyncIterator[Commands]:
    async with open_connections(url, SystemClock()) as opened:
        yield opened.commands


async def findings(commands: Commands) -> list[Finding]:
    return await check_server(commands, Keys(), flow.NAMES)


def words_of(refusal: Finding) -> list[str]:
    """The rights that its sentence asks for."""
    match = re.search(r": ACL SETUSER few (.+)$", refusal.text)
    assert match, refusal.text
    return match[1].split()


@pytest.mark.parametrize("command", [*NEEDED, "EVAL", "EVALSHA"])
async def test_a_command_we_need_is_refused_by_name_and_granted_by_the_words_of_the_refusal(
    command: str, grant: Grant, redis_admin: redis.Redis
) -> None:
    async with commands_at(grant("~*", "&*", "+@all", f"-{command.lower()}")) as commands:
        redis_admin.script_flush()
        [refusal] = [finding for finding in await findings(commands) if finding.level == "refuse"]
        assert refusal.what == "denied"
        assert f"+{command.lower()}" in words_of(refusal)
        redis_admin.execute_command("ACL", "SETUSER", "few", *words_of(refusal))
        assert await findings(commands) == []


@pytest.mark.parametrize(
    ("need", "rights"),
    [
        (OPTIONAL[0], ["-info", "~*"]),
        (OPTIONAL[1], ["-client|list", "~*"]),
        (OPTIONAL[2], ["-client|setname", "~*"]),
        (OPTIONAL[3], ["~bull:*"]),
    ],
    ids=lambda given: given.name if isinstance(given, Need) else "",
)
async def test_a_command_we_can_do_without_is_a_warning_that_says_what_it_costs(
    need: Need, rights: list[str], grant: Grant
) -> None:
    async with commands_at(grant("+@all", "allchannels", *rights)) as commands:
        [warning] = await findings(commands)
    assert warning == Finding("warn", "denied", f"few may not {need.name}: {need.cost} (ACL SETUSER few {need.grant})")


@pytest.mark.parametrize(
    ("rights", "granted"),
    [
        (["~bull:*", "&*"], []),
        (["~other:*", "&*"], ["~bull:*"]),
        (["%R~bull:*", "&*"], None),
        ([*(f"~bull:{queue}:*" for queue in flow.NAMES[1:]), "~bull:po:*", "&*"], ["~bull:ai-parsing:*"]),
        (["~bull:*", "&bull:*"], ["+psubscribe", "allchannels"]),
        (["~bull:*", "resetchannels"], ["+psubscribe", "+publish", "allchannels"]),
    ],
)
async def test_keys_and_channels_that_are_denied_are_named_by_their_pattern(
    rights: list[str], granted: list[str] | None, grant: Grant
) -> None:
    url = grant("+@all", "~workflow:*", *rights)
    async with commands_at(url) as commands:
        refusals = [finding for finding in await findings(commands) if finding.level == "refuse"]
    if granted is None:  # read-only: as if every command that writes were denied
        assert {"+hset", "+del"} <= set(words_of(refusals[0]))
    else:
        assert [sorted(words_of(refusal)) for refusal in refusals] == ([sorted(granted)] if granted else [])


async def test_a_worker_that_may_not_work_does_not_start_and_says_what_it_lacks(
    grant: Grant, database_url: str
) -> None:
    settings = settings_for(grant("~bull:*", "&*", "+@all", "-lpos", "-config", "-info"), database_url, "")
    async with open_core(settings) as core:
        with pytest.raises(RefusedToStartError, match=r"^few may not run LPOS: ACL SETUSER few \+lpos$"):
            await check_start(core)


async def test_the_doctor_lists_what_is_denied_and_does_not_take_it_for_a_wrong_password(
    grant: Grant, database_url: str
) -> None:
    settings = settings_for(grant("~bull:*", "&*", "+@all", "-lpos", "-config", "-info", "-client"), database_url, "")
    async with open_core(settings) as core:
        checks = await examine(core)
    assert [check.text for check in checks if check.level == "fail"] == ["few may not run LPOS: ACL SETUSER few +lpos"]
    warnings = [check.text for check in checks if check.what == "denied" and check.level == "warn"]
    assert [warning.partition(":")[0].removeprefix("few may not ") for warning in warnings] == [
        *("INFO", "CLIENT LIST", "CLIENT SETNAME", "SET workflow"),
    ]


async def test_a_server_that_cannot_be_asked_is_a_warning(redis_url: str) -> None:
    """Redis 6.2, whose scripts have no way to ask; its answer to ours is nil."""

    class Old:
        def __init__(self, commands: Commands) -> None:
            self.call = commands.call

        async def run(self, script: Script, *_: object) -> None:
            assert script.name == "denied"

    async with commands_at(redis_url) as commands:
        [warning] = await findings(Old(commands))
    assert (warning.level, warning.what) == ("warn", "denied")


def documented() -> list[str]:
    [line] = re.findall(r"^ACL SETUSER po on >password (.+)$", DOCUMENT.read_text(), re.MULTILINE)
    return line.split()


def test_the_documented_rights_name_the_commands_we_call_and_no_other() -> None:
    commands = {word for word in documented() if word.startswith("+")}
    assert commands == {f"+{name.lower()}" for name in [*NEEDED, "EVAL", "EVALSHA"]}


async def test_with_the_documented_rights_and_no_other_an_order_ends_in_the_shop(
    grant: Grant, redis_url: str, database_url: str, sandbox: str
) -> None:
    url = grant(*documented())
    async with working(settings_for(url, database_url, sandbox)) as (core, _):
        await check_start(core)
        await connect_merchant(core, sandbox)
        lines = articles(1)
        await submit(core, "order.csv", csv_of("PO-1", lines))
        [row] = await settled(core, 1, within_s=30)
        assert row.state == "completed"
        await check_once(core, sandbox, [lines])
