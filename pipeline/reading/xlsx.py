"""Workbooks (XLSX, XLS, ODS) -> sheets. Numbers and dates keep the value the file stores."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from io import BytesIO
from typing import Any

import python_calamine

from pipeline.reading.layout import Sheet, grid_line
from pipeline.reading.limits import (
    MAX_CELLS,
    MAX_COLUMNS,
    MAX_PACKED_FILES,
    MAX_ROWS,
    MAX_SHEETS,
    MAX_UNPACKED_BYTES,
)
from pipeline.reading.refusal import Refused

_CELL = re.compile(rb'<c r="([A-Z]{1,3})(\d{1,7})"')
_CHUNK = 1 << 20
_LETTERS = 26
_SIGNIFICANT = ".15g"


def read_workbook(content: bytes) -> tuple[Sheet, ...]:
    """Every visible worksheet with something on it; row numbers are those of the spreadsheet."""
    _refuse_bombs(content)
    try:
        workbook = python_calamine.CalamineWorkbook.from_filelike(BytesIO(content))
        visible = [
            sheet.name
            for sheet in workbook.sheets_metadata
            if sheet.visible is python_calamine.SheetVisibleEnum.Visible
            and sheet.typ is python_calamine.SheetTypeEnum.WorkSheet
        ]
        sheets = [_sheet(workbook, name) for name in visible[:MAX_SHEETS]]
    except python_calamine.PasswordError:
        raise Refused("encrypted_document", "the workbook is protected by a password") from None
    except Exception as error:  # noqa: BLE001 - whatever a parser says about hostile bytes, it is their fault
        raise Refused("damaged_document", f"the workbook cannot be opened ({type(error).__name__})") from None
    return tuple(sheet for sheet in sheets if sheet.lines)


def _sheet(workbook: python_calamine.CalamineWorkbook, name: str) -> Sheet:
    rows = workbook.get_sheet_by_name(name).to_python(skip_empty_area=False, nrows=MAX_ROWS)
    lines = (
        grid_line(map(_cell, row[:MAX_COLUMNS]), f"{name}, row {number}") for number, row in enumerate(rows, start=1)
    )
    return Sheet(name, tuple(line for line in lines if line.cells), grid=True)


def _cell(stored: Any) -> tuple[str, Decimal | date | None]:
    """A cell as text, with its value where the file stores one."""
    match stored:
        case bool() | str():
            return str(stored), None
        case int() | float():
            value = Decimal(format(stored, _SIGNIFICANT))
            return format(value, "f"), value
        case datetime():
            return stored.date().isoformat(), stored.date()
        case date():
            return stored.isoformat(), stored
        case _:
            return str(stored), None


def _refuse_bombs(content: bytes) -> None:
    """Unpack once, counting: sizes in a zip's directory are claims, and one cell far out makes a sheet of billions."""
    if not zipfile.is_zipfile(BytesIO(content)):
        return
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            _measure(archive)
    except Refused:
        raise
    except Exception as error:  # noqa: BLE001 - zip and its codecs raise a dozen types for damaged bytes
        raise Refused("damaged_document", f"the workbook cannot be unpacked ({type(error).__name__})") from None


def _measure(archive: zipfile.ZipFile) -> None:
    names = archive.namelist()
    if len(names) > MAX_PACKED_FILES:
        raise Refused("document_too_large", "the workbook holds too many parts")
    unpacked = 0
    for name in names:
        for chunk in _chunks(archive, name):
            unpacked += len(chunk)
            if unpacked > MAX_UNPACKED_BYTES:
                raise Refused("document_too_large", "the workbook unpacks to more than can be read")
            _refuse_extent(chunk)


def _chunks(archive: zipfile.ZipFile, name: str) -> Iterator[bytes]:
    with archive.open(name) as part:
        while chunk := part.read(_CHUNK):
            yield chunk


def _refuse_extent(chunk: bytes) -> None:
    cells = [(_column(letters), int(row)) for letters, row in _CELL.findall(chunk)]
    if cells and max(column for column, _ in cells) * max(row for _, row in cells) > MAX_CELLS:
        raise Refused("document_too_large", "the worksheet spans more cells than can be read")


def _column(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * _LETTERS + letter - ord("A") + 1
    return number
