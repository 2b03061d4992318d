"""What the three connections say of themselves, and a way to wait for it."""

from __future__ import annotations

import asyncio

from app.redis_link import ConnectionState


class Changes:
    """Every change of state, and a way to wait for one."""

    def __init__(self) -> None:
        self.seen: list[ConnectionState] = []
        self.delays: list[float] = []
        self._news = asyncio.Event()

    def note(self, state: ConnectionState) -> None:
        self.seen.append(state)
        self.delays += [state.retry_in_s] if state.name == "commands" and state.retry_in_s is not None else []
        self._news.set()

    async def until(self, state: str, *names: str) -> None:
        """Wait until each of these connections has come to this state, counted from the last wait."""
        missing = set(names or ("commands", "leases", "events"))
        async with asyncio.timeout(5):
            while missing:
                missing -= {change.name for change in self.seen if change.state == state}
                if missing:
                    self._news.clear()
                    await self._news.wait()
        self.seen.clear()
