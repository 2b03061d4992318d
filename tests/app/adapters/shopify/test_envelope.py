"""Every captured shape of an answer, and what it means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from app.adapters.shopify.envelope import Answered, Away, Locked, Outcome, Refused, Throttled, outcome_of
from pipeline.errors import Problem

SHAPES = json.loads((Path(__file__).parent / "response_shapes.json").read_text(encoding="utf-8"))


def of(body: Any, status: int = 200) -> Outcome:
    return outcome_of("Op", status, body)


def error(code: str | None, message: str = "Said.", **more: Any) -> dict[str, Any]:
    return {"message": message, **({"extensions": {"code": code}} if code else {}), **more}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("success", Answered),
        ("throttled", Throttled),
        ("missing_idempotent_directive_2026_04", Refused),
        ("missing_changeFromQuantity_2026_04", Refused),
        ("unknown_input_field", Refused),
        ("array_over_limit", Refused),
        ("user_errors", Refused),
        ("cas_stale", Refused),
        ("unauthorised", Locked),
        ("access_denied_scope", Locked),
    ],
)
def test_each_captured_shape_is_one_outcome(name: str, kind: type[Outcome]) -> None:
    assert isinstance(of(SHAPES[name]["body"], SHAPES[name]["http"]), kind)


def test_no_captured_shape_is_left_out() -> None:
    tried = next(mark for mark in test_each_captured_shape_is_one_outcome.pytestmark if mark.name == "parametrize")
    assert {name for name, _ in tried.args[1]} == {name for name in SHAPES if not name.startswith("_")}


def test_a_variable_that_is_wrong_is_named_with_its_place() -> None:
    found = of(SHAPES["unknown_input_field"]["body"])
    assert isinstance(found, Refused)
    assert (found.code, found.problems[1].field) == ("INVALID_VARIABLE", ("ignoreCompareQuantity",))
    assert found.problems[1].message == "Field is not defined on InventorySetQuantitiesInput"


def test_user_errors_of_all_fields_are_kept_in_their_order() -> None:
    first = {"code": "A", "field": ["input", "variants", "4"], "message": "One."}
    second = {"field": None, "message": "Two."}
    found = of({"data": {"x": {"userErrors": [first]}, "y": {"userErrors": []}, "z": {"userErrors": [second]}}})
    assert found == Refused((Problem("A", ("input", "variants", "4"), "One."), Problem("user_error", (), "Two.")))


def test_errors_beside_data_are_errors() -> None:
    body = {"data": {"productSet": {"product": {"id": "1"}}}, "errors": [error("INTERNAL_SERVER_ERROR")]}
    assert isinstance(of(body), Away), "it may have been done: ask"
    assert isinstance(of({"data": {"a": {}}, "errors": [error("NOT_FOUND")]}), Refused)


def test_of_several_errors_the_one_counts_that_says_what_to_do() -> None:
    both = [error("INTERNAL_SERVER_ERROR"), error("ACCESS_DENIED", "Required access: `write_files`.")]
    assert of({"errors": both}) == Locked("Required access: `write_files`.", "Op")
    assert of({"errors": [error(None), error("THROTTLED")]}) == Throttled()


def test_only_the_operation_that_was_denied_is_locked_and_by_a_status_all_of_the_shop() -> None:
    assert of({"errors": [error("ACCESS_DENIED", "No.")]}) == Locked("No.", "Op")
    found = of({"errors": "Payment Required"}, 402)
    assert isinstance(found, Locked)
    assert found.operation == ""


@pytest.mark.parametrize(("status", "kind"), [(429, "limits"), (500, "fails"), (502, "fails"), (503, "fails")])
def test_a_limit_is_no_failure(status: int, kind: str) -> None:
    found = outcome_of("Op", status, {"errors": "Exceeded the daily variant creation limit"}, 9.0)
    assert isinstance(found, Away)
    assert (found.kind, found.retry_after_s) == (kind, 9.0)
    assert "daily variant" in found.reason


def test_a_request_like_ours_that_is_under_way_says_nothing_against_the_shop() -> None:
    found = of({"data": {"x": {"userErrors": [{"code": "IDEMPOTENCY_CONCURRENT_REQUEST", "message": "Busy."}]}}})
    assert found == Away("Op: Busy.", 2.0, "busy")


@pytest.mark.parametrize("body", [None, [], "text", {}, {"data": None}, {"data": [1]}])
def test_what_is_not_graphql_came_from_something_in_between(body: Any) -> None:
    assert isinstance(of(body), Away)


@pytest.mark.parametrize("errors", ["a string", ["a string"], [{}], {"message": "alone"}, [{"extensions": "odd"}]])
def test_errors_of_any_form_are_a_refusal(errors: Any) -> None:
    found = of({"errors": errors})
    assert isinstance(found, Refused)
    assert found.code == "graphql_error"


def test_a_page_that_a_proxy_sends_is_not_repeated_whole() -> None:
    found = of({"errors": "x" * 100_000}, 500)
    assert isinstance(found, Away)
    assert len(found.reason) < 2_000
