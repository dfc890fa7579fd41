"""What is printed and written in sentences."""


def counted(count: int, what: str, form: str = "") -> str:
    """Such as "1 run" and "2 runs"; `form` is that of the number, as in a format string."""
    return f"{count:{form}} {what}{'' if count == 1 else 's'}"


def fixed(value: float, digits: int) -> str:
    """`value` with so many decimals.

    Where it is midway between two, as the mean of decimals may be, the last bit doesn't decide: it
    is another one on another processor.

    >>> fixed(-3.9283500000000004, 4), fixed(-3.9283499999999996, 4), fixed(-0.001, 2)
    ('-3.9284', '-3.9284', '0.00')
    """
    return f"{round(round(value, 9), digits) + 0.0:.{digits}f}"  # no "-0.00"
