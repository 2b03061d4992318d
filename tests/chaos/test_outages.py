"""A shop, a database or a Redis that goes away and comes back: nothing failed, nothing counted, nothing doubled."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import pytest

from app.adapters.shopify import limits
from app.core import Core, open_core
from app.embedded import open_home, start_redis
from pipeline import flow
from pipeline.shopkeeping import pictures
from tests.app.redis_proxy import Proxy, proxy_to
from tests.chaos.watching import all_due_at, attempts, check_nothing_counted, impatient, order_faults, until
from tests.shop import (
    DOMAIN,
    TOKEN,
    Article,
    articles,
    check_once,
    connect_merchant,
    csv_of,
    settings_for,
    settled,
    submit,
    working,
)

ORDERS = 6
SEED = 20261123

# ------------------------------------------------------------------------------------------------ the shop


class ShopProcess:
    """The sandbox as a process on one port, killed and started again; its goods are in a file."""

    def __init__(self, state: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._command = [sys.executable, "-m", "app.sandbox", "--port", str(self._port), "--state", str(state)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        command = [*self._command, "--shop", f"{DOMAIN}:{TOKEN}"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith(b"listening on")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


@contextmanager
def shop_process(state: Path) -> Iterator[ShopProcess]:
    shop = ShopProcess(state)
    shop.start()
    try:
        yield shop
    finally:
        shop.kill()


async def test_a_shop_that_dies_and_returns_costs_no_order_an_attempt(
    redis_url: str, database_url: str, tmp_path: Path
) -> None:
    with shop_process(tmp_path / "shop.json") as shop:
        settings = settings_for(redis_url, database_url, shop.address)
        before = ",".join(flow.NAMES[: flow.NAMES.index(flow.SYNC)])
        async with open_core(settings) as core:
            await connect_merchant(core, shop.address)
            orders = await _submit(core)
            async with working(settings.model_copy(update={"stages": before})):
                await all_due_at(core, flow.SYNC, ORDERS)
            shop.kill()
            async with working(settings), impatient(core, flow.SYNC):

                async def all_waited() -> bool:
                    return await attempts(core, "waited") >= ORDERS

                await until(all_waited)
                shop.start()
                await settled(core, ORDERS)
            await check_nothing_counted(core)
            await check_once(core, shop.address, orders)


FAULTS = [
    {"operation": "*", "kind": "http_500", "count": 3},
    {"operation": "*", "kind": "http_429", "count": 3, "seconds": 0.2},
    {"operation": "productSet", "kind": "throttled", "count": 2},
    *(
        {"operation": operation, "kind": kind, "count": 2}
        for operation in ("productSet", "inventoryAdjustQuantities", "productUpdate")
        for kind in ("http_500", "timeout_after_success", "error_502_after_success")
    ),
]
"""Every kind, and for each call that changes something the worst ones: done, and the answer lost."""


async def test_a_shop_that_fails_in_every_way_still_holds_everything_once(
    redis_url: str, database_url: str, sandbox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COOL_DOWN_S", 0.05)
    monkeypatch.setattr(limits, "COOL_DOWN_S_MAX", 0.2)
    monkeypatch.setattr(pictures, "UNDER_WAY_S", 1.0)  # here nothing is carried out after its caller has gone
    async with working(settings_for(redis_url, database_url, sandbox)) as (core, _):
        await connect_merchant(core, sandbox)
        await order_faults(sandbox, FAULTS)
        orders = await _submit(core)
        async with impatient(core, flow.SYNC, flow.IMAGES):
            await settled(core, ORDERS)
        await check_nothing_counted(core)
        await check_once(core, sandbox, orders)
        assert await attempts(core, "waited") >= len(FAULTS)


# -------------------------------------------------------------------------------------------- the database


async def _away(proxy: Proxy, seconds: float) -> None:
    proxy.refusing = True
    proxy.cut()
    await anyio.sleep(seconds)
    proxy.refusing = False


async def _cut(proxy: Proxy, _seconds: float) -> None:
    proxy.cut()


async def _mute(proxy: Proxy, seconds: float) -> None:
    """What is sent arrives, a COMMIT too, and its answer is lost with the connection."""
    proxy.swallow_replies = True
    await anyio.sleep(seconds)
    proxy.swallow_replies = False
    proxy.cut()


async def _hung(proxy: Proxy, seconds: float) -> None:
    proxy.frozen = True
    await anyio.sleep(seconds)
    proxy.frozen = False
    proxy.cut()


WAYS: tuple[Callable[[Proxy, float], Awaitable[None]], ...] = (_away, _cut, _mute, _hung)


@asynccontextmanager
async def _blinking(proxy: Proxy, times: int) -> AsyncIterator[None]:
    """Goes wrong in every way, at moments nobody chose (but the seed), then stays well."""
    chance = random.Random(SEED)

    async def blink() -> None:
        for number in range(times):
            await anyio.sleep(chance.uniform(0.05, 0.5))
            await WAYS[number % len(WAYS)](proxy, chance.uniform(0.1, 0.6))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(blink)
        yield


async def test_a_database_that_blinks_at_any_statement_costs_no_order_an_attempt(
    redis_url: str, database_url: str, sandbox: str
) -> None:
    direct = settings_for(redis_url, database_url, sandbox)
    async with proxy_to(database_url) as proxy, open_core(direct) as core:
        await connect_merchant(core, sandbox)
        settings = settings_for(redis_url, proxy.url("postgresql"), sandbox, max_stalls=100)
        async with working(settings), impatient(core, *flow.NAMES):
            orders = await _submit(core)
            async with _blinking(proxy, times=12):
                pass
            await settled(core, ORDERS)
        await check_nothing_counted(core)
        await check_once(core, sandbox, orders)


# ------------------------------------------------------------------------------------------------- Redis


async def test_a_redis_that_blinks_costs_no_order_an_attempt(redis_url: str, database_url: str, sandbox: str) -> None:
    direct = settings_for(redis_url, database_url, sandbox)
    async with proxy_to(redis_url) as proxy, open_core(direct) as core:
        await connect_merchant(core, sandbox)
        async with (
            working(settings_for(proxy.url(), database_url, sandbox, max_stalls=100)),
            impatient(core, flow.SYNC),
        ):
            orders = await _submit(core)
            async with _blinking(proxy, times=12):
                pass
            await settled(core, ORDERS)
        await check_nothing_counted(core)
        await check_once(core, sandbox, orders)


@pytest.mark.parametrize("durable", [True, False], ids=["with its data", "empty"])
async def test_a_redis_that_restarts_loses_no_order(
    database_url: str, sandbox: str, tmp_path: Path, *, durable: bool
) -> None:
    """The server's process ends in the middle of the work; the next one has another port and the same address."""
    with open_home(tmp_path / "redis") as home, ExitStack() as later:
        first = later.enter_context(ExitStack())
        url = first.enter_context(start_redis(home, durable=durable))
        async with proxy_to(url) as proxy:
            settings = settings_for(proxy.url(), database_url, sandbox, max_stalls=100)
            async with working(settings) as (core, _):
                await connect_merchant(core, sandbox)
                orders = await _submit(core)
                await all_due_at(core, flow.SYNC, 1)
                proxy.refusing = True
                proxy.cut()
                first.close()
                proxy.aim(later.enter_context(start_redis(home, durable=durable)))
                proxy.refusing = False
                await settled(core, ORDERS)
                await check_nothing_counted(core)
                await check_once(core, sandbox, orders)


async def _submit(core: Core) -> list[list[Article]]:
    orders = [articles(number) for number in range(ORDERS)]
    for number, lines in enumerate(orders):
        await submit(core, f"order-{number}.csv", csv_of(f"PO-{number}", lines))
    return orders
