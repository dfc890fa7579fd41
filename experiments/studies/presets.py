"""The step sizes that the paper starts a tower's levels from, by name: they are easily misread.

`equal` and `scaled` take the bottom level's step size and a height, the number of levels above the
bottom, and return the step sizes of all levels, the bottom's first. The others return the level
above, as text, with a step size (the paper's kappa) for each hyperparameter that it learns.
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


def kappa_resnet(lr: float, momentum: float) -> str:
    """Section 3.3.1, Fig. 2: kappa is lr^2 * 1e-3 for lr, and 1e-6 / (1 - momentum) for momentum.

    They are step sizes of the level above, not its momentum; weight decay is a constant.

    >>> kappa_resnet(0.1, 0.9)
    'SGD({lr: 1e-05, momentum: 1e-05})'
    """
    return _steps(lr=lr**2 * 1e-3, momentum=1e-6 / (1 - momentum))


def kappa_lstm(lr: float) -> str:
    """Section 3.3.2, Fig. 3: kappa is lr * 1e-2 for lr, 1e-4 for beta1 and 2e-4 for beta2.

    They are step sizes of the level above, not its betas, and act on the betas' own coordinates.

    >>> kappa_lstm(2e-3)
    'SGD({beta1: 0.0001, beta2: 0.0002, lr: 2e-05})'
    """
    return _steps(beta1=1e-4, beta2=2e-4, lr=lr * 1e-2)


def _steps(**kappas: float) -> str:
    pairs = ", ".join(f"{name}: {float(f'{value:.12g}')!r}" for name, value in kappas.items())
    return f"SGD({{{pairs}}})"
