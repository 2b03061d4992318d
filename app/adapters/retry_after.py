"""When a vendor says it may be asked again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds to wait by the Retry-After header, in either of its forms; None where it says nothing usable."""
    value = headers.get("retry-after", "")
    try:
        return max(0.0, float(value)) if value.isascii() and value.replace(".", "", 1).isdigit() else _until(value, now)
    except ValueError:
        return None


def _until(value: str, now: datetime) -> float:
    date = parsedate_to_datetime(value)
    if date.tzinfo is None:  # "-0000": UTC of unknown origin
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - now).total_seconds())
