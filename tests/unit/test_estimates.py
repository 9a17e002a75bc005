"""Estimates: the size of a request, and what is learned of a model from its calls."""

from __future__ import annotations

from typing import Any

import pytest

from token_limit_core.calls import estimates
from token_limit_core.calls.estimates import FIRST_OUTPUT, TOKEN_ID, Habit, size_of


def test_a_request_is_as_large_as_its_texts() -> None:
    messages = [{"role": "user", "content": "x" * 90}, {"role": "user", "content": [{"type": "text", "text": "y" * 6}]}]

    assert size_of({"messages": messages, "n": 1, "stop": None}) == 90 + 6 + 2 * len("user") + len("text") + TOKEN_ID


def test_no_more_of_a_request_is_looked_at_than_takes_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimates, "MAX_PARTS", 1000)
    endless: list[Any] = ["word"]
    endless.append(endless)

    assert 990 * TOKEN_ID <= size_of({"input": [7] * 5000}) <= 1000 * TOKEN_ID
    assert 490 * len("word") <= size_of(endless) <= 500 * len("word")


def test_a_model_is_expected_to_go_on_as_it_has_been() -> None:
    habit = Habit()
    assert habit.estimate(4000, None) == (1001, FIRST_OUTPUT + 1)
    assert habit.estimate(4000, 5) == (1001, 5)
    assert habit.estimate(4000, -5) == (1001, 0)

    habit.learn(1000, 300, 40)
    assert habit.estimate(1000, None) == (301, 41)
    for _ in range(100):
        habit.learn(1000, 500, 1000)

    received, generated = habit.estimate(1000, None)
    assert 499 <= received <= 501
    assert 999 <= generated <= 1001


def test_what_used_nothing_tells_nothing() -> None:
    habit = Habit()
    habit.learn(1000, 0, 0)

    assert habit.estimate(4000, None) == (1001, FIRST_OUTPUT + 1)
