"""Pages drawn word by word, as invoicing programs draw them: columns exist only for the eye."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from decimal import Decimal

from reportlab.lib.pagesizes import letter
from reportlab.pdfgen import canvas

from pipeline.domain.purchase_order import DocumentKind, ExtractedOrder, LineKind
from pipeline.reading import read

Draw = Callable[[canvas.Canvas], None]


def order_on(*pages: Draw) -> ExtractedOrder:
    out = io.BytesIO()
    paper = canvas.Canvas(out, pagesize=letter, invariant=1)
    for draw in pages:
        paper.setFont("Helvetica", 9)
        draw(paper)
        paper.showPage()
    paper.save()
    found = read(out.getvalue(), ["Harbor & Pine"]).order
    assert found is not None
    return found


def put(paper: canvas.Canvas, y: float, words: Sequence[tuple[float, str]]) -> None:
    for x, text in words:
        paper.drawString(x, y, text)


def candy_invoice(paper: canvas.Canvas) -> None:
    put(paper, 750, [(40, "Candyville Ltd."), (500, "I N V O I C E")])
    put(paper, 735, [(40, "12 Sugar Lane, Toronto, ON"), (420, "Invoice No."), (485, "Date")])
    put(paper, 723, [(420, "3541"), (485, "09/23/2025")])
    put(paper, 700, [(40, "BILL TO"), (240, "SHIP TO")])
    put(paper, 688, [(40, "Harbor & Pine"), (240, "Harbor & Pine")])
    put(paper, 676, [(40, "12 Dock Street"), (240, "12 Dock Street")])
    headings = ["Item", "Description", "Qty", "U/M", "Rate", "Amount"]
    put(paper, 640, list(zip([40, 110, 330, 380, 430, 500], headings, strict=True)))
    items = [
        ("SW-1", "Sour Worms Assorted Flavours", "Case of 24, 120 g bags", 3, "11.85"),
        ("LP-2", "Lollipop Giant Swirl", "UPC: 062987001234", 12, "2.10"),
        ("GM-3", "Gummy Bears Original", "Best before 2027", 5, "9.00"),
    ]
    for place, (sku, name, more, quantity, rate) in enumerate(items):
        y = 624 - 30 * place
        put(paper, y, [(40, sku), (110, name), (380, "CS")])
        for x, number in ((345, f"{quantity}"), (455, rate), (535, f"{quantity * Decimal(rate)}")):
            paper.drawRightString(x, y, number)
        put(paper, y - 11, [(110, more)])
    put(paper, 534, [(110, "Shipping and Handling"), (335, "1"), (430, "15.00"), (505, "15.00")])
    put(paper, 504, [(430, "Subtotal"), (505, "120.75")])
    put(paper, 492, [(430, "HST 13%"), (505, "15.70")])
    put(paper, 480, [(430, "Balance Due CAD"), (505, "$136.45")])
    put(paper, 440, [(40, "Thank you for your business! Returns within 30 days.")])


def test_wrapped_descriptions_right_aligned_numbers_and_a_letter_spaced_title() -> None:
    found = order_on(candy_invoice)
    assert (found.kind, found.number, found.supplier.name) == (DocumentKind.INVOICE, "3541", "Candyville Ltd.")
    assert (found.currency, found.subtotal, found.tax, found.total) == (
        "CAD",
        Decimal("120.75"),
        Decimal("15.70"),
        Decimal("136.45"),
    )
    goods = [(line.sku, line.quantity, line.unit_cost, line.unit) for line in found.lines if line.sku]
    assert goods == [
        ("SW-1", 3, Decimal("11.85"), "CS"),
        ("LP-2", 12, Decimal("2.10"), "CS"),
        ("GM-3", 5, Decimal("9.00"), "CS"),
    ]
    assert found.lines[0].description == "Sour Worms Assorted Flavours Case of 24, 120 g bags"
    assert (found.lines[1].gtin, found.lines[1].description) == ("062987001234", "Lollipop Giant Swirl")
    assert found.lines[3].kind is LineKind.CHARGE


def headed(paper: canvas.Canvas) -> None:
    put(paper, 750, [(40, "PURCHASE ORDER 778-A")])
    put(paper, 730, [(40, "From: Harbor & Pine"), (300, "To: Blue Fox Pottery")])
    headings = ["SKU", "Product", "Colour", "Qty", "Unit Cost", "Total"]
    put(paper, 700, list(zip([40, 120, 300, 380, 430, 510], headings, strict=True)))
    put(paper, 685, [(40, "B-1"), (120, "Teapot large"), (300, "Blue"), (380, "4"), (430, "20.00"), (510, "80.00")])


def unheaded(paper: canvas.Canvas) -> None:
    put(paper, 750, [(40, "B-1"), (120, "Teapot large"), (300, "Red"), (380, "2"), (430, "20.00"), (510, "40.00")])
    put(paper, 735, [(40, "B-9"), (120, "Cup"), (380, "10"), (430, "3.50"), (510, "35.00")])
    put(paper, 715, [(430, "Total"), (510, "155.00")])
    put(paper, 60, [(40, "Please confirm within 2 days.")])


def test_a_table_goes_on_over_the_page_without_its_heading() -> None:
    found = order_on(headed, unheaded)
    assert (found.number, found.supplier.name, found.buyer.name) == ("778-A", "Blue Fox Pottery", "Harbor & Pine")
    assert [(line.sku, line.options, line.quantity) for line in found.lines] == [
        ("B-1", {"Color": "Blue"}, 4),
        ("B-1", {"Color": "Red"}, 2),
        ("B-9", {}, 10),
    ]
    assert found.total == Decimal("155.00")
