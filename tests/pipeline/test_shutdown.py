"""Told to stop while Redis is slow or silent: what was claimed meanwhile, known or not, goes back unrun, uncounted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from pipeline import claimer, flow, settling
from pipeline.errors import RedisUnavailable, ReplyLost
from pipeline.worker import Worker
from tests.app.held import held
from tests.pipeline.line import Line, open_line
from tests.support import eventually


@pytest.fixture
async def line(redis_url: str, database_url: str) -> AsyncIterator[Line]:
    async with held(open_line(redis_url, database_url)) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "SHIELDED_S", 0.5)
    monkeypatch.setattr(claimer, "HAND_BACK_WITHIN_S", 0.5)
    monkeypatch.setattr(claimer, "ASK_AGAIN_S", 0.01)


class Silence:
    """Redis obeys and cannot be heard: each call of a verb is done, and its reply lost, until the silence is over."""

    def __init__(self, line: Line, verb: str) -> None:
        self.obeyed = anyio.Event()
        self.asked = anyio.Event()
        self.over = False
        self._call: Callable[..., Awaitable[Any]] = getattr(line.bull, verb)
        self._adopt = line.bull.adopt
        setattr(line.bull, verb, self._lose)
        line.bull.adopt = self._refuse  # type: ignore[method-assign]

    async def _lose(self, first: Any, **named: Any) -> Any:
        answer = await self._call(first, **named)
        if self.over or flow.FIRST not in (first, getattr(first, "queue", "")):
            return answer
        self.obeyed.set()
        raise ReplyLost("the connection ended")

    async def _refuse(self, queue: str, token: str, job_id: str | None = None) -> Any:
        self.asked.set()
        if not self.over:
            raise RedisUnavailable("not connected")
        return await self._adopt(queue, token, job_id)


@asynccontextmanager
async def at_work(worker: Worker) -> AsyncIterator[None]:
    """The worker runs in the block, which ends when it has stopped."""
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            yield


async def check_untouched(line: Line, *job_ids: str) -> None:
    """The jobs wait as if nobody had ever held them."""
    for job_id in job_ids:
        assert await line.bull.state(flow.FIRST, job_id) == "waiting"
        job = await line.bull.job(flow.FIRST, job_id)
        assert job is not None
        assert (job.attempts_made, job.stalled_count) == (0, 0)
    assert (await line.bull.counts(flow.FIRST)).active == 0


async def test_a_claim_that_is_answered_after_the_stop_is_handed_back_unrun(line: Line) -> None:
    claim, claimed, go_on = line.bull.claim, anyio.Event(), anyio.Event()

    async def slow(queue: str, **named: Any) -> Any:
        answer = await claim(queue, **named)
        if queue == flow.FIRST:
            claimed.set()
            await go_on.wait()
        return answer

    line.bull.claim = slow  # type: ignore[method-assign]
    job_id = await line.add_upload()
    stopping = line.worker(grace_s=60)
    async with at_work(stopping):
        await claimed.wait()
        stopping.stop()
        go_on.set()
    await check_untouched(line, job_id)
    assert line.stages[flow.FIRST].calls == 0


async def test_a_claim_whose_reply_is_lost_as_we_stop_is_asked_for_and_handed_back(line: Line) -> None:
    silence = Silence(line, "claim")
    job_id = await line.add_upload()
    stopping = line.worker()
    async with at_work(stopping):
        await silence.asked.wait()
        stopping.stop()
        silence.over = True
    await check_untouched(line, job_id)
    assert line.stages[flow.FIRST].calls == 0


async def test_a_redis_that_stays_away_does_not_keep_us_from_stopping(line: Line) -> None:
    """What it holds for us comes back when the lease is over: the one case in which somebody must wait."""
    silence = Silence(line, "claim")
    await line.add_upload()
    stopping = line.worker(grace_s=60)
    async with at_work(stopping):
        await silence.asked.wait()
        stopping.stop()
    assert (await line.bull.counts(flow.FIRST)).active == 1


@pytest.mark.parametrize("stops", [False, True])
async def test_what_a_settling_call_claimed_is_found_when_redis_is_heard_again(line: Line, stops: bool) -> None:
    """Its reply lost again and again, until it is heard, or we stop and no longer insist: the claims have happened."""
    silence = Silence(line, "finish")
    await line.add_upload("upload-1")
    second = await line.add_upload("upload-2")
    third = await line.add_upload("upload-3")
    stopping = line.worker(grace_s=0 if stops else 60)
    async with at_work(stopping):
        await eventually(lambda: _completed(line, flow.FIRST, 2))
        if stops:
            stopping.stop()
            await silence.asked.wait()
        silence.over = True
        if not stops:
            await eventually(lambda: _completed(line, flow.IMAGES, 3))
            stopping.stop()
    if stops:
        await check_untouched(line, third)
        assert await line.bull.state(flow.FIRST, second) == "completed"
    assert {attempt for _, _, attempt, _ in await line.journal()} == {1}


async def _completed(line: Line, queue: str, count: int) -> bool:
    return (await line.bull.counts(queue)).completed == count
