from __future__ import annotations

import pytest

from pipeline.domain.purchase_order import Party
from pipeline.domain.results import SupplierChoice
from pipeline.domain.suppliers import KnownSupplier, choose_supplier, is_own, normalize_name, own_names, vendor_name
from tests.pipeline.domain.printed import merchant

ACME = KnownSupplier("sup-1", "Acme Pottery Ltd", "acme pottery", tax_id="GB 123", email="sales@acme.test")
OWN = ("Harbour Goods", "Harbour Goods Trading GmbH")


def choose(
    supplier: Party, buyer: Party | None = None, known: tuple[KnownSupplier, ...] = (ACME,)
) -> tuple[SupplierChoice, list[str]]:
    choice, doubts = choose_supplier(supplier, buyer or Party(), OWN, known, "a" * 64)
    return choice, [doubt.code for doubt in doubts]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Acme Pottery Ltd.", "ACME POTTERY"),
        ("Müller & Söhne GmbH", "Muller and Sohne"),
        ("L'Atelier S.A.R.L.", "LAtelier"),
        ("The Company", "the company"),
    ],
)
def test_two_spellings_of_one_company_normalize_alike(one: str, other: str) -> None:
    assert normalize_name(one) == normalize_name(other)


@pytest.mark.parametrize(
    ("party", "by"),
    [
        (Party(name="Something Else", tax_id="gb-123"), "tax_id"),
        (Party(name="Something Else", email="bills@acme.test"), "domain"),
        (Party(name="Something Else", website="https://www.acme.test/shop"), "domain"),
        (Party(tax_id="GB123"), "tax_id"),
        (Party(name="ACME Pottery Limited"), "name"),
        (Party(name="Acme Potterys"), "similar_name"),
    ],
)
def test_a_known_supplier_is_recognised(party: Party, by: str) -> None:
    choice, codes = choose(party)
    assert (choice.id, choice.matched_by, codes) == ("sup-1", by, [])


def test_what_a_document_adds_is_kept_what_it_contradicts_is_not() -> None:
    choice, _ = choose(Party(name="Acme Pottery", tax_id="GB 123", email="other@acme.test", website="acme.test"))
    assert (choice.email, choice.website) == ("sales@acme.test", "acme.test")


def test_a_supplier_nobody_knows_is_new_without_a_question() -> None:
    choice, codes = choose(Party(name=" Borealis Textiles Inc ", tax_id="US 9"))
    assert (choice.id, choice.name, choice.normalized_name, codes) == (
        None,
        "Borealis Textiles Inc",
        "borealis textiles",
        [],
    )


def test_a_name_that_is_nearly_known_is_a_question() -> None:
    choice, codes = choose(Party(name="Acme Pottery UK"))
    assert (choice.id, codes) == (None, ["unknown_supplier"])


def test_another_tax_id_is_another_company_however_alike_the_names() -> None:
    other = choose(Party(name="Acme Pottery", tax_id="GB 999"))[0]
    assert (other.id, other.normalized_name) == (None, "acme pottery GB999")
    assert choose(Party(name="Acme Pottery", tax_id="GB 999", email="x@acme.test"))[0].id is None


def test_a_mail_provider_is_nobodys_own_domain() -> None:
    known = KnownSupplier("sup-2", "Jane", "jane", email="jane@gmail.com")
    assert choose(Party(name="Borealis", email="borealis@gmail.com"), known=(known,))[0].id is None


def test_a_misprinted_web_address_is_nobodys_domain() -> None:
    assert choose(Party(name="Borealis", website="http://[acme.test"))[0].id is None


def test_the_shop_is_never_its_own_supplier() -> None:
    choice, codes = choose(Party(name="Harbour Goods Ltd"), Party(name="Acme Pottery"))
    assert (choice.id, codes) == ("sup-1", ["supplier_is_own_shop"])


def test_where_both_parties_are_the_shop_nobody_is_the_supplier() -> None:
    choice, codes = choose(Party(name="HARBOUR GOODS"), Party(name="Harbour Goods Trading"))
    assert (choice.matched_by, codes) == ("unnamed", ["supplier_is_own_shop", "no_supplier"])


def test_unnamed_suppliers_of_two_documents_are_not_one_supplier() -> None:
    first, codes = choose(Party())
    second, _ = choose_supplier(Party(), Party(), OWN, (), "b" * 64)
    assert codes == ["no_supplier"]
    assert first.normalized_name != second.normalized_name
    assert vendor_name(first) == ""


def test_a_vendor_is_called_by_its_suppliers_name() -> None:
    assert vendor_name(choose(Party(name="Acme Pottery"))[0]) == "Acme Pottery Ltd"


def test_a_merchants_names_are_all_its_own() -> None:
    names = own_names(merchant(names=("Harbour Trading",)))
    assert names == ("Harbour Trading", "Harbour Goods")
    assert is_own("harbour trading ltd", names)
    assert not is_own("", names)
    assert not is_own("Acme", names)
