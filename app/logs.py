"""Logs as events: a fixed phrase, and keys for the data. Ids only; no documents, no addresses with passwords."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog


def configure(log_format: str, *, level: int = logging.INFO, file: Path | None = None) -> None:
    """Set up structlog for the process: one JSON object a line, or text for people; to stderr or a file."""
    stream = sys.stderr if file is None else file.open("a", encoding="utf-8", buffering=1)
    renderer: Any = (
        structlog.processors.JSONRenderer(sort_keys=True)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=stream.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _plain_exceptions,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stream),
        cache_logger_on_first_use=True,
    )
    # Libraries log requests with their URLs, and a URL may hold a signature.
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s", stream=stream)
    for chatty in ("httpx", "httpcore", "openai", "pdfminer", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.ERROR)


def _plain_exceptions(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An exception as its type and places. Its text may hold values of a document, so it stays out."""
    error = event.pop("exc_info", None)
    if isinstance(error, BaseException):
        frames = []
        trace = error.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            frames.append(f"{code.co_filename.rsplit('/', 1)[-1]}:{trace.tb_lineno} {code.co_name}")
            trace = trace.tb_next
        event["error_type"] = type(error).__name__
        event["frames"] = frames[-8:]
    return event
