"""Numbers in tables and sentences."""

import math

import numpy as np
import pytest

from experiments.words import fixed, significant


@pytest.mark.parametrize("value", [5.635, 90.65, 2.345, 1.0049999, -3.92835, 48.15, 24.35])
def test_neither_type_nor_last_bit_decides(value):
    around = [value, math.nextafter(value, math.inf), math.nextafter(value, -math.inf)]
    same = [*around, *map(np.float64, around)]
    for digits in (1, 2, 4):
        assert len({fixed(x, digits) for x in same}) == 1
        assert abs(float(fixed(value, digits)) - value) <= 0.5 * 10**-digits + 1e-9
    assert len({significant(x, 3) for x in same}) == 1


def test_what_is_no_number_is_said():
    assert (fixed(math.nan, 2), fixed(math.inf, 1), significant(-math.inf, 3)) == (
        "nan", "inf", "-inf",
    )  # fmt: skip
    assert (fixed(1e12 + 0.5, 0), significant(1.84e7, 3)) == ("1000000000000", "1.84e+07")
