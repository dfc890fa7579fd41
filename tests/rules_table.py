"""Every rule, with what the contract tests need to know of it. A new rule is tested by a row here.

The tests that run over the table ask nothing else of a rule than what its row says, so that the
rows are all that has to be written. Muon alone has none: it takes matrices only and can't be an
upper level, and the tests are full of vectors and of rules on themselves. It is tested in
tests/test_muon.py.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

import gdtuo
from gdtuo import Rule
from tests import references

Strategy = st.SearchStrategy[float]


@dataclasses.dataclass(frozen=True)
class Published:
    """The rule in the published package, which calls the hyperparameters by the paper's symbols."""

    name: str
    symbols: Mapping[str, str]  #: of each hyperparameter
    only_lr: str | None = None  #: the class that learns the step size alone
    squared: tuple[str, ...] = ()  #: kept as their square root
    logistic: tuple[str, ...] = ()  #: kept as the x of (tanh(x) + 1) / 2


@dataclasses.dataclass(frozen=True)
class Row:
    rule: type[Rule]
    lr: Strategy  #: at level 0
    lr_above: Strategy  #: as an upper level
    others: Mapping[str, Strategy]  #: the hyperparameters that are not lr
    constants: Mapping[str, Strategy | st.SearchStrategy[bool]]
    pronounced: Rule  #: values at which every derivative is well away from 0, at every level
    published: Published | None  #: None: the published package hasn't got it
    #: the rule, with constants at which torch's agrees, and torch's, with its state preset to the
    #: rule's start; or what stands in for torch's where it hasn't got it
    alike: tuple[Rule, ...]
    torch_optimizer: Callable[[Iterable[Tensor], Any], torch.optim.Optimizer]
    never_left: tuple[str, ...] = ()  #: constants that random towers never leave as they are

    @property
    def name(self) -> str:
        return self.rule.__name__


def exponents(low: float, high: float) -> Strategy:
    """Numbers spread evenly over decades, of few digits."""
    return st.floats(low, high).map(lambda x: float(f"{10.0**x:.3g}"))


def between(low: float, high: float) -> Strategy:
    return st.floats(low, high).map(lambda x: round(x, 4))


BETAS = {"beta1": between(0.5, 0.95), "beta2": between(0.8, 0.9995)}
DECAY = st.just(0.0) | exponents(-3, -1)


def torch_sgd(params: Iterable[Tensor], rule: gdtuo.SGD) -> torch.optim.Optimizer:
    names = ("lr", "momentum", "weight_decay", "dampening", "nesterov")
    return torch.optim.SGD(params, **{name: getattr(rule, name) for name in names})


def torch_adagrad(params: Iterable[Tensor], rule: gdtuo.AdaGrad) -> torch.optim.Optimizer:
    start = rule.initial_accumulator_value
    return torch.optim.Adagrad(params, lr=rule.lr, initial_accumulator_value=start, eps=0.0)


def torch_rmsprop(params: Iterable[Tensor], rule: gdtuo.RMSProp) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(params, lr=rule.lr, alpha=rule.gamma, eps=0.0)


def torch_adam(params: Iterable[Tensor], rule: gdtuo.Adam) -> torch.optim.Optimizer:
    params, betas = list(params), (rule.beta1, rule.beta2)
    optimizer = torch.optim.Adam(params, lr=rule.lr, betas=betas, eps=rule.eps)
    for p in params:
        v = torch.full_like(p, rule.initial_second_moment)
        m = torch.zeros_like(p)
        optimizer.state[p] = {"step": torch.tensor(0.0), "exp_avg": m, "exp_avg_sq": v}
    return optimizer


def torch_adamw(params: Iterable[Tensor], rule: gdtuo.AdamW) -> torch.optim.Optimizer:
    betas, decay = (rule.beta1, rule.beta2), rule.weight_decay
    return torch.optim.AdamW(params, lr=rule.lr, betas=betas, eps=rule.eps, weight_decay=decay)


def torch_nadam(params: Iterable[Tensor], rule: gdtuo.NAdam) -> torch.optim.Optimizer:
    params, betas, decay = list(params), (rule.beta1, rule.beta2), rule.momentum_decay
    optimizer = torch.optim.NAdam(
        params, lr=rule.lr, betas=betas, eps=rule.eps, momentum_decay=decay
    )
    for p in params:
        product = torch.ones((), dtype=torch.float64)  # torch's own start is a float32
        m, v = torch.zeros_like(p), torch.zeros_like(p)
        state = {"step": torch.tensor(0.0), "mu_product": product, "exp_avg": m, "exp_avg_sq": v}
        optimizer.state[p] = state
    return optimizer


ROWS = (
    Row(
        gdtuo.SGD,
        lr=exponents(-2, -0.7),
        lr_above=exponents(-4, -2),
        others={"momentum": st.just(0.0) | between(0.1, 0.9), "weight_decay": DECAY},
        constants={"dampening": between(0.1, 0.9), "nesterov": st.booleans()},
        pronounced=gdtuo.SGD(0.05, momentum=0.5),
        published=Published("SGD", {"lr": "alpha", "momentum": "mu"}),
        alike=(
            gdtuo.SGD(0.1),
            gdtuo.SGD(0.05, momentum=0.9),
            gdtuo.SGD(0.05, weight_decay=0.1),
            gdtuo.SGD(0.05, momentum=0.9, weight_decay=0.1, dampening=0.3),
            gdtuo.SGD(0.02, momentum=0.5, weight_decay=0.1, nesterov=True),
        ),
        torch_optimizer=torch_sgd,
    ),
    Row(
        gdtuo.AdaGrad,
        lr=exponents(-2.5, -1),
        lr_above=exponents(-4, -2.5),
        others={},
        constants={"initial_accumulator_value": exponents(-2, 0), "eps": exponents(-10, -5)},
        pronounced=gdtuo.AdaGrad(0.05),
        published=Published("AdaGrad", {"lr": "alpha"}),
        alike=(gdtuo.AdaGrad(0.05, eps=0.0),),
        torch_optimizer=torch_adagrad,
    ),
    Row(
        gdtuo.RMSProp,
        lr=exponents(-3.5, -2),
        lr_above=exponents(-5, -3.5),
        others={"gamma": between(0.5, 0.995)},
        constants={"eps": exponents(-10, -5)},
        pronounced=gdtuo.RMSProp(0.02, gamma=0.8),
        published=Published(
            "RMSProp",
            {"lr": "alpha", "gamma": "gamma"},
            only_lr="RMSPropAlpha",
            squared=("lr",),
            logistic=("gamma",),
        ),
        alike=(gdtuo.RMSProp(0.005, eps=0.0), gdtuo.RMSProp(0.002, gamma=0.9, eps=0.0)),
        torch_optimizer=torch_rmsprop,
    ),
    Row(
        gdtuo.Adam,
        lr=exponents(-3, -1.5),
        lr_above=exponents(-4, -2.5),
        others=BETAS,
        constants={"eps": exponents(-10, -5), "initial_second_moment": exponents(-9, -4)},
        pronounced=gdtuo.Adam(0.02, beta1=0.6, beta2=0.8),
        published=Published(
            "Adam",
            {"lr": "alpha", "beta1": "beta1", "beta2": "beta2"},
            only_lr="AdamBaydin",
            logistic=("beta1", "beta2"),
        ),
        alike=(gdtuo.Adam(0.01), gdtuo.Adam(0.005, beta1=0.8, beta2=0.99)),
        torch_optimizer=torch_adam,
    ),
    Row(
        gdtuo.AdamW,
        lr=exponents(-3, -1.5),
        lr_above=exponents(-5, -3),
        others={**BETAS, "weight_decay": DECAY},
        constants={"eps": exponents(-10, -5)},
        pronounced=gdtuo.AdamW(0.02, beta1=0.6, beta2=0.8, weight_decay=0.1),
        published=None,
        alike=(
            gdtuo.AdamW(0.01),
            gdtuo.AdamW(0.005, beta1=0.8, beta2=0.99, weight_decay=0.3),
            gdtuo.AdamW(0.01, weight_decay=0.0),
        ),
        torch_optimizer=torch_adamw,
    ),
    Row(
        gdtuo.NAdam,
        lr=exponents(-3, -1.5),
        lr_above=exponents(-5, -3),
        others=BETAS,
        constants={"momentum_decay": exponents(-3, -1), "eps": exponents(-10, -5)},
        pronounced=gdtuo.NAdam(0.02, beta1=0.6, beta2=0.8, momentum_decay=0.1),
        published=None,
        alike=(
            gdtuo.NAdam(0.01),
            gdtuo.NAdam(0.005, beta1=0.8, beta2=0.99, momentum_decay=0.1),
        ),
        torch_optimizer=torch_nadam,
    ),
    Row(
        gdtuo.Lion,
        lr=exponents(-4, -2.5),
        lr_above=exponents(-6, -4),
        others={**BETAS, "weight_decay": DECAY},
        constants={},
        pronounced=gdtuo.Lion(0.02, beta1=0.6, beta2=0.8, weight_decay=0.1),
        published=None,
        alike=(
            gdtuo.Lion(0.01),
            gdtuo.Lion(0.005, beta1=0.8, beta2=0.95, weight_decay=0.3),
        ),
        torch_optimizer=references.Lion,
    ),
    Row(
        gdtuo.ScheduleFreeAdam,
        lr=exponents(-3, -1.5),
        lr_above=exponents(-5, -3),
        others=BETAS,
        constants={"power": between(0.0, 3.0), "eps": exponents(-10, -5)},
        pronounced=gdtuo.ScheduleFreeAdam(0.02, beta1=0.6, beta2=0.8),
        published=None,
        alike=(
            gdtuo.ScheduleFreeAdam(0.01),
            gdtuo.ScheduleFreeAdam(0.02, beta1=0.8, beta2=0.95, power=0.0),
        ),
        torch_optimizer=references.ScheduleFreeAdam,
    ),
    Row(
        gdtuo.Seek,
        lr=exponents(-4, -2.5),
        lr_above=exponents(-6, -4),
        others=BETAS,
        constants={
            "push": between(0.0, 0.9),
            "max_push": between(0.0, 0.9),
            "boost": between(0.0, 5.0),
            "eps": exponents(-18, -10),
        },
        # At its own of 25, the first steps are wild for what is not in log coordinates.
        never_left=("boost",),
        # Of a hypergradient that is 0 to rounding, a smaller eps would make a step.
        pronounced=gdtuo.Seek(0.005, beta1=0.6, beta2=0.8, boost=2.0, eps=1e-8),
        published=None,
        alike=(
            gdtuo.Seek(0.001),
            gdtuo.Seek(0.005, beta1=0.8, beta2=0.95, push=0.3, max_push=0.4, boost=2.5),
        ),
        torch_optimizer=references.Seek,
    ),
)

BY_RULE = {row.rule: row for row in ROWS}

#: Of towers of a rule on itself, where one takes long: heights 1 and 2 are parts of height 3.
HEIGHTS = [pytest.param(h, marks=[pytest.mark.slow] if h in (1, 2) else []) for h in range(4)]


def without_decay(rule: Rule) -> Rule:
    """``rule`` such that its step does not depend on the values that are updated."""
    decays = "weight_decay" in rule.specs
    return dataclasses.replace(rule, weight_decay=0.0) if decays else rule


def public_rules() -> set[type[Rule]]:
    """What `gdtuo` exports that is a rule, the base class aside."""
    exported = vars(gdtuo).values()
    return {x for x in exported if isinstance(x, type) and issubclass(x, Rule) and x is not Rule}


def stacked(rule: Rule, above: Rule | None, learn: tuple[str, ...] | None = None) -> Rule:
    """``rule`` with ``above`` on top of it."""
    return dataclasses.replace(rule, optimizer=above, learn=learn)


def homogeneous(rule: Rule, height: int) -> Rule:
    """``rule`` on itself, with ``height`` levels above the parameters' own."""
    above = None
    for _ in range(height + 1):
        above = stacked(rule, above)
    assert above is not None
    return above


@st.composite
def towers(
    draw: Any,
    min_height: int = 1,
    max_height: int = 4,
    expressible: bool = False,
) -> Rule:
    """Any mixture; ``expressible``: only what the published package has too."""
    height = draw(st.integers(min_height, max_height))
    rows = [row for row in ROWS if row.published is not None or not expressible]
    # SGD once more: it alone can have a step size for each hyperparameter beneath.
    uppers = [*(row for row in rows if row.rule.elementwise), BY_RULE[gdtuo.SGD]]
    rule: Rule | None = None
    for i in range(height, -1, -1):
        row = draw(st.sampled_from(uppers if i > 0 else rows))
        values = {"lr": draw(row.lr_above if i > 0 else row.lr)}
        for name, strategy in row.others.items():
            if row.published is None or name in row.published.symbols or not expressible:
                values[name] = draw(strategy)
        if not expressible:
            values |= {
                name: draw(strategy)
                for name, strategy in row.constants.items()
                if name in row.never_left or draw(BOOLEANS)
            }
        if values.get("momentum") == 0 or "dampening" in values:
            values.pop("nesterov", None)  # is refused
        rule = _placed(draw, row, values, rule, expressible, may_freeze=i > 0)
    assert rule is not None
    return rule


BOOLEANS = st.booleans()


def _placed(
    draw: Any,
    row: Row,
    values: dict[str, float],
    above: Rule | None,
    expressible: bool,
    may_freeze: bool,
) -> Rule:
    """The rule under ``above``, with all, some or none of its hyperparameters learned."""
    if above is None:
        return row.rule(**values)
    names = row.rule(**values).learnable
    if expressible:  # it can't learn a momentum that starts at 0
        names = tuple(name for name in names if values.get(name, 0) != 0)
    choices = ["default", "default", "named"]
    if isinstance(above, gdtuo.SGD) and (not expressible or above.momentum == 0):
        choices += ["by name", "by name"]
    if may_freeze:
        choices.append("frozen")
    choice = draw(st.sampled_from(choices))
    subsets = st.lists(st.sampled_from(names), min_size=1, unique=True)
    if choice == "named" and not expressible:
        return row.rule(**values, optimizer=above, learn=draw(subsets))
    if choice == "named" and row.published is not None and row.published.only_lr is not None:
        return row.rule(**values, optimizer=above, learn=("lr",))
    if choice == "by name":
        chosen = set(draw(subsets))
        if expressible and chosen == {"momentum"}:
            # The published SGD ignores its momentum at the first step, so that nothing in it needs
            # a gradient then and autograd keeps no graph: it loses the first hypergradient.
            chosen.add("lr")
        lr = {name: draw(BY_RULE[gdtuo.SGD].lr_above) for name in sorted(chosen)}
        return row.rule(**values, optimizer=dataclasses.replace(above, lr=lr))
    if choice == "frozen" and draw(BOOLEANS):
        return row.rule(**values, optimizer=above, learn=())
    return row.rule(**values, optimizer=above)
