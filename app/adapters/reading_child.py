"""The process that opens hostile documents: frames in on stdin, frames out on stdout, nothing else.

Started by `ChildReader` with an empty environment and in a session of its own, so it holds no secret and a
Ctrl-C in the terminal does not reach it. It bounds itself before the first byte: memory for ever, CPU time
per document. It ends when its stdin ends, even in the middle of a document.

Frame: four bytes of length, big endian, then that many bytes. Request: a JSON object on one line, then the
document. Reply: a JSON object. JSON and not pickle, because whoever takes over this process must not get the next.
"""

from __future__ import annotations

import base64
import json
import os
import resource
import select
import signal
import struct
import sys
import threading
from typing import Any, BinaryIO

from pipeline.reading import ReadOutcome, Refused, read

LENGTH = struct.Struct(">I")
READY = b'{"ready": true}'


def main(memory_bytes: int, cpu_s: int) -> None:
    """Answer requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    requests, replies = _private_pipes()
    threading.Thread(target=_end_with_parent, args=(requests.fileno(),), daemon=True).start()
    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_CORE, 0)
    _send(replies, READY)
    while (request := _receive(requests)) is not None:
        _allow_cpu(cpu_s)
        _send(replies, answer(request))


def answer(request: bytes) -> bytes:
    """One request's reply: an outcome, a refusal, or our own failure by its type."""
    head, _, content = request.partition(b"\n")
    try:
        reply = _outcome(read(content, json.loads(head)["own_names"]))
    except Refused as refused:
        reply = {"refused": {"code": refused.code, "message": str(refused)}}
    except Exception as error:  # noqa: BLE001 - the boundary: a bug must name itself to the parent, not end the child
        reply = {"failed": type(error).__name__}
    return json.dumps(reply).encode()


def _outcome(outcome: ReadOutcome) -> dict[str, Any]:
    return {
        "order": None if outcome.order is None else outcome.order.model_dump(mode="json"),
        "unreadable": outcome.unreadable,
        "text": outcome.text,
        "pages": [base64.b64encode(page).decode() for page in outcome.pages],
    }


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The two pipes moved away from 0 and 1, so that a library that prints cannot corrupt a frame."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    return requests, replies


def _end_with_parent(descriptor: int) -> None:
    """A parent that was killed closes its end of the pipe; the kernel reports that as a hang-up."""
    hung_up = select.poll()
    hung_up.register(descriptor, 0)
    hung_up.poll()
    os._exit(0)


def _limit(what: int, bound: int) -> None:
    _, hard = resource.getrlimit(what)
    lowest = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
    resource.setrlimit(what, (lowest, lowest))


def _allow_cpu(seconds: int) -> None:
    """CPU limits count from the start of the process: grant what was used plus one document's share."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    allowed = int(usage.ru_utime + usage.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (allowed if hard == resource.RLIM_INFINITY else min(allowed, hard), hard))


def _receive(stream: BinaryIO) -> bytes | None:
    head = stream.read(LENGTH.size)
    return stream.read(LENGTH.unpack(head)[0]) if len(head) == LENGTH.size else None


def _send(stream: BinaryIO, frame: bytes) -> None:
    stream.write(LENGTH.pack(len(frame)) + frame)
    stream.flush()


if __name__ == "__main__":
    main(memory_bytes=int(sys.argv[1]), cpu_s=int(sys.argv[2]))
