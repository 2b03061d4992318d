"""A plan's words, as a merchant reads them, and what counts as another plan."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from pipeline.domain.merchant import StockPolicy
from pipeline.domain.plan import (
    DIFFERENCES_SHOWN,
    DroppedUnits,
    Plan,
    PlanItem,
    ProductStep,
    Stop,
    VariantStep,
    differences,
    items,
    summary,
)

PRODUCT = "gid://shopify/Product/7"


def variant(name: str, **given: Any) -> VariantStep:
    return VariantStep(draft_variant_id=name, label=name, **given)


def kept(name: str, **given: Any) -> VariantStep:
    """A variant the shop has."""
    there = {"variant_id": f"gid://{name}", "price": Decimal("9.99"), "cost": Decimal("4.50")}
    return variant(name, **(there | given))


def created(title: str, *variants: VariantStep, **given: Any) -> ProductStep:
    return ProductStep(draft_id=title, title=title, variants=variants, **given)


def existing(title: str, *variants: VariantStep, **given: Any) -> ProductStep:
    return created(title, *variants, **({"product_id": PRODUCT, "status": "ACTIVE"} | given))


def plan_of(*products: ProductStep, **given: Any) -> Plan:
    at = {"stock": StockPolicy.INCOMING, "location_id": "gid://l/1", "location_name": "Warehouse"}
    return Plan(currency="USD", products=products, **(at | given))


# ------------------------------------------------------------------------------------------- words


def test_one_sentence_counts_all_that_will_happen() -> None:
    plan = plan_of(
        created("Mug", variant("red", units=200), variant("blue", units=100), pictures=2),
        created("Vase", variant("only", units=70)),
        existing("Bowl", kept("S", units=5, new_cost=Decimal("5.25")), variant("L", units=5)),
    )
    assert summary(plan) == (
        "Creates 2 draft products (3 variants), adds 1 variant to 1 existing product, updates 1 cost, "
        "announces 380 units at Warehouse, tries 2 pictures, publishes nothing."
    )


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (
            plan_of(created("Mug", variant("red")), stock=StockPolicy.RECORD, note="stock is only recorded here"),
            "Creates 1 draft product (1 variant), announces nothing, publishes nothing. Stock is only recorded here.",
        ),
        (plan_of(existing("Mug", kept("red"))), "Announces nothing, publishes nothing."),
        (
            plan_of(existing("Mug", kept("red", units=-3)), dropped=(DroppedUnits(draft_variant_id="x", units=-4),)),
            "Takes back 7 announced units at Warehouse, publishes nothing.",
        ),
        (
            plan_of(existing("Mug", kept("red", units=1)), stock=StockPolicy.AVAILABLE, location_name=""),
            "Makes 1 unit available at once at location 1, publishes nothing.",
        ),
        (
            Plan(stops=(Stop(code="currency_mismatch", message="The shop sells in EUR."),)),
            "Nothing can be done yet: The shop sells in EUR.",
        ),
    ],
)
def test_what_does_not_happen_is_said_too(plan: Plan, words: str) -> None:
    assert summary(plan) == words


def test_each_product_says_what_becomes_of_it_and_of_each_variant() -> None:
    plan = plan_of(
        existing("Plate", kept("P-1")),
        created("Mug", variant("M-R", units=12, price=Decimal("9.990000"), cost=Decimal("4.5"))),
        existing("Bowl", kept("B-S", new_cost=Decimal("5.25")), variant("B-L", units=3), status="DRAFT", pictures=1),
        existing("Vase", kept("V-1", units=-2)),
        dropped=(DroppedUnits(draft_variant_id="x", units=-4),),
    )
    assert items(plan) == (
        PlanItem(
            title="Mug",
            words="is created as a draft with 1 variant",
            variants=("M-R: new, price 9.99, cost 4.50, 12 units announced",),
        ),
        PlanItem(
            title="Bowl",
            words="exists (draft) and gets 1 new variant; 1 picture will be tried",
            variants=("B-S: exists, cost 4.50 -> 5.25", "B-L: new, 3 units announced"),
        ),
        PlanItem(
            title="Vase",
            words="exists (active) and stays as it is",
            variants=("V-1: exists, 2 announced units taken back",),
        ),
        PlanItem(
            title="Goods no longer ordered",
            words="4 announced units are taken back: this revision no longer names them",
        ),
        PlanItem(title="Plate", words="is in the shop; nothing about it changes", variants=("P-1: exists",)),
    )


def test_a_cost_of_less_than_a_cent_keeps_its_digits() -> None:
    [item] = items(plan_of(created("Nail", variant("N", cost=Decimal("0.012500"), price=Decimal(100)))))
    assert item.variants == ("N: new, price 100.00, cost 0.0125",)


# ------------------------------------------------------------------------------------------- the same plan


def test_titles_notes_and_pictures_are_no_claims() -> None:
    one = plan_of(existing("Mug", kept("red", units=3)), note="a")
    other = plan_of(
        existing("Mug", kept("red", units=3)).model_copy(update={"title": "Big mug", "pictures": 3}),
        note="b",
        location_name="Store",
    )
    assert one.digest == other.digest
    assert differences(one, other) == ()


def test_the_same_amount_written_otherwise_is_the_same() -> None:
    one = plan_of(existing("Mug", kept("red", price=Decimal("10.0"))))
    assert one.digest == plan_of(existing("Mug", kept("red", price=Decimal("10.00")))).digest
    assert differences(one, plan_of(existing("Mug", kept("red", price=Decimal("1E+1"))))) == ()


def test_a_plan_survives_being_stored() -> None:
    plan = plan_of(existing("Mug", kept("red", new_cost=Decimal("5.10"), units=3)))
    assert Plan.model_validate(plan.model_dump(mode="json")).digest == plan.digest


BEFORE = plan_of(created("Mug", variant("red", units=3), variant("blue")), existing("Bowl", kept("S", units=5)))
BOWL = existing("Bowl", kept("S", units=5))
MUG = created("Mug", variant("red", units=3), variant("blue"))


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (plan_of(MUG, BOWL, location_id="gid://l/2", location_name="Annex"), "Annex now, not to Ware"),
        (plan_of(MUG, BOWL, stock=StockPolicy.RECORD, note="no scope"), "only recorded now, not announced (no scope)"),
        (Plan(currency="EUR", stops=(Stop(code="c", message="The shop sells in EUR."),)), "The shop sells in EUR."),
        (
            plan_of(existing("Mug", kept("red", units=3), variant("blue")), BOWL),
            "“Mug” is in the shop by now: it would not be created, but added to",
        ),
        (
            plan_of(MUG, created("Bowl", variant("S", units=5))),
            "“Bowl” is no longer in the shop: it would be created anew",
        ),
        (
            plan_of(MUG, existing("Bowl", kept("S", units=5), product_id="gid://shopify/Product/8")),
            "“Bowl” is another product of the shop now",
        ),
        (
            plan_of(MUG, existing("Bowl", kept("S", units=5), status="ARCHIVED")),
            "“Bowl” is archived in the shop now, not active",
        ),
        (
            plan_of(MUG, existing("Bowl", kept("S", units=5, price=Decimal(12)))),
            "“Bowl”, S: the price is 12.00 now, not 9.99",
        ),
        (
            plan_of(MUG, existing("Bowl", kept("S", units=5, cost=None))),
            "“Bowl”, S: the cost is none now, not 4.50",
        ),
        (plan_of(MUG, existing("Bowl", kept("S", units=9))), "“Bowl”, S: 9 units instead of 5"),
        (plan_of(MUG, existing("Bowl", variant("S", units=5))), "“Bowl”, S: is no longer the variant of the shop"),
        (
            plan_of(MUG, BOWL, dropped=(DroppedUnits(draft_variant_id="x", units=-1),)),
            "other units than approved would be taken back",
        ),
        (plan_of(MUG, BOWL, created("Vase")), "“Vase” was not in the plan"),
        (plan_of(BOWL), "not as it was when this was approved"),
    ],
)
def test_what_changed_in_the_shop_is_said_in_words(now: Plan, words: str) -> None:
    assert now.digest != BEFORE.digest
    assert words in "; ".join(differences(BEFORE, now))


def test_a_hundred_differences_are_counted_not_listed() -> None:
    many = plan_of(*(existing(f"P{number}", kept(f"v{number}")) for number in range(100)))
    changed = plan_of(*(existing(f"P{number}", kept(f"v{number}"), status="DRAFT") for number in range(100)))
    told = differences(many, changed)
    assert len(told) == DIFFERENCES_SHOWN + 1
    assert told[-1] == "and 80 more differences"


# ------------------------------------------------------------------------------------------- interrupted


COSTED = plan_of(
    created("Mug", variant("red", units=3, price=Decimal(8), cost=Decimal(4))),
    existing("Bowl", kept("S", new_cost=Decimal(5)), variant("L")),
)


def test_what_an_interrupted_attempt_did_itself_is_no_difference() -> None:
    """Created, added and written as planned, before the worker died."""
    now = plan_of(
        existing("Mug", kept("red", units=3, price=Decimal(8), cost=Decimal(4)), status="DRAFT"),
        existing("Bowl", kept("S", cost=Decimal(5)), kept("L")),
    )
    assert differences(COSTED, now, begun=True) == ()
    assert len(differences(COSTED, now)) > 0


@pytest.mark.parametrize(
    "now",
    [
        plan_of(COSTED.products[0], existing("Bowl", kept("S", cost=Decimal(6)), variant("L"))),
        plan_of(COSTED.products[0], existing("Bowl", kept("S", new_cost=Decimal(5), price=Decimal(1)), variant("L"))),
        plan_of(COSTED.products[0], created("Bowl", variant("S"), variant("L"))),
        plan_of(created("Mug", variant("red", units=2)), COSTED.products[1]),
        plan_of(
            existing(
                "Mug", kept("red", units=3, price=Decimal(8), cost=Decimal(4)), status="DRAFT", recognised_by="gtin"
            ),
            COSTED.products[1],
        ),
        plan_of(*COSTED.products, location_id="gid://l/2"),
        COSTED.model_copy(update={"stops": (Stop(code="c", message="m"),)}),
    ],
)
def test_what_somebody_else_did_meanwhile_is_one_all_the_same(now: Plan) -> None:
    assert len(differences(COSTED, now, begun=True)) > 0


# ------------------------------------------------------------------------------------------- products left undone


UNCLEAR = created("Mug", problem="“Mug”: two products carry its code. Say which (`match`), then approve.")


def test_a_product_that_cannot_be_placed_is_left_and_the_rest_goes_on() -> None:
    plan = plan_of(UNCLEAR, created("Vase", variant("only", units=7)))
    assert summary(plan) == (
        "Creates 1 draft product (1 variant), announces 7 units at Warehouse, publishes nothing. "
        "Leaves 1 product undone: “Mug”: two products carry its code. Say which (`match`), then approve."
    )
    assert items(plan)[0].words.startswith("is left undone: “Mug”: two products")


@pytest.mark.parametrize(
    ("approved", "now", "words"),
    [
        (created("Mug", variant("red")), UNCLEAR, "two products carry its code"),
        (UNCLEAR, created("Mug", variant("red")), "“Mug” can be brought into the shop by now"),
        (UNCLEAR, created("Mug", problem="It is archived."), "It is archived."),
    ],
)
def test_another_problem_is_another_plan(approved: ProductStep, now: ProductStep, words: str) -> None:
    for begun in (False, True):
        assert words in " ".join(differences(plan_of(approved), plan_of(now), begun=begun))


def test_how_a_product_was_recognised_is_said_and_claims_nothing() -> None:
    found = plan_of(existing("Mug", kept("red", units=1), recognised_by="gtin"))
    known = plan_of(existing("Mug", kept("red", units=1), recognised_by="place"))
    assert items(found)[0].words == "exists (active, recognised by its barcode) and stays as it is"
    assert items(known)[0].words == "exists (active) and stays as it is"
    assert found.digest == known.digest


def test_an_average_cost_that_was_written_is_not_averaged_again() -> None:
    approved = plan_of(existing("Mug", kept("red", cost=Decimal(4), new_cost=Decimal(5))))
    now = plan_of(existing("Mug", kept("red", cost=Decimal(5), new_cost=Decimal("5.50"))))
    assert differences(approved, now, begun=True) == ()
