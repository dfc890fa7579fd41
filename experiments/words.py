"""What is printed and written in sentences."""

import math
import os
import sys
from decimal import ROUND_HALF_EVEN, Context, Decimal


def unread() -> None:
    """Who reads has seen enough, as `head` does: nothing more is flushed, at the exit either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def counted(count: int, what: str, form: str = "") -> str:
    """Such as "1 run" and "2 runs"; `form` is that of the number, as in a format string."""
    return f"{count:{form}} {what}{'' if count == 1 else 's'}"


def fixed(value: float, digits: int) -> str:
    """`value` with so many decimals.

    Where it is midway between two, as the mean of decimals may be, the last bit doesn't decide: it
    is another one on another processor. Then the even one is written.

    >>> fixed(-3.9283500000000004, 4), fixed(-3.9283499999999996, 4), fixed(-0.001, 2)
    ('-3.9284', '-3.9284', '0.00')
    """
    if not math.isfinite(value):
        return f"{value:.{digits}f}"
    decimal = Decimal(repr(round(float(value), 9)))
    return f"{decimal.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_EVEN) + 0:f}"  # no "-0.00"


def significant(value: float, digits: int) -> str:
    """`value` with so many digits that count, and no zeros at its end; else as `fixed`.

    >>> significant(48.150000000000006, 3), significant(48.14999999999999, 3), significant(90.0, 3)
    ('48.2', '48.2', '90')
    """
    if not math.isfinite(value):
        return f"{value:.{digits}g}"
    decimal = Decimal(f"{float(value):.12g}")
    rounded = Context(prec=digits, rounding=ROUND_HALF_EVEN).plus(decimal)
    return f"{float(rounded):.{digits}g}"
