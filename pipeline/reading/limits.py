"""How much of a document is read. Documents are hostile: every loop over one has its bound here."""

from __future__ import annotations

from typing import Final

MAX_BYTES: Final = 25 * 1024 * 1024
MAX_UNPACKED_BYTES: Final = 200 * 1024 * 1024
MAX_PACKED_FILES: Final = 2_000
MAX_PAGES: Final = 60
MAX_PICTURES: Final = 8
MAX_WORDS_PER_PAGE: Final = 20_000
MAX_SHEETS: Final = 20
MAX_ROWS: Final = 20_000
MAX_COLUMNS: Final = 200
MAX_LINES: Final = 5_000
MAX_TEXT: Final = 200_000
MAX_CELL: Final = 2_000
MAX_CELLS: Final = 5_000_000
