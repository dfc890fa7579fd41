"""What a run trains with, told from its text: a tower, or a rival's tuning-free optimizer.

A rival's text is a call such as "Prodigy(d0=0.0001)". What it leaves out is as the rival's authors
recommend, so that "Prodigy" alone is the optimizer as they would have it used.
"""

import ast
import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

import gdtuo
from experiments import ExperimentError, rivals

Setting = float | int | bool


def _lr(optimizer: Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


@dataclass(frozen=True)
class Rival:
    """An optimizer that is to need no tuning.

    Attributes:
        module: where it is from.
        make: from the module, parameters, and settings by name, to the optimizer.
        settings: what its text may set, and what its authors recommend.
        guess: the setting that is the first guess at the scale of the problem.
        averages: whether the weights that count are an average, which its `eval()` puts in place
            and its `train()` takes away again. What a model gathers as it trains, as batch
            normalization does, is not averaged.
        step_size: what the optimizer multiplies its direction by, as it stands.
        version: raised whenever the numbers of its runs would change; part of their keys.
    """

    module: str
    make: Callable[..., Optimizer]
    settings: Mapping[str, Setting]
    guess: str
    averages: bool = False
    step_size: Callable[[Optimizer], float] = _lr
    version: int = 1


RIVALS: dict[str, Rival] = {
    # Mishchenko and Defazio 2024. README of prodigyopt: lr 1 "for all networks", d0 "rarely needs
    # changing"; no schedule, or a cosine one; for diffusion models both corrections and decay 0.01.
    "Prodigy": Rival(
        "pytorch_optimizer",
        rivals.packaged("Prodigy"),
        {
            "lr": 1.0,
            "d0": 1e-6,
            "d_coef": 1.0,
            "weight_decay": 0.0,
            "bias_correction": False,
            "safeguard_warmup": False,
        },
        guess="d0",
        step_size=rivals.distance,
    ),
    # Defazio and Mishchenko 2023. README of dadaptation: lr 1, and the schedule that one would use.
    "DAdaptAdam": Rival(
        "pytorch_optimizer",
        rivals.packaged("DAdaptAdam"),
        {"lr": 1.0, "d0": 1e-6, "weight_decay": 0.0, "bias_correction": False},
        guess="d0",
        step_size=rivals.distance,
    ),
    # Ivgi, Hinder and Carmon 2023. README of dog-optimizer: reps_rel 1e-6, or 1e-4 with batch
    # normalization; lr 1 always; averaging "is crucial", with gamma 8 throughout their experiments.
    "DoG": Rival(
        "dog",
        rivals.dog,
        {"reps_rel": 1e-6, "weight_decay": 0.0, "gamma": 8.0},
        guess="reps_rel",
        averages=True,
        step_size=rivals.dog_eta,
    ),
    # Defazio et al. 2024. README of schedulefree: lr 0.0025, one to ten times that of a schedule;
    # a warm-up is recommended, of a length that depends on that of the run, and none the default.
    "ScheduleFreeAdamW": Rival(
        "pytorch_optimizer",
        rivals.packaged("ScheduleFreeAdamW"),
        {"lr": 0.0025, "warmup_steps": 0, "weight_decay": 0.0},
        guess="lr",
        averages=True,
        step_size=rivals.warmed_up,
    ),
    # Cutkosky, Defazio and Mehta 2023. README of mechanic-pytorch: s_decay 0.01 in all experiments,
    # s_init an underestimate, 1e-8 by default; lr "anything", 1 in the example.
    "MechanicAdam": Rival(
        "mechanic_pytorch",
        rivals.mechanic_adam,
        {"s_init": 1e-8, "s_decay": 0.01, "lr": 1.0},
        guess="s_init",
        step_size=rivals.mechanic_scale,
    ),
    # Baydin et al. 2018, the values of their logistic regression and their perceptron. Both are
    # towers too: "Adam^lr / SGD(1e-07)" and "SGD^lr(0.001) / SGD(0.001)".
    "AdamHD": Rival(
        "gdtuo",
        rivals.hypergradient_descent("Adam"),
        {"lr": 0.001, "hypergrad_lr": 1e-7},
        guess="lr",
    ),
    "SGDHD": Rival(
        "gdtuo",
        rivals.hypergradient_descent("SGD"),
        {"lr": 0.001, "hypergrad_lr": 0.001},
        guess="lr",
    ),
    # This library's own. Each of its parts can be left out, to see what it is worth; compiled it
    # is the same to rounding.
    "default": Rival(
        "gdtuo",
        rivals.default,
        {"lr": 0.001, **dict.fromkeys(rivals.PARTS, True), "compile": False},
        guess="lr",
        version=3,  # of the push: more of it at first
    ),
}


@dataclass(frozen=True)
class Choice:
    """A rival with its settings; called with parameters, it makes the optimizer.

    Attributes:
        name: in `RIVALS`.
        settings: those that differ from what its authors recommend, in the order of the table.
    """

    name: str
    settings: tuple[tuple[str, Setting], ...] = ()

    @property
    def rival(self) -> Rival:
        return RIVALS[self.name]

    def __call__(self, parameters: Iterable[Tensor]) -> Optimizer:
        module = rivals.imported(self.rival.module)
        settings = {**self.rival.settings, **dict(self.settings)}
        return self.rival.make(module, parameters, **settings)

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.settings)
        return f"{self.name}({settings})" if settings else self.name


Rule = gdtuo.Rule | Choice


@cache  # a study's runs have few optimizers
def parse(text: str) -> Rule:
    """Read a tower or a rival; `str` of what is returned is its canonical text.

    Raises:
        ExperimentError: a rival has no such setting, or the name is nobody's.
        gdtuo.GdtuoError: the text is no tower.
    """
    if (word := _word(text)) in RIVALS:
        return _chosen(word, _arguments(text))
    try:
        return gdtuo.parse(text)
    except gdtuo.GdtuoError as error:
        if hasattr(gdtuo, word) or not word:
            raise
        raise ExperimentError(
            f"{text!r} is neither a tower nor a rival. The rivals are {', '.join(RIVALS)}. {error}"
        ) from error


def first_guess(text: str, value: float) -> str:
    """The optimizer of `text`, a rival's or a tower's, with another first guess.

    Example:
        >>> first_guess("Prodigy", 0.01), first_guess("Adam / SGD(1e-05)", 0.1)
        ('Prodigy(d0=0.01)', 'Adam(0.1) / SGD(1e-05)')
    """
    rule = parse(text)
    if isinstance(rule, gdtuo.Rule):
        return str(dataclasses.replace(rule, lr=value))
    return str(_chosen(rule.name, {**dict(rule.settings), rule.rival.guess: value}))


def require(text: str) -> None:
    """Check that what the optimizer needs is installed.

    Raises:
        ExperimentError: it is not.
    """
    if isinstance(rule := parse(text), Choice):
        rivals.imported(rule.rival.module)


def version(text: str) -> int:
    """Of the optimizer; a tower's text says all of it."""
    word = _word(text)
    return RIVALS[word].version if word in RIVALS else 1


def make(rule: Rule, parameters: Iterable[Tensor], capturable: bool = False) -> Optimizer:
    """The optimizer of `rule`; the steps of a tower may be captured in a CUDA graph if so asked."""
    if isinstance(rule, Choice):
        return rule(parameters)
    return gdtuo.Tower(parameters, rule, compile=capturable, capturable=capturable)


def step_size(rule: Rule, optimizer: Optimizer) -> float:
    """What the optimizer of `rule` multiplies its direction by, as it stands."""
    return rule.rival.step_size(optimizer) if isinstance(rule, Choice) else _lr(optimizer)


@contextmanager
def evaluating(rule: Rule, optimizer: Optimizer) -> Iterator[None]:
    """In the block, the weights are those that count."""
    averages = isinstance(rule, Choice) and rule.rival.averages
    if averages:
        optimizer.eval()  # type: ignore[attr-defined]
    yield
    if averages:
        optimizer.train()  # type: ignore[attr-defined]


def _word(text: str) -> str:
    """The first name in `text`; empty if it starts otherwise."""
    return name[0] if (name := re.match(r"\w+", text.strip())) else ""


def _arguments(text: str) -> dict[str, Any]:
    """The arguments of a call in `text`, by name; none for a name alone."""
    try:
        node = ast.parse(text.strip(), mode="eval").body
        if isinstance(node, ast.Name):
            return {}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.args:
            found = {str(each.arg): ast.literal_eval(each.value) for each in node.keywords}
            if len(found) == len(node.keywords):
                return found
    except (SyntaxError, ValueError):
        pass
    raise ExperimentError(f"{text!r} is no rival; expected a text such as 'Prodigy(d0=0.0001)'")


def _chosen(name: str, settings: Mapping[str, Any]) -> Choice:
    recommended = RIVALS[name].settings
    for setting, value in settings.items():
        if setting not in recommended:
            raise ExperimentError(
                f"{name} has no setting {setting!r}; it has {', '.join(recommended)}"
            )
        example = recommended[setting]
        whole = type(value) is int and type(example) is float
        numbers = type(value) is type(example) or whole
        if not numbers or not 0 <= value < math.inf or (setting, value) == (RIVALS[name].guess, 0):
            raise ExperimentError(
                f"{setting} of {name} is {value!r}; expected something like {example!r}"
            )
    kept = {n: type(d)(settings[n]) for n, d in recommended.items() if n in settings}
    return Choice(name, tuple((n, v) for n, v in kept.items() if v != recommended[n]))
