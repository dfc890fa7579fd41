"""The step sizes that the paper starts a tower's levels from, by name: they are easily misread.

Each takes the bottom level's step size and a height, the number of levels above the bottom, and
returns the step sizes of all levels, the bottom's first.
"""


def equal(lr: float, height: int) -> list[float]:
    """Every level starts at the bottom's step size (Fig. 4a).

    >>> equal(1e-5, height=3)
    [1e-05, 1e-05, 1e-05, 1e-05]
    """
    return [lr] * (height + 1)


def scaled(lr: float, height: int) -> list[float]:
    """The scheme of Figs. 4b to 4d: larger steps above a bottom that is far too small, small above
    one that is not.

    The levels above the bottom start, level 1 first, at lr * 1e2, lr and lr * 1e-2 for an lr of
    1e-4 or less, and at lr * 1e-3, lr * 1e-4 and 1e-8 for one of 1e-3 or more; a lower tower has
    the first of them. All are multiples of the *bottom's* step size, not of that of the level
    beneath, and the last is a constant. The paper has no values between 1e-4 and 1e-3.

    >>> scaled(1e-5, height=3)
    [1e-05, 0.001, 1e-05, 1e-07]
    >>> scaled(1.0, height=2)
    [1.0, 0.001, 0.0001]
    """
    above = [lr * 1e2, lr, lr * 1e-2] if lr < 1e-3 else [lr * 1e-3, lr * 1e-4, 1e-8]
    # Products of powers of ten are off in the last digit: 1e-5 * 1e-2 is 1.0000000000000001e-07.
    return [float(f"{value:.12g}") for value in (lr, *above[:height])]
