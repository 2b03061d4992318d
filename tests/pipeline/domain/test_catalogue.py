"""Which lines are one product: the keys that make the second order land where the first one did."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.catalogue import Offer, plan_products
from pipeline.domain.placing import KnownItem, place_lines, product_key, variant_key
from pipeline.domain.results import EnrichedLine, NormalizedLine, PlannedProduct, PricedLine, ProductPlan
from tests.pipeline.domain.printed import goods


def offer(line: NormalizedLine, words: EnrichedLine | None = None, **priced: Any) -> Offer:
    usual = {"unit_cost": line.unit_cost, "price": Decimal("9.99"), "price_rule": "a rule"}
    return Offer(line, PricedLine(position=line.position, **(usual | priced)), words)


def plan(*lines: NormalizedLine, known: tuple[KnownItem, ...] = ()) -> ProductPlan:
    return plan_products("Acme", [offer(line) for line in lines], known)


def shirt(position: int, color: str, size: str, **fields: Any) -> NormalizedLine:
    usual = {"name": f"Linen Shirt {color} {size}", "product_name": "Linen Shirt"} | {
        "options": {"Color": color, "Size": size},
        "sku": f"LS-{color[:2]}-{size}".upper(),
    }
    return goods(position, **(usual | fields))


def codes(planned: ProductPlan) -> list[str]:
    return [doubt.code for doubt in planned.doubts]


def keys(planned: ProductPlan) -> dict[str, list[str]]:
    return {product.product_key: [one.variant_key for one in product.variants] for product in planned.products}


def only(planned: ProductPlan) -> PlannedProduct:
    (product,) = planned.products
    return product


def test_sizes_and_colours_of_a_style_are_one_product() -> None:
    product = only(plan(shirt(1, "Navy", "M"), shirt(2, "Navy", "L"), shirt(3, "Sand", "M")))
    assert (product.title, product.option_names, product.vendor) == ("Linen Shirt", ("Color", "Size"), "Acme")
    assert [one.options for one in product.variants] == [
        {"Color": "Navy", "Size": "M"},
        {"Color": "Navy", "Size": "L"},
        {"Color": "Sand", "Size": "M"},
    ]
    first = product.variants[0]
    assert (first.sku, first.quantity, first.positions) == ("LS-NA-M", 10, (1,))


def test_a_line_without_options_is_a_product_of_its_own() -> None:
    planned = plan(goods(1), goods(2, sku="", gtin="4006381333931"), goods(3, sku="", name="Crème Brûlée"))
    assert keys(planned) == {
        "sku:mug-1": ["only"],
        "gtin:04006381333931": ["only"],
        "name:creme-brulee": ["only"],
    }
    assert planned.products[0].option_names == ()
    assert planned.products[0].variants[0].options == {}


def test_the_name_gives_the_style_where_no_column_does() -> None:
    assert product_key(shirt(1, "Navy", "M", product_name="")) == "style:linen-shirt"
    assert product_key(shirt(1, "Navy", "M", product_name="", name="Navy M")) == "sku:ls-na-m"


def test_names_of_signs_alone_are_still_different_names() -> None:
    assert product_key(goods(sku="", name="***")) != product_key(goods(sku="", name="+++"))


@given(st.permutations([shirt(1, "Navy", "M"), shirt(2, "Navy", "L"), goods(3), goods(4, sku="", name="Bowl")]))
def test_keys_do_not_depend_on_where_a_line_stands(lines: list[NormalizedLine]) -> None:
    moved = [line.model_copy(update={"position": at}) for at, line in enumerate(lines, 11)]
    found = {key: sorted(variants) for key, variants in keys(plan(*moved)).items()}
    assert found == {
        "style:linen-shirt": ["color=navy|size=l", "color=navy|size=m"],
        "sku:mug-3": ["only"],
        "name:bowl": ["only"],
    }


def test_the_same_article_twice_is_one_variant_with_the_sum() -> None:
    planned = plan(goods(1), goods(2, sku="mug-1", quantity=5))
    (variant,) = only(planned).variants
    assert (variant.quantity, variant.positions, variant.unit_cost, codes(planned)) == (15, (1, 2), Decimal("4.50"), [])


def test_the_same_article_at_two_costs_is_averaged_and_that_is_said() -> None:
    planned = plan(goods(1, unit_cost=Decimal(4)), goods(2, sku="MUG-1", quantity=30, unit_cost=Decimal(8)))
    (variant,) = only(planned).variants
    assert (variant.unit_cost, codes(planned), planned.doubts[0].blocking) == (Decimal(7), ["two_costs"], False)
    none_coming = plan(
        goods(1, quantity=0, unit_cost=Decimal(4)), goods(2, sku="MUG-1", quantity=0, unit_cost=Decimal(8))
    )
    assert only(none_coming).variants[0].unit_cost == Decimal(8)


def test_one_spelling_of_an_option_is_enough() -> None:
    other = shirt(2, "NAVY", "L").model_copy(update={"options": {"color": "NAVY", "Size": "L"}})
    product = only(plan(shirt(1, "Navy", "M"), other))
    assert product.option_names == ("Color", "Size")
    assert product.variants[1].options == {"Color": "Navy", "Size": "L"}
    british = shirt(2, "Sand", "M", options={"Colour": "Sand", "Size": "M"})
    assert only(plan(shirt(1, "Navy", "M"), british)).option_names == ("Color", "Size")


def test_a_colour_is_a_color() -> None:
    assert variant_key(goods(options={"Colour": "Navy"})) == variant_key(goods(options={"color": "navy"}))
    assert variant_key(goods(options={"Cup": "A+"})) != variant_key(goods(options={"Cup": "A"}))


def test_a_variant_that_lacks_an_option_gets_a_value_a_shop_accepts() -> None:
    plain = goods(2, product_name="Linen Shirt", options={"Size": "L"})
    product = only(plan(shirt(1, "Navy", "M"), plain))
    assert product.variants[1].options == {"Color": "Standard", "Size": "L"}


def test_a_fourth_option_shares_the_third_and_a_person_looks() -> None:
    options = {"Color": "Navy", "Size": "M", "Fit": "Slim", "Length": "32"}
    planned = plan(goods(product_name="Jeans", options=options))
    assert only(planned).option_names == ("Color", "Size", "Fit + Length")
    assert only(planned).variants[0].options["Fit + Length"] == "Slim / 32"
    assert codes(planned) == ["too_many_options"]


def test_more_variants_than_a_shop_holds_are_a_question() -> None:
    sizes = [goods(at, product_name="Rope", options={"Length": str(at)}) for at in range(1, 2050)]
    assert codes(plan(*sizes)) == ["too_many_variants"]


def test_two_articles_that_claim_one_place_are_kept_apart() -> None:
    planned = plan(shirt(1, "Navy", "M"), shirt(2, "Navy", "M", sku="OTHER"))
    assert keys(planned) == {"style:linen-shirt": ["color=navy|size=m"], "sku:other": ["only"]}
    assert codes(planned) == ["variant_conflict"]


def test_a_style_number_shared_by_sizes_does_not_merge_them() -> None:
    product = only(plan(shirt(1, "Navy", "M", sku="LS"), shirt(2, "Navy", "L", sku="LS")))
    assert [one.quantity for one in product.variants] == [10, 10]


KNOWN = KnownItem("LS-NA-M", "4006381333931", "style:old-name", "color=navy|size=m")


def test_memory_keeps_an_article_where_it_was_under_a_new_name() -> None:
    renamed = shirt(1, "Navy", "M", product_name="Linen Shirt Classic")
    assert keys(plan(renamed, known=(KNOWN,))) == {"style:old-name": ["color=navy|size=m"]}


def test_a_new_size_joins_the_product_memory_knows() -> None:
    planned = plan(shirt(1, "Navy", "L"), shirt(2, "Navy", "M"), known=(KNOWN,))
    assert keys(planned) == {"style:old-name": ["color=navy|size=l", "color=navy|size=m"]}


def test_a_style_remembered_under_two_products_always_leads_to_the_same_one() -> None:
    known = (KnownItem("A", "", "sku:a", "only"), KNOWN, KnownItem("B", "", "style:linen-shirt", "color=sand|size=m"))
    lines = (
        shirt(1, "Navy", "M"),
        shirt(2, "Sand", "M", sku="B"),
        shirt(3, "Teal", "S"),
        shirt(4, "Red", "S", sku="A"),
    )
    for order in (lines, lines[::-1]):
        places, _ = place_lines(order, known)
        assert places[3].product_key == "style:linen-shirt"
    places, _ = place_lines((lines[0], lines[2], lines[3]), known)
    assert places[3].product_key == "sku:a"


def test_memory_finds_an_article_by_its_barcode_when_the_sku_changed() -> None:
    line = goods(1, sku="NEW", gtin="4006381333931")
    assert keys(plan(line, known=(KNOWN,))) == {"style:old-name": ["color=navy|size=m"]}


def test_memory_finds_an_article_printed_without_its_options() -> None:
    planned = plan(goods(1, sku="ls-na-m"), known=(KNOWN,))
    assert (keys(planned), codes(planned)) == ({"style:old-name": ["color=navy|size=m"]}, [])


def test_other_options_under_a_known_sku_are_a_question() -> None:
    planned = plan(shirt(1, "Navy", "XL", sku="LS-NA-M"), known=(KNOWN,))
    assert (keys(planned), codes(planned)) == ({"style:old-name": ["color=navy|size=m"]}, ["options_changed"])


def test_under_a_known_style_number_the_options_decide() -> None:
    known = (KnownItem("LS", "", "style:ls", "color=navy|size=m"), KnownItem("LS", "", "style:ls", "color=navy|size=l"))
    planned = plan(shirt(1, "Navy", "L", sku="LS"), shirt(2, "Navy", "XL", sku="LS"), known=known)
    assert (keys(planned), codes(planned)) == ({"style:ls": ["color=navy|size=l", "color=navy|size=xl"]}, [])
    unclear = plan(goods(1, sku="LS"), known=known)
    assert (keys(unclear), codes(unclear)) == ({"style:ls": ["only"]}, ["options_missing"])
    first_seen = plan(shirt(1, "Navy", "M", sku="LS"), shirt(2, "Navy", "S", sku="LS"), known=known[:1])
    assert keys(first_seen) == {"style:ls": ["color=navy|size=m", "color=navy|size=s"]}


def test_a_sku_and_a_barcode_of_two_known_articles_are_a_question() -> None:
    known = (KnownItem("MUG-1", "", "sku:mug-1", "only"), KnownItem("", "4006381333931", "sku:bowl", "only"))
    planned = plan(goods(1, gtin="4006381333931"), known=known)
    assert (keys(planned), codes(planned)) == ({"sku:mug-1": ["only"]}, ["sku_gtin_conflict"])


def test_a_new_article_without_a_price_is_a_question_a_known_one_keeps_its_own() -> None:
    known = (KnownItem("MUG-1", "", "sku:mug-1", "only"),)
    offers = [offer(goods(at, unit_cost=None), price=None) for at in (1, 2)]
    planned = plan_products("Acme", offers, known)
    assert [(doubt.code, "line 2" in doubt.message, "line 1" in doubt.message) for doubt in planned.doubts] == [
        ("no_price", True, False)
    ]
    assert plan_products("Acme", offers[:1], known).products[0].variants[0].price is None


def test_an_article_without_a_rate_is_asked_about_once_where_the_rate_is_missing() -> None:
    assert not plan_products("Acme", [offer(goods(1), price=None, unit_cost=None)]).doubts


def test_an_article_nobody_priced_has_no_cost_either() -> None:
    planned = plan_products("Acme", [offer(goods(1), unit_cost=None)])
    assert planned.products[0].variants[0].unit_cost is None


def test_better_words_are_used_where_there_are_any() -> None:
    words = EnrichedLine(
        position=1, title="Stoneware Mug 1", description_html="<p>Fine.</p>", product_type="Mugs", tags=("Clay",)
    )
    one = plan_products("Acme", [offer(goods(1), words, tags=("clay", "new"))]).products[0]
    assert (one.title, one.description_html, one.product_type) == ("Stoneware Mug 1", "<p>Fine.</p>", "Mugs")
    assert one.tags == ("clay", "new")
    ruled = plan_products("Acme", [offer(goods(1), words, product_type="Kitchen")]).products[0]
    assert ruled.product_type == "Kitchen"


def test_two_products_of_one_name_get_titles_that_tell_them_apart() -> None:
    planned = plan(
        goods(1, product_name="Mug", name="Mug, blue glaze"),
        goods(2, product_name="Mug", name="Mug"),
        goods(3, product_name="Bowl", name="Bowl, wide"),
    )
    assert [product.title for product in planned.products] == ["Mug, blue glaze", "Mug MUG-2", "Bowl"]


def test_a_purchase_pack_is_no_part_of_a_title() -> None:
    line = goods(name="Sparkling Water (Case of 12)", packs="2 cases x 12 = 24 units")
    assert only(plan(line)).title == "Sparkling Water"
    assert only(plan(line.model_copy(update={"packs": ""}))).title == "Sparkling Water (Case of 12)"


def test_pictures_of_all_lines_are_kept_once_and_texts_are_cut_where_a_shop_cuts() -> None:
    url = "https://acme.test/1.jpg"
    product = only(plan(goods(1, image_url=url, name="x" * 300), goods(2, sku="MUG-1", image_url=url)))
    assert (product.image_urls, len(product.title)) == ((url,), 255)


@pytest.mark.parametrize("planned", [plan()])
def test_no_goods_are_no_products(planned: ProductPlan) -> None:
    assert planned == ProductPlan(products=())
