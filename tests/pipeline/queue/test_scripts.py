"""The scripts' headers are contracts, so they are read: by Python's calls, by the Lua below them, by this test."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import resources

import pytest

from pipeline.queue import bull, scripts

VERBS = scripts.names()
BOUND_BY_HAND = {"renew", "sweep", "denied", "snapshot"}  # lists of keys, or none; the call checks the names


def text_of(verb: str) -> str:
    return (resources.files("pipeline.queue") / "lua" / f"{verb}.lua").read_text()


def calls() -> dict[str, set[str]]:
    """Every `self._run("verb", ..)` of Bull with the keywords it names."""
    found = {}
    for node in ast.walk(ast.parse(inspect.getsource(bull))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "_run":
            verb = ast.literal_eval(node.args[0])
            found[verb] = {word.arg for word in node.keywords if word.arg}
    return found


def test_every_script_is_called_and_every_call_has_a_script() -> None:
    assert set(calls()) | BOUND_BY_HAND == set(VERBS)


@pytest.mark.parametrize("verb", sorted(set(VERBS) - BOUND_BY_HAND))
def test_a_call_names_only_what_the_header_declares(verb: str) -> None:
    assert calls()[verb] <= set(scripts.load(verb).argv)


@pytest.mark.parametrize("verb", VERBS)
def test_the_first_lines_give_the_arguments_the_names_of_the_header(verb: str) -> None:
    """`local token = ARGV[2]` stands where the header says that token is second."""
    text, script = text_of(verb), scripts.load(verb)
    locals_ = dict(re.findall(r"^local (\w+) = (?:tonumber\()?ARGV\[(\d+)\]\)?$", text, re.MULTILINE))
    assert {name: int(place) for name, place in locals_.items()} == {
        name: place for place, name in enumerate(script.argv, start=1)
    }


@pytest.mark.parametrize("verb", VERBS)
def test_every_key_of_the_header_has_its_line_too(verb: str) -> None:
    """A list of keys (`queue...`) is walked instead."""
    named = [key for key in scripts.load(verb).keys if not key.endswith("...")]
    places = re.findall(r"^local \w+ = KEYS\[(\d+)\]$", text_of(verb), re.MULTILINE)
    assert places == [str(place) for place in range(1, len(named) + 1)]


@pytest.mark.parametrize("verb", VERBS)
def test_every_answer_word_of_the_header_is_one_the_script_can_give(verb: str) -> None:
    header, _, _ = text_of(verb).partition("\nlocal ")
    returns = " ".join(re.findall(r"^-- RETURNS (.*)$", header, re.MULTILINE))
    assert returns
    code = "\n".join(line for line in scripts.load(verb).source.splitlines() if not line.startswith("--"))
    for word in re.findall(r"'(\w+)'", returns):
        assert re.search(rf"\b{word}\b", code)


def test_an_include_comes_in_once_however_often_it_is_asked_for() -> None:
    source = scripts.load("finish").source
    assert source.count("local function now_ms()") == 1
    assert "@include" not in source


def test_wrong_names_and_broken_groups_are_mistakes_not_empty_strings() -> None:
    renew = scripts.load("renew")
    assert renew.arguments({"lease_ms": 5}, ["a", "t"]) == [5, "a", "t"]
    with pytest.raises(TypeError, match="lease"):
        renew.arguments({"lease": 5})
    with pytest.raises(TypeError, match="groups"):
        renew.arguments({"lease_ms": 5}, ["a"])
    with pytest.raises(TypeError, match="groups"):
        scripts.load("release").arguments({"job_id": "a", "token": "t"}, ["a"])
