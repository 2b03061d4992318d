"""A document's bytes -> an extracted order, without a model. Pure: no file, no network, no clock, no settings.

    sniff      what the file is          csv, xlsx, pdf   sheets of cells with their places (layout)
    order      sheets -> order           kind, parties, header, sums, heading, table, lines: its questions
    edi, ubl   formats that are data     amounts, dates, wording, vocabulary: what they share

Documents are hostile. Whatever the bytes are, `read` returns an outcome or raises `Refused`; a caller
bounds memory and time by running it in a process of its own.
"""

from __future__ import annotations

from pipeline.reading.entry import read
from pipeline.reading.outcome import ReadOutcome
from pipeline.reading.refusal import Refused

__all__ = ["ReadOutcome", "Refused", "read"]
