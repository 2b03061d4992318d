"""A process that hangs is seen, shown and ended; one that was frozen, starved or cut off from its servers is not."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from textwrap import dedent

import anyio
import anyio.to_thread
import pytest
from structlog.testing import capture_logs

from app.settings import Settings
from app.watchdog import EXIT_WEDGED, LOOKS_BLOCKED, LOOP, Limits, Watchdog, look, wedged
from app.worker_main import watchdog_of
from pipeline.clock import SystemClock
from pipeline.queue.lease import MARGIN

QUICK = Limits(look_s=0.02, loop_s=0.5, role_s=0.5)
LIMITS = Limits(look_s=1, loop_s=10, role_s=20)
ENDS_WITHIN_S = 30.0


# ------------------------------------------------------------------------------- the decision, without a thread


def verdicts(*looks: dict[str, int]) -> list[str | None]:
    """What is wedged after each look at these counts."""
    silences, found = {}, []
    for counts in looks:
        silences = look(silences, counts)
        found.append(wedged(silences, LIMITS))
    return found


def test_a_loop_that_stands_still_for_its_limit_is_wedged_and_not_a_look_earlier() -> None:
    assert verdicts(*[{LOOP: 7}] * 12) == [None] * 10 + [LOOP] * 2


def test_one_tick_clears_a_loop_of_all_its_silence() -> None:
    assert verdicts(*[{LOOP: 7}] * 10, *[{LOOP: 8}] * 10) == [None] * 20


def test_a_process_frozen_for_any_time_wakes_to_one_silent_look() -> None:
    """Stopped, the thread does not look either: what passes meanwhile on any clock is nothing it counts."""
    before_the_freeze, on_waking, once_the_loop_turned = {LOOP: 7}, {LOOP: 7}, {LOOP: 8}
    assert verdicts(before_the_freeze, on_waking, once_the_loop_turned) == [None] * 3


def test_a_role_that_hangs_is_wedged_though_the_loop_turns() -> None:
    looks = [{LOOP: number, "sweep": 3, "heartbeat": number} for number in range(21)]
    assert verdicts(*looks) == [None] * 20 + ["sweep"]


def test_a_role_that_is_refused_at_every_round_is_never_wedged() -> None:
    """An outage: rounds end in errors, a few looks apart. Restarting would bring no server back."""
    assert verdicts(*({LOOP: number, "sweep": number // 15} for number in range(300))) == [None] * 300


# -------------------------------------------------------------------------------------- the limits, as they are set


class _Metrics:
    def loop_was_late(self, seconds: float) -> None: ...


class _Idle:
    """As much of a worker as its watchdog's limits are made from."""

    def __init__(self) -> None:
        from pipeline.worker import WorkerConfig

        self.config = WorkerConfig("w")
        self.clock = SystemClock()


def test_by_default_a_blocked_process_is_gone_before_its_oldest_lease_could_be_taken() -> None:
    settings = Settings()
    limits = watchdog_of(settings, _Idle(), _Metrics())._limits  # type: ignore[arg-type]
    last_beat_ago = settings.heartbeat_seconds
    late = 2 * limits.look_s
    assert last_beat_ago + limits.loop_s + late < settings.lease_seconds
    assert last_beat_ago + limits.loop_s >= settings.lease_seconds * (1 - MARGIN) - limits.look_s


def test_by_default_no_role_is_called_wedged_while_it_may_still_pause() -> None:
    worker = _Idle()
    limits = watchdog_of(Settings(), worker, _Metrics())._limits  # type: ignore[arg-type]
    settings = Settings()
    pauses = (worker.config.idle_s, worker.config.guard_s, settings.heartbeat_seconds, settings.reconcile_seconds)
    assert limits.role_s >= max(pauses) + 60


# --------------------------------------------------------------------------------------- the thread, on a real loop


class Ended:
    """Takes the place of the process's end."""

    def __init__(self) -> None:
        self.code: int | None = None
        self.happened = threading.Event()

    def __call__(self, code: int) -> None:
        self.code = code
        self.happened.set()


@pytest.fixture
def said() -> Iterator[list[dict[str, object]]]:
    with capture_logs() as entries:
        yield entries


async def watched(watchdog: Watchdog, scene: Callable[[], object]) -> None:
    """Play a scene on a loop that is being watched."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watchdog.run)
        await anyio.wait_all_tasks_blocked()
        scene()
        await anyio.sleep(0.2)
        tasks.cancel_scope.cancel()


def events(said: list[dict[str, object]]) -> list[object]:
    return [entry["event"] for entry in said]


async def test_a_loop_that_never_turns_again_ends_the_process_and_shows_where_it_hangs(
    said: list[dict[str, object]],
) -> None:
    ended = Ended()

    def hang_in_a_stage() -> None:
        assert ended.happened.wait(ENDS_WITHIN_S)

    await watched(Watchdog(QUICK, SystemClock(), end=ended), hang_in_a_stage)
    assert ended.code == EXIT_WEDGED
    assert events(said)[:2] == ["event loop is blocked", "process is wedged, ending it"]
    for entry in said[:2]:
        assert any(str(place).endswith(" hang_in_a_stage") for place in entry["stack"])  # type: ignore[attr-defined]
    assert said[1]["what"] == LOOP


async def test_a_loop_that_is_blocked_for_a_while_is_shown_once_and_afterwards_in_ready(
    said: list[dict[str, object]],
) -> None:
    ended = Ended()
    patient = Limits(look_s=0.02, loop_s=1000, role_s=1000)
    watchdog = Watchdog(patient, SystemClock(), end=ended)

    def block_a_while() -> None:
        while "event loop is blocked" not in events(said):
            time.sleep(0.01)
        time.sleep(0.1)

    await watched(watchdog, block_a_while)
    assert ended.code is None
    assert events(said) == ["event loop is blocked", "event loop turns again"]
    assert watchdog.trouble.startswith("the event loop was blocked for 0.")


async def test_a_loop_that_burns_cpu_is_seen_as_well(said: list[dict[str, object]]) -> None:
    ended = Ended()

    def burn() -> None:
        while not ended.happened.is_set():
            pass

    await watched(Watchdog(QUICK, SystemClock(), end=ended), burn)
    assert ended.code == EXIT_WEDGED


async def test_a_role_that_hangs_ends_the_process_though_the_loop_turns(said: list[dict[str, object]]) -> None:
    ended = Ended()
    watchdog = Watchdog(QUICK, SystemClock(), rounds=lambda: {"sweep": 3}, end=ended)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watchdog.run)
        assert await anyio.to_thread.run_sync(ended.happened.wait, ENDS_WITHIN_S)
        tasks.cancel_scope.cancel()
    assert ended.code == EXIT_WEDGED
    assert said[-1]["what"] == "sweep"


async def test_a_log_that_hangs_keeps_no_process_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, released = Ended(), threading.Event()

    class Clogged:
        def error(self, *_event: object, **_details: object) -> None:
            released.wait(ENDS_WITHIN_S)

    monkeypatch.setattr("app.watchdog._log", Clogged())
    await watched(Watchdog(QUICK, SystemClock(), end=ended), lambda: ended.happened.wait(ENDS_WITHIN_S))
    released.set()
    assert ended.code == EXIT_WEDGED


async def test_a_loop_that_turns_is_left_alone_and_its_lag_is_measured(said: list[dict[str, object]]) -> None:
    ended, lags = Ended(), list[float]()
    watchdog = Watchdog(QUICK, SystemClock(), lag_seen=lags.append, end=ended)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watchdog.run)
        while len(lags) < LOOKS_BLOCKED * 3:
            await anyio.sleep(0.01)
        tasks.cancel_scope.cancel()
    assert ended.code is None
    assert "process is wedged, ending it" not in events(said)
    assert min(lags) >= 0


async def test_the_thread_ends_with_what_it_watches() -> None:
    await watched(Watchdog(QUICK, SystemClock(), end=Ended()), lambda: None)
    with anyio.fail_after(ENDS_WITHIN_S):
        while any(thread.name == "watchdog" for thread in threading.enumerate()):
            await anyio.sleep(0.01)


# ----------------------------------------------------------------------------------- processes that really end


def exit_code_of(source: str) -> int:
    prelude = """
        import re, threading, time
        import anyio
        from app.watchdog import Limits, Watchdog, leave_within
        from pipeline.clock import SystemClock

        async def watched(scene):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(Watchdog(Limits(look_s=0.05, loop_s=0.5, role_s=9), SystemClock()).run)
                await anyio.sleep(0.2)
                scene()
    """
    program = dedent(prelude) + dedent(source)
    ran = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, timeout=60, check=False, text=True)
    print(ran.stderr)
    return ran.returncode


def test_a_process_that_sleeps_on_its_loop_ends_itself() -> None:
    assert exit_code_of("anyio.run(watched, lambda: time.sleep(600))") == EXIT_WEDGED


def test_code_that_never_lets_go_of_the_interpreter_ends_its_process_too() -> None:
    """An exploding regular expression: no other thread runs until it is done, which would be in some centuries."""
    assert exit_code_of("anyio.run(watched, lambda: re.match('(a+)+$', 'a' * 64 + 'b'))") == -signal.SIGPROF


def test_a_thread_that_hangs_does_not_keep_a_process_that_has_done_everything() -> None:
    source = """
        threading.Thread(target=time.sleep, args=[600]).start()
        leave_within(0.1)
    """
    assert exit_code_of(source) == 0


def test_a_process_that_ends_in_time_is_not_waited_for() -> None:
    started = time.monotonic()
    assert exit_code_of("leave_within(600)") == 0
    assert time.monotonic() - started < 300
