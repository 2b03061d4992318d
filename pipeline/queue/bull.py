"""A queue in npm bull's storage, in our words: what Bull 4.16.5 writes we read, and the reverse.

Each verb is one script (`lua/<verb>.lua`), so no other process ever sees a job half-way. Nothing here blocks in
Redis and nothing is sent twice on its own: a call whose reply was lost raises ReplyLost, and the caller asks
`adopt` with the token it used. (The settling verbs and `enqueue` with an id may also simply be sent again.)
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from pipeline.clock import Clock, SystemClock
from pipeline.errors import BrokenQueue, LeaseLost, RedisUnavailable
from pipeline.queue.job import (
    DEFAULT_NAME,
    Adopted,
    Claim,
    ClaimedJob,
    ClaimNext,
    Counts,
    Empty,
    Enqueued,
    Failure,
    FinishReply,
    Held,
    JobRecord,
    Limited,
    NewJob,
    Paused,
    RateLimit,
    Retention,
    Settled,
    Successor,
    SweepReport,
)
from pipeline.queue.keys import Keys, require_job_id, require_queue_name, suffix_of
from pipeline.queue.lease import Lease
from pipeline.queue.repeat import UnreadableScheduleError, next_run
from pipeline.queue.scripts import load
from pipeline.queue.wire import (
    claim_args,
    dump,
    event,
    failure_args,
    job_record,
    json_object,
    limit_args,
    number,
    numeral,
    queue_sweep,
    retention_args,
    strict_json,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.queue.scripts import Argument, Script

DATA_MAX = 256 * 1024
"""Bytes of `data` a claim brings along; longer data is fetched apart."""

BATCH = 1000
"""How many jobs one call of a bulk verb moves at most: Redis serves nobody else meanwhile."""

_log = structlog.get_logger()


class Commands(Protocol):
    """One connection to Redis. Raises RedisUnavailable, ReplyLost, BrokenQueue; never a driver's error."""

    async def call(self, *args: Argument) -> Any:
        """Send one command and return its reply, strings decoded."""
        ...

    async def run(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Run a script, sending its source only if the server does not have it."""
        ...


class Bull:
    """The verbs on queues of one prefix.

    `leases` is a connection of its own for renewing and sweeping, so that neither waits behind work; while it
    is down both go by `commands`.
    """

    def __init__(
        self,
        commands: Commands,
        *,
        prefix: str = "bull",
        leases: Commands | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.keys = Keys(prefix)
        self._commands = commands
        self._leases = leases or commands
        self._clock = clock or SystemClock()

    # -- putting in, taking out -------------------------------------------------------------------

    async def enqueue(self, queue: str, job: NewJob) -> Enqueued:
        """Put a job into waiting or delayed. With an id it happens once, however often it is sent."""
        require_queue_name(queue)
        created, job_id, state = await self._run("enqueue", [queue], **self._new_job(job))
        return Enqueued(job_id, created=created == "created", state=state)

    async def claim(self, queue: str, *, token: str, lease_ms: int, limit: RateLimit | None = None) -> Claim:
        """Take the next waiting job and its lease. The token must be fresh: `adopt` finds the job by it."""
        sent_at = self._clock.monotonic()
        reply = await self._run(
            "claim",
            [queue],
            token=token,
            lease_ms=lease_ms,
            **limit_args(limit),
            data_max=DATA_MAX,
        )
        return self._claim(reply, queue, ClaimNext(token, lease_ms, limit), sent_at)

    async def adopt(self, queue: str, token: str, job_id: str | None = None) -> Adopted:
        """Tell what the call with this token did, whose reply was lost; `job_id` if it was a settling call."""
        sent_at = self._clock.monotonic()
        reply = await self._run("adopt", [queue], token=token, job_id=job_id, data_max=DATA_MAX)
        match reply:
            case ["claimed", *_]:
                job = self._claimed(reply, queue, token, sent_at)
                return Adopted(claimed=job, state="active")
            case [word, state]:
                return Adopted(settled=word == "settled", state=state)
        raise _unexpected("adopt", reply)

    async def data(self, queue: str, job_id: str) -> str:
        """Fetch data that was too long to come with the claim."""
        data = await self._commands.call("HGET", self.keys.job(queue, job_id), "data")
        if data is None:
            raise LeaseLost(f"job {job_id} of {queue} was removed while it ran")
        return str(data)

    async def schedule_next(self, job: ClaimedJob) -> bool:
        """Schedule the run that follows a repeatable job, whose holder must do so before running it.

        Sent again, or by the next holder after a crash, it changes nothing. False if there is none to schedule: no
        repeatable job, a schedule that is over or was removed, or one that nobody can read (the log names it).
        """
        if not job.opts.get("repeat"):
            return False
        now_ms = int(self._clock.now().timestamp() * 1000)
        name = job.name or DEFAULT_NAME
        try:
            following = next_run(name, job.opts, now_ms)
        except UnreadableScheduleError as error:
            _log.error("schedule unreadable, it ends", queue=job.queue, job_id=job.id, reason=str(error))
            return False
        if following is None:
            return False
        answer: str = await self._run(
            "schedule",
            [job.queue],
            job_id=job.id,
            name=name,
            schedule=following.schedule,
            next_job_id=following.job_id,
            next_ms=following.at_ms,
            opts=following.opts,
            timestamp=now_ms,
            delay_ms=following.delay_ms,
        )
        return answer != "removed"

    # -- settling an attempt ----------------------------------------------------------------------

    async def finish(
        self,
        job: ClaimedJob,
        *,
        returnvalue: str,
        retention: Retention,
        successor: Successor | None = None,
        claim_next: ClaimNext | None = None,
    ) -> FinishReply:
        """Complete the job, enqueue its successor, claim the next job of this queue and of the successor's: one call.

        Sent again after a lost reply it changes nothing and returns the claims it made the first time.
        """
        sent_at = self._clock.monotonic()
        queues = [job.queue, successor.queue] if successor else [job.queue]
        through = successor.claim if successor else None
        settled, handed_on, claim, claim_through, broken = await self._run(
            "finish",
            queues,
            job_id=job.id,
            token=job.token,
            returnvalue=strict_json(returnvalue),
            event=event(job.id, val=returnvalue),
            **retention_args(retention),
            **{f"next_{name}": value for name, value in self._successor(successor).items()},
            **claim_args(claim_next),
            **{f"through_{name}": value for name, value in claim_args(through).items()},
            data_max=DATA_MAX,
        )
        return FinishReply(
            settled=Settled(settled),
            successor_created=None if handed_on is None else handed_on == "created",
            next=self._claim(claim, job.queue, claim_next, sent_at) if claim_next and claim else None,
            through=self._claim(claim_through, successor.queue, through, sent_at)
            if successor and through and claim_through
            else None,
            broken=broken,
        )

    async def retry(self, job: ClaimedJob, *, failure: Failure, attempts_made: int, delay_ms: int) -> Settled:
        """Record a counted failure; the job runs again after `delay_ms`, at once if that is 0."""
        return Settled(
            await self._run(
                "retry",
                [job.queue],
                job_id=job.id,
                token=job.token,
                **failure_args(failure),
                attempts_made=attempts_made,
                delay_ms=delay_ms,
            )
        )

    async def fail(self, job: ClaimedJob, *, failure: Failure, attempts_made: int, retention: Retention) -> Settled:
        """Make the job a dead letter: it waits in failed for a person."""
        return Settled(
            await self._run(
                "fail",
                [job.queue],
                job_id=job.id,
                token=job.token,
                **failure_args(failure),
                attempts_made=attempts_made,
                event=event(job.id, val=failure.reason),
                **retention_args(retention),
            )
        )

    async def snooze(
        self, job: ClaimedJob, *, delay_ms: int, reason: str | None = None, unstarted: bool = False
    ) -> Settled:
        """Let the job run later; nothing is counted. The reason shows in the job's log.

        `unstarted`: nothing was begun, so the queue's limit may let another job start instead.
        """
        return Settled(
            await self._run(
                "snooze",
                [job.queue],
                job_id=job.id,
                token=job.token,
                delay_ms=delay_ms,
                reason=reason,
                give_back_ms=job.limit.duration_ms if unstarted and job.limit else None,
            )
        )

    async def release(self, job: ClaimedJob) -> Settled:
        """Hand the job back to the head of waiting; nothing is counted."""
        return Settled(await self._run("release", [job.queue], job_id=job.id, token=job.token))

    # -- looking after what runs ------------------------------------------------------------------

    async def renew(self, held: Sequence[Held], lease_ms: int) -> set[str]:
        """Extend all these leases; return the tokens that are definitely lost."""
        if not held:
            return set()
        pairs = list(itertools.chain.from_iterable((one.job_id, one.token) for one in held))
        keys = [self.keys.base(one.queue) for one in held]
        script = load("renew")
        return set(await self._run_aside(script, keys, script.arguments({"lease_ms": lease_ms}, pairs)))

    async def sweep(self, queues: Sequence[str], *, guard_ms: int, stalled_interval_ms: int) -> SweepReport:
        """Promote what is due, return what stalled, count what there is; see `lua/sweep.lua`."""
        script = load("sweep")
        keys = [self.keys.guard, self.keys.epoch, *map(self.keys.base, queues)]
        named: dict[str, Argument | None] = {
            "guard_ms": guard_ms,
            "stalled_interval_ms": stalled_interval_ms,
            "queue_count": len(queues),
        }
        ran, epoch, now_ms, *found = await self._run_aside(script, keys, script.arguments(named))
        return SweepReport(
            ran=bool(ran),
            epoch_present=bool(epoch),
            now_ms=int(now_ms),
            queues={name: queue_sweep(one) for name, one in zip(queues, found, strict=True)},
        )

    async def restoring_since(self) -> str:
        """Note that jobs are being given back; the same answer for everybody until Redis is emptied again."""
        await self._commands.call("SET", self.keys.restoring, self._stamp(), "NX")
        return await self._commands.call("GET", self.keys.restoring) or ""

    async def mark_epoch(self, since: str | None = None) -> bool:
        """Say that Redis holds our jobs; from now on a missing mark means that it was emptied.

        With what `restoring_since` answered: False, and no mark, if Redis was emptied again after that.
        """
        # In this order: emptied between the two, Redis has lost the mark as well.
        await self._commands.call("SET", self.keys.epoch, self._stamp(), "NX")
        if since is None or await self._commands.call("GET", self.keys.restoring) == since:
            return True
        await self._commands.call("DEL", self.keys.epoch)
        return False

    def _stamp(self) -> int:
        return int(self._clock.now().timestamp() * 1000)

    # -- people and pages -------------------------------------------------------------------------

    async def pause(self, queue: str) -> None:
        """Stop claiming from this queue in the whole fleet, Node's workers included."""
        await self._run("pause", [queue])

    async def resume(self, queue: str) -> None:
        """Let the fleet claim from this queue again."""
        await self._run("resume", [queue])

    async def is_paused(self, queue: str) -> bool:
        """Whether the flag is set that every claim obeys."""
        return bool(await self._commands.call("EXISTS", self.keys.paused_flag(queue)))

    async def counts(self, queue: str) -> Counts:
        """How many jobs are in each state."""
        return Counts(*await self._run("counts", [queue]))

    async def state(self, queue: str, job_id: str) -> str | None:
        """Where a job is; "stuck" if it exists and is nowhere, None if it does not exist."""
        state: str | None = await self._run("state", [queue], job_id=job_id)
        return state

    async def job(self, queue: str, job_id: str) -> JobRecord | None:
        """Read one job."""
        fields = await self._commands.call("HGETALL", self.keys.job(queue, job_id))
        return job_record(job_id, fields) if fields else None

    async def list_jobs(self, queue: str, state: str, start: int = 0, stop: int = 49) -> list[JobRecord]:
        """Read a page of jobs in one state, newest first."""
        rows = await self._run("list", [queue], suffix=suffix_of(state), start=start, stop=stop)
        return [job_record(job_id, fields) for job_id, fields in rows]

    async def replay(self, queue: str, job_id: str) -> bool:
        """Enqueue a dead letter again; False if it is none."""
        return bool(await self._run("replay", [queue], job_id=job_id))

    async def replay_all(self, queue: str, count: int = BATCH) -> int:
        """Enqueue as many dead letters again, the oldest first; return how many there were."""
        replayed: int = await self._run("replay_all", [queue], count=count)
        return replayed

    async def promote(self, queue: str, job_id: str) -> bool:
        """Let a delayed job run now; False if it is not delayed."""
        return bool(await self._run("promote", [queue], job_id=job_id))

    async def remove(self, queue: str, job_id: str) -> bool:
        """Remove a job; False if it runs or does not exist."""
        return bool(await self._run("remove", [queue], job_id=job_id))

    async def clean(self, queue: str, state: str, older_than_ms: int, limit: int = 1000) -> list[str]:
        """Remove jobs of one state older than that; return their ids."""
        ids: list[str] = await self._run(
            "clean", [queue], suffix=suffix_of(state), older_than_ms=older_than_ms, limit=limit
        )
        return ids

    async def obliterate(self, queue: str, *, force: bool = False, batch: int = BATCH) -> bool:
        """Remove every job of a queue and its own keys, a batch at a time. False if jobs run: it is only paused then.

        Forced it removes those too (whoever runs them settles nothing), and mends a queue whose keys are broken.
        """
        try:
            await self.pause(queue)
        except BrokenQueue:
            if not force:
                raise
        answer = "more"
        while answer == "more":
            answer = await self._run("obliterate", [queue], count=batch, force="1" if force else None)
        return answer == "done"

    async def progress(self, queue: str, job_id: str, value: Any) -> bool:
        """Show how far a job is: a number, or anything that is JSON. False if the job is gone."""
        return bool(
            await self._run(
                "progress",
                [queue],
                job_id=job_id,
                progress=dump(value),
                event=event(job_id, progress=value),
            )
        )

    # -- between Python and the scripts -----------------------------------------------------------

    async def _run(self, verb: str, queues: Sequence[str], **named: Argument | None) -> Any:
        script = load(verb)
        args = script.arguments(named)
        return await self._commands.run(
            script, script.all_keys([self.keys.base(queue) for queue in queues], args), args
        )

    async def _run_aside(self, script: Script, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """Run on the leases connection; renewing and sweeping may be repeated, so a lost reply may too."""
        all_keys = script.all_keys(keys, args)
        try:
            return await self._leases.run(script, all_keys, args)
        except RedisUnavailable:
            if self._leases is self._commands:
                raise
            return await self._commands.run(script, all_keys, args)

    def _new_job(self, job: NewJob) -> dict[str, Argument | None]:
        if job.id is not None:
            require_job_id(job.id)
        timestamp = self._stamp()
        given = {name: value for name, value in job.opts.items() if value is not None}
        own = {"attempts": job.attempts, "delay": job.delay_ms, "timestamp": timestamp}
        named = {"jobId": job.id} if job.id is not None else {}
        front = {"lifo": True} if job.front else {}
        return {
            "job_id": job.id,
            "name": job.name,
            "data": strict_json(job.data),
            "opts": dump(given | named | front | own),
            "timestamp": timestamp,
            "delay_ms": job.delay_ms,
            "priority": numeral(given.get("priority", 0)),
            "front": "1" if job.front else None,
        }

    def _successor(self, successor: Successor | None) -> dict[str, Argument | None]:
        if successor is None:
            return dict.fromkeys(load("enqueue").argv)
        require_queue_name(successor.queue)
        return self._new_job(successor.job)

    def _claim(self, reply: list[Any], queue: str, asked: ClaimNext, sent_at: float) -> Claim:
        match reply:
            case ["paused"]:
                return Paused()
            case ["limited", retry_after_ms, *dropped]:
                _tell_dropped(queue, dropped)
                return Limited(retry_after_ms)
            case ["empty", dropped]:
                _tell_dropped(queue, [dropped])
                return Empty()
            case ["claimed", *_]:
                _tell_dropped(queue, reply[9:])
                return self._claimed(reply, queue, asked.token, sent_at, asked.limit)
        raise _unexpected("claim", reply)

    def _claimed(
        self, reply: list[Any], queue: str, token: str, sent_at: float, limit: RateLimit | None = None
    ) -> ClaimedJob:
        _, job_id, name, opts, timestamp, attempts_made, stalled, data, lease_left_ms = reply[:9]
        return ClaimedJob(
            queue=queue,
            id=job_id,
            token=token,
            name=name or "",
            data=data,
            opts=json_object(opts),
            attempts_made=number(attempts_made),
            stalled_count=number(stalled),
            timestamp_ms=number(timestamp),
            lease=Lease(token, self._clock, sent_at=sent_at, lease_s=lease_left_ms / 1000),
            limit=limit,
        )


def _tell_dropped(queue: str, dropped: Sequence[Sequence[str]]) -> None:
    for entry in itertools.chain.from_iterable(dropped):
        why, _, job_id = entry.partition(" ")
        _log.warning("queue entry dropped", queue=queue, job_id=job_id, why=why)


def _unexpected(verb: str, reply: object) -> AssertionError:
    return AssertionError(f"{verb}.lua answered {reply!r}")
