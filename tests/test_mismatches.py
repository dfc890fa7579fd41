"""What would be taken for something else is refused, and nothing has changed by then."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

import gdtuo
from gdtuo import GdtuoError, Safeguards
from tests.problem import PER, halves, make_model, train


def state_of(text, **options):
    model = make_model()
    tower = gdtuo.Tower(halves(model), gdtuo.parse(text), **options)
    train(model, tower, 2)
    return tower.state_dict()


def test_a_state_in_other_coordinates():
    state = state_of("Adam(0.001, coordinates={lr: log}) / SGD(1e-5)")
    tower = gdtuo.Tower(halves(make_model()), gdtuo.parse("Adam(0.001) / SGD(1e-5)"))
    with pytest.raises(GdtuoError, match=r"(?s)other coordinates.*lr in log.*as declared"):
        tower.load_state_dict(state)


@pytest.mark.parametrize(("saved", "here"), list(itertools.permutations(PER, 2)))
def test_a_state_of_another_granularity(saved, here):
    tower = gdtuo.Tower(halves(make_model()), gdtuo.parse("Adam / SGD"), per=here)
    with pytest.raises(GdtuoError, match=r"(?s)other shapes.*same per="):
        tower.load_state_dict(state_of("Adam / SGD", per=saved))


def test_a_state_of_parameters_of_other_shapes():
    def of(*shape):
        return gdtuo.Tower([nn.Parameter(torch.ones(shape))], gdtuo.parse("Adam / SGD"))

    with pytest.raises(GdtuoError, match=r"of shape \[2, 3\] for a parameter of shape \[7\]"):
        of(7).load_state_dict(of(2, 3).state_dict())


@pytest.mark.parametrize("wrong", [torch.ones(3), "text", 1.0], ids=str)
def test_a_cotangent_that_does_not_fit(wrong):
    p = nn.Parameter(torch.ones(2))
    tower = gdtuo.Tower([p], gdtuo.parse("SGD / SGD"))
    p.grad = torch.ones(2)
    with pytest.raises(GdtuoError, match=r"cotangent .* for a parameter of shape \[2\]"):
        tower.step(cotangents=[wrong])
    assert p.equal(torch.ones(2))


@pytest.mark.parametrize("options", [{"safeguards": None}, {"compile": 3}], ids=str)
def test_options_of_another_kind(options):
    with pytest.raises(GdtuoError, match="Give"):
        gdtuo.Tower([nn.Parameter(torch.ones(2))], gdtuo.SGD(), **options)


def test_one_outlier_does_not_end_the_training():
    """Its hypergradient is finite, the square in an upper Adam's second moment is not."""
    p = nn.Parameter(torch.ones(10_000))
    rule, guard = gdtuo.parse("SGD(0.1) / Adam(1e-3)"), Safeguards(guard=100)
    tower = gdtuo.Tower([p], rule, safeguards=guard)
    for i in range(8):
        p.grad = torch.full_like(p, 1e16 if i == 2 else 1.0)
        tower.step()
    assert tower.skipped_steps == 1
    with pytest.warns(RuntimeWarning, match="level 0's lr"):
        tower.hyperparameters()


@pytest.mark.filterwarnings("ignore:gdtuo:RuntimeWarning")
def test_a_parameter_left_out_of_more_skips_than_the_limit_that_no_look_has_seen():
    def run(poisoned):
        torch.manual_seed(0)
        a, b = (nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
        rule = gdtuo.parse("SGD(0.1, momentum=0.9) / SGD(1e-3)")
        tower = gdtuo.Tower([a, b], rule, safeguards=Safeguards(guard=3))
        for i in range(10):
            if 4 <= i < 8 and not poisoned:
                continue
            skip = 4 <= i < 8
            a.grad = a.detach() * (float("nan") if skip else 1.0)
            b.grad = None if skip else b.detach().clone()
            tower.step()
        return b.detach()

    torch.testing.assert_close(run(poisoned=True), run(poisoned=False), rtol=1e-12, atol=1e-14)


def test_what_is_frozen_stays_so_when_a_group_is_added():
    a, b = (nn.Parameter(torch.ones(2, dtype=x)) for x in (torch.float32, torch.float64))
    tower = gdtuo.Tower([a], gdtuo.parse("SGD(0.1) / SGD(1e-3)"), per="tower")
    tower.freeze("lr")
    tower.add_param_group({"params": [b]})
    for _ in range(3):
        a.grad, b.grad = torch.ones(2), torch.ones(2, dtype=torch.float64)
        tower.step()
    assert tower.hyperparameters()[0]["lr"] == 0.1
