"""Ticks and SVG charts."""

import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskjax.observe import curves

numbers = st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda x: round(x, 6))


@given(numbers, st.floats(1e-5, 1e6), st.integers(2, 8))
def test_ticks_enclose_the_range_and_are_few(low, span, wanted):
    ticks = curves.axis_ticks(low, low + span, wanted)
    slack = 1e-6 * max(abs(low), span)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack
    assert 2 <= len(ticks) <= wanted + 3


def test_ticks_are_round_and_a_flat_curve_has_some():
    assert curves.axis_ticks(0, 4000, 6) == [0, 1000, 2000, 3000, 4000]
    assert curves.axis_ticks(0.31, 0.62, 5) == [0.3, 0.4, 0.5, 0.6, 0.7]
    assert len(curves.axis_ticks(2.0, 2.0, 5)) > 2
    assert len(curves.axis_ticks(0.0, 0.0, 5)) > 2


def test_tick_texts():
    texts = [curves.format_tick(v) for v in (0, 0.35, 2500, 1.5e-4, 1e8, -0.5)]
    assert texts == ["0", "0.35", "2,500", "0.00015", "1e+08", "-0.5"]


def test_the_mean_of_neighbours_does_not_lag():
    assert curves.centred_mean([1.0, 2.0, 3.0, 4.0], 3) == pytest.approx([1, 2, 3, 4])
    assert curves.centred_mean([0.0, 3.0, 0.0], 1) == pytest.approx([0, 1, 0])
    assert curves.centred_mean([5.0], 0) == [5.0]


@pytest.mark.parametrize("count", [1, 2, 5000])
def test_charts_are_valid_xml_of_bounded_size(count):
    x, y = list(range(count)), [1 / (1 + i) for i in range(count)]
    chart = curves.line_chart(x, y, x_label="step", y_label="a < b & c", smooth=True)
    tree = ElementTree.fromstring(chart)
    assert "a < b & c" in [text.text for text in tree.iter("text")]
    assert len(chart) < 40_000


def test_charts_refuse_nonsense():
    with pytest.raises(ValueError, match="as many x as y"):
        curves.line_chart([1], [], x_label="", y_label="")
