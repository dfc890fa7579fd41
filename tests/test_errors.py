"""What is refused: one exception class, and a message that says what was given, what was expected
and what to do."""

import math

import pytest
import torch
from torch import nn

import gdtuo
from gdtuo import SGD, AdaGrad, Adam, GdtuoError, ModuleWrapper, RMSProp, Tower
from tests.problem import make_model, train
from tests.rules_table import ROWS

ADAM = Adam(optimizer=SGD(1e-5))
GUARD = {"safeguards": gdtuo.Safeguards(guard=3)}


def parameters():
    return list(make_model().parameters())


def single():
    return list(make_model(torch.float32).parameters())


def stepped(tower, gradients=True):
    for p in tower.param_groups[0]["params"]:
        p.grad = torch.ones_like(p) if gradients else None
    tower.step()


def loaded(tower, state):
    tower.load_state_dict(state)


def edited(**changes):
    state = Tower(parameters(), ADAM).state_dict()
    state["param_groups"][0] |= changes
    return state


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


def without_number(*keys, **options):
    """The state of a tower without some of what its groups have."""
    state = Tower(parameters(), ADAM, **options).state_dict()
    groups = [{k: v for k, v in group.items() if k not in keys} for group in state["param_groups"]]
    return {**state, "param_groups": groups}


def without_key(*keys, **options):
    state = Tower(parameters(), ADAM, **options).state_dict()
    state["state"][0] = {k: v for k, v in state["state"][0].items() if keys and k not in keys}
    return state


def last_frozen():
    *rest, last = parameters()
    return [*rest, last.requires_grad_(False)]


def with_last_of_another_shape():
    state = Tower(parameters(), ADAM).state_dict()
    state["state"][3] = state["state"][3] | {"exp_avg": torch.ones(1)}
    return state


def of_steps_without_parameters():
    stepped(tower := Tower(parameters(), ADAM))
    return {**tower.state_dict(), "state": {}}


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
    # Hyperparameters: what was given, its domain.
    "beta 1.5": (
        lambda: Adam(beta1=1.5),
        r"Adam: beta1=1\.5 is outside its domain\. Give a number between 0 and 1, both excluded",
    ),
    "beta 1": (lambda: Adam(beta2=1), r"Adam: beta2=1\.0 is outside its domain\. Give"),
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
    "one of a member": (
        lambda: gdtuo.Ensemble([nn.Linear(1, 1)] * 2, [Adam(), Adam(beta2=0.99999999)]),
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
    "lr={...} at level 0": (
        lambda: Tower(parameters(), SGD(lr={"lr": 0.1})),
        r"SGD\(\{lr: 0\.1\}\) has lr=\{\.\.\.\} at level 0.*Give it one step size",
    ),
    # What a tower is made of.
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
    # The published loop.
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
    # Gradients.
    "parameters that have never had a gradient": (
        lambda: stepped(Tower(parameters(), ADAM), gradients=False),
        r"Tower\.step: no parameter has ever had a gradient\. Call loss\.backward\(\) first",
    ),
    "sparse gradients": (
        sparse_step,
        r"Tower\.step: a gradient is sparse\. Expected dense ones.*sparse=False",
    ),
    # States.
    "the state of another tower": (
        lambda: loaded(
            Tower(parameters(), ADAM),
            Tower(parameters(), Adam(optimizer=Adam())).state_dict(),
        ),
        r"(?s)state is that of another tower.*saved: Adam.*/ Adam.*here:.*/ SGD.*Build the tower",
    ),
    "the state of what learns other names": (
        lambda: loaded(
            Tower(parameters(), ADAM),
            Tower(parameters(), Adam(optimizer=SGD(), learn=["lr"])).state_dict(),
        ),
        r"(?s)state is that of another tower.*saved: Adam\^\{lr\}.*here:.*\^\{lr,beta1,beta2\}",
    ),
    "the state of other constants": (
        lambda: loaded(
            Tower(parameters(), ADAM),
            Tower(parameters(), Adam(eps=1e-4, optimizer=SGD())).state_dict(),
        ),
        r"(?s)state is that of another tower.*saved: .*eps=0\.0001.*here:.*eps=1e-08",
    ),
    "the state of another optimizer": (
        lambda: loaded(Tower(parameters(), ADAM), torch.optim.Adam(parameters()).state_dict()),
        r"not the state of a gdtuo\.Tower\. Load it where it was saved",
    ),
    "the state of other groups": (
        lambda: loaded(
            Tower(parameters(), ADAM),
            Tower([{"params": parameters()[:1]}, {"params": parameters()[1:]}], ADAM).state_dict(),
        ),
        r"state has groups of \[1, 3\] parameters, this tower of \[4\]\. Build the tower",
    ),
    "something else": (
        lambda: loaded(Tower(parameters(), ADAM), {"model": {}}),
        r"The state is a dictionary of 'model'\. Give what `state_dict\(\)` returned",
    ),
    "a newer format": (
        lambda: loaded(Tower(parameters(), ADAM), edited(format=99)),
        r"state has format 99; this version of gdtuo reads up to \d+\. Upgrade gdtuo",
    ),
    # Parameters and groups, once more.
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
    "a state of nothing": (
        lambda: loaded(Tower(parameters(), ADAM), {"param_groups": []}),
        r"The state is a dictionary of 'param_groups'\. Give what `state_dict\(\)` returned",
    ),
    "a value in a group that nothing reads": (
        lambda: stepped(with_edit(Tower(parameters(), gdtuo.AdamW()), weight_decay=0.1)),
        r"param_groups\[i\]\['weight_decay'\] = 0\.1 would change nothing: .* Give it with",
    ),
    "safeguards of the default": (
        lambda: gdtuo.default(parameters(), safeguards=None),
        r"Tower: safeguards=None\. Give a gdtuo\.Safeguards",
    ),
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
    "names in a tensor": (
        lambda: Adam(optimizer=SGD(), learn=torch.tensor(1.0)),
        r"Adam: learn=tensor\(1\.\)\. Give names",
    ),
    "bounds in a tensor": (
        lambda: SGD(bounds=torch.tensor(1.0)),
        r"SGD: bounds=tensor\(1\.\)\. Give it by name",
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
    "a state without a count": (
        lambda: loaded(Tower(parameters(), ADAM), without_number("previous_lr_factor", "steps")),
        r"The state has no previous_lr_factor, steps in a group\. Give all of what",
    ),
    "a state without some of the rule's": (
        lambda: loaded(Tower(parameters(), ADAM), without_key("exp_avg")),
        r"The state has no exp_avg for a parameter of shape",
    ),
    "a state without the last update's gradient": (
        lambda: loaded(Tower(parameters(), ADAM), without_key("previous_gradient")),
        r"The state has no previous_gradient for a parameter of shape",
    ),
    "a state without a parameter's count": (
        lambda: loaded(Tower(parameters(), ADAM), without_key("step")),
        r"The state has no step for a parameter of shape",
    ),
    "a state that doesn't say whether an update is kept": (
        lambda: loaded(Tower(parameters(), ADAM), without_key("is_kept")),
        r"The state has no is_kept for a parameter of shape",
    ),
    "a state without a schedule's lr": (
        lambda: loaded(Tower(parameters(), ADAM), without_number("lr")),
        r"The state has no lr in a group\. Give all of what",
    ),
    "a state that has nothing of a parameter but its place": (
        lambda: loaded(Tower(parameters(), ADAM), without_key()),
        r"The state has no exp_avg, .*, is_kept for a parameter of shape",
    ),
    "a state of another shape for what is frozen": (
        lambda: loaded(Tower(last_frozen(), ADAM), with_last_of_another_shape()),
        r"The state has a exp_avg of shape \[1\] for a parameter of shape \[3\]",
    ),
    "a state of steps that has no parameters": (
        lambda: loaded(Tower(parameters(), ADAM), of_steps_without_parameters()),
        r"The state is of a tower that has taken steps, and has nothing of any parameter\. Give",
    ),
    "a guard's state without a parameter's flag": (
        lambda: loaded(Tower(parameters(), ADAM, **GUARD), without_key("is_valid", **GUARD)),
        r"The state has no is_valid for a parameter of shape",
    ),
    "a guard's state without a parameter's count": (
        lambda: loaded(Tower(parameters(), ADAM, **GUARD), without_key("skipped", **GUARD)),
        r"The state has no skipped for a parameter of shape",
    ),
    "a guard's state without a level's flag": (
        lambda: loaded(
            Tower(parameters(), ADAM, **GUARD), without_number("level1.is_valid", **GUARD)
        ),
        r"The state has no level1\.is_valid in a group",
    ),
    "a guard's state without its counts": (
        lambda: loaded(
            Tower(parameters(), ADAM, **GUARD),
            without_number("guard.tries", "guard.causes", **GUARD),
        ),
        r"The state has no guard\.causes, guard\.tries in a group",
    ),
    "a flag as a clip": (lambda: gdtuo.Safeguards(clip=True), r"clip=True\. Give a number above 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    attempt, message = REFUSED[name]
    with pytest.raises(GdtuoError, match=message) as caught:
        attempt()
    assert str(caught.value).rstrip().endswith((".", ")"))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


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


def test_a_refused_group_leaves_the_tower_as_it_was():
    tower = after_a_failed_group()
    assert len(tower.param_groups) == 1
    stepped(tower)
    assert len(tower.state) == 4


def test_a_refused_state_leaves_the_tower_as_it_was():
    models = make_model(), make_model()
    tower, untouched = (Tower(model.parameters(), ADAM) for model in models)
    for steps in (3, 3):
        assert train(models[0], tower, steps) == train(models[1], untouched, steps)
        for state in (
            Tower(parameters(), Adam(optimizer=Adam())).state_dict(),
            edited(format=99),
            without_key("step"),
            without_number("lr"),
        ):
            with pytest.raises(GdtuoError):
                tower.load_state_dict(state)


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
    """Negative step sizes, whole numbers, names in any order and given twice, no momentum."""
    assert SGD(-1).lr == -1.0
    assert Adam(optimizer=SGD(), learn=["beta2", "lr", "lr"]).learn == ("lr", "beta2")
    assert SGD(momentum=-0.5).momentum == -0.5
    assert RMSProp(0).lr == 0.0
    assert Adam(optimizer=SGD(lr={"lr": 0.1}), learn=["lr"]).learned == ("lr",)
    stepped(Tower(nn.Parameter(torch.ones(2)), ADAM))
    stepped(Tower(single(), Adam(beta1=1e-9, beta2=0.9999999)))
    assert Tower(parameters(), Adam(beta2=0.99999999)).hyperparameters()[0]["beta2"] < 1.0
