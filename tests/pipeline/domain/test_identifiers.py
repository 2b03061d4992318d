from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum import ean

from pipeline.domain.identifiers import clean_gtin, clean_sku, clean_text, fold, slug


@pytest.mark.parametrize(
    ("printed", "clean"),
    [
        ("  AB-12/3 ", "AB-12/3"),
        ("00123", "00123"),
        ("'00123", "00123"),
        ("12345.0", "12345"),
        ("ab\u200b12", "ab 12"),
        ("", ""),
        ("E10", "E10"),
    ],
)
def test_a_sku_keeps_what_the_supplier_means_by_it(printed: str, clean: str) -> None:
    assert clean_sku(printed, 1) == (clean, ())


@pytest.mark.parametrize("printed", ["4.01E+12", "4,01e+12", "1E10"])
def test_a_sku_cut_by_a_spreadsheet_is_dropped_and_stops_the_order(printed: str) -> None:
    sku, (doubt,) = clean_sku(printed, 7)
    assert (sku, doubt.code, doubt.line, doubt.blocking) == ("", "damaged_sku", 7, True)


@pytest.mark.parametrize(
    ("printed", "clean"),
    [
        ("4006381333931", "4006381333931"),
        ("4006381-333931", "4006381333931"),
        ("036000291452", "036000291452"),
        ("73513537", "73513537"),
        ("'4006381333931", "4006381333931"),
        ("4006381333931.0", "4006381333931"),
        ("", ""),
    ],
)
def test_a_valid_barcode_is_kept(printed: str, clean: str) -> None:
    assert clean_gtin(printed, 1) == (clean, ())


@pytest.mark.parametrize("printed", ["4006381333932", "12345", "ABC", "4.01E+12", "0000000000000"])
def test_a_wrong_barcode_is_left_out_without_stopping_the_order(printed: str) -> None:
    gtin, (doubt,) = clean_gtin(printed, 3)
    assert (gtin, doubt.code, doubt.line, doubt.blocking) == ("", "invalid_gtin", 3, False)


@given(st.from_regex(r"[1-9][0-9]{11}", fullmatch=True), st.integers(1, 9))
def test_any_single_wrong_digit_at_the_end_is_noticed(body: str, shift: int) -> None:
    digit = int(ean.calc_check_digit(body))
    assert clean_gtin(f"{body}{digit}", 1)[0]
    assert not clean_gtin(f"{body}{(digit + shift) % 10}", 1)[0]


@given(st.text())
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)


def test_text_is_compared_without_case_but_with_its_signs() -> None:
    assert fold(" Navy  Blue ") == fold("navy blue")
    assert fold("A+") != fold("A")


def test_a_slug_survives_retyping() -> None:
    assert slug("Crème  Brûlée, 4 pcs.") == slug("creme brulee - 4 PCS") == "creme-brulee-4-pcs"
