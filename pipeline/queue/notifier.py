"""Listens for what all queues publish and wakes whoever could take the work: an optimisation, never the truth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.queue.keys import Keys

_LISTENED_TO = ("waiting@*", "stalled@*", "active@*", "resumed", "delayed")


class Events(Protocol):
    """A connection that listens."""

    async def listen(
        self,
        patterns: Sequence[str],
        *,
        on_message: Callable[[str, str], None],
        on_subscribed: Callable[[], None],
    ) -> None:
        """Pass on (channel, payload) until cancelled; say so after every (re)subscription."""
        ...


class Notifier:
    """Turns Bull's channels into calls, which must return at once.

    `on_waiting(queue, job_id)`: that job may be claimed. `on_taken(queue, job_id)`: somebody has claimed it.
    `on_resumed(queue)`: any number may be claimed. `on_delayed(queue, due_ms)`: a job is due then.
    `on_resubscribed()`: we listen from now on; what was said before may have been missed, so sweep.
    """

    def __init__(
        self,
        events: Events,
        keys: Keys,
        queues: Sequence[str],
        *,
        on_waiting: Callable[[str, str], None],
        on_taken: Callable[[str, str], None],
        on_resumed: Callable[[str], None],
        on_delayed: Callable[[str, int], None],
        on_resubscribed: Callable[[], None],
    ) -> None:
        self._events = events
        self._patterns = patterns_of(keys, queues)
        self._bases = {keys.base(queue): queue for queue in queues}
        self._on_waiting = on_waiting
        self._on_taken = on_taken
        self._on_resumed = on_resumed
        self._on_delayed = on_delayed
        self._on_resubscribed = on_resubscribed

    async def run(self) -> None:
        """Listen for ever."""
        await self._events.listen(self._patterns, on_message=self._pass_on, on_subscribed=self._on_resubscribed)

    def _pass_on(self, channel: str, payload: str) -> None:
        name, _, _token = channel.partition("@")  # a token may hold colons
        start, colon, word = name.rpartition(":")
        queue = self._bases.get(start + colon)
        if queue is None:
            return
        match word:
            case "waiting" | "stalled":
                self._on_waiting(queue, payload)
            case "active":
                self._on_taken(queue, payload)
            case "resumed":
                self._on_resumed(queue)
            case "delayed":
                self._tell_due(queue, payload)

    def _tell_due(self, queue: str, payload: str) -> None:
        try:
            due_ms = int(float(payload))  # Bull publishes score / 4096, fraction and all
        except (ValueError, OverflowError):
            return
        self._on_delayed(queue, due_ms)


def patterns_of(keys: Keys, queues: Sequence[str]) -> list[str]:
    """The channels of these queues that are listened to."""
    bases = [_literal(keys.base(queue)) for queue in queues]
    return [base + suffix for base in bases for suffix in _LISTENED_TO]


def _literal(text: str) -> str:
    """A pattern that matches only this text."""
    return "".join(f"\\{char}" if char in "*?[]\\" else char for char in text)
