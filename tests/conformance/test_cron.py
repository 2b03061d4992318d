"""cron-parser is asked: when is this expression due next? And we must say the same, to the millisecond."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from pipeline.queue import cron
from tests.conformance.oracle import Node

pytestmark = pytest.mark.interop

HOUR_MS = 3_600_000
# Where clocks skip or repeat an hour, at midnight, at two or by half an hour; and where they never do.
ZONES = {
    "Europe/Berlin": ("2026-03-29T01:00", "2026-10-25T01:00"),
    "America/New_York": ("2026-03-08T07:00", "2026-11-01T06:00"),
    "America/Havana": ("2025-03-09T05:00", "2025-11-02T05:00"),
    "Africa/Cairo": ("2025-04-24T22:00", "2025-10-30T21:00"),
    "Australia/Lord_Howe": ("2026-04-04T15:00", "2026-10-03T15:30"),
    "Asia/Kolkata": ("2026-12-31T18:30", "2028-02-28T18:30"),
    "UTC": ("2027-01-01T00:00", "2028-02-29T00:00"),
}
FIELDS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
WORDS = {3: ("?", "L"), 4: ("jan", "FEB", "oct-DEC"), 5: ("?", "MON", "mon-fri", "5L", "0L", "1#2", "5#5", "sun,3")}
NOISE = ("", "*", "0", "7", "12", "60", "-", "/", ",", "L", "#", "?", "*/5", "1-5", "jan", "W", "x")


def field(chance: random.Random, place: int) -> str:
    low, high = FIELDS[place]
    first, second = sorted((chance.randint(low, high), chance.randint(low, high)))
    every = chance.randint(1, 9)
    numbers = ("*", "*", f"*/{every}", f"{first}", f"{first}-{second}", f"{first}-{second}/{every}", f"{first}/{every}")
    return chance.choice((*numbers, f"{second},{first}", *WORDS.get(place, ())))


def questions() -> Iterator[Mapping[str, object]]:
    """Expressions of every kind, at any time; small hours around the moments when clocks change; and plain noise."""
    chance = random.Random(4711)
    for zone, moments in ZONES.items():
        for moment in moments:
            at = int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp()) * 1000
            for _ in range(15):
                fields = [field(chance, place) for place in range(chance.choice((0, 1, 1, 3)), 6)]
                yield question(
                    " ".join(fields), zone, at + chance.randrange(-400, 400) * HOUR_MS + chance.randrange(1000)
                )
            for hours in ("*", "0", "1", "2", "3", "1,2", "*/2", "0-3", "23"):
                minutes = chance.choice(("0", "30", "*/15", "59", "15 20"))
                yield question(f"{minutes} {hours} * * *", zone, at + chance.randrange(-25 * HOUR_MS, 3 * HOUR_MS))
    for _ in range(200):
        texts = ("".join(chance.choices(NOISE, k=chance.choice((1, 1, 2, 3)))) for _ in range(chance.randint(1, 7)))
        yield question(" ".join(texts), "UTC", 1_795_460_584_514)
    for alias in ("@yearly", "@monthly", "@weekly", "@daily", "@hourly", "@never"):
        yield question(alias, "UTC", 1_795_460_584_514)


def question(expression: str, zone: str | None, after: int) -> Mapping[str, object]:
    return {"expression": expression, "tz": zone, "after": after}


def due_next(expression: str, tz: str | None, after: int) -> list[int]:
    moments: list[int] = []
    try:
        parsed = cron.parse(expression)
    except cron.CronError:
        return moments
    while len(moments) < 3 and (found := cron.next_after(parsed, after, ZoneInfo(tz) if tz else None)) is not None:
        moments.append(after := found)
    return moments


async def test_every_expression_is_due_when_cron_parser_says(node: Node) -> None:
    asked = list(questions())
    answers = await node.due_next(asked)
    assert len(asked) > 500
    assert 300 < sum(map(bool, answers)) < len(asked)  # most are due some time, many are refused
    for one, theirs in zip(asked, answers, strict=True):
        assert due_next(**one) == theirs, one  # type: ignore[arg-type]


async def test_without_a_zone_it_is_this_machines_in_node_and_here(node: Node) -> None:
    asked = [question(f"30 {hour} * * *", None, 1_795_460_584_514) for hour in range(24)]
    assert [due_next(**one) for one in asked] == await node.due_next(asked)  # type: ignore[arg-type]
