"""Estimates: the size of a request, and what is learned of a model from its calls."""

from __future__ import annotations

from typing import Any

import pytest

from token_limit_core.calls import estimates
from token_limit_core.calls.estimates import (
    DOUBT,
    FIRST_OUTPUT,
    IMAGE,
    STORED,
    TOKEN_ID,
    Habit,
    UpperBound,
    measure,
    size_of,
)


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


def test_what_is_not_bounded_may_take_many_times_its_estimate() -> None:
    habit = Habit()
    habit.learn(1000, 250, 20)
    estimate = habit.estimate(1000, None)
    assert habit.ceiling(estimate, None, 0) == (estimate[0], DOUBT * estimate[1])
    assert habit.ceiling(estimate, 16_000, 0) == (estimate[0], 16_000)
    assert habit.ceiling(estimate, 5, 0) == estimate
    received, generated = habit.estimate(1000, 16_000, STORED)
    assert habit.ceiling((received, generated), 16_000, STORED) == (received + (DOUBT - 1) * STORED, 16_000)


def test_what_used_nothing_tells_nothing() -> None:
    habit = Habit()
    habit.learn(1000, 0, 0)

    assert habit.estimate(4000, None) == (1001, FIRST_OUTPUT + 1)


# -- most calls stay within what is estimated ---------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 19])
def test_a_few_values_are_bounded_by_the_largest(count: int) -> None:
    bound = UpperBound(1000)
    for value in range(count):
        bound.add(10 * (value + 1))

    assert bound.value == 10 * count


def test_most_of_the_last_values_are_within_the_bound() -> None:
    bound = UpperBound(1000)
    for value in range(640):
        bound.add(value * 37 % 100)

    assert 90 <= bound.value <= 99


def test_a_single_outlier_is_forgotten_and_a_new_habit_is_learned() -> None:
    bound = UpperBound(1000)
    for value in [50_000] + [20] * 30:
        bound.add(value)
    assert bound.value == 20
    for value in [1000] * 8:
        bound.add(value)
    assert bound.value == 1000


def test_long_answers_after_short_ones_are_expected_at_once() -> None:
    habit = Habit()
    for _ in range(10):
        habit.learn(1000, 250, 20)
    habit.learn(1000, 250, 4000)

    assert habit.estimate(1000, None)[1] == 4001


def test_a_short_prompt_says_nothing_of_the_rate_of_a_long_one() -> None:
    habit = Habit()
    habit.learn(2, 9, 10)  # nearly all of it is the frame around the text
    habit.learn(40_000, 10_000, 10)

    assert habit.estimate(40_000, None)[0] == 10_001
    assert 9 <= habit.estimate(2, None)[0] <= 256


# -- what is not in the request -----------------------------------------------------------------------

DATA = "data:image/png;base64,aaaa"
UNSEEN = {
    "chat, image": ({"type": "image_url", "image_url": {"url": "https://x/cat.png", "detail": "low"}}, IMAGE),
    "chat, inlined image": ({"type": "image_url", "image_url": {"url": DATA}}, 0),
    "chat, file": ({"type": "file", "file": {"file_id": "file-1"}}, STORED),
    "responses, image": ({"type": "input_image", "image_url": "https://x/cat.png"}, IMAGE),
    "responses, inlined image": ({"type": "input_image", "image_url": DATA}, 0),
    "responses, stored file": ({"type": "input_file", "file_id": "file-1"}, STORED),
    "responses, file behind a URL": ({"type": "input_file", "file_url": "https://x/a.pdf"}, STORED),
    "responses, earlier answer": ({"previous_response_id": "resp_1"}, STORED),
    "responses, conversation": ({"conversation": {"id": "conv_1"}}, STORED),
    "responses, no conversation": ({"conversation": None, "previous_response_id": ""}, 0),
    "responses, search in files": ({"type": "file_search", "vector_store_ids": ["vs_1"]}, STORED),
    "anthropic, image": ({"type": "image", "source": {"type": "url", "url": "https://x/cat.png"}}, IMAGE),
    "anthropic, file": ({"type": "document", "source": {"type": "file", "file_id": "file_1"}}, STORED),
    "google, file": ({"fileData": {"fileUri": "https://x/files/1", "mimeType": "application/pdf"}}, STORED),
    "google, cached": ({"cachedContent": "cachedContents/1"}, STORED),
    "bedrock, file": ({"document": {"source": {"s3Location": {"uri": "s3://x/y"}}}}, STORED),
    "a citation that is sent back": ({"type": "url_citation", "url": "https://x"}, 0),
    "a parameter of a tool": ({"properties": {"url": {"type": "string"}}}, 0),
}


@pytest.mark.parametrize(("part", "tokens"), UNSEEN.values(), ids=UNSEEN)
def test_what_a_request_only_names_is_guessed(part: dict[str, Any], tokens: int) -> None:
    assert measure({"model": "m", "input": [{"content": [part]}]})[1] == tokens


def test_the_guess_is_corrected_by_what_comes() -> None:
    habit = Habit()
    habit.learn(1000, 250, 20)
    assert habit.estimate(1000, None, STORED)[0] == 251 + STORED
    habit.learn(1000, 250 + 80_000, 20, STORED)

    assert habit.estimate(1000, None, STORED)[0] == 251 + 80_000
    assert habit.estimate(1000, None, 2 * STORED)[0] == 251 + 160_000
    assert habit.estimate(1000, None)[0] == 251
