from __future__ import annotations

from typing import Any

from pipeline.domain.results import EnrichedLine
from pipeline.domain.wording import checked_words, clean_html, clean_tags
from tests.pipeline.domain.printed import goods


def checked(title: str = "Mug 1", **words: Any) -> EnrichedLine:
    (found,) = checked_words([goods(1)], [EnrichedLine(position=1, title=title, **words)])
    return found


def test_a_title_that_keeps_the_facts_is_taken() -> None:
    assert checked("Stoneware  Mug 1").title == "Stoneware Mug 1"
    assert checked("<b>Stoneware</b> Mug 1").title == "Stoneware Mug 1"


def test_a_title_that_loses_or_invents_a_number_is_not_taken() -> None:
    assert checked("Stoneware Mug").title == ""
    assert checked("Stoneware Mug 1, 12 oz").title == ""
    assert checked("  ").title == ""


def test_a_title_need_not_repeat_the_purchase_pack() -> None:
    line = goods(1, name="Water, case of 12", packs="2 cases x 12 = 24 units")
    (found,) = checked_words([line], [EnrichedLine(position=1, title="Still Water")])
    assert found.title == "Still Water"


def test_a_description_that_claims_a_number_nobody_printed_is_dropped() -> None:
    assert checked(description_html="<h3>Mug</h3><p>Mug 1 of clay.</p>").description_html
    assert checked(description_html="<p>Holds 350 ml.</p>").description_html == ""
    assert checked(description_html="<p>Holds &#51;50 ml.</p>").description_html == ""


def test_markup_is_plain_and_short() -> None:
    hostile = '<p onclick="x()">Hi <a href="https://evil.test">you</a><script>x()</script></p>'
    assert clean_html(hostile) == "<p>Hi you</p>"
    assert clean_html(f"<p>{'x' * 5000}</p>") == ""


def test_words_for_lines_that_do_not_exist_are_ignored() -> None:
    proposed = [EnrichedLine(position=7, title="Ghost"), EnrichedLine(position=2, title="Mug 2, glazed")]
    assert [words.position for words in checked_words([goods(1), goods(2)], proposed)] == [2]


def test_tags_are_words_once_each() -> None:
    assert clean_tags(["Clay", "new, shiny", "clay", " ", "x" * 256]) == ("Clay", "new shiny")


def test_long_words_are_cut_where_a_shop_cuts() -> None:
    assert len(checked(product_type="y" * 300).product_type) == 255
