"""Makes the sample documents and their truth files. Run it from anywhere; the same bytes come out every time.

A `Paper` is what somebody ordered; a layout prints it the way some supplier's system does. The truth beside
each document is computed from the paper, never from what our reader says.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import openpyxl
from PIL import Image, ImageDraw, ImageFont
from reportlab.lib import colors
from reportlab.lib.pagesizes import A5, landscape, letter
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.utils import ImageReader
from reportlab.pdfgen import canvas
from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table

HERE = Path(__file__).parent
MERCHANT = "Harbor & Pine LLC"
MERCHANT_ADDRESS = ("12 Dock Street", "Portland, ME 04101")
IMAGES = "https://images.example/"


@dataclass(frozen=True)
class Item:
    """One line of a paper. `units` are retail units expected to arrive, if they differ from `quantity`."""

    sku: str
    name: str
    quantity: int
    cost: str
    options: dict[str, str] = field(default_factory=dict)
    unit: str = ""
    pack: int = 1
    backordered: int = 0
    retail: str = ""
    image: str = ""
    gtin: str = ""

    @property
    def title(self) -> str:
        """The line as one piece of text."""
        return " ".join([self.name, *self.options.values()])

    @property
    def billed(self) -> int:
        """What is charged now."""
        return self.quantity - self.backordered

    @property
    def total(self) -> Decimal:
        """What the line comes to."""
        return self.billed * Decimal(self.cost)

    @property
    def units(self) -> int:
        """Retail units expected because of this paper."""
        return self.billed * self.pack


@dataclass(frozen=True)
class Paper:
    """An order or an invoice, before anybody has printed it."""

    number: str
    supplier: str
    items: tuple[Item, ...]
    kind: str = "purchase_order"
    date: str = "2026-11-02"
    currency: str = "USD"
    freight: str = "0.00"
    tax: str = "0.00"
    reference: str = ""
    misprinted_total: str = ""
    address: tuple[str, ...] = ()

    @property
    def subtotal(self) -> Decimal:
        """The lines together."""
        return sum((item.total for item in self.items), Decimal(0))

    @property
    def total(self) -> Decimal:
        """What the paper prints as its total."""
        added = self.subtotal + Decimal(self.freight) + Decimal(self.tax)
        return Decimal(self.misprinted_total or added).quantize(Decimal("0.01"))


@dataclass(frozen=True)
class Sample:
    """A document of ours: how it is laid out and how it must end."""

    file: str
    layout: Callable[[Paper], bytes]
    paper: Paper
    reason: str | None = None
    about: str = ""

    def content(self) -> bytes:
        """The document's bytes."""
        return self.layout(self.paper)

    def truth(self) -> dict[str, Any]:
        """What a careful merchant says about it."""
        paper = self.paper
        goes_on = self.reason is None
        return {
            "outcome": "completed" if goes_on else "needs_review",
            "reason": self.reason,
            "kind": paper.kind,
            "supplier": paper.supplier if paper.items else "",
            "number": paper.number,
            "currency": paper.currency,
            "total": str(paper.total) if paper.items else None,
            "lines": [_line(item) for item in paper.items],
            "units": {item.sku: item.units for item in paper.items} if goes_on else {},
            "products": len({item.name for item in paper.items}) if goes_on else 0,
            "variants": len(paper.items) if goes_on else 0,
        }


def _line(item: Item) -> dict[str, Any]:
    facts = {
        "sku": item.sku,
        "description": item.title,
        "quantity": item.quantity,
        "unit_cost": item.cost,
        "options": item.options,
        "unit": item.unit,
        "backordered": item.backordered,
        "retail_price": item.retail,
        "image_url": item.image,
        "gtin": item.gtin,
    }
    return {name: fact for name, fact in facts.items() if fact or name in ("sku", "description", "quantity")}


# --------------------------------------------------------------------------------------- layouts


def csv_first_row(paper: Paper) -> bytes:
    """Comma separated; what concerns the whole order stands on the first row only."""
    header = {
        "PO Number": paper.number,
        "Supplier": paper.supplier,
        "Order Date": paper.date,
        "Currency": paper.currency,
        "Freight": paper.freight,
        "PO Total": str(paper.total),
    }
    columns = ["SKU", "Product", "Color", "Size", "Qty", "Unit Cost", "Line Total", "MSRP", "UPC", "Image URL"]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([*header, *columns])
    for number, item in enumerate(paper.items):
        common = list(header.values()) if number == 0 else [""] * len(header)
        options = [item.options.get("Color", ""), item.options.get("Size", "")]
        row = [item.sku, item.name, *options, item.quantity, item.cost, item.total, item.retail, item.gtin, item.image]
        writer.writerow([*common, *row])
    return out.getvalue().encode()


def csv_every_row(paper: Paper) -> bytes:
    """Comma separated, the header repeated on every row, other names for the same columns."""
    header = {"Order No.": paper.number, "Vendor": paper.supplier, "PO Date": _american(paper.date)}
    columns = ["Item #", "Item Description", "Colour", "Size", "Quantity", "Price", "Ext. Price", "Order Total"]
    rows = []
    for item in paper.items:
        options = [item.options.get("Color", ""), item.options.get("Size", "")]
        money = [f"${item.cost}", f"${item.total}", f"${paper.total}"]
        rows.append([*header.values(), item.sku, item.name, *options, item.quantity, *money])
    out = io.StringIO()
    csv.writer(out).writerows([[*header, *columns], *rows])
    return out.getvalue().encode("utf-8-sig")


def csv_french(paper: Paper) -> bytes:
    """Semicolons, decimal commas, cp1252, labels above the table: what a French accounting system exports."""
    out = io.StringIO()
    writer = csv.writer(out, delimiter=";")
    writer.writerow(["Bon de commande", paper.number])
    writer.writerow(["Fournisseur", paper.supplier])
    writer.writerow(["Client", MERCHANT])
    writer.writerow(["Date de commande", "/".join(reversed(paper.date.split("-")))])
    writer.writerow(["Devise", paper.currency])
    writer.writerow([])
    writer.writerow(["Référence", "Désignation", "Qté", "Prix unitaire", "Montant"])
    for item in paper.items:
        writer.writerow([item.sku, item.title, item.quantity, _comma(item.cost), _comma(item.total)])
    writer.writerow([])
    writer.writerow(["", "", "", "Total HT", _comma(paper.subtotal)])
    writer.writerow(["", "", "", "Frais de port", _comma(paper.freight)])
    writer.writerow(["", "", "", "Montant total", _comma(paper.total)])
    return out.getvalue().encode("cp1252")


def xlsx_title_block(paper: Paper) -> bytes:
    """A workbook as people make them: a title, labels and values, a table further down, a TOTAL row."""
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Order"
    sheet["B1"] = MERCHANT
    sheet["B2"] = "Purchase Order"
    for row, (label, value) in enumerate(_labels(paper), start=4):
        sheet.cell(row, 2, label)
        sheet.cell(row, 3, value)
    first = 10
    for column, name in enumerate(["Item No.", "Description", "UPC", "Qty", "Unit Price", "Total", "Image"], start=2):
        sheet.cell(first, column, name)
    for row, item in enumerate(paper.items, start=first + 1):
        cells = [item.sku, item.title, item.gtin, item.quantity, float(item.cost), float(item.total), item.image]
        for column, value in enumerate(cells, start=2):
            sheet.cell(row, column, value)
    last = first + 1 + len(paper.items)
    sheet.cell(last, 2, "TOTAL")
    sheet.cell(last, 5, sum(item.quantity for item in paper.items))
    sheet.cell(last, 7, float(paper.total))
    return _xlsx(book)


def xlsx_size_matrix(paper: Paper) -> bytes:
    """Apparel: one row per style and colour, one column per size, quantities in the cells."""
    sizes = list(dict.fromkeys(item.options["Size"] for item in paper.items))
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.title = "Wholesale Order"
    sheet.append(["WHOLESALE ORDER FORM"])
    for label, value in _labels(paper):
        sheet.append([label, value])
    sheet.append([])
    sheet.append(["Style #", "Style Name", "Colour", *sizes, "Total Units", "Wholesale", "RRP", "Amount", "Image URL"])
    for row in _by_colour(paper.items):
        style = row[0].sku.rsplit("-", 2)[0]
        by_size = {item.options["Size"]: item.quantity for item in row}
        count, amount = sum(by_size.values()), float(sum(item.total for item in row))
        quantities = [by_size.get(size) for size in sizes]
        facts = [count, float(row[0].cost), float(row[0].retail), amount, row[0].image]
        sheet.append([style, row[0].name, row[0].options["Color"], *quantities, *facts])
    units, money = sum(item.quantity for item in paper.items), float(paper.total)
    sheet.append(["TOTAL", None, None, *([None] * len(sizes)), units, None, None, money])
    return _xlsx(book)


def pdf_order(paper: Paper) -> bytes:
    """A purchase order: the merchant's letterhead, the vendor in a box, the table, the sums."""
    blocks = [["Vendor:", "Ship To:"], [paper.supplier, MERCHANT], *zip(paper.address, MERCHANT_ADDRESS, strict=False)]
    story: list[Any] = [
        _text(MERCHANT, 16),
        _text(", ".join(MERCHANT_ADDRESS)),
        _text("PURCHASE ORDER", 14),
        _text(f"PO Number: {paper.number}"),
        _text(f"Order Date: {_american(paper.date)}"),
        _text("Payment Terms: Net 30"),
        Spacer(1, 8),
        Table(blocks, colWidths=[250, 250], hAlign="LEFT"),
        Spacer(1, 8),
    ]
    rows = [["Item #", "Description", "Qty", "Unit Price", "Amount"]]
    rows += [[i.sku, i.title, str(i.quantity), f"${i.cost}", f"${i.total:,}"] for i in paper.items]
    story += [_table(rows, [90, 220, 50, 70, 80]), Spacer(1, 8), _sums(paper, "Subtotal", "Freight", "Total")]
    return _pdf(story, landscape(A5))


def pdf_cases(paper: Paper) -> bytes:
    """A grocery distributor's confirmation: ordered by the case, priced by the case."""
    story: list[Any] = [
        _text(paper.supplier, 16),
        _text(", ".join(paper.address)),
        _text("Order Confirmation", 14),
        _text(f"Order No: {paper.number}"),
        _text(f"Date: {paper.date}"),
        _text(f"Customer: {MERCHANT}"),
        _text(f"All prices in {paper.currency}"),
        Spacer(1, 10),
    ]
    rows = [["Code", "Description", "UOM", "Qty", "Price", "Ext. Price"]]
    rows += [[i.sku, i.title, i.unit, str(i.quantity), i.cost, f"{i.total}"] for i in paper.items]
    story += [
        _table(rows, [70, 210, 80, 40, 60, 70]),
        Spacer(1, 8),
        _sums(paper, "Subtotal", "Shipping", "Order Total"),
    ]
    return _pdf(story)


def pdf_invoice(paper: Paper) -> bytes:
    """A supplier's invoice: their letterhead, ordered, shipped and backordered side by side, freight in the sums."""
    story: list[Any] = [
        _text(paper.supplier, 18),
        *(_text(line) for line in paper.address),
        _text("INVOICE", 14),
        _text(f"Invoice Number: {paper.number}"),
        _text(f"Invoice Date: {_american(paper.date)}"),
        _text(f"Your PO: {paper.reference}"),
        Spacer(1, 8),
        _text("Bill To:"),
        _text(MERCHANT),
        *(_text(line) for line in MERCHANT_ADDRESS),
        Spacer(1, 10),
    ]
    rows = [["SKU", "Description", "Ordered", "Shipped", "B/O", "Unit Price", "Amount"]]
    rows += [
        [i.sku, i.title, str(i.quantity), str(i.billed), str(i.backordered), f"${i.cost}", f"${i.total:,}"]
        for i in paper.items
    ]
    story += [
        _table(rows, [80, 180, 50, 50, 35, 65, 70]),
        Spacer(1, 8),
        _sums(paper, "Subtotal", "Freight", "Total Due"),
    ]
    return _pdf(story)


def pdf_credit_note(paper: Paper) -> bytes:
    """Goods that went back: looks like an invoice and must never become stock."""
    story: list[Any] = [
        _text(paper.supplier, 18),
        *(_text(line) for line in paper.address),
        _text("CREDIT NOTE", 14),
        _text(f"Credit Note No: {paper.number}"),
        _text(f"Date: {_american(paper.date)}"),
        _text(f"Invoice No: {paper.reference}"),
        _text(f"Customer: {MERCHANT}"),
        Spacer(1, 10),
    ]
    rows = [["SKU", "Description", "Qty", "Unit Price", "Amount"]]
    rows += [[i.sku, i.title, str(i.quantity), f"${i.cost}", f"${i.total}"] for i in paper.items]
    story += [_table(rows, [80, 220, 50, 70, 70]), Spacer(1, 8), _sums(paper, "Subtotal", "", "Total Credit")]
    return _pdf(story)


def pdf_german_invoice(paper: Paper) -> bytes:
    """A German supplier's invoice: decimal commas, points between thousands, a description of two lines."""
    story: list[Any] = [
        _text(paper.supplier, 16),
        _text(" - ".join(paper.address)),
        Spacer(1, 10),
        _text("Rechnungsempfänger:"),
        _text(MERCHANT),
        *(_text(line) for line in MERCHANT_ADDRESS),
        Spacer(1, 10),
        _text("Rechnung", 14),
        _text(f"Rechnungsnummer: {paper.number}"),
        _text("Rechnungsdatum: " + ".".join(reversed(paper.date.split("-")))),
        _text(f"Ihre Bestellung: {paper.reference}"),
        _text(f"Währung: {paper.currency}"),
        Spacer(1, 10),
    ]
    rows = [["Pos.", "Artikelnr.", "Bezeichnung", "Menge", "Einzelpreis", "Gesamtpreis"]]
    for position, item in enumerate(paper.items, start=1):
        name = f"{item.name}\nEAN: {item.gtin}" if item.gtin else item.name
        rows.append([f"{position}", item.sku, name, f"{item.quantity}", _comma(item.cost), _comma(item.total)])
    story += [_table(rows, [35, 80, 210, 50, 70, 75]), Spacer(1, 8)]
    sums = [["Zwischensumme", _comma(paper.subtotal)], ["Versandkosten", _comma(paper.freight)]]
    story += [_right([*sums, ["Rechnungsbetrag", _comma(paper.total)]])]
    return _pdf(story)


def pdf_letter(paper: Paper) -> bytes:
    """A letter with dates, an amount and the word invoice in it, and nothing to order."""
    story: list[Any] = [_text(paper.supplier, 16), *(_text(line) for line in paper.address), Spacer(1, 20)]
    story += [_text(f"November 3, 2026 - to our friends at {MERCHANT}"), Spacer(1, 12)]
    for paragraph in _LETTER:
        story += [_text(paragraph), Spacer(1, 8)]
    return _pdf(story)


def pdf_scan(paper: Paper) -> bytes:
    """A picture of an order, as a phone or a scanner makes it: no text that a program could read."""
    page = Image.new("L", (1000, 1300), 252)
    draw = ImageDraw.Draw(page)
    lines = [paper.supplier, "PURCHASE ORDER", f"PO Number: {paper.number}", "", "Item   Description   Qty   Price"]
    lines += [f"{item.sku}   {item.title}   {item.quantity}   {item.cost}" for item in paper.items]
    for number, line in enumerate([*lines, "", f"Total: {paper.total}"]):
        draw.text((90, 120 + 44 * number), line, fill=30, font=ImageFont.load_default(size=26))
    out = io.BytesIO()
    sheet = canvas.Canvas(out, pagesize=letter, invariant=1)
    sheet.drawImage(ImageReader(page), 0, 0, *letter)
    sheet.save()
    return out.getvalue()


def edifact(paper: Paper) -> bytes:
    """UN/EDIFACT ORDERS, as a chain's system sends it."""
    day = paper.date.replace("-", "")
    segments = [
        "UNB+UNOC:3+5412345000013:14+0850000000016:14+261104:0910+1",
        "UNH+1+ORDERS:D:96A:UN:EAN008",
        f"BGM+220+{paper.number}+9",
        f"DTM+137:{day}:102",
        f"NAD+SU+5412345000013::9++{_escaped(paper.supplier)}",
        f"NAD+BY+0850000000016::9++{_escaped(MERCHANT)}",
        f"CUX+2:{paper.currency}:9",
    ]
    for number, item in enumerate(paper.items, start=1):
        segments += [
            f"LIN+{number}++{item.gtin}:EN",
            f"PIA+5+{item.sku}:SA",
            f"IMD+F++:::{_escaped(item.title)}",
            f"QTY+21:{item.quantity}:PCE",
            f"MOA+203:{item.total}",
            f"PRI+AAA:{item.cost}",
        ]
    segments += ["UNS+S", f"MOA+79:{paper.subtotal}", f"MOA+86:{paper.total}"]
    segments += [f"UNT+{len(segments)}+1", "UNZ+1+1"]
    return ("UNA:+.? '" + "'\n".join(segments) + "'\n").encode("latin-1")


def ubl(paper: Paper) -> bytes:
    """A UBL order (Peppol BIS)."""
    party = "<cac:Party><cac:PartyName><cbc:Name>{}</cbc:Name></cac:PartyName></cac:Party>"
    money = f' currencyID="{paper.currency}"'
    lines = "".join(
        f"<cac:OrderLine><cac:LineItem><cbc:ID>{number}</cbc:ID>"
        f'<cbc:Quantity unitCode="C62">{item.quantity}</cbc:Quantity>'
        f"<cbc:LineExtensionAmount{money}>{item.total}</cbc:LineExtensionAmount>"
        f"<cac:Price><cbc:PriceAmount{money}>{item.cost}</cbc:PriceAmount></cac:Price>"
        f"<cac:Item><cbc:Name>{escape(item.title)}</cbc:Name>"
        f"<cac:SellersItemIdentification><cbc:ID>{item.sku}</cbc:ID></cac:SellersItemIdentification>"
        f"</cac:Item></cac:LineItem></cac:OrderLine>\n"
        for number, item in enumerate(paper.items, start=1)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Order xmlns="urn:oasis:names:specification:ubl:schema:xsd:Order-2"'
        ' xmlns:cac="urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2"'
        ' xmlns:cbc="urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2">\n'
        f"<cbc:ID>{paper.number}</cbc:ID><cbc:IssueDate>{paper.date}</cbc:IssueDate>"
        f"<cbc:DocumentCurrencyCode>{paper.currency}</cbc:DocumentCurrencyCode>\n"
        f"<cac:BuyerCustomerParty>{party.format(escape(MERCHANT))}</cac:BuyerCustomerParty>\n"
        f"<cac:SellerSupplierParty>{party.format(escape(paper.supplier))}</cac:SellerSupplierParty>\n"
        f"<cac:AnticipatedMonetaryTotal><cbc:LineExtensionAmount{money}>{paper.subtotal}</cbc:LineExtensionAmount>"
        f"<cbc:PayableAmount{money}>{paper.total}</cbc:PayableAmount></cac:AnticipatedMonetaryTotal>\n{lines}</Order>\n"
    ).encode()


# --------------------------------------------------------------------------------------- print shop


def _labels(paper: Paper) -> list[tuple[str, str]]:
    return [
        ("PO Number:", paper.number),
        ("Supplier:", paper.supplier),
        ("Order Date:", paper.date),
        ("Currency:", paper.currency),
    ]


def _by_colour(items: tuple[Item, ...]) -> list[list[Item]]:
    rows: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        rows.setdefault((item.name, item.options["Color"]), []).append(item)
    return list(rows.values())


def _comma(amount: str | Decimal) -> str:
    return f"{Decimal(amount):,.2f}".translate(str.maketrans(",.", ".,"))


def _american(day: str) -> str:
    year, month, number = day.split("-")
    return f"{month}/{number}/{year}"


def _escaped(text: str) -> str:
    return re.sub(r"([+:'?])", r"?\1", text)


def _text(text: str, size: int = 10) -> Paragraph:
    return Paragraph(escape(text), ParagraphStyle("text", fontName="Helvetica", fontSize=size, leading=size * 1.3))


def _table(rows: list[list[str]], widths: list[float]) -> Table:
    style = [
        ("FONTNAME", (0, 0), (-1, 0), "Helvetica-Bold"),
        ("LINEBELOW", (0, 0), (-1, 0), 0.5, colors.black),
        ("ALIGN", (2 if len(widths) < 6 else 3, 0), (-1, -1), "RIGHT"),  # noqa: PLR2004 - the last columns are numbers
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("FONTSIZE", (0, 0), (-1, -1), 9),
    ]
    return Table(rows, colWidths=widths, style=style, repeatRows=1, hAlign="LEFT")


def _sums(paper: Paper, subtotal: str, freight: str, total: str) -> Table:
    rows = [[subtotal, f"{paper.subtotal:,}"], [freight, paper.freight], [total, f"{paper.total:,}"]]
    return _right([row for row in rows if row[0]])


def _right(rows: list[list[str]]) -> Table:
    return Table(rows, colWidths=[110, 80], style=[("ALIGN", (1, 0), (1, -1), "RIGHT")], hAlign="RIGHT")


def _pdf(story: list[Any], size: tuple[float, float] = letter) -> bytes:
    out = io.BytesIO()
    margins = dict.fromkeys(("leftMargin", "rightMargin", "topMargin", "bottomMargin"), 36)
    SimpleDocTemplate(out, pagesize=size, invariant=1, **margins).build(story)
    return out.getvalue()


def _xlsx(book: openpyxl.Workbook) -> bytes:
    """The workbook's bytes without the time of day: entries dated alike, no date of saving."""
    saved, settled = io.BytesIO(), io.BytesIO()
    book.save(saved)
    with zipfile.ZipFile(saved) as before, zipfile.ZipFile(settled, "w", zipfile.ZIP_DEFLATED) as after:
        for name in before.namelist():
            content = re.sub(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", b"2026-11-02T09:00:00Z", before.read(name))
            entry = zipfile.ZipInfo(name, (2026, 11, 2, 9, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            after.writestr(entry, content)
    return settled.getvalue()


# --------------------------------------------------------------------------------------- papers

CERAMICS = Paper(
    number="PO-2026-0117",
    supplier="Juniper Ceramics Co.",
    freight="18.00",
    items=(
        Item(
            "JC-MUG-SAG", "Stoneware Mug", 24, "6.50", {"Color": "Sage"}, retail="16.00", image=IMAGES + "mug-sage.jpg"
        ),
        Item(
            "JC-MUG-CLY", "Stoneware Mug", 24, "6.50", {"Color": "Clay"}, retail="16.00", image=IMAGES + "mug-clay.jpg"
        ),
        Item("JC-MUG-INK", "Stoneware Mug", 12, "6.75", {"Color": "Ink"}, retail="16.00", image=IMAGES + "mug-ink.jpg"),
        Item("JC-BWL-S", "Ramen Bowl", 16, "11.20", {"Color": "White", "Size": "Small"}, image=IMAGES + "bowl.jpg"),
        Item("JC-BWL-L", "Ramen Bowl", 10, "14.40", {"Color": "White", "Size": "Large"}, image=IMAGES + "bowl.jpg"),
        Item("JC-VAS-01", "Bud Vase", 8, "9.00", image=IMAGES + "vase.jpg"),
    ),
)
CERAMICS_AGAIN = replace(
    CERAMICS,
    number="PO-2026-0142",
    freight="0.00",
    items=(
        Item("JC-MUG-SAG", "Stoneware Mug", 36, "6.60", {"Color": "Sage"}),
        Item("JC-MUG-CLY", "Stoneware Mug", 18, "6.60", {"Color": "Clay"}),
        Item("JC-BWL-L", "Ramen Bowl", 6, "14.40", {"Color": "White", "Size": "Large"}),
    ),
)
CANDLES = Paper(
    number="CMD-2026-0088",
    supplier="Bougies Élan SARL",
    date="2026-10-23",
    freight="45.00",
    items=(
        Item("BE-FIG-190", "Bougie parfumée Figuier 190 g", 60, "8.75"),
        Item("BE-CED-190", "Bougie parfumée Cèdre 190 g", 48, "8.75"),
        Item("BE-DIF-100", "Diffuseur Fleur d'oranger 100 ml", 120, "12.40"),
    ),
)
APPAREL = Paper(
    number="HT-55120",
    supplier="Half Tide Apparel Inc.",
    items=tuple(
        Item(
            f"{style}-{colour.upper().replace(' ', '')}-{size}",
            name,
            quantity,
            cost,
            {"Color": colour, "Size": size},
            retail=retail,
            image=f"{IMAGES}{style.lower()}-{colour.lower().replace(' ', '-')}.jpg",
        )
        for style, name, cost, retail, colour, row in (
            ("HT100", "Pocket Tee", "11.00", "28.00", "Navy", {"S": 6, "M": 12, "L": 12, "XL": 6}),
            ("HT100", "Pocket Tee", "11.00", "28.00", "Sea Salt", {"XS": 2, "S": 6, "M": 8, "L": 8}),
            ("HT240", "Watch Hoodie", "24.50", "62.00", "Charcoal", {"M": 6, "L": 8, "XL": 4, "XXL": 2}),
        )
        for size, quantity in row.items()
    ),
)
STATIONERY = Paper(
    number="PO-4410",
    supplier="Northlight Paper Goods",
    items=(
        Item("NL-NB-A5", "Dot Grid Notebook A5", 40, "4.25", gtin="0850012345015", image=IMAGES + "notebook.jpg"),
        Item("NL-PEN-06", "Gel Pen Set of 6", 30, "5.10", gtin="0850012345022", image=IMAGES + "pens.jpg"),
        Item("NL-CRD-TY", "Thank You Cards, box of 10", 25, "6.00", gtin="0850012345039"),
        Item("NL-TAPE-3", "Washi Tape Trio", 50, "2.95", gtin="0850012345046", image=IMAGES + "washi.jpg"),
    ),
)
HOMEWARES = Paper(
    number="PO-2026-0121",
    supplier="Alder Lane Homewares",
    address=("88 Mill Road", "Burlington, VT 05401"),
    freight="64.50",
    items=tuple(
        Item(f"AL-{code}", name, quantity, cost)
        for code, name, quantity, cost in (
            ("1001", "Oak Cutting Board", 12, "18.40"),
            ("1002", "Walnut Serving Tray", 10, "22.75"),
            ("1003", "Linen Tea Towel", 48, "4.10"),
            ("1004", "Cotton Oven Mitt", 24, "5.60"),
            ("1005", "Enamel Colander", 14, "13.25"),
            ("1006", "Cast Iron Trivet", 20, "7.90"),
            ("1007", "Glass Carafe 1 L", 18, "9.35"),
            ("1008", "Copper Measuring Cups", 16, "15.80"),
            ("1009", "Beech Rolling Pin", 22, "6.45"),
            ("1010", "Jute Table Runner", 15, "8.20"),
            ("1011", "Marble Salt Cellar", 12, "10.95"),
            ("1012", "Brass Bottle Opener", 30, "5.15"),
            ("1013", "Wool Felt Coasters", 40, "3.85"),
            ("1014", "Ceramic Butter Dish", 9, "12.60"),
            ("1015", "Rattan Bread Basket", 11, "11.30"),
            ("1016", "Stainless Whisk", 36, "4.75"),
        )
    ),
)
SNACKS = Paper(
    number="SO-77301",
    supplier="Prairie Provisions LLC",
    kind="confirmation",
    address=("400 Grain Street", "Omaha, NE 68102"),
    items=(
        Item("PP-GUM-12", "Fruit Gums 50 g", 10, "5.88", unit="Case of 12", pack=12),
        Item("PP-CHO-24", "Dark Chocolate Bar 40 g", 4, "26.40", unit="Case of 24", pack=24),
        Item("PP-JAM-06", "Blackberry Jam 340 g", 5, "22.50", unit="Case of 6", pack=6),
        Item("PP-TIN-01", "Gift Tin, empty", 20, "2.10", unit="Each"),
    ),
)
MISCOUNTED = Paper(
    number="PO-9917",
    supplier="Tern & Tide Jewelry",
    misprinted_total="512.00",
    items=(
        Item("TT-HOOP-S", "Silver Hoops", 12, "9.50"),
        Item("TT-NECK-1", "Shell Necklace", 10, "14.00"),
        Item("TT-RING-7", "Tide Ring", 8, "11.25"),
    ),
)
LETTER = Paper(
    number="",
    supplier="Alder Lane Homewares",
    items=(),
    kind="unknown",
    currency="",
    address=("88 Mill Road", "Burlington, VT 05401"),
)
TEXTILES = Paper(
    number="INV-20931",
    supplier="Highland Loom Ltd.",
    kind="invoice",
    reference="PO-2026-0099",
    freight="27.50",
    address=("5 Weaver's Close", "Providence, RI 02903"),
    items=(
        Item("HL-THR-01", "Herringbone Throw", 20, "31.00", backordered=4),
        Item("HL-CUS-02", "Lambswool Cushion", 24, "17.25"),
        Item("HL-SCF-03", "Tartan Scarf", 36, "12.80", backordered=6),
    ),
)
CREDIT = Paper(
    number="CN-1187",
    supplier="Highland Loom Ltd.",
    kind="credit_note",
    reference="INV-20931",
    address=("5 Weaver's Close", "Providence, RI 02903"),
    items=(Item("HL-CUS-02", "Lambswool Cushion", 3, "17.25"),),
)
LINENS = Paper(
    number="PO-2026-0133",
    supplier="Casa Lino S.r.l.",
    currency="EUR",
    items=(
        Item("CL-SHEET-Q", "Stonewashed Sheet Set Queen", 10, "68.00"),
        Item("CL-DUVET-Q", "Stonewashed Duvet Cover Queen", 8, "74.50"),
    ),
)
SCAN = Paper(
    number="PO-3321",
    supplier="Old Harbor Soap Works",
    items=(Item("OH-BAR-LAV", "Lavender Soap Bar", 72, "2.40"), Item("OH-BAR-OAT", "Oatmeal Soap Bar", 72, "2.40")),
)
GARDEN = Paper(
    number="4500118274",
    supplier="Fern + Furrow Garden Supply",
    items=(
        Item("FF-TROWEL", "Hand Trowel, ash handle", 30, "6.90", gtin="0850098765011"),
        Item("FF-TWINE", "Jute Twine 100 m", 80, "1.75", gtin="0850098765028"),
        Item("FF-GLOVE-M", "Goatskin Gloves, medium", 24, "9.40", gtin="0850098765035"),
    ),
)
SKINCARE = Paper(
    number="PO-2026-0151",
    supplier="Moss & Mineral",
    items=(
        Item("MM-BALM-30", "Cleansing Balm 30 ml", 40, "7.20"),
        Item("MM-OIL-50", "Rosehip Face Oil 50 ml", 36, "10.80"),
        Item("MM-MASK-75", "Clay Mask 75 g", 24, "8.95"),
    ),
)
TOYS = Paper(
    number="RE-2026-4471",
    supplier="Holzspielwaren Brandt GmbH",
    kind="invoice",
    date="2026-11-05",
    reference="PO-2026-0104",
    freight="38.00",
    address=("Lindenweg 4", "09548 Seiffen"),
    items=(
        Item("HB-2010", "Holzeisenbahn Grundset", 60, "18.90", gtin="4006381333931"),
        Item("HB-2044", "Bauklötze Buche, 50 Teile", 40, "14.25", gtin="4006381333948"),
        Item("HB-3002", "Greifling Marienkäfer", 96, "4.35", gtin="4006381333955"),
    ),
)
_LETTER = (
    "Thank you for visiting our showroom in October. It was a pleasure to show you the spring collection.",
    "From January 2027 our payment terms change: every invoice above $500.00 is payable within 45 days.",
    "Freight is included for orders of 12 pieces or more.",
    "Your representative, Dana Whitfield, will send the new catalog before the holidays.",
)

SAMPLES = (
    Sample("01-ceramics-order.csv", csv_first_row, CERAMICS, about="CSV; the header stands on the first row only"),
    Sample("02-candles-order.csv", csv_french, CANDLES, about="semicolons, decimal commas, cp1252, French labels"),
    Sample(
        "03-apparel-matrix.xlsx", xlsx_size_matrix, APPAREL, about="apparel: sizes are columns, quantities are cells"
    ),
    Sample("04-stationery-order.xlsx", xlsx_title_block, STATIONERY, about="title block above the table, TOTAL row"),
    Sample(
        "05-homewares-order.pdf", pdf_order, HOMEWARES, about="text PDF of two pages; the letterhead is the merchant"
    ),
    Sample("06-snacks-cases.pdf", pdf_cases, SNACKS, about='ordered and priced by the case ("Case of 12" at 5.88)'),
    Sample("07-jewelry-miscounted.csv", csv_first_row, MISCOUNTED, "totals_mismatch", "the total does not add up"),
    Sample("08-showroom-letter.pdf", pdf_letter, LETTER, "not_an_order", "a letter: there are no lines to invent"),
    Sample("09-textiles-invoice.pdf", pdf_invoice, TEXTILES, about="a supplier's invoice with freight and backorders"),
    Sample("10-textiles-credit.pdf", pdf_credit_note, CREDIT, "no_stock_document", "a credit note never becomes stock"),
    Sample("11-ceramics-again.csv", csv_every_row, CERAMICS_AGAIN, about="a second order for SKUs of the first"),
    Sample(
        "12-linens-euro.xlsx", xlsx_title_block, LINENS, "no_exchange_rate", "priced in euro, and no rate is configured"
    ),
    Sample(
        "13-soap-scan.pdf", pdf_scan, SCAN, "unreadable_without_model", "a scan: only a model that sees can read it"
    ),
    Sample("14-garden-order.edi", edifact, GARDEN, about="UN/EDIFACT ORDERS"),
    Sample("15-skincare-order.xml", ubl, SKINCARE, about="UBL order"),
    Sample(
        "16-toys-rechnung.pdf", pdf_german_invoice, TOYS, about="a German invoice with decimal commas and EAN lines"
    ),
)


def readme() -> str:
    """The list of samples, a line each."""
    lines = [f"| `{each.file}` | {each.about} | {each.reason or 'completed'} |" for each in SAMPLES]
    return README.format("\n".join(lines))


README = """# Sample documents

What merchants get from their suppliers, made by us: `make.py` writes every document and the truth beside it
(`<file>.truth.json`), the same bytes every time. The merchant is Harbor & Pine,
whose shop sells in USD; the pictures of `images.example` are served by the sandbox. A truth says what a careful
merchant would say: quantities as printed, `units` as they will stand in the shop, and how the run must end.

| document | what it is | ends |
|---|---|---|
{}
"""


def main() -> None:
    """Write every document, its truth, and the list."""
    for sample in SAMPLES:
        (HERE / sample.file).write_bytes(sample.content())
        truth = json.dumps(sample.truth(), indent=2, ensure_ascii=False) + "\n"
        (HERE / f"{sample.file}.truth.json").write_text(truth, encoding="utf-8")
    (HERE / "README.md").write_text(readme(), encoding="utf-8")


if __name__ == "__main__":
    main()
