"""The one way reading says no: a document that is refused, with a code that is stable and words for people."""

from __future__ import annotations

from pipeline.errors import Permanent


class Refused(Permanent):
    """The document cannot be read at all: not a type we know, broken, encrypted or beyond a limit.

    Reading raises nothing else, whatever the bytes are; a document that opens but holds no order is not
    refused, it is read (`ReadOutcome`).
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
