"""What a draft would become in a shop: recognised by what cannot lie, and never guessed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipeline.domain.matching import Verdict, create, existing, match_variants, option_names, recognise, spelled
from pipeline.domain.results import Draft
from pipeline.domain.shop import ShopProduct, ShopVariant
from tests.sandbox_shop import make_draft

GTIN = "4006381333931"


def draft_of(sizes: Mapping[str, int], *, gtins: Mapping[str, str] | None = None, **plan: object) -> Draft:
    draft = make_draft("linen shirt", sizes)
    variants = tuple(
        one.model_copy(update={"plan": one.plan.model_copy(update={"gtin": (gtins or {}).get(value, "")})})
        for one, value in zip(draft.variants, sizes, strict=True)
    )
    return draft.model_copy(update={"variants": variants, "plan": draft.plan.model_copy(update=plan)})


def product_of(
    name: str, *variants: tuple[str, str, str], title: str = "Linen Shirt", vendor: str = "Acme", option: str = "Size"
) -> ShopProduct:
    """`variants` are (size, SKU, barcode); the empty size is a product without options."""
    held = tuple(
        ShopVariant(f"{name}/{n}", f"item/{name}/{n}", sku, barcode, {option: size} if size else {}, name)
        for n, (size, sku, barcode) in enumerate(variants)
    )
    values = {option: tuple(size for size, _, _ in variants)} if variants[0][0] else {}
    return ShopProduct(name, title, "ACTIVE", held, vendor, values)


def found(draft: Draft, product: ShopProduct) -> dict[str, str]:
    """Size -> SKU of the variant it was matched to."""
    sizes = {one.id: one.plan.options.get("Size", "") for one in draft.variants}
    return {sizes[name]: one.sku for name, one in match_variants(draft, product).items()}


def test_a_gtin_is_recognised_whatever_the_merchant_made_of_words_and_options() -> None:
    draft = draft_of({"S": 1, "M": 2}, gtins={"S": GTIN})
    theirs = product_of("p", ("Small", "own-1", GTIN), ("Medium", "own-2", ""), title="Hemd", vendor="Harbor & Pine")
    match = recognise(draft, [theirs])
    assert (match.verdict, match.by, match.product_id) == (Verdict.EXISTING, "gtin", "p")
    assert match.missing == (draft.variants[1].id,)


def test_a_upc_is_the_ean_with_a_zero_before_it() -> None:
    match = recognise(draft_of({"S": 1}, gtins={"S": "012345678905"}), [product_of("p", ("S", "", "0012345678905"))])
    assert match.verdict is Verdict.EXISTING


def test_a_sku_counts_only_where_vendor_or_title_agree() -> None:
    draft = draft_of({"S": 1})
    sku = draft.variants[0].plan.sku
    by_vendor = recognise(draft, [product_of("p", ("S", sku, ""), title="Hemd")])
    by_title = recognise(draft, [product_of("p", ("S", sku, ""), vendor="Harbor & Pine")])
    neither = recognise(draft, [product_of("p", ("S", sku, ""), title="Hemd", vendor="Harbor & Pine")])
    assert (by_vendor.by, by_title.by) == ("sku", "sku")
    assert (neither.verdict, neither.code) == (Verdict.UNCLEAR, "only_the_sku")
    assert "“Hemd” by Harbor & Pine" in neither.reason


def test_a_sku_in_one_agreeing_product_is_not_disturbed_by_foreign_ones() -> None:
    draft = draft_of({"S": 1})
    sku = draft.variants[0].plan.sku
    foreign = product_of("x", ("S", sku, ""), title="Hose", vendor="Other")
    assert recognise(draft, [foreign, product_of("p", ("S", sku, ""))]).product_id == "p"


def test_one_word_in_common_is_no_agreement() -> None:
    draft = draft_of({"": 1}, title="Mug", vendor="")
    match = recognise(draft, [product_of("p", ("", draft.variants[0].plan.sku, ""), title="Mug Rug", vendor="")])
    assert match.code == "only_the_sku"


def test_several_matches_are_a_question() -> None:
    draft = draft_of({"S": 1, "M": 1}, gtins={"S": GTIN})
    two = [product_of("p", ("S", "", GTIN)), product_of("q", ("S", "", GTIN), title="Linen Shirt (old)")]
    match = recognise(draft, two)
    assert (match.verdict, match.code) == (Verdict.UNCLEAR, "several_matches")
    assert "“Linen Shirt”, “Linen Shirt (old)”" in match.reason
    twice_in_one = product_of("p", ("XXS", "", GTIN), ("XS", "", GTIN))
    assert recognise(draft, [twice_in_one]).code == "several_matches"


def test_variants_that_are_products_of_their_own_stay_so_if_none_is_missing() -> None:
    other = "5901234123457"
    draft = draft_of({"S": 1, "M": 1}, gtins={"S": GTIN, "M": other})
    apart = [product_of("p", ("", "", GTIN)), product_of("q", ("", "", other))]
    match = recognise(draft, apart)
    assert (match.verdict, match.missing) == (Verdict.EXISTING, ())
    assert [one.product_id for one in match.variants.values()] == ["p", "q"]
    assert recognise(draft_of({"S": 1, "M": 1, "L": 1}, gtins={"S": GTIN, "M": other}), apart).code == "several_matches"


def test_what_nobody_carries_is_new() -> None:
    draft = draft_of({"S": 1})
    assert recognise(draft, []) == create(draft)


def test_a_variant_sold_by_the_case_is_not_split() -> None:
    draft = draft_of({"": 24}, gtins={"": GTIN})
    case = product_of("p", ("", "", GTIN), title="Linen Shirt, case of 12")
    match = recognise(draft, [case])
    assert (match.verdict, match.code) == (Verdict.UNCLEAR, "sold_by_the_case")
    same = draft_of({"": 2}, gtins={"": GTIN}, title="Linen Shirt 12-pack")
    assert recognise(same, [case]).verdict is Verdict.EXISTING


def test_an_option_the_merchant_renamed_is_still_that_option() -> None:
    draft = draft_of({"S": 1, "M": 1})
    theirs = product_of("p", ("s", "a", ""), ("M ", "b", ""), option="Größe")
    assert option_names(draft, theirs) == {"Size": "Größe"}
    assert found(draft, theirs) == {"S": "a", "M": "b"}
    assert spelled("S", theirs, "Größe") == "s"


def test_a_product_with_another_option_takes_no_variant_of_ours() -> None:
    draft = draft_of({"S": 1, "M": 1})
    sku = draft.variants[0].plan.sku
    held = ShopVariant("p/0", "item", sku, "", {"Size": "S", "Material": "Linen"}, "p")
    theirs = ShopProduct("p", "Linen Shirt", "DRAFT", (held,), "Acme", {"Size": ("S",), "Material": ("Linen",)})
    match = existing(draft, theirs, "place")
    assert (match.verdict, match.code) == (Verdict.UNCLEAR, "options_differ")
    only = draft_of({"S": 1})
    assert existing(only, theirs, "place").variants == {only.variants[0].id: held}


def test_a_style_number_does_not_make_a_new_size_an_old_one() -> None:
    draft = draft_of({"S": 1, "XL": 1})
    variants = tuple(
        one.model_copy(update={"plan": one.plan.model_copy(update={"sku": "STYLE"})}) for one in draft.variants
    )
    draft = draft.model_copy(update={"variants": variants})
    theirs = product_of("p", ("S", "STYLE", ""), ("M", "STYLE", ""))
    match = recognise(draft, [theirs])
    assert (match.verdict, match.missing) == (Verdict.EXISTING, (variants[1].id,))


def test_a_known_place_goes_before_everything_else() -> None:
    draft = draft_of({"S": 1, "M": 1})
    theirs = product_of("p", ("M", "", ""), ("S", "", ""))
    swapped = existing(draft, theirs, "place", {draft.variants[0].id: "p/0"})
    assert swapped.variants[draft.variants[0].id].id == "p/0"


def test_an_archived_twin_does_not_make_a_question() -> None:
    draft = draft_of({"S": 1}, gtins={"S": GTIN})
    old = replace(product_of("old", ("S", "", GTIN)), status="ARCHIVED")
    assert recognise(draft, [old, product_of("p", ("S", "", GTIN))]).product_id == "p"
    assert recognise(draft, [old]).product_id == "old"
