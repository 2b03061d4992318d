"""The same step done twice, by npm bull in one queue and by us in another, then compared key by key, word by word.

A test calls steps; each one fails where the two part. What we do differently on purpose the test must name:
`only_we` and `only_bull` are messages that one side alone publishes. Left out of every comparison is what differs
by nature (moments, tokens, texts of traces) and `poToken`, our private field: it tells a settling call that was
sent again after a lost reply that it had taken effect.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import redis

from pipeline.queue.bull import Bull
from pipeline.queue.job import ClaimedJob, ClaimNext, Failure, NewJob, RateLimit, Retention, Settled
from tests.conformance.oracle import Node
from tests.pipeline.queue.support import QUEUE

THEIRS, OURS = "theirs", QUEUE
BOTH = (THEIRS, OURS)
PRIVATE = "poToken"
LEASE_MS = 30_000
SOON_S = 1000
MOMENTS = frozenset({"timestamp", "processedOn", "finishedOn", "retriedOn"})

Message = tuple[str, str]


class Twins:
    """Two queues that must stay alike."""

    def __init__(self, bull: Bull, node: Node, raw: redis.Redis, listener: redis.client.PubSub) -> None:
        self._bull = bull
        self._node = node
        self.raw = raw
        self._listener = listener
        self._held: dict[str, ClaimedJob] = {}
        self._claims = 0

    # -- the start: made by bull, or by an operator's hand, in both queues ---------------------------

    async def given(self, job_id: str, **opts: object) -> None:
        """Bull adds a job to both."""
        for queue in BOTH:
            await self._node.queue(queue, "add", {"job": job_id}, opts | {"jobId": job_id})
        self.compare()

    def by_hand(self, command: str, suffix: str, *args: str | int) -> None:
        """An operator runs a command of Redis on both."""
        for queue in BOTH:
            self.raw.execute_command(command, f"bull:{queue}:{suffix}", *args)

    async def given_log(self, job_id: str, row: str) -> None:
        for queue in BOTH:
            await self._node.job(queue, job_id, "log", row)

    async def given_in(self, state: str, *job_ids: str, **opts: object) -> None:
        """Jobs in a state, brought there one after the other; the active ones have lost their lock."""
        for job_id in job_ids:
            await self.given(job_id, **opts, **({"delay": 60_000} if state == "delayed" else {}))
            if state in {"active", "completed", "failed"}:
                await self.claim()
            if state == "active":
                self.by_hand("DEL", job_id + ":lock")
            elif state == "completed":
                await self.finish(job_id)
            elif state == "failed":
                await self.fail(job_id)
        if state == "paused":
            await self.pause()

    def aged(self, state: str, job_id: str, by_s: int) -> None:
        """Let a job be that old in whatever its state is counted from."""
        at = int(self.raw.time()[0] - by_s) * 1000
        for field in MOMENTS & set(self.raw.hkeys(f"bull:{OURS}:{job_id}")):
            self.by_hand("HSET", job_id, field, at)
        if state in {"completed", "failed"}:
            self.by_hand("ZADD", state, at, job_id)

    async def limited(self, limit: RateLimit) -> None:
        """Bull's worker is limited; our claims say so themselves."""
        await self._node.limit(THEIRS, limit.max, limit.duration_ms)

    # -- the steps -------------------------------------------------------------------------------

    async def enqueue(self, job: NewJob, /, name: str | None = None, **opts: object) -> None:
        """Bull adds what we enqueue."""
        named = [name] if name else []
        await self._node.queue(
            THEIRS, "add", *named, json.loads(job.data), opts | ({"jobId": job.id} if job.id else {})
        )
        await self._bull.enqueue(OURS, job)
        self.compare()

    async def claim(self, limit: RateLimit | None = None) -> ClaimedJob:
        """Both take the next job, and with it, if it is a repeatable one, the duty to schedule its next run.

        Bull's limit must have been set before (`limited`).
        """
        theirs = await self._node.take(THEIRS)
        self._claims += 1
        ours = await self._bull.claim(OURS, token=f"worker:{self._claims}", lease_ms=LEASE_MS, limit=limit)
        assert isinstance(ours, ClaimedJob), ours
        assert ours.id == theirs["id"]
        await self._bull.schedule_next(ours)
        self._held[ours.id] = ours
        self.compare()
        return ours

    async def finish(
        self,
        job_id: str,
        value: object = None,
        retention: Retention = Retention(),  # noqa: B008 frozen
        *,
        and_claim: bool = False,
        **differs: Iterable[Message],
    ) -> None:
        await self._node.job(THEIRS, job_id, "moveToCompleted", value, False, not and_claim)
        claim_next = ClaimNext(f"next:{job_id}", LEASE_MS) if and_claim else None
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        reply = await self._bull.finish(
            self._held[job_id], returnvalue=text, retention=retention, claim_next=claim_next
        )
        assert reply.settled is Settled.DONE
        if isinstance(reply.next, ClaimedJob):
            self._held[reply.next.id] = reply.next
        self.compare(**differs)

    async def fail(
        self,
        job_id: str,
        reason: str = "boom",
        retention: Retention = Retention(),  # noqa: B008 frozen
        *,
        retry_in_ms: int | None = None,
        **differs: Iterable[Message],
    ) -> None:
        """Fail an attempt; `retry_in_ms` is what bull makes of the job's options, None: it was the last."""
        await self._node.job(THEIRS, job_id, "moveToFailed", reason)
        job, failure = self._held[job_id], Failure(reason, ["trace"])
        count = self._bull_attempts(job_id)
        if retry_in_ms is None:
            settled = await self._bull.fail(job, failure=failure, attempts_made=count, retention=retention)
        else:
            settled = await self._bull.retry(job, failure=failure, attempts_made=count, delay_ms=retry_in_ms)
        assert settled is Settled.DONE
        self.compare(**differs)

    async def progress(self, job_id: str, value: object) -> None:
        await self._node.job(THEIRS, job_id, "progress", value)
        assert await self._bull.progress(OURS, job_id, value)
        self.compare()

    async def promote(self, job_id: str) -> None:
        await self._node.job(THEIRS, job_id, "promote")
        assert await self._bull.promote(OURS, job_id)
        self.compare()

    async def replay(self, job_id: str) -> None:
        await self._node.job(THEIRS, job_id, "retry")
        assert await self._bull.replay(OURS, job_id)
        self.compare()

    async def replay_all(self, count: int, **differs: Iterable[Message]) -> int:
        await self._node.queue(THEIRS, "retryJobs", {"count": count})
        replayed = 0
        while some := await self._bull.replay_all(OURS, count):
            replayed += some
        self.compare(**differs)
        return replayed

    async def obliterate(self, *, force: bool, batch: int) -> None:
        await self._node.queue(THEIRS, "obliterate", {"force": force, "count": batch})
        assert await self._bull.obliterate(OURS, force=force, batch=batch)
        self.compare()

    async def update(self, job_id: str, data: object) -> None:
        """A tool of Node's changes a job's data: we have no such verb, and must read what it wrote."""
        for queue in BOTH:
            await self._node.job(queue, job_id, "update", data)
        self.compare()

    async def remove(self, job_id: str) -> None:
        await self._node.job(THEIRS, job_id, "remove")
        assert await self._bull.remove(OURS, job_id)
        self.compare()

    async def clean(self, state: str, *, older_than_ms: int, limit: int) -> list[str]:
        kind = "wait" if state == "waiting" else state
        theirs: list[str] = await self._node.queue(THEIRS, "clean", older_than_ms, kind, limit)
        ours = await self._bull.clean(OURS, state, older_than_ms, limit)
        assert sorted(ours) == sorted(theirs)
        self.compare()
        return ours

    async def pause(self) -> None:
        await self._node.queue(THEIRS, "pause")
        await self._bull.pause(OURS)
        self.compare()

    async def resume(self) -> None:
        await self._node.queue(THEIRS, "resume")
        await self._bull.resume(OURS)
        self.compare()

    async def check_stalled(self) -> None:
        """One round of the stalled check, the last one's guard being over."""
        self.by_hand("DEL", "stalled-check")
        self.raw.delete("bull:po:guard")
        await self._node.queue(THEIRS, "moveUnlockedJobsToWait")
        await self._bull.sweep([OURS], guard_ms=1, stalled_interval_ms=30_000)
        self.compare()

    async def promote_due(self, *job_ids: str, **differs: Iterable[Message]) -> None:
        """Let these delayed jobs be due, in this order."""
        for order, job_id in enumerate(job_ids):
            self.by_hand("ZADD", "delayed", (1_700_000_000_000 + order) * 4096, job_id)
        await self._node.queue(THEIRS, "updateDelayTimer")
        await self._bull.sweep([OURS], guard_ms=1, stalled_interval_ms=30_000)
        self.by_hand("DEL", "stalled-check")
        self.by_hand("DEL", "stalled")
        self.compare(**differs)

    # -- the comparison --------------------------------------------------------------------------

    def compare(self, only_we: Iterable[Message] = (), only_bull: Iterable[Message] = ()) -> None:
        said = self._messages()
        we_said, bull_said = without(said[OURS], only_we), without(said[THEIRS], only_bull)
        assert we_said == bull_said, f"we said {we_said}, bull {bull_said}"
        ours, theirs = self.dump(OURS), self.dump(THEIRS)
        for key in ours.keys() | theirs.keys():
            assert ours.get(key) == theirs.get(key), f"{key} is {ours.get(key)}, with bull {theirs.get(key)}"

    def dump(self, queue: str) -> dict[str, object]:
        """Everything under a queue's base: type, whether it expires, value."""
        base = f"bull:{queue}:"
        return {
            key.removeprefix(base): (kind := self.raw.type(key), self.raw.ttl(key) >= 0, self._value(kind, key))
            for key in self.raw.keys(base + "*")
        }

    def _value(self, kind: str, key: str) -> object:
        suffix = key.split(":", 2)[2]
        match kind:
            case "hash":
                fields = self.raw.hgetall(key)
                fields.pop(PRIVATE, None)
                return scheduled({field: known(field, one) for field, one in fields.items()}, fields)
            case "list":
                return self.raw.lrange(key, 0, -1)
            case "set":
                return self.raw.smembers(key)
            case "zset":
                scores = self.raw.zrange(key, 0, -1, withscores=True)
                return [(member, self._score(suffix, score)) for member, score in scores]
            case _ if suffix.endswith(":lock") or suffix == "stalled-check":
                return "a token or a moment"
            case _:
                return self.raw.get(key)

    def _score(self, suffix: str, score: float) -> object:
        match suffix:
            case "delayed":
                return self._due(score // 4096), score % 4096
            case "completed" | "failed":
                return moment(int(score))
            case _:
                return score

    def _due(self, due_ms: float) -> str:
        """The time left, in steps of ten seconds: no test is that slow. A schedule's moment is the same for both."""
        seconds, _ = self.raw.time()
        left = due_ms / 1000 - seconds
        if left > SOON_S:
            return f"at {due_ms:.0f}"
        return f"in {round(left, -1):g} s" if left > 0 else "due"

    def _messages(self) -> dict[str, list[Message]]:
        """What was published per queue since the last call."""
        self.raw.publish("bull::end", "")
        said: dict[str, list[Message]] = defaultdict(list)
        while (message := self._listener.get_message(timeout=5)) and message["channel"] != "bull::end":
            _, queue, channel = message["channel"].split(":", 2)
            kind, at, token = channel.partition("@")
            assert token or not at or kind == "stalled", "Node drops what is published without a token"
            said[queue].append((kind, self._due(float(message["data"])) if kind == "delayed" else message["data"]))
        return said

    def _bull_attempts(self, job_id: str) -> int:
        """Our runner counts in Postgres; here bull has just counted."""
        return int(self.raw.hget(f"bull:{THEIRS}:{job_id}", "attemptsMade") or 1)


def without(said: list[Message], named: Iterable[Message]) -> list[Message]:
    """Take away what a test names, each of which must be there."""
    left = said[:]
    for message in named:
        left.remove(message)
    return left


def known(field: str, value: str) -> Any:
    """A field's value without what differs by nature."""
    match field:
        case _ if field in MOMENTS:
            return moment(value)
        case "stacktrace":
            return len(json.loads(value))
        case "opts":
            opts = json.loads(value)
            return opts | {"timestamp": moment(opts["timestamp"])}
        case _:
            return value


def scheduled(shown: dict[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """A repeatable job: its delay must end at the schedule's moment; how long it is depends on when one looked."""
    opts = json.loads(fields.get("opts") or "{}")
    if not opts.get("prevMillis"):
        return shown
    assert opts["timestamp"] + opts["delay"] in {opts["prevMillis"], opts["timestamp"]}
    assert fields["delay"] in {str(opts["delay"]), "0"}
    return shown | {
        "delay": fields["delay"] != "0",
        "opts": [(name, value) for name, value in shown["opts"].items() if name != "delay"],  # in this order
    }


def moment(value: object) -> str:
    """Bull's clean compares moments as text, so all must be as long."""
    return f"{len(str(value))} digits"
