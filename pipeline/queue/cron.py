"""When a cron expression is due next, exactly as cron-parser 4.9 has it, which npm bull asks.

The id of a schedule's next run holds this moment: a worker that reckons otherwise runs the schedule twice, and one
that runs at other times than in Node is a fault nobody sees. The cron libraries for Python part from cron-parser on a
tenth of all expressions (`*/2` as a day, `0L`, the hours that clocks skip or repeat), so this is its own search
again, quirks and all: step by step through local time, days first.

The dialect: up to six fields (seconds first; with fewer, those on the left are left out), lists, ranges, steps,
names, `?`, `L` for the last day, `5L` for the last Friday, `5#2` for the second, `@daily` and its like.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

STEPS_MAX = 10_000
"""After so many steps the search gives up, as if there were no such moment: 27 years of single days."""

_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTH_NAMES = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
_WEEKDAY_NAMES = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
_DAYS_IN_MONTH = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_EVERY_HOUR = 24
_EVERY_WEEKDAY = 8  # `*` is 0 to 7 there, Sunday twice


class CronError(ValueError):
    """cron-parser refuses this expression."""


@dataclass(frozen=True, slots=True)
class _Field:
    """What one field may hold: numbers between two, names for some, and other characters."""

    low: int
    high: int
    names: dict[str, int]
    characters: str = ""


_SECOND = _MINUTE = _Field(0, 59, {})
_HOUR = _Field(0, 23, {})
_DAY = _Field(1, 31, {}, "?L")
_MONTH = _Field(1, 12, _MONTH_NAMES)
_WEEKDAY = _Field(0, 7, _WEEKDAY_NAMES, "?L")
_FIELDS = (_SECOND, _MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)


@dataclass(frozen=True, slots=True)
class _Values:
    """A field as read: its numbers, twice if named twice (whether it is `*` is a matter of length), and its Ls."""

    numbers: tuple[int, ...]
    lasts: tuple[str, ...]

    def __contains__(self, number: int) -> bool:
        return number in self.numbers

    def __len__(self) -> int:
        return len(self.numbers) + len(self.lasts)


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression; `nth` is the n of `5#n`, 0 if there is none."""

    seconds: _Values
    minutes: _Values
    hours: _Values
    days: _Values
    months: _Values
    weekdays: _Values
    nth: int

    def has_day(self, date: datetime) -> bool:
        """Whether it may run that day. If days and weekdays are both restricted, either will do."""
        if self.nth and self.nth != -(-date.day // 7):
            return False
        day = date.day in self.days or bool(self.days.lasts and _turns_month(date, 1))
        weekday = date.isoweekday() % 7 in self.weekdays or any(
            date.isoweekday() % 7 == int(last[0]) % 7 and _turns_month(date, 7) for last in self.weekdays.lasts
        )
        if len(self.weekdays) == _EVERY_WEEKDAY:
            return day
        if len(self.days) >= _DAYS_IN_MONTH[date.month - 1]:
            return weekday
        return day or weekday


def parse(expression: str) -> Cron:
    """Read an expression; CronError if cron-parser would not."""
    texts = _ALIASES.get(expression, expression).split()
    if len(texts) > len(_FIELDS):
        raise CronError(f"{expression!r} has more than six fields")
    texts = ["0", "*", "*", "*", "*", "*"][: len(_FIELDS) - len(texts)] + texts
    texts[-1], nth = _split_nth(texts[-1])
    seconds, minutes, hours, days, months, weekdays = map(_parse_field, _FIELDS, texts)
    return Cron(seconds, minutes, hours, _days_of(months, days), months, weekdays, nth)


def next_after(cron: Cron, at_ms: int, zone: tzinfo | None, *, end_ms: float | None = None) -> int | None:
    """Find the first moment after `at_ms` by the clocks of a zone (None: this machine's), not after the end."""
    search = _Search(cron, _Moment.at(at_ms, zone))
    for _ in range(STEPS_MAX):
        if end_ms is not None and search.moment.ms > end_ms:
            return None
        if not search.moves_on():
            return search.moment.ms
    return None


class _Search:
    """Goes from moment to moment until one matches in everything."""

    def __init__(self, cron: Cron, start: _Moment) -> None:
        self.moment = start
        self._start_ms = start.ms
        self._cron = cron
        self._skipped_to: int | None = None  # the hour after one that the clocks skip, whose work it does
        self._repeated: int | None = None  # an hour that the clocks have begun again, whose work is done

    def moves_on(self) -> bool:
        """Take one step; False if there is no need to."""
        cron, wall = self._cron, self.moment.wall
        if not cron.has_day(wall):
            self.moment = self.moment.next_day()
        elif wall.month not in cron.months:
            self.moment = self.moment.next_month()
        elif self._leaves_hour(wall.hour):
            pass
        elif wall.minute not in cron.minutes:
            self._advance(_Moment.next_minute)
        elif wall.second not in cron.seconds or self.moment.ms == self._start_ms:
            self._advance(_Moment.next_second)
        else:
            return False
        return True

    def _leaves_hour(self, hour: int) -> bool:
        if hour in self._cron.hours:
            if hour != self._repeated:
                return False
            self._repeated = None
            self._advance(_Moment.next_hour)
        elif hour != self._skipped_to:
            self._skipped_to = None
            self._advance(_Moment.next_hour)
        elif hour - 1 in self._cron.hours:
            return False
        else:
            self.moment = self.moment.next_hour()
        return True

    def _advance(self, to: Callable[[_Moment], _Moment]) -> None:
        """Go there, and see what the clocks do on the way."""
        before, self.moment = self.moment.wall, to(self.moment)
        now = self.moment.wall
        if len(self._cron.hours) == _EVERY_HOUR:
            return
        if now.hour == before.hour + 2:
            self._skipped_to = now.hour
        elif now.hour == before.hour and now.minute == now.second == 0:
            self._repeated = now.hour


# ------------------------------------------------------------------------------------------- reading


def _split_nth(text: str) -> tuple[str, int]:
    weekday, sharp, nth = text.partition("#")
    if not sharp:
        return text, 0
    if re.search(r"[,/-]", text) or nth not in {"1", "2", "3", "4", "5"}:
        raise CronError(f"{text!r} is no weekday of a month")
    return weekday, int(nth)


def _parse_field(field: _Field, text: str) -> _Values:
    if field.names:
        text = re.sub(r"[a-zA-Z]{3}", lambda name: str(field.names.get(name[0].lower(), name[0])), text)
    if not re.fullmatch(rf"[,*0-9/{field.characters}-]+", text):
        raise CronError(f"{text!r} cannot stand there")
    text = text.replace("*" if "*" in text else "?", f"{field.low}-{field.high}")
    numbers: list[int] = []
    lasts: list[str] = []
    for item in text.split(","):
        span, slash, step = item.partition("/")
        if "L" in span and "-" not in span:
            lasts.append(_last(field, span))
        elif slash or "-" in span:
            numbers += _range(field, span if "-" in span else f"{span}-{field.high}", step if slash else "1")
        else:
            number = _number(field, span)
            numbers.append(number % 7 if field is _WEEKDAY else number)
    return _Values(tuple(sorted(numbers)), tuple(lasts))


def _last(field: _Field, span: str) -> str:
    if field is _WEEKDAY and not span[0].isdecimal():
        raise CronError(f"{span!r} does not say the last what")
    return span


def _range(field: _Field, span: str, step: str) -> set[int]:
    low, high, *_ = span.split("-")
    if not low or not step.isdecimal() or int(step) == 0:
        raise CronError(f"{span}/{step} is no range")
    numbers = range(_number(field, low), _number(field, high or "0") + 1)
    if not numbers:
        raise CronError(f"{span!r} runs backwards")
    sunday = {0} if field is _WEEKDAY and numbers[-1] % 7 == 0 else set()
    return sunday | set(numbers[:: int(step)])


def _number(field: _Field, text: str) -> int:
    if not text.isdecimal() or not field.low <= int(text) <= field.high:
        raise CronError(f"{text!r} is not between {field.low} and {field.high}")
    return int(text)


def _days_of(months: _Values, days: _Values) -> _Values:
    """Without those that the month, if there is but one, does not have."""
    if len(months) != 1:
        return days
    longest = _DAYS_IN_MONTH[months.numbers[0] - 1]
    if days.numbers and days.numbers[0] > longest:
        raise CronError(f"day {days.numbers[0]} is in no month {months.numbers[0]}")
    return _Values(
        tuple(day for day in days.numbers if day <= longest), tuple(last for last in days.lasts if last == "L")
    )


# --------------------------------------------------------------------------------------- local time

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _turns_month(date: datetime, days: int) -> bool:
    return (date + timedelta(days=days)).month != date.month


@dataclass(frozen=True, slots=True)
class _Moment:
    """An instant and what the clocks of a zone show then, moved as luxon moves its DateTime."""

    ms: int
    wall: datetime
    offset: timedelta
    zone: tzinfo | None

    @classmethod
    def at(cls, ms: int, zone: tzinfo | None) -> _Moment:
        local = (_EPOCH + timedelta(milliseconds=ms)).astimezone(zone)
        return cls(ms, local.replace(tzinfo=None), local.utcoffset() or timedelta(0), zone)

    def showing(self, wall: datetime) -> _Moment:
        """The instant at which clocks show that; of two the one with our offset, of none the one an hour on."""
        guess = self._at_offset(wall, self.offset)
        if guess.offset == self.offset:
            return guess
        second = self._at_offset(wall, guess.offset)
        if second.offset == guess.offset:
            return second
        return self._at_offset(wall, min(guess.offset, second.offset))

    def _at_offset(self, wall: datetime, offset: timedelta) -> _Moment:
        ms = (wall - offset).replace(tzinfo=UTC) - _EPOCH
        return _Moment.at(ms // timedelta(milliseconds=1), self.zone)

    def plus(self, ms: int) -> _Moment:
        return _Moment.at(self.ms + ms, self.zone)

    def next_month(self) -> _Moment:
        first = (self.wall.replace(day=1) + timedelta(days=31)).replace(day=1)
        in_a_month = self.showing(
            first.replace(day=min(self.wall.day, calendar.monthrange(first.year, first.month)[1]))
        )
        return in_a_month.showing(in_a_month.wall.replace(day=1, hour=0, minute=0, second=0, microsecond=0))

    def next_day(self) -> _Moment:
        tomorrow = self.showing(self.wall + timedelta(days=1))
        return tomorrow.showing(tomorrow.wall.replace(hour=0, minute=0, second=0, microsecond=0))

    def next_hour(self) -> _Moment:
        later = self.plus(3_600_000)
        later = later.showing(later.wall.replace(minute=0, second=0, microsecond=0))
        return later if later.ms > self.ms else later.plus(3_600_000)

    def next_minute(self) -> _Moment:
        later = self.plus(60_000)
        later = later.showing(later.wall.replace(second=0, microsecond=0))
        return later if later.ms >= self.ms else later.plus(3_600_000)

    def next_second(self) -> _Moment:
        later = self.plus(1000)
        later = later.showing(later.wall.replace(microsecond=0))
        return later if later.ms >= self.ms else later.plus(3_600_000)
