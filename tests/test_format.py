"""Numbers as text: the wording, and what holds for every number."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inklab.format import (
    MINUS,
    format_count,
    format_delta,
    format_delta_interval,
    format_duration,
    format_interval,
    format_metric,
    format_number,
    format_outcomes,
    format_p,
    format_percent,
    format_ranges,
    format_setting,
    format_value,
    humanize,
    join_words,
    pluralize,
    typeset,
)
from inklab.metrics import METRICS

FINITE = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e100, max_value=1e100)
SHARES = st.floats(min_value=0, max_value=1)
MINUS_ZERO = re.compile(r"-0(\.0*)?(?![\d.e])")


def plain(text):
    return re.sub("[\u00a0\u202f]", " ", text).replace(MINUS, "-").replace("\u2019", "'")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("test_accuracy", 0.9714, "97.14%"), ("recall", 1.0, "100.00%"), ("test_loss", 0.11861, "0.1186"),
        ("test_psnr", 15.123, "15.12 dB"), ("parameters", 1250926, "1,250,926"), ("test_loss", 0.1, "0.1000"),
        ("test_loss", 0.00118, "0.001180"), ("test_psnr", 9.9, "9.900 dB"), ("test_loss", 3e-5, "3.000e-5"),
        ("frechet_distance", 12345.6, "12,346"), ("test_loss", 999.99, "1000"),
        ("test_accuracy", -1e-9, "0.00%"), ("test_loss", -0.0, "0"),
    ],
)  # fmt: skip
def test_a_value_is_written_by_its_metric(name, value, text):
    assert format_metric(value, name) == text


@given(FINITE, st.sampled_from(sorted(METRICS)))
def test_no_number_is_written_as_minus_zero_and_four_digits_are_close(value, name):
    texts = (format_metric(value, name), format_delta(value, name), format_number(value), format_value(value))
    assert not [text for text in texts if MINUS_ZERO.search(text)]
    assert math.isclose(float(texts[2].replace(",", "")), value, rel_tol=6e-4, abs_tol=1e-300)
    assert math.isclose(float(texts[3]), value, rel_tol=1e-5, abs_tol=1e-300)


@given(st.tuples(FINITE, FINITE))
def test_intervals_of_shares_stay_between_0_and_100(interval):
    ends = [float(end) for end in format_interval(sorted(interval), "recall").split(" to ")]
    assert 0 <= ends[0] <= ends[1] <= 100


@given(FINITE, SHARES, st.sampled_from(sorted(METRICS)))
def test_typeset_text_says_the_same(value, p, name):
    assert (format_p(p) == "p < 0.001") == (p < 0.001)
    metric, duration = format_metric(value, name), format_duration(abs(value) % 1e6)
    sentence = "l2 = 1e-5: -1.26 points (95% CI -2.1 to -0.3, p < 0.001, n = 5); it's mlp-500-300"
    for text in (metric, format_delta(value, name), format_p(p), duration, sentence):
        assert plain(typeset(text)) == text
        assert typeset(typeset(text)) == typeset(text)
    assert typeset(sentence).count(MINUS) == 3, "glyphs only"
    assert "1e-5" in typeset(sentence) and "mlp-500-300" in typeset(sentence)


def test_differences_of_shares_are_points():
    assert format_delta(0.0031, "test_accuracy") == "+0.31 points"
    assert format_delta(0.004, "test_accuracy", signed=False) == "0.40 points"
    assert format_delta(-0.0004, "test_psnr") == "-0.0004 dB"
    assert format_delta_interval((-0.001, 0.0052), "recall") == "-0.10 to +0.52"
    assert format_delta(1500, "parameters") == "+1,500"


def test_settings():
    assert format_setting({"l2": 5e-06, "hidden": [500, 300], "dropout": None}) == (
        "l2 = 5e-6, hidden = 500-300, dropout = none"
    )
    assert format_setting({}) == ""
    assert format_value(1e5) == "100000" and format_value(1e10) == "1e10" and format_value(3) == "3"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599.6, "1 h 0 min"), (90061, "25 h 1 min")],
)  # fmt: skip
def test_durations_carry(seconds, text):
    assert format_duration(seconds) == text


def test_words():
    assert pluralize(0, "trial") == "0 trials"
    assert join_words(["a", "b"]) == "a and b"
    assert humanize("salt_and_pepper") == "salt-and-pepper"
    assert format_ranges([], [0.0, 0.1]) == ""
    assert format_ranges([0.0, 0.1, 0.3], [0.0, 0.1, 0.2, 0.3]) == "0 to 0.1 and 0.3"
    assert format_outcomes({}) == "0 of 0 trials done"
    assert format_outcomes({"done": 1, "lost": 1}, "evaluation") == "1 of 2 evaluations done, 1 lost"
    assert format_count(-0.3) == "0" and format_percent(0.123, 1) == "12.3%"
