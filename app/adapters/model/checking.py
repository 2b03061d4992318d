"""What a model's answer is worth. Nothing is believed because it was said.

Each number must be one a person could have printed, and stand in the document's text where there is text.
What cannot be looked up keeps its value with little confidence and a doubt, so that a person compares it.
A picture has no text to look in: there a line is worth more only if its own arithmetic proves it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from app.adapters.model.evidence import SourceText
from app.adapters.model.schema import Named, SaidLine, SaidOrder, SaidParty
from pipeline.domain.identifiers import clean_text, fold
from pipeline.domain.purchase_order import Doubt, Evidence, ExtractedLine, ExtractedOrder, LineKind, Party
from pipeline.domain.quantities import amounts_to, billed

LOOKED_UP = 0.95
"""The most a model is trusted: every value of the line stands in the text."""
PROVEN = 0.9
"""Read from a picture, and quantity times cost is the printed total."""
SEEN = 0.7
"""Read from a picture, and nothing proves it."""
HEADER_SEEN = 0.85
"""A header read from a picture: its sums and its supplier are checked by later stages."""
NOT_FOUND = 0.4
"""Said by the model, but the document's text does not hold it."""

LINES_MAX = 2000
_TEXT_MAX = 2000
_PACK_MAX = 10_000
_DECIMAL = re.compile(r"-?\d{1,12}(\.\d{1,6})?", re.ASCII)
_YEARS = range(2000, 2101)


def check(said: SaidOrder, source: SourceText, own_names: Sequence[str]) -> ExtractedOrder:
    """The order a model said it read, with the confidence each part has earned.

    An empty `source` means that the document is a picture. Of a document that is partly one, what stands on the
    pictured pages is not found, and so is compared by a person.
    """
    checker = _Checker(source)
    lines = tuple(checker.line(position, line) for position, line in enumerate(said.lines[:LINES_MAX], start=1))
    if len(said.lines) > LINES_MAX:
        checker.doubt("too_many_lines", f"The model read {len(said.lines)} lines; only {LINES_MAX} were taken.")
    supplier = _party(said.supplier)
    if fold(supplier.name) in {fold(name) for name in own_names} - {""}:
        checker.doubt("supplier_is_us", "The model named you as the supplier: say who sent this document.")
        supplier = Party()
    evidence = checker.header(said)
    return ExtractedOrder(
        kind=said.kind,
        kind_confidence=_share(said.kind_confidence),
        number=_text(said.number),
        references=_map(said.references),
        order_date=_date(said.order_date),
        due_date=_date(said.due_date),
        currency=_text(said.currency)[:8],
        supplier=supplier,
        buyer=_party(said.buyer),
        payment_terms=_text(said.payment_terms),
        lines=lines,
        subtotal=checker.number("subtotal", said.subtotal),
        tax=checker.number("tax", said.tax),
        freight=checker.number("freight", said.freight),
        discount=checker.number("discount", said.discount),
        total=checker.number("total", said.total),
        confidence=min([_share(said.confidence), *(one.confidence for one in evidence.values())]),
        evidence=evidence,
        doubts=tuple(checker.doubts),
        reader="model",
    )


@dataclass
class _Checker:
    """Looks values up, and collects what a person must compare."""

    source: SourceText
    doubts: list[Doubt] = field(default_factory=list)

    def doubt(self, code: str, message: str, line: int | None = None) -> None:
        self.doubts.append(Doubt(code=code, message=message, line=line))

    def number(self, name: str, said: str | None, line: int | None = None) -> Decimal | None:
        """A number as said, or None and a doubt when it is none that could be printed."""
        if said is None or not said.strip():
            return None
        if _DECIMAL.fullmatch(said.strip()):
            return Decimal(said.strip())
        where = f"Line {line}: the" if line else "The"
        self.doubt("unusable_number", f"{where} {_spoken(name)} could not be read as a number: enter it.", line)
        return None

    def line(self, position: int, said: SaidLine) -> ExtractedLine:
        """One line with its numbers, its evidence, and doubts about what does not stand in the text."""
        doubts_before = len(self.doubts)
        pack = self.number("pack_size", said.pack_size, position)
        line = ExtractedLine(
            position=position,
            kind=said.kind,
            sku=_text(said.sku),
            gtin=_text(said.gtin),
            description=_text(said.description),
            product_name=_text(said.product_name),
            quantity=self.number("quantity", said.quantity, position),
            quantity_shipped=self.number("quantity_shipped", said.quantity_shipped, position),
            quantity_backordered=self.number("quantity_backordered", said.quantity_backordered, position),
            quantity_invoiced=self.number("quantity_invoiced", said.quantity_invoiced, position),
            unit=_text(said.unit),
            pack_size=int(pack) if pack and pack == int(pack) and 0 < pack <= _PACK_MAX else None,
            unit_cost=self.number("unit_cost", said.unit_cost, position),
            retail_price=self.number("retail_price", said.retail_price, position),
            line_total=self.number("line_total", said.line_total, position),
            options=_map(said.options),
            image_url=self._address(said.image_url),
        )
        missing = self._missing(line) if self.source else []
        if missing:
            what = " and ".join(missing)
            self.doubt("not_in_document", f"Line {position}: the {what} the model read do not stand there.", position)
        worth = self._worth(line, trusted=len(self.doubts) == doubts_before)
        where = self._line_of(line)
        return line.model_copy(
            update={"evidence": Evidence(confidence=min(_share(said.confidence), worth), where=where, text=line.sku)}
        )

    def header(self, said: SaidOrder) -> dict[str, Evidence]:
        """Where the header's values stand, by field name; a value that is not said has no evidence."""
        texts = {"number": said.number, "supplier": said.supplier.name}
        sums = {name: getattr(said, name) for name in ("subtotal", "tax", "freight", "discount", "total")}
        found = {name: self.source.line_of_text(_text(value)) for name, value in texts.items() if _text(value)}
        found |= {
            name: self.source.line_of_number(Decimal(value.strip()))
            for name, value in sums.items()
            if value is not None and _DECIMAL.fullmatch(value.strip())
        }
        for name in ("order_date", "due_date"):
            day = _date(getattr(said, name))
            if day is not None:
                found[name] = self.source.line_of_date(day)
        return {name: self._header_evidence(name, line, _share(said.confidence)) for name, line in found.items()}

    def _header_evidence(self, name: str, line: int, said: float) -> Evidence:
        if not self.source:
            return Evidence(confidence=min(said, HEADER_SEEN), where="picture")
        if line:
            return Evidence(confidence=min(said, LOOKED_UP), where=_line(line))
        message = f"The {_spoken(name)} the model read does not stand in the document: compare it."
        self.doubt("not_in_document", message)
        return Evidence(confidence=NOT_FOUND, where="not found")

    def _missing(self, line: ExtractedLine) -> list[str]:
        """Names of the values that are nowhere in the text."""
        numbers = ("quantity", "quantity_shipped", "quantity_invoiced", "unit_cost", "line_total")
        values = ((name, getattr(line, name)) for name in numbers)
        missing = [name for name, value in values if value is not None and not self.source.line_of_number(value)]
        codes = (name for name in ("sku", "gtin") if getattr(line, name))
        missing += [name for name in codes if not self.source.line_of_text(getattr(line, name))]
        if line.description and not self.source.line_of_words(line.description):
            missing.append("description")
        return [_spoken(name) for name in missing]

    def _worth(self, line: ExtractedLine, *, trusted: bool) -> float:
        if not trusted:
            return NOT_FOUND
        if self.source:
            return LOOKED_UP
        return PROVEN if line.kind is not LineKind.GOODS or _is_proven(line) else SEEN

    def _line_of(self, line: ExtractedLine) -> str:
        if not self.source:
            return "picture"
        at = self.source.line_of_text(line.sku) if line.sku else self.source.line_of_words(line.description)
        return _line(at) if at else "not found"

    def _address(self, said: str) -> str:
        """A picture's address only if the document prints it: the worker goes there."""
        address = said.strip()
        return address if self.source and address and self.source.line_of_text(address) else ""


def _is_proven(line: ExtractedLine) -> bool:
    cost, total = line.unit_cost, line.line_total
    return cost is not None and total is not None and any(amounts_to(units, cost, total) for units in billed(line))


def _party(said: SaidParty) -> Party:
    return Party(**{name: _text(value) for name, value in said.model_dump().items()})


def _map(pairs: Iterable[Named]) -> dict[str, str]:
    return {_text(pair.name): _text(pair.value) for pair in pairs if _text(pair.name) and _text(pair.value)}


def _text(said: str) -> str:
    return clean_text(said)[:_TEXT_MAX].strip()


def _date(said: str | None) -> date | None:
    try:
        day = date.fromisoformat((said or "").strip())
    except ValueError:
        return None
    return day if day.year in _YEARS else None


def _share(said: float) -> float:
    return min(max(said, 0.0), 1.0)


def _line(number: int) -> str:
    return f"text line {number}"


def _spoken(name: str) -> str:
    return name.replace("_", " ")
