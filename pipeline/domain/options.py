"""The options of one product page: at most three, each with one spelling and a value for every variant."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.domain.identifiers import fold
from pipeline.domain.placing import option_key
from pipeline.domain.results import NormalizedLine
from pipeline.domain.wording import TEXT_LIMIT

MAX_OPTIONS = 3
_FILLER = "Standard"
_NAME_JOINT = " + "
"""Shopify refuses an option whose name holds " / "."""
_VALUE_JOINT = " / "


class Options:
    """The option names of a product's lines; what was printed first decides how a name or value is spelled."""

    def __init__(self, lines: Iterable[NormalizedLine]) -> None:
        self._names: dict[str, str] = {}
        self._values: dict[tuple[str, str], str] = {}
        for line in lines:
            for name, value in line.options.items():
                self._names.setdefault(option_key(name), name)
                self._values.setdefault((option_key(name), fold(value)), value)

    def __len__(self) -> int:
        """How many options the document tells apart, whatever a shop can hold."""
        return len(self._names)

    @property
    def names(self) -> tuple[str, ...]:
        """The option names a shop can hold."""
        return tuple(_joined(list(self._names.values()), _NAME_JOINT))

    def of(self, line: NormalizedLine) -> dict[str, str]:
        """A value for each of the product's options; a line that lacks one gets a value a shop accepts."""
        own = {option_key(name): fold(value) for name, value in line.options.items()}
        values = [self._values[key, own[key]] if key in own else _FILLER for key in self._names]
        return dict(zip(self.names, _joined(values, _VALUE_JOINT), strict=True))


def _joined(words: list[str], joint: str) -> list[str]:
    """The words, those past the third joined to it."""
    if len(words) > MAX_OPTIONS:
        words = [*words[: MAX_OPTIONS - 1], joint.join(words[MAX_OPTIONS - 1 :])]
    return [word[:TEXT_LIMIT] for word in words]
