"""A database restored from an hour-old backup: what it has forgotten is told again, asked again, but never doubled."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from urllib.parse import urlsplit

import anyio.to_thread
import pytest

from app.db.receiving import Units
from app.db.tables import runs
from tests.chaos.lives import Shopkeeper, order, revise, shopkeeping
from tests.conftest import DatabaseAdmin
from tests.sandbox_shop import SandboxShop, http, sandbox

__all__ = ["http", "sandbox"]

Backup = Callable[[], Awaitable[str]]


@pytest.fixture
def backup(database_url: str, database_admin: DatabaseAdmin) -> Iterator[Backup]:
    """Copies the test's database, which nobody may be connected to; returns the copy's address."""
    source = urlsplit(database_url).path[1:]
    copy = f"{source}_restored"

    async def make() -> str:
        statement = f"CREATE DATABASE {copy} TEMPLATE {source} STRATEGY file_copy"
        await anyio.to_thread.run_sync(partial(database_admin.execute, statement))
        return database_admin.url_of(copy)

    yield make
    database_admin.execute(f"DROP DATABASE IF EXISTS {copy} WITH (FORCE)")


async def receive(shopkeeper: Shopkeeper) -> str:
    _, job = await shopkeeper.people.receive("order-1", "ann", {"MUG-R": Units(6, rejected=1)})
    return job.run_id


async def question(shopkeeper: Shopkeeper, run_id: str) -> str:
    """What a person is asked about the run; fails if it is not waiting for one."""
    run = await shopkeeper.given.run_row(run_id)
    assert run["state"] == "needs_review"
    return str(run["review"][0]["code"])


async def test_a_forgotten_announcement_is_told_under_its_old_key_and_a_forgotten_receipt_is_a_question(
    database_url: str, backup: Backup, sandbox: SandboxShop
) -> None:
    async with shopkeeping(database_url, sandbox) as before:
        await order(before.given, {"MUG-R": 10, "MUG-B": 4})
    restored = await backup()
    async with shopkeeping(database_url, sandbox) as lost_hour:
        await lost_hour.work("run-1")
        await lost_hour.work(await receive(lost_hour))
    held = {"MUG-R": 3, "MUG-B": 4}
    assert await sandbox.quantities("incoming") == held

    async with shopkeeping(restored, sandbox) as after:
        await after.work("run-1")
        assert await sandbox.quantities("incoming") == held
        assert (await after.books())["MUG-R"] == (10, 0, 0, 0)

        run_id = await receive(after)
        await after.work(run_id)
        assert await question(after, run_id) == "received_elsewhere"
        await after.people.cancel(run_id, "ann")
    assert await sandbox.quantities("incoming") == held
    assert await sandbox.quantities("available") == {"MUG-R": 6, "MUG-B": 0}
    assert (await sandbox.state())["products_created"] == 1


@pytest.mark.parametrize("units", [12, 15])
async def test_a_forgotten_revision_is_a_question_whether_the_next_one_says_the_same_or_not(
    database_url: str, backup: Backup, sandbox: SandboxShop, units: int
) -> None:
    async with shopkeeping(database_url, sandbox) as before:
        await order(before.given, {"MUG-R": 10, "MUG-B": 4})
        await before.work("run-1")
    restored = await backup()
    async with shopkeeping(database_url, sandbox) as lost_hour:
        await lost_hour.work(await revise(lost_hour.given, 2, {"MUG-R": 12, "MUG-B": 4}))
    async with shopkeeping(restored, sandbox) as after:
        run_id = await revise(after.given, 2, {"MUG-R": units, "MUG-B": 4})
        await after.work(run_id)
        assert await question(after, run_id) == "expected_elsewhere"
        assert await sandbox.quantities("incoming") == {"MUG-R": 12, "MUG-B": 4}
        job = await after.people.approve(run_id, "ann")
        await after.work(run_id, job.entry)
        assert (await after.given.run_row(run_id))["state"] == "completed"
    assert await sandbox.quantities("incoming") == {"MUG-R": 12, "MUG-B": 4}


async def test_a_receipt_that_was_under_way_ends_as_one_run_of_it(
    database_url: str, backup: Backup, sandbox: SandboxShop
) -> None:
    """The backup holds the receipt; what it did in the lost hour is told again under the same keys."""
    async with shopkeeping(database_url, sandbox) as before:
        await order(before.given, {"MUG-R": 10, "MUG-B": 4})
        await before.work("run-1")
        run_id = await receive(before)
        await before.die(run_id, "confirm", 0)  # how it is parted stands in the backup
    restored = await backup()
    async with shopkeeping(database_url, sandbox) as lost_hour:
        await lost_hour.work(run_id)
    async with shopkeeping(restored, sandbox) as after:
        await after.work(run_id)
        assert (await after.books())["MUG-R"] == (10, 6, 1, 0)
        [run] = await after.given.rows(runs, runs.c.id == run_id)
        assert run["state"] == "completed"
    assert await sandbox.quantities("incoming") == {"MUG-R": 3, "MUG-B": 4}
    assert await sandbox.quantities("available") == {"MUG-R": 6, "MUG-B": 0}
