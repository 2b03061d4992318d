"""Tables as people and systems make them, in plain text: one habit per test."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from textwrap import dedent

import pytest

from pipeline.domain.purchase_order import DocumentKind, ExtractedOrder, LineKind
from pipeline.reading import read
from pipeline.reading.lines import kind_of, pack_size


def order(text: str, encoding: str = "utf-8", own_names: tuple[str, ...] = ("Harbor & Pine",)) -> ExtractedOrder:
    found = read(dedent(text).lstrip("\n").encode(encoding), own_names).order
    assert found is not None
    return found


def test_header_fields_blank_on_continuation_rows() -> None:
    found = order("""
        PO Number,Supplier,Item,Quantity,Unit Price,Total
        PO-1,ABC Office Supplies,Office Chair,2,150.00,300.00
        ,,Laptop Stand,1,75.00,75.00
        """)
    assert (found.number, found.supplier.name, found.total) == ("PO-1", "ABC Office Supplies", None)
    assert [(line.description, line.quantity) for line in found.lines] == [("Office Chair", 2), ("Laptop Stand", 1)]


def test_charges_deposits_and_discounts_are_no_goods() -> None:
    found = order("""
        Invoice,INV-9
        From,Blue Door Foods Ltd
        SKU,Description,Qty,Price,Amount
        A1,Lemon Soda,10,"1,50","15,00"
        ,Bottle deposit,10,"0,25","2,50"
        ,Freight,1,"8,00","8,00"
        ,Volume discount,,,"-1,50"
        ,Total,,,"24,00"
        """)
    kinds = [line.kind for line in found.lines]
    assert kinds == [LineKind.GOODS, LineKind.DEPOSIT, LineKind.CHARGE, LineKind.DISCOUNT]
    assert found.total == Decimal(24)


def test_sums_of_parts_do_not_end_the_table() -> None:
    found = order("""
        PO Number,PO-9
        SKU,Description,Qty,Cost,Total
        A,Aaa,1,5,5
        ,Subtotal,,,5
        B,Bbb,1,6,6
        ,Subtotal,,,6
        ,Grand Total,,,11
        """)
    assert [line.sku for line in found.lines] == ["A", "B"]
    assert (found.subtotal, found.total) == (None, 11)


def test_the_heading_of_a_section_belongs_to_no_line() -> None:
    found = order("""
        PO Number,PO-3,,,
        Item,Description,Qty,Cost,Total
        WOODEN TOYS,,,,
        W1,Train,2,5.00,10.00
        PLUSH,,,,
        P1,Bear,3,4.00,12.00
        """)
    assert [line.description for line in found.lines] == ["Train", "Bear"]


def test_notes_below_the_lines_belong_to_no_line_and_a_rate_is_no_amount() -> None:
    found = order(
        """
        Rechnung;;;
        Rechnungsnummer;R-5;;
        Lieferant;Öko AG;;
        Pos;Artikel;Menge;Preis;Betrag
        1;Seife;10 Stk;1,20 €;12,00 €
        2;Creme;2 Stk;1.050,00 €;2.100,00 €
        Hinweis:;bitte trocken lagern;;;
        ;;;Nettobetrag;2.112,00 €
        ;;;MwSt 19%;401,28 €
        ;;;Gesamtbetrag;2.513,28 €
        """
    )
    assert [(line.description, line.quantity, line.unit) for line in found.lines] == [
        ("Seife", 10, "Stk"),
        ("Creme", 2, "Stk"),
    ]
    assert (found.subtotal, found.tax, found.total) == (Decimal("2112.00"), Decimal("401.28"), Decimal("2513.28"))


def test_blank_cells_of_variants_mean_as_above() -> None:
    found = order("""
        PO Number,PO-8
        Product,Color,Size,SKU,Qty,Cost
        Tee,Red,S,T-R-S,1,5
        ,,M,T-R-M,2,5
        ,Blue,S,T-B-S,1,5
        """)
    assert [(line.description, line.options) for line in found.lines] == [
        ("Tee", {"Color": "Red", "Size": "S"}),
        ("Tee", {"Color": "Red", "Size": "M"}),
        ("Tee", {"Color": "Blue", "Size": "S"}),
    ]


def test_an_ambiguous_thousand_is_decided_by_the_arithmetic() -> None:
    found = order("""
        Purchase Order,7001
        SKU,Description,Qty,Unit Cost,Line Total
        A1,Bolts,"1.200","2","2.400"
        A2,Nuts,"2.000","3","6.000"
        """)
    assert [line.quantity for line in found.lines] in ([1200, 2000], [Decimal("1.200"), Decimal("2.000")])
    clear = order("""
        Purchase Order,7001
        SKU,Description,Qty,Unit Cost,Line Total
        A1,Bolts,"1.200","0,50","600,00"
        """)
    assert [line.quantity for line in clear.lines] == [1200]


def test_a_spanish_order_in_cp1252() -> None:
    found = order(
        """
        Pedido;P-88
        Proveedor;Cerámicas del Sur S.L.
        Fecha;05/03/2026
        Código;Descripción;Cantidad;Precio;Importe
        C-1;Taza azul;12;3,50;42,00
        C-2;Plato;6;1.250,00;7.500,00
        ;;;Base imponible;7.542,00
        ;;;IVA 21%;1.583,82
        ;;;Total;9.125,82
        """,
        "cp1252",
    )
    assert (found.kind, found.number, found.supplier.name) == (
        DocumentKind.PURCHASE_ORDER,
        "P-88",
        "Cerámicas del Sur S.L.",
    )
    assert (found.subtotal, found.tax, found.total) == (Decimal("7542.00"), Decimal("1583.82"), Decimal("9125.82"))
    assert found.order_date == date(2026, 3, 5)


def test_an_order_is_addressed_to_the_supplier_and_an_invoice_to_us() -> None:
    lines = "SKU,Description,Qty,Unit Cost\nS1,Honey,10,4.50\n"
    ordered = order(f"Harbor & Pine LLC\nPurchase Order 9001\nTo:,Sunny Farms Co\n{lines}")
    billed = order(f"Sunny Farms Co\nInvoice 77\nTo:,Harbor & Pine LLC\n{lines}")
    assert (ordered.supplier.name, ordered.buyer.name) == ("Sunny Farms Co", "Harbor & Pine LLC")
    assert (billed.supplier.name, billed.buyer.name) == ("Sunny Farms Co", "Harbor & Pine LLC")


def test_a_file_of_several_orders_says_so() -> None:
    found = order("""
        PO Number,Supplier,SKU,Description,Qty,Cost
        PO-1,Acme,A,Aaa,1,5
        PO-2,Acme,B,Bbb,1,5
        """)
    assert [doubt.code for doubt in found.doubts] == ["several_orders"]


def test_plain_text_without_columns() -> None:
    found = order("""
        PURCHASE ORDER
        PO Number: PO-55
        Supplier: ABC Office Supplies

        1. Office Chair - Qty: 2 x $150.00 = $300.00
        2. Laptop Stand - Qty: 1 x $75.00 = $75.00

        Subtotal: $375.00
        Tax: $34.80
        Total: $409.80
        """)
    assert [(line.description, line.quantity, line.unit_cost) for line in found.lines] == [
        ("Office Chair", 2, 150),
        ("Laptop Stand", 1, 75),
    ]
    assert (found.number, found.total, found.currency) == ("PO-55", Decimal("409.80"), "USD")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Wholesale Price List 2026\nSKU,Description,Price\nA1,Thing,2.00\n", DocumentKind.PRICE_LIST),
        ("Quotation Q-7\nSKU,Description,Qty,Price\nA1,Thing,3,2.00\n", DocumentKind.QUOTE),
        ("Statement of Account\nDate,Invoice,Amount\n2026-01-01,I-1,20.00\n", DocumentKind.STATEMENT),
        ("Stock on hand\nSKU,Description,Qty\nA1,Thing,3\n", DocumentKind.STOCK_REPORT),
        ("Gutschrift\nArtikelnr;Bezeichnung;Menge;Preis\nA1;Ding;3;2,00\n", DocumentKind.CREDIT_NOTE),
        ("Lieferschein 55\nArtikelnr;Bezeichnung;Menge\nA1;Ding;3\n", DocumentKind.DELIVERY_NOTE),
        ("Pro forma invoice\nSKU,Description,Qty,Price\nA1,Thing,3,2.00\n", DocumentKind.PROFORMA),
        ("SKU,Description,Price,MSRP\nA1,Thing,2.00,4.00\n", DocumentKind.UNKNOWN),
        ("Name,Email,Phone\nBob,bob@x.example,555\n", DocumentKind.UNKNOWN),
    ],
)
def test_a_paper_is_called_by_its_name(text: str, kind: DocumentKind) -> None:
    assert order(text).kind is kind


def test_a_nameless_table_of_goods_is_an_order_and_a_guess() -> None:
    found = order("SKU,Description,Qty,Cost\nA1,Thing,3,2.00\n")
    assert found.kind is DocumentKind.PURCHASE_ORDER
    assert found.kind_confidence < 0.8


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", 12),
        ("Case of 12", 12),
        ("1x12", 12),
        ("2 x 6", 12),
        ("CS/24", 24),
        ("", None),
        ("0", None),
        ("2.5", None),
    ],
)
def test_a_pack_column_says_how_many(text: str, expected: int | None) -> None:
    assert pack_size(text, bare=True) == expected


def test_a_bare_number_in_the_unit_column_is_no_pack() -> None:
    assert pack_size("12", bare=False) is None


@pytest.mark.parametrize(
    "name", ["Freight Train Toy", "Delivery Bike", "Sample Box of Twelve Soaps", "Gift card holder"]
)
def test_goods_that_sound_like_charges_stay_goods(name: str) -> None:
    assert kind_of(name, coded=True) is LineKind.GOODS
