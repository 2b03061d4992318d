"""Delimited text -> one sheet. The delimiter is found by content: comma, semicolon, tab or bar."""

from __future__ import annotations

import csv
import io

import clevercsv

from pipeline.reading.layout import Sheet, grid_line
from pipeline.reading.limits import MAX_COLUMNS, MAX_ROWS

_DELIMITERS = [",", ";", "\t", "|"]
_SAMPLE = 20_000
_MAX_FIELD = 131_072


def read_csv(text: str) -> tuple[Sheet, ...]:
    """The file's rows; row numbers are those a person sees in a spreadsheet."""
    lines = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), skipinitialspace=True)
    try:
        for number, cells in enumerate(reader, start=1):
            if number > MAX_ROWS:
                break
            line = grid_line(cells[:MAX_COLUMNS], f"row {number}")
            if line.cells:
                lines.append(line)
    except csv.Error:
        pass  # a field beyond the parser's limit: what was read before it stands
    return (Sheet("csv", tuple(lines), grid=True),)


def _delimiter(text: str) -> str:
    sample = text[:_SAMPLE]
    try:
        dialect = clevercsv.Sniffer().sniff(sample, delimiters=_DELIMITERS)
    except clevercsv.Error:
        dialect = None
    if dialect is not None and dialect.delimiter in _DELIMITERS:
        return str(dialect.delimiter)
    return max(_DELIMITERS, key=sample.count)
