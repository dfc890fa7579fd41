"""What a rule refuses: one exception class, and a message that says what was given, what was
expected and what to do."""

import math

import pytest
import torch

import gdtuo
from gdtuo import SGD, AdaGrad, Adam, GdtuoError, RMSProp
from tests.refusals import check_refusal
from tests.rules_table import ROWS

REFUSED = {
    # Hyperparameters: what was given, its domain.
    "beta 1.5": (
        lambda: Adam(beta1=1.5),
        r"Adam: beta1=1\.5 is outside its domain\. Give a number between 0 and 1, both excluded",
    ),
    "beta 1": (lambda: Adam(beta2=1), r"Adam: beta2=1\.0 is outside its domain\. Give"),
    "beta 0": (lambda: Adam(beta2=0.0), r"Adam: beta2=0\.0 is outside its domain\. Give"),
    "beta almost 0": (lambda: Adam(beta1=1e-17), r"Adam: beta1=1e-17 is outside its domain\. Give"),
    "gamma": (lambda: RMSProp(gamma=-0.1), r"RMSProp: gamma=-0\.1 is outside its domain\. Give"),
    "lr nan": (
        lambda: SGD(math.nan),
        r"SGD: lr=nan is outside its domain\. Give a finite number",
    ),
    "lr inf": (lambda: AdaGrad(math.inf), r"AdaGrad: lr=inf is outside its domain\. Give"),
    "lr below 0 with a root": (
        lambda: RMSProp(-0.1),
        r"RMSProp: lr=-0\.1 is outside its domain\. Give a finite number, 0 or more",
    ),
    "momentum 1": (
        lambda: SGD(momentum=1.0),
        r"SGD: momentum=1\.0 .* Give a number between -1 and 1, both excluded",
    ),
    "eps below 0": (lambda: Adam(eps=-1e-8), r"Adam: eps=-1e-08 is outside .* Give .* 0 or more"),
    "a text": (lambda: SGD("0.1"), r"SGD: lr='0\.1' is not a number\. Give a finite number"),
    "None": (lambda: SGD(None), r"SGD: lr=None is not a number\. Give"),
    "a flag": (lambda: SGD(True), r"SGD: lr=True is not a number\. Give"),
    "a tensor": (lambda: SGD(torch.tensor(0.1)), r"SGD: lr=tensor\(0\.1.* is not a number\. Give"),
    "step sizes without names": (
        lambda: SGD((1, 2)),
        r"SGD: lr=\(1, 2\)\. Give it by name: lr=\{'lr': 1e-5\}, or one number",
    ),
    "coordinates without a name": (
        lambda: Adam(coordinates="log", optimizer=SGD()),
        r"Adam: coordinates='log'\. Give it by name: coordinates=\{'lr': 'log'\}",
    ),
    "coordinates in a list": (
        lambda: Adam(coordinates={"lr": ["log"]}, optimizer=SGD()),
        r"Adam: coordinates=\{'lr': \['log'\]\}\. Expected one of",
    ),
    "bounds without a name": (
        lambda: Adam(bounds=(1e-6, 0.1), optimizer=SGD()),
        r"Adam: bounds=\(1e-06, 0\.1\)\. Give it by name: bounds=\{'lr': \(1e-6, 0\.1\)\}",
    ),
    "bounds in the place of pairs": (
        lambda: Adam(bounds=zip(["lr"], [1e-6], strict=True), optimizer=SGD()),
        r"Adam: bounds=\{'lr': 1e-06\}\. Expected \(lowest, highest\)",
    ),
    "one bound": (
        lambda: Adam(bounds={"lr": (1e-6, None)}, optimizer=SGD()),
        r"Adam: bounds=\{'lr': \(1e-06, None\)\}\. Expected \(lowest, highest\)",
    ),
    "learn as a number": (
        lambda: Adam(learn=5, optimizer=SGD()),
        r"Adam: learn=5\. Give names, such as \('lr',\)",
    ),
    "an unknown name": (
        lambda: Adam(alpha=0.1),
        r"Adam: .*'alpha'.* Expected lr, beta1, beta2 and, by name alone, eps, "
        "initial_second_moment, optimizer",
    ),
    "torch's pair of betas": (
        lambda: Adam(betas=(0.9, 0.99)),
        r"Adam: .*'betas'\. Give beta1= and beta2=",
    ),
    "too many": (lambda: SGD(0.1, 0.2, 0.3), r"SGD: .*positional.* Expected lr, momentum"),
    # The levels of a tower.
    "a rule by place": (
        lambda: Adam(0.1, SGD(1e-3)),
        r"Adam: beta1=SGD\(lr=0\.001\) is a rule\. Give .* optimizer=SGD\(lr=0\.001\)\.",
    ),
    "no rule above": (
        lambda: SGD(optimizer="SGD"),
        r"SGD: optimizer='SGD' is not a rule\. Give one, such as gdtuo\.SGD\(1e-5\)",
    ),
    "a class above": (lambda: SGD(optimizer=SGD), r"SGD: optimizer=.*SGD.* is not a rule\. Give"),
    "learn of an unknown name": (
        lambda: Adam(optimizer=SGD(), learn=["beta3", "lr"]),
        r"Adam: learn names 'beta3'\. Expected some of lr, beta1, beta2",
    ),
    "learn of a constant": (
        lambda: Adam(optimizer=SGD(), learn=["eps"]),
        r"Adam: learn names 'eps', .* it is a constant .*Expected some of lr, beta1, beta2",
    ),
    "learn as a text": (
        lambda: Adam(optimizer=SGD(), learn="lr"),
        r"Adam: learn='lr' is a text\. Give \('lr',\)",
    ),
    "learn on the top rule": (
        lambda: SGD(learn=("lr",)),
        r"SGD: learn=\('lr',\) has no meaning on the top rule.*Leave it out, or give optimizer=",
    ),
    "learn nothing on the top rule": (
        lambda: SGD(learn=()),
        r"SGD: learn=\(\) has no meaning on the top rule",
    ),
    "learn against lr={...}": (
        lambda: Adam(optimizer=SGD(lr={"lr": 0.1}), learn=["beta1"]),
        r"Adam: learn=\('beta1',\), but the rule above gives step sizes for \('lr',\)\. Leave",
    ),
    "lr={...} of an unknown name": (
        lambda: SGD(optimizer=SGD(lr={"mu": 0.1})),
        r"SGD: the lr of the rule above names 'mu'\. Expected some of lr, momentum",
    ),
    "lr={...} with a bad value": (
        lambda: SGD(lr={"lr": math.nan}),
        r"SGD: lr\['lr'\]=nan is outside its domain\. Give a finite number",
    ),
    "lr={} empty": (lambda: SGD(lr={}), r"SGD: lr=\{\} gives no step size\. Use learn=\(\)"),
    "a bound of 0 in square-root coordinates": (
        lambda: RMSProp(bounds={"lr": (0.0, 1.0)}, optimizer=SGD()),
        r"RMSProp: bounds=\{'lr': \(0\.0, 1\.0\)\}\. .* stays there\. Give a lowest value above 0",
    ),
    "a number too large for any": (lambda: Adam(10**400), r"Adam: lr=inf is outside its domain"),
    "a bound too large": (
        lambda: Adam(bounds={"lr": (1e-6, 10**400)}, optimizer=SGD()),
        r"Expected \(lowest, highest\), the lowest first, each a finite number",
    ),
    "learn in two lists": (
        lambda: Adam(learn=[["lr"]], optimizer=SGD()),
        r"Adam: learn=\[\['lr'\]\]\. Give names",
    ),
    "a name twice": (
        lambda: SGD(optimizer=SGD(lr=(("lr", 1e-3), ("lr", 1e-2)))),
        r"SGD: lr=.* gives a name twice",
    ),
    "coordinates in the singular": (
        lambda: Adam(coordinate={"lr": "log"}, optimizer=SGD()),
        r"Adam: .*'coordinate'.* Expected lr, .*coordinates, bounds, trace",
    ),
    "names in a tensor": (
        lambda: Adam(optimizer=SGD(), learn=torch.tensor(1.0)),
        r"Adam: learn=tensor\(1\.\)\. Give names",
    ),
    "bounds in a tensor": (
        lambda: SGD(bounds=torch.tensor(1.0)),
        r"SGD: bounds=tensor\(1\.\)\. Give it by name",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    check_refusal(*REFUSED[name])


def test_it_is_a_value_error_and_the_only_one():
    assert issubclass(GdtuoError, ValueError)
    exported = [x for x in vars(gdtuo).values() if isinstance(x, type)]
    assert [x for x in exported if issubclass(x, BaseException)] == [GdtuoError]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_hyperparameter_of_every_rule_has_a_domain(row):
    for name in row.rule.specs:
        for value in (math.nan, math.inf, -math.inf, "x"):
            with pytest.raises(GdtuoError, match=f"{row.name}: {name}="):
                row.rule(**{name: value})


def test_what_is_not_an_error():
    """Negative step sizes, whole numbers, names in any order and given twice, no momentum."""
    assert SGD(-1).lr == -1.0
    assert Adam(optimizer=SGD(), learn=["beta2", "lr", "lr"]).learn == ("lr", "beta2")
    assert SGD(momentum=-0.5).momentum == -0.5
    assert RMSProp(0).lr == 0.0
    assert Adam(optimizer=SGD(lr={"lr": 0.1}), learn=["lr"]).learned == ("lr",)
