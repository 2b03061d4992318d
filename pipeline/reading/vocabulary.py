"""What suppliers call things, in English, German, French, Dutch, Spanish and Italian.

Data, not logic: a new language or a new habit of naming is a word here and nothing elsewhere. Phrases are
written as people print them, separated by `/`, and compared by `wording.compact`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, TypeVar

from pipeline.domain.purchase_order import DocumentKind, LineKind
from pipeline.reading.wording import compact

M = TypeVar("M")


class Column(StrEnum):
    """What a table's column means. ITEM is the word that may mean the code or the name: the others decide."""

    POSITION = "position"
    SKU = "sku"
    GTIN = "gtin"
    ITEM = "item"
    DESCRIPTION = "description"
    PRODUCT = "product"
    QUANTITY = "quantity"
    SHIPPED = "shipped"
    BACKORDERED = "backordered"
    INVOICED = "invoiced"
    UNIT = "unit"
    PACK = "pack"
    UNIT_COST = "unit_cost"
    RETAIL = "retail"
    LINE_TOTAL = "line_total"
    DISCOUNT = "discount"
    TAX = "tax"
    IMAGE = "image"


class Field(StrEnum):
    """What a label outside the table (or a column repeated on every row) announces."""

    PO_NUMBER = "po_number"
    INVOICE_NUMBER = "invoice_number"
    ORDER_NUMBER = "order_number"
    DELIVERY_NUMBER = "delivery_number"
    CREDIT_NUMBER = "credit_number"
    QUOTE_NUMBER = "quote_number"
    CUSTOMER_NUMBER = "customer_number"
    NUMBER = "number"
    DATE = "date"
    ORDER_DATE = "order_date"
    DUE_DATE = "due_date"
    CURRENCY = "currency"
    SUPPLIER = "supplier"
    BUYER = "buyer"
    FROM = "from"
    TO = "to"
    TERMS = "terms"
    TAX_ID = "tax_id"
    EMAIL = "email"
    WEBSITE = "website"
    SUBTOTAL = "subtotal"
    TAX = "tax"
    FREIGHT = "freight"
    DISCOUNT = "discount"
    TOTAL = "total"
    GRAND_TOTAL = "grand_total"


def _index(phrases: Mapping[M, str]) -> dict[str, M]:
    return {compact(phrase): meaning for meaning, listed in phrases.items() for phrase in listed.split("/")}


COLUMNS: Final[Mapping[str, Column]] = _index(
    {
        Column.POSITION: """
            line / line no / ln / pos / position / lfd no / no / regel / ligne / linea / riga / #
            """,
        Column.SKU: """
            sku / item no / item code / item id / article no / article code / art no / product code / product no /
            product id / part no / model / model no / style / style no / style code / reference / ref / ref no /
            code / vendor sku / supplier sku / vendor item / vendor item no / supplier item no / supplier item code
            / catalog no / cat no / mfr no / stock code / your item no / our item no / artikel no / artikelcode /
            art code / bestell no / material no / code article / no article / codice / codice articolo / cod / cod
            art / referencia / referentie / codigo / código artículo / référence / réf / variant sku
            """,
        Column.GTIN: """
            gtin / ean / upc / upc a / barcode / bar code / ean13 / ean 13 / upc ean / ean upc / gtin ean / ean code
            / upc code / upc no / ean no / codice a barre / codigo de barras / streepjescode / strichcode / code
            barres
            """,
        Column.ITEM: """
            item / items / article / artikel / articolo / articulo / product / produit / producto / prodotto /
            produkt / part
            """,
        Column.DESCRIPTION: """
            description / item description / product description / item name / name / title / details / goods /
            service / particulars / description of goods / bezeichnung / artikelbezeichnung / beschreibung /
            produktbezeichnung / désignation / libellé / omschrijving / beschrijving / descripción / descrizione /
            denominación / item and description / activity
            """,
        Column.PRODUCT: """
            product name / style name / style description / product title / parent product / model name /
            produktname / nom du produit / nombre del producto / nome prodotto / productnaam
            """,
        Column.QUANTITY: """
            qty / quantity / qty ordered / ordered / ordered qty / order qty / order quantity / quantity ordered /
            units / pcs / pieces / menge / anzahl / bestellmenge / stück / stk / quantité / qté / qté commandée /
            aantal / hoeveelheid / cantidad / cant / quantità / qta / q ta / qty ord / total qty / total units /
            total pcs / gesamtmenge / qte totale
            """,
        Column.SHIPPED: """
            shipped / qty shipped / ship qty / shipped qty / quantity shipped / delivered / qty delivered /
            geliefert / liefermenge / gelieferte menge / livré / livrée / qté livrée / geleverd / enviado / enviada
            / spedito / consegnato / this shipment / quantity delivered / delivered qty
            """,
        Column.BACKORDERED: """
            backordered / back ordered / b o / bo / backorder / back order / backorder qty / qty b o / b o qty / qty
            backordered / to follow / rückstand / reliquat / nalevering / pendiente / inevaso
            """,
        Column.INVOICED: """
            invoiced / qty invoiced / billed / qty billed / berechnet / facturé / qté facturée / gefactureerd /
            facturado / fatturato / quantity invoiced
            """,
        Column.UNIT: """
            unit / uom / u m / um / u o m / unit of measure / unit of sale / einheit / me / eh / unité / eenheid /
            unidad / unità / unit type
            """,
        Column.PACK: """
            pack / pack size / packsize / case pack / casepack / case qty / case size / units per case / unit per
            case / per case / inner pack / units pack / units per pack / ve / vpe / verpackungseinheit / colisage /
            conditionnement / verpakking / pack qty / packing / qty per case / pcs per case / pcs ctn / unidades por
            caja / uds caja / pz cartone / order multiple / inhalt
            """,
        Column.UNIT_COST: """
            unit price / unit cost / price / cost / rate / price each / each / wholesale / wholesale price /
            wholesale cost / net price / net unit price / cost price / price unit / price per unit / cost each /
            your price / einzelpreis / preis / ep / stückpreis / preis stück / e preis / einkaufspreis / stk preis /
            netto preis / einzelpreis netto / prix unitaire / pu / p u / prix / pu ht / prix ht / prix unitaire ht /
            prijs / prijs per stuk / stuksprijs / eenheidsprijs / precio / precio unitario / precio unidad / p unit
            / prezzo / prezzo unitario / case price / case cost / price case / price per case / cost per case / unit
            price excl vat / fob price / unit price net
            """,
        Column.RETAIL: """
            rrp / msrp / srp / retail / retail price / suggested retail / suggested retail price / uvp / pvp / pvc /
            ppc / recommended retail price / adviesprijs / prix public / prix de vente conseillé / prezzo al
            pubblico / vk / vk preis / sell price
            """,
        Column.LINE_TOTAL: """
            total / amount / line total / ext price / extended / extended price / extended cost / extension / ext /
            ext cost / line amount / net amount / total price / total cost / line value / value / ext amount /
            betrag / gesamt / gesamtpreis / summe / gp / gesamtbetrag / montant / montant ht / total ht / prix total
            / bedrag / totaal / totaalprijs / totaalbedrag / importe / importe total / precio total / total línea /
            importo / totale / prezzo totale / prijs incl btw / net total / line net
            """,
        Column.DISCOUNT: """
            discount / disc / rabatt / remise / korting / descuento / dto / sconto / disc pct
            """,
        Column.TAX: """
            tax / vat / mwst / ust / tva / btw / iva / gst / tax rate / vat rate / tax code / mwst satz
            """,
        Column.IMAGE: """
            image / image url / image link / picture / picture url / photo / photo url / image src / img / bild /
            bild url / foto / foto url / afbeelding / imagen / immagine
            """,
    }
)

OPTIONS: Final[Mapping[str, str]] = _index(
    {
        "Color": """
            color / colour / colorway / colourway / farbe / couleur / coloris / kleur / colore
            """,
        "Size": "size / größe / taille / maat / talla / taglia",
        "Material": "material / matière / materiaal / materiale",
        "Scent": "scent / fragrance / duft / parfum / geur / aroma / profumo",
        "Flavor": "flavor / flavour / geschmack / goût / smaak / sabor / gusto",
        "Finish": "finish",
        "Length": "length / länge / longueur / lengte / largo / lunghezza",
        "Width": "width / breite / largeur / breedte / ancho / larghezza",
    }
)

FIELDS: Final[Mapping[str, Field]] = _index(
    {
        Field.PO_NUMBER: """
            po / po no / p o / p o no / purchase order / purchase order no / customer po / customer po no / your po
            / your po no / your order no / your order / your reference / po reference / po id / bestell no /
            bestellung / bestellung no / bestellungs no / ihre bestellung / ihre bestell no / bon de commande / bon
            de commande no / no de commande / commande no / commande / votre commande / inkooporder / inkooporder no
            / bestelbon no / uw bestelling / uw referentie / orden de compra / orden de compra no / pedido / pedido
            no / no de pedido / su pedido / ordine / ordine no / no ordine / ordine d acquisto no / vostro ordine /
            purchase order ref / customer order no
            """,
        Field.INVOICE_NUMBER: """
            invoice / invoice no / inv no / invoice id / receipt no / receipt no no / tax invoice no / rechnung /
            rechnung no / rechnungs no / facture / facture no / no de facture / no facture / factuur / factuur no /
            factura / factura no / no de factura / no factura / fattura / fattura no / no fattura / proforma no /
            pro forma no / proforma invoice no / bill no / document no / beleg no
            """,
        Field.ORDER_NUMBER: """
            order / order no / order id / sales order / sales order no / so no / our order no / auftrag / auftrags
            no / auftragsbestätigung no / confirmation no / order confirmation no / unser auftrag / order ref /
            order reference
            """,
        Field.DELIVERY_NUMBER: """
            delivery note / delivery note no / packing slip no / packing list no / shipment no / lieferschein /
            lieferschein no / bon de livraison no / pakbon no / pakbon / albarán / albarán no / ddt no / dispatch
            note no
            """,
        Field.CREDIT_NUMBER: """
            credit note / credit note no / credit memo no / credit memo / credit no / gutschrift / gutschrift no /
            gutschrifts no / avoir no / creditnota no / nota de crédito no / nota di credito no
            """,
        Field.QUOTE_NUMBER: """
            quote / quote no / quotation no / quotation / angebot / angebots no / devis no / offerte no /
            presupuesto no
            """,
        Field.CUSTOMER_NUMBER: """
            customer no / account / account no / customer id / kunden no / client no / no client / klant no / no
            cliente / acct no / kd no
            """,
        Field.NUMBER: "no / number / reference / ref / ref no / our reference / reference no",
        Field.DATE: "date / datum / fecha / data",
        Field.ORDER_DATE: """
            order date / po date / purchase order date / date ordered / date of order / invoice date / date of issue
            / issue date / issued / document date / dated / bestelldatum / auftragsdatum / rechnungsdatum /
            belegdatum / date de commande / date commande / date de facture / date facture / date facturation /
            factuurdatum / besteldatum / fecha de pedido / fecha de factura / fecha factura / fecha pedido / data
            ordine / data fattura / credit date / delivery note date
            """,
        Field.DUE_DATE: """
            due date / due / payment due / payment due date / delivery date / ship date / expected / expected date /
            expected delivery / required date / required by / requested delivery / requested delivery date / need by
            / cancel date / eta / deliver by / ship by / date required / fällig / fällig am / fälligkeitsdatum /
            zahlbar bis / liefertermin / lieferdatum / wunschtermin / échéance / date d échéance / date de livraison
            / vervaldatum / leverdatum / gewenste leverdatum / vencimiento / fecha de vencimiento / fecha de entrega
            / scadenza / data scadenza / data consegna
            """,
        Field.CURRENCY: """
            currency / currency code / währung / devise / valuta / moneda / divisa / ccy / all prices in / prices in
            """,
        Field.SUPPLIER: """
            supplier / vendor / supplier name / vendor name / seller / sold by / manufacturer / lieferant /
            verkäufer / fournisseur / leverancier / proveedor / fornitore / vendedor / vendeur / brand owner / remit
            to / order to / purchase from
            """,
        Field.BUYER: """
            buyer / bill to / billed to / ship to / sold to / customer / customer name / deliver to / delivery
            address / shipping address / billing address / invoice to / consignee / purchaser / purchased by / buyer
            name / retailer / kunde / käufer / rechnungsadresse / lieferadresse / lieferanschrift /
            rechnungsempfänger / besteller / auftraggeber / acheteur / client / facturé à / livrer à / adresse de
            livraison / adresse de facturation / klant / koper / factuuradres / afleveradres / leveradres /
            comprador / cliente / facturar a / enviar a / dirección de entrega / acquirente / spedire a /
            destinatario / store
            """,
        Field.FROM: "from / von / de / van / da / issued by",
        Field.TO: "to / an / à / aan / para / attn",
        Field.TERMS: """
            terms / payment terms / payment / payment method / terms of payment / zahlungsbedingungen / zahlungsziel
            / zahlung / zahlungskonditionen / conditions de paiement / modalités de paiement / paiement /
            betalingsvoorwaarden / betalingstermijn / condiciones de pago / forma de pago / condizioni di pagamento
            / pagamento
            """,
        Field.TAX_ID: """
            vat no / vat id / vat reg no / vat registration no / tax id / tax no / ein / gst no / abn / ust id / ust
            id no / ust idnr / umsatzsteuer id / steuer no / tva intracom / no tva / tva intracommunautaire / btw no
            / btw / nif / cif / partita iva / p iva / p.iva
            """,
        Field.EMAIL: "email / e mail / mail / supplier email / vendor email / contact email",
        Field.WEBSITE: "website / web / url / site web / webseite / internet",
        Field.SUBTOTAL: """
            subtotal / sub total / net total / net amount / total net / merchandise total / goods total / total excl
            vat / total excl tax / total before tax / product total / items total / zwischensumme / nettobetrag /
            summe netto / netto / nettosumme / gesamt netto / warenwert / sous total / total ht / montant ht /
            subtotaal / exclusief btw / totaal excl btw / excl btw / totaal exclusief btw / base imponible / base /
            importe neto / imponibile / totale imponibile / total neto / subtotale / line items total / merchandise
            / suma
            """,
        Field.TAX: """
            tax / vat / sales tax / gst / hst / tax amount / vat amount / total tax / total vat / mwst / ust /
            umsatzsteuer / mehrwertsteuer / zzgl mwst / zzgl ust / tva / montant tva / total tva / btw / btw bedrag
            / iva / cuota iva / importo iva / tax total
            """,
        Field.FREIGHT: """
            freight / shipping / shipping and handling / shipping handling / delivery / delivery charge / postage /
            carriage / shipping cost / shipping charge / freight charge / freight charges / handling / versand /
            versandkosten / fracht / frachtkosten / porto / lieferkosten / frais de port / port / livraison /
            transport / verzendkosten / vrachtkosten / gastos de envío / portes / envío / spese di spedizione /
            trasporto / shipping fee / p p / delivery fee / est freight / estimated freight
            """,
        Field.DISCOUNT: """
            discount / total discount / order discount / trade discount / less discount / rabatt / nachlass / remise
            / korting / descuento / sconto / promo discount
            """,
        Field.TOTAL: """
            total / order total / po total / invoice total / total amount / gesamt / gesamtsumme / gesamtbetrag /
            summe / rechnungsbetrag / montant total / totaal / totaalbedrag / importe total / totale / totale
            documento / endsumme / bestellwert / auftragswert / totals / total order / total usd / total eur / total
            gbp
            """,
        Field.GRAND_TOTAL: """
            grand total / total due / amount due / balance due / total payable / total to pay / total incl vat /
            total inc vat / total including tax / net payable / total invoice / amount payable / total credit /
            credit total / bruttobetrag / gesamtbetrag brutto / zu zahlen / zahlbetrag / endbetrag /
            rechnungsendbetrag / gesamt brutto / total ttc / montant ttc / net à payer / te betalen / totaal incl
            btw / te voldoen / total a pagar / total factura / totale fattura / totale da pagare / totale ordine /
            total pedido / total commande
            """,
    }
)

AMOUNT_FIELDS: Final = frozenset(
    {Field.SUBTOTAL, Field.TAX, Field.FREIGHT, Field.DISCOUNT, Field.TOTAL, Field.GRAND_TOTAL}
)
PARTY_FIELDS: Final = frozenset({Field.SUPPLIER, Field.BUYER, Field.FROM, Field.TO})
DATE_FIELDS: Final = frozenset({Field.DATE, Field.ORDER_DATE, Field.DUE_DATE})
NUMBER_FIELDS: Final = frozenset(
    {
        Field.PO_NUMBER,
        Field.INVOICE_NUMBER,
        Field.ORDER_NUMBER,
        Field.DELIVERY_NUMBER,
        Field.CREDIT_NUMBER,
        Field.QUOTE_NUMBER,
        Field.CUSTOMER_NUMBER,
        Field.NUMBER,
    }
)

TITLES: Final[Mapping[str, DocumentKind]] = _index(
    {
        DocumentKind.CREDIT_NOTE: """
            credit note / credit memo / credit memorandum / credit invoice / gutschrift / rechnungskorrektur /
            stornorechnung / avoir / facture d avoir / note de crédit / creditnota / creditfactuur / nota de crédito
            / factura rectificativa / abono / nota di credito
            """,
        DocumentKind.STATEMENT: """
            statement / statement of account / account statement / customer statement / project statement /
            kontoauszug / saldenliste / relevé de compte / rekeningoverzicht / estado de cuenta / estratto conto
            """,
        DocumentKind.QUOTE: """
            quote / quotation / sales quote / price quotation / estimate / angebot / kostenvoranschlag / devis /
            offerte / presupuesto / cotización / preventivo
            """,
        DocumentKind.PRICE_LIST: """
            price list / pricelist / wholesale price list / wholesale catalog / wholesale catalogue / line sheet /
            linesheet / catalog / catalogue / preisliste / tarif / liste de prix / prijslijst / lista de precios /
            tarifa / listino prezzi / listino
            """,
        DocumentKind.STOCK_REPORT: """
            stock report / inventory report / inventory reconciliation report / stock on hand / inventory on hand /
            stock list / inventory list / inventory count / stock count / bestandsliste / lagerbestand /
            inventurliste / état de stock / inventaire / voorraadlijst / inventario / giacenze / inventory valuation
            """,
        DocumentKind.DELIVERY_NOTE: """
            delivery note / packing slip / packing list / dispatch note / despatch note / delivery slip / goods
            delivery note / advance shipping notice / lieferschein / bon de livraison / bordereau de livraison /
            pakbon / leveringsbon / albarán / nota de entrega / documento di trasporto / ddt / bolla di consegna
            """,
        DocumentKind.PROFORMA: """
            proforma / pro forma / proforma invoice / pro forma invoice / proformarechnung / proforma rechnung /
            facture proforma / facture pro forma / proforma factuur / proformafactuur / factura proforma / fattura
            proforma
            """,
        DocumentKind.CONFIRMATION: """
            order confirmation / sales order / sales order confirmation / order acknowledgement / order
            acknowledgment / purchase order confirmation / purchase order acknowledgement / auftragsbestätigung /
            confirmation de commande / accusé de réception de commande / orderbevestiging / opdrachtbevestiging /
            confirmación de pedido / conferma d ordine / conferma ordine
            """,
        DocumentKind.PURCHASE_ORDER: """
            purchase order / purchase order form / wholesale order / wholesale order form / order form / stock order
            / replenishment order / po / bestellung / bestellformular / bon de commande / commande / inkooporder /
            bestelbon / bestelling / orden de compra / pedido / hoja de pedido / ordine / ordine di acquisto /
            ordine d acquisto
            """,
        DocumentKind.INVOICE: """
            invoice / tax invoice / commercial invoice / sales invoice / vat invoice / sales receipt / rechnung /
            handelsrechnung / facture / facture commerciale / factuur / verkoopfactuur / factura / factura comercial
            / fattura / bill
            """,
    }
)

LINE_KINDS: Final[Mapping[str, LineKind]] = _index(
    {
        LineKind.CHARGE: """
            freight / freight charge / freight charges / shipping / shipping and handling / shipping charge /
            shipping fee / shipping cost / handling / handling fee / delivery / delivery charge / delivery fee /
            postage / carriage / surcharge / fuel surcharge / fee / service fee / set up fee / setup fee / drop ship
            fee / small order fee / insurance / duty / packaging fee / pallet charge / pallet fee / recycling fee /
            thuiskopieheffing / incl thuiskopieheffing / versand / versandkosten / fracht / frachtkosten / porto /
            verpackung / frais de port / port / transport / verzendkosten / vrachtkosten / gastos de envío / portes
            / spese di spedizione / trasporto / eco tax / écotaxe / eco participation
            """,
        LineKind.DISCOUNT: """
            discount / volume discount / promo discount / promotional discount / trade discount / early payment
            discount / less discount / rabatt / mengenrabatt / nachlass / skonto / remise / korting / descuento /
            sconto / promotion / coupon / allowance
            """,
        LineKind.DEPOSIT: """
            deposit / bottle deposit / crv / pallet deposit / keg deposit / pfand / consigne / statiegeld / depósito
            / cauzione / prepayment / deposit paid
            """,
        LineKind.FREE_GOODS: """
            free goods / free sample / sample / samples / tester / testers / free of charge / foc / naturalrabatt /
            gratis / échantillon / muster / monster / muestra / campione
            """,
        LineKind.NOTE: """
            note / notes / comment / comments / remark / remarks / hinweis / bemerkung / remarque / opmerking / nota
            """,
    }
)

SIZES: Final = frozenset(
    compact(size)
    for size in [
        "xxs",
        "xs",
        "s",
        "m",
        "l",
        "xl",
        "xxl",
        "xxxl",
        "xxxxl",
        "2xs",
        "3xs",
        "2xl",
        "3xl",
        "4xl",
        "5xl",
        "1x",
        "2x",
        "3x",
        "4x",
        "s/m",
        "m/l",
        "l/xl",
        "os",
        "one-size",
        "onesize",
        "small",
        "medium",
        "large",
        "x-large",
        "xx-large",
        "xsmall",
        "newborn",
        "0-3m",
        "3-6m",
        "6-9m",
        "6-12m",
        "9-12m",
        "12-18m",
        "18-24m",
        "2t",
        "3t",
        "4t",
        "5t",
    ]
)


def is_size(text: str) -> bool:
    """Whether a column heading is a size: a letter size, or a number as clothes and shoes are numbered."""
    if compact(text) in SIZES:
        return True
    number = text.strip().replace("½", ".5").replace(",", ".")
    try:
        return _SMALLEST_NUMBERED <= float(number) <= _LARGEST_NUMBERED
    except ValueError:
        return False


_SMALLEST_NUMBERED = 0.0
_LARGEST_NUMBERED = 64.0
