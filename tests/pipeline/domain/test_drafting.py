from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.domain.drafting import candidates, draft_of, is_web_address
from pipeline.domain.results import PlannedProduct, PlannedVariant


def product(key: str = "sku:mug", variant: str = "only", urls: tuple[str, ...] = ()) -> PlannedProduct:
    one = PlannedVariant(
        variant_key=variant, positions=(1,), sku="MUG", gtin="", options={}, quantity=1, unit_cost=None, price=None
    )
    return PlannedProduct(
        product_key=key,
        title="Mug",
        description_html="",
        vendor="Acme",
        product_type="",
        tags=(),
        option_names=(),
        variants=(one,),
        image_urls=urls,
    )


def test_a_drafts_id_never_changes() -> None:
    draft = draft_of("m-1", "sup-1", product())
    assert draft.id == "689c0261-a95b-5db9-a54d-45e1521e96fb"
    assert draft.variants[0].id == draft_of("m-1", "sup-1", product()).variants[0].id


@given(st.tuples(st.text("ab", min_size=1), st.text("ab", min_size=1), st.text("ab", min_size=1)))
def test_another_merchant_supplier_or_product_is_another_draft(names: tuple[str, str, str]) -> None:
    merchant_id, supplier_id, key = names
    ids = {
        draft_of(*parts[:2], product(parts[2])).id
        for parts in (
            names,
            (f"{merchant_id}c", *names[1:]),
            (merchant_id, f"{supplier_id}c", key),
            (*names[:2], f"{key}c"),
        )
    }
    assert len(ids) == 4


def test_another_variant_of_a_draft_has_another_id() -> None:
    ids = {draft_of("m-1", "sup-1", product(variant=key)).variants[0].id for key in ("size=m", "size=l")}
    assert len(ids) == 2


@pytest.mark.parametrize("url", ["http://a.test/1.jpg", "https://a.test:8443/x?y=1"])
def test_a_picture_is_fetched_from_the_web(url: str) -> None:
    assert is_web_address(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "1.jpg",
        "ftp://a.test/1.jpg",
        "file:///etc/passwd",
        "https://",
        "https://user:secret@a.test/1.jpg",
        "https://a.test/a b.jpg",
        "https://a.test/\x00",
        "https://[a.test/1.jpg",
        f"https://a.test/{'x' * 2048}",
    ],
)
def test_a_picture_is_fetched_from_nowhere_else(url: str) -> None:
    assert not is_web_address(url)


def test_candidates_are_the_documents_pictures_once_in_order_at_most_ten() -> None:
    urls = tuple(f"https://a.test/{number}.jpg" for number in range(12))
    found = candidates(draft_of("m-1", "sup-1", product(urls=(urls[0], "no picture", *urls))))
    assert [image.url for image in found] == list(urls[:10])
    assert [image.position for image in found] == list(range(10))
    assert {image.source for image in found} == {"document"}
    assert len({image.id for image in found}) == 10
