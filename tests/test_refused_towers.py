"""What a tower refuses: parameters, groups, gradients, schedules and options."""

import math

import pytest
import torch
from torch import nn

import gdtuo
from gdtuo import SGD, Adam, GdtuoError, ModuleWrapper, RMSProp, Tower
from tests.problem import make_model
from tests.refusals import ADAM, check_refusal, parameters, single, stepped


def with_groups(edit):
    layers = make_model()
    tower = Tower([{"params": x.parameters()} for x in (layers[0], layers[2])], ADAM)
    stepped(tower)
    edit(tower.param_groups)
    return tower


def with_edit(tower, **changes):
    tower.param_groups[0].update(changes)
    return tower


def stepped_along(cotangents):
    tower = Tower(parameters(), ADAM)
    stepped(tower)
    tower.step(cotangents=cotangents)


def complex_parameter():
    return nn.Parameter(torch.zeros(2, 3, dtype=torch.complex64))


def sparse_step():
    layer = nn.Embedding(4, 2, sparse=True)
    tower = Tower(layer.parameters(), SGD())
    layer(torch.tensor([1])).sum().backward()
    tower.step()


def after_a_failed_group():
    tower = Tower(parameters(), SGD())
    with pytest.raises(GdtuoError, match="is complex"):
        tower.add_param_group({"params": [complex_parameter()]})
    with pytest.raises(GdtuoError, match="'rate'"):
        tower.add_param_group({"params": [nn.Parameter(torch.zeros(2))], "rate": 1.0})
    return tower


REFUSED = {
    "one of a member": (
        lambda: gdtuo.Ensemble([nn.Linear(1, 1)] * 2, [Adam(), Adam(beta2=0.99999999)]),
        r"Adam: beta2=0\.99999999 is 1 in torch\.float32",
    ),
    "a beta that is rounded to 1": (
        lambda: Tower(single(), Adam(beta2=0.99999999)),
        r"Adam: beta2=0\.99999999 is 1 in torch\.float32, in which .* Give 0\.9999999 or less",
    ),
    "a learned one": (
        lambda: Tower(single(), RMSProp(gamma=1 - 1e-9, optimizer=SGD())),
        r"RMSProp: gamma=0\.999999999 is 1 in torch\.float32",
    ),
    "one of an upper level": (
        lambda: Tower(single(), SGD(optimizer=Adam(beta1=1 - 1e-9))),
        r"Adam: beta1=0\.999999999 is 1 in torch\.float32",
    ),
    "one in raw coordinates": (
        lambda: Tower(single(), Adam(beta2=0.99999999, coordinates={"beta2": "raw"})),
        r"Adam: beta2=0\.99999999 is 1 in torch\.float32",
    ),
    "one in a group": (
        lambda: Tower([{"params": single(), "beta2": 0.99999999}], Adam()),
        r"Adam: beta2=0\.99999999 is 1 in torch\.float32",
    ),
    "a log lr that is rounded to 0": (
        lambda: gdtuo.default(single(), lr=1e-46),
        r"ScheduleFreeAdam: lr=1e-46 is 0 in torch\.float32, in which .* between 1e-37 and 1e38",
    ),
    "one beyond float32": (
        lambda: Tower(single(), SGD(optimizer=SGD({"lr": 1e39}, coordinates={"lr": "log"}))),
        r"SGD: lr=1e\+39 is inf in torch\.float32",
    ),
    "an option that default hasn't got": (
        lambda: gdtuo.default(single(), learn=["lr"], rule=Adam()),
        r"default: no option learn, rule\. Give some of per, .* build a gdtuo\.Tower",
    ),
    "a backend": (
        lambda: Tower(single(), Adam(), compile="inductr"),
        r"Tower: compile='inductr' is no backend of torch\.compile\. Give True, or one of",
    ),
    "lr={...} at level 0": (
        lambda: Tower(parameters(), SGD(lr={"lr": 0.1})),
        r"SGD\(\{lr: 0\.1\}\) has lr=\{\.\.\.\} at level 0.*Give it one step size",
    ),
    "a module for parameters": (
        lambda: Tower(make_model(), ADAM),
        r"Tower: the first argument is a Sequential\. Give .*gdtuo\.Tower\(model\.parameters\(\)",
    ),
    "a rule for parameters": (
        lambda: Tower(ADAM, ADAM),
        r"Tower: the first argument is a Adam\. Give parameters",
    ),
    "no rule": (
        lambda: Tower(parameters(), 0.1),
        r"Tower: rule=0\.1 is not a rule\. Give one, such as gdtuo\.Adam\(\) or gdtuo\.parse",
    ),
    "a rule's class": (lambda: Tower(parameters(), Adam), r"Tower: rule=.*Adam.* is not a rule"),
    "a text for a rule": (
        lambda: Tower(parameters(), "Adam / SGD"),
        r"Tower: rule='Adam / SGD' is not a rule\. Give .*gdtuo\.parse",
    ),
    "no parameters": (
        lambda: Tower([], ADAM),
        r"Tower: no parameters\. Give model\.parameters\(\), or groups of them",
    ),
    "an exhausted generator": (lambda: Tower(iter(()), ADAM), r"Tower: no parameters\. Give"),
    "complex parameters": (
        lambda: Tower([complex_parameter()], ADAM),
        r"Tower: a parameter of shape \(2, 3\) is complex\. Give real .*torch\.view_as_real",
    ),
    "an unknown key in a group": (
        lambda: Tower([{"params": parameters(), "weight_decay": 0.1}], ADAM),
        r"group gives 'weight_decay'\. Expected 'params', 'rule' and, for Adam, any of lr, beta1",
    ),
    "a bad value in a group": (
        lambda: Tower([{"params": parameters(), "beta1": 2.0}], ADAM),
        r"Adam: beta1=2\.0 is outside its domain\. Give",
    ),
    "lr={...} in a group": (
        lambda: Tower([{"params": parameters(), "lr": {"lr": 0.1}}], ADAM),
        r"lr=\{.*Give",
    ),
    "a group that isn't there": (
        lambda: Tower(parameters(), ADAM).hyperparameters(1),
        r"group=1, but there are 1 groups\. Count from 0",
    ),
    "a tower where a model is wanted": (
        lambda: ModuleWrapper(Tower(parameters(), ADAM), ADAM),
        r"ModuleWrapper: the first argument is a Tower\. Give a module: gdtuo\.ModuleWrapper\(mod",
    ),
    "a rule where a model is wanted": (
        lambda: ModuleWrapper(ADAM, optimizer=ADAM),
        r"ModuleWrapper: the first argument is a Adam\. Give a module",
    ),
    "a tower where a rule is wanted": (
        lambda: ModuleWrapper(make_model(), optimizer=Tower(parameters(), ADAM)),
        r"rule=Tower\(Adam / SGD\(1e-05\).* is not a rule\. Give one",
    ),
    "parameters that have never had a gradient": (
        lambda: stepped(Tower(parameters(), ADAM), gradients=False),
        r"Tower\.step: no parameter has ever had a gradient\. Call loss\.backward\(\) first",
    ),
    "sparse gradients": (
        sparse_step,
        r"Tower\.step: a gradient is sparse\. Expected dense ones.*sparse=False",
    ),
    "no parameters at all": (lambda: Tower(None, SGD()), r"Tower: params=None\. Give model"),
    "a group without params": (
        lambda: Tower([{"lr": 1}], SGD()),
        r"Tower: a parameter group is \{'lr': 1\}\. Expected a dictionary with 'params'",
    ),
    "a list as a group": (
        lambda: Tower(parameters(), SGD()).add_param_group(["w"]),
        r"Tower: a parameter group is \['w'\]\. Expected a dictionary with 'params'",
    ),
    "freeze a list": (
        lambda: Tower(parameters(), ADAM).freeze(["lr"]),
        r"learns lr, beta1, beta2, not \['lr'\]",
    ),
    "a value in a group that nothing reads": (
        lambda: stepped(with_edit(Tower(parameters(), gdtuo.AdamW()), weight_decay=0.1)),
        r"param_groups\[i\]\['weight_decay'\] = 0\.1 would change nothing: .* Give it with",
    ),
    "safeguards of the default": (
        lambda: gdtuo.default(parameters(), safeguards=None),
        r"Tower: safeguards=None\. Give a gdtuo\.Safeguards",
    ),
    "maximize as a text": (
        lambda: Tower(parameters(), ADAM, maximize="no"),
        r"Tower: maximize='no' is no switch\. Give True or False",
    ),
    "a cotangent": (
        lambda: Tower(parameters(), ADAM).step(cotangents=5),
        r"no parameter has ever had a gradient",
    ),
    "one cotangent in the place of many": (
        lambda: stepped_along(5),
        r"Tower\.step: 1 cotangents for 4 parameters",
    ),
    "complex cotangents": (
        lambda: stepped_along([1j * torch.ones_like(p) for p in parameters()]),
        r"Tower\.step: a cotangent of shape .*, torch\.complex128, cpu for .* Give a dense",
    ),
    "cotangents that are no floating-point numbers": (
        lambda: stepped_along([torch.ones_like(p, dtype=torch.int64) for p in parameters()]),
        r"Tower\.step: a cotangent of shape .*, torch\.int64, cpu for .* Give a dense",
    ),
    "a sparse parameter": (
        lambda: Tower([nn.Parameter(torch.eye(2).to_sparse())], ADAM),
        r"Tower: a parameter of shape \(2, 2\) is sparse\. Give a dense one",
    ),
    "an lr that no float is as large as": (
        lambda: stepped(with_edit(Tower(parameters(), ADAM), lr=10**400)),
        r"param_groups\[i\]\['lr'\] = 10{400}\. Give a finite number",
    ),
    "no lr": (
        lambda: stepped(with_edit(Tower(parameters(), ADAM), lr=None)),
        r"param_groups\[i\]\['lr'\] = None\. Give a finite number",
    ),
    "a cotangent elsewhere": (
        lambda: stepped_along([torch.ones_like(p, device="meta") for p in parameters()]),
        r"Tower\.step: a cotangent of shape .*, meta for a parameter of shape .*, cpu\. Give",
    ),
    "torch's name in a group": (
        lambda: stepped(with_edit(Tower(parameters(), ADAM), betas=(0.5, 0.9))),
        r"param_groups\[i\]\['betas'\] = \(0\.5, 0\.9\) would change nothing",
    ),
    "a text as a schedule's lr": (
        lambda: stepped(with_edit(Tower(parameters(), ADAM), lr="a")),
        r"param_groups\[i\]\['lr'\] = 'a'\. Give a finite number",
    ),
    "a group taken out": (
        lambda: with_groups(lambda groups: groups.pop()).step(),
        r"param_groups is a list of 1, not of the 2 groups .* Add a group by add_param_group",
    ),
    "all groups taken out": (
        lambda: with_groups(lambda groups: groups.clear()).step(),
        r"param_groups is a list of 0, not of the 2 groups",
    ),
    "a group put in by hand": (
        lambda: with_groups(lambda groups: groups.append({"params": parameters()})).step(),
        r"param_groups is a list of 3, not of the 2 groups",
    ),
    "a group in the place of another": (
        lambda: with_groups(lambda groups: groups.insert(0, {"params": groups.pop(0)})).step(),
        r"param_groups is a list of 2, not of the 2 groups that this tower has set up",
    ),
    "a reading after a group was taken out": (
        lambda: with_groups(lambda groups: groups.pop(0)).hyperparameters(),
        r"param_groups is a list of 1, not of the 2 groups",
    ),
    "nan as a schedule's lr": (
        lambda: stepped(with_edit(Tower(parameters(), ADAM), lr=math.nan)),
        r"param_groups\[i\]\['lr'\] = nan\. Give a finite number",
    ),
    "a schedule of a learned lr of 0": (
        lambda: stepped(with_edit(Tower(parameters(), SGD(0.0, optimizer=SGD())), initial_lr=0.0)),
        r"A schedule is a factor of the step size, and lr started at 0",
    ),
    "a group by a text": (
        lambda: Tower(parameters(), ADAM).hyperparameters(group="0"),
        r"group='0', but there are 1 groups",
    ),
    "a level by a text": (
        lambda: Tower(parameters(), ADAM).freeze(level="0"),
        r"Level 0 of .* learns nothing",
    ),
    "a flag as a clip": (lambda: gdtuo.Safeguards(clip=True), r"clip=True\. Give a number above 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    check_refusal(*REFUSED[name])


def test_a_refused_group_leaves_the_tower_as_it_was():
    tower = after_a_failed_group()
    assert len(tower.param_groups) == 1
    stepped(tower)
    assert len(tower.state) == 4


def test_a_refused_step_leaves_the_parameters_as_they_were():
    layer = nn.Embedding(4, 2, sparse=True)
    dense = nn.Parameter(torch.ones(2))
    tower = Tower([dense, *layer.parameters()], SGD())
    start = layer.weight.detach().clone()
    layer(torch.tensor([1])).sum().backward()
    dense.grad = torch.ones(2)
    with pytest.raises(GdtuoError, match="sparse"):
        tower.step()
    assert layer.weight.equal(start)
    assert dense.equal(torch.ones(2))


def test_what_is_not_an_error():
    """A single tensor, and betas that are numbers below 1 in the tower's precision."""
    stepped(Tower(nn.Parameter(torch.ones(2)), ADAM))
    stepped(Tower(single(), Adam(beta1=1e-9, beta2=0.9999999)))
    assert Tower(parameters(), Adam(beta2=0.99999999)).hyperparameters()[0]["beta2"] < 1.0
