"""A large tensor is updated in pieces: as if at once, to rounding of the hypergradient's sum."""

from __future__ import annotations

import pytest
import torch

import gdtuo
from gdtuo import Safeguards
from gdtuo.tuning_free import RULE
from tests.problem import loss_at, make_model, parameters_of, same, train
from tests.rules_table import homogeneous
from tests.test_contract import CASES, read, through_a_file

STEPS = 6


def shorten(monkeypatch):
    """Pieces of 5 elements: the weights, of 48 and 24, have several, the last one shorter."""
    for module in (gdtuo.cell, gdtuo.gathering, gdtuo.tower):
        monkeypatch.setattr(module, "PIECE", 5)


def taken(rule, **options):
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), rule, **options)
    train(model, tower, STEPS)
    return model, tower


def check(monkeypatch, rule, go=taken, **options):
    model, tower = go(rule, **options)
    shorten(monkeypatch)
    pieced, other = go(rule, **options)
    for p, q in zip(parameters_of(pieced), parameters_of(model), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-7, atol=1e-9)
    assert read(other) == pytest.approx(read(tower), rel=1e-7)


@pytest.mark.parametrize("guard", [0, 50])
@pytest.mark.parametrize("rule", CASES)
def test_the_contract_table(rule, guard, monkeypatch):
    check(monkeypatch, rule, safeguards=Safeguards(guard=guard))


ADAM = homogeneous(gdtuo.AdamW(0.02, beta1=0.6, beta2=0.8, weight_decay=0.1), 2)


@pytest.mark.parametrize(
    "options",
    [
        {"per": "tensor"},
        {"per": "element"},
        {"maximize": True},
        {"safeguards": Safeguards(cap=0.01)},  # which looks at a whole step
    ],
    ids=str,
)
def test_options(options, monkeypatch):
    check(monkeypatch, ADAM, **options)


@pytest.mark.parametrize("per", ["group", "tensor"])
@pytest.mark.parametrize("guard", [0, 50])
def test_strides_and_traces(per, guard, monkeypatch):
    safe = Safeguards(start=(1e-3, 1e-2), stride=0.001, guard=guard)
    check(monkeypatch, RULE, per=per, safeguards=safe)


def uneven(rule):
    """Held-out cotangents, parameters left out, transposed gradients, and a poisoned step."""
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), rule, safeguards=Safeguards(guard=50))
    parameters = list(model.parameters())
    for i in range(10):
        tower.zero_grad()
        loss_at(model, i).backward()
        if i == 4:
            parameters[0].grad = None
        if i == 5:
            parameters[2].grad = parameters[2].grad.T.contiguous().T
        if i == 7:
            parameters[0].grad[0, 0] = float("nan")
        cotangents = [p.detach().T.clone().T if p.dim() > 1 else None for p in parameters]
        tower.step(cotangents=cotangents if i in (3, 8) else None)
    return model, tower


@pytest.mark.filterwarnings("ignore:gdtuo.*skipped:RuntimeWarning")
@pytest.mark.parametrize("rule", [ADAM, homogeneous(gdtuo.NAdam(0.02, beta1=0.6, beta2=0.8), 1)])
def test_steps_of_every_kind(rule, monkeypatch):
    check(monkeypatch, rule, go=uneven)


@pytest.mark.parametrize("guard", [0, 50])
def test_it_is_written_in_place_and_resumes_to_the_bit(guard, monkeypatch):
    shorten(monkeypatch)

    def make():
        model = make_model()
        return model, gdtuo.Tower(model.parameters(), ADAM, safeguards=Safeguards(guard=guard))

    model, tower = make()
    kept = tower.state[model[0].weight]
    before = {k: x for k, x in kept.items() if isinstance(x, torch.Tensor) and x.dim()}
    train(model, tower, 3)
    assert len(before) == 4
    assert all(kept[key] is x for key, x in before.items())
    assert kept["step"] == 3
    weights, state = through_a_file(model, tower)
    again, other = make()
    again.load_state_dict(weights)
    other.load_state_dict(state)
    assert train(again, other, 4, start=3) == train(model, tower, 4, start=3)
    assert same(parameters_of(model), parameters_of(again))


def test_towers_share_nothing_by_loading():
    """What is written in place is nobody else's."""
    _, tower = taken(ADAM)
    other = gdtuo.Tower(make_model().parameters(), ADAM)
    other.load_state_dict(tower.state_dict())

    def memory(tower):
        stores = [*tower.state.values(), *tower.param_groups]
        tensors = [x for store in stores for x in store.values() if isinstance(x, torch.Tensor)]
        return {x.untyped_storage().data_ptr() for x in tensors if x.numel()}

    assert not memory(tower) & memory(other)


@pytest.mark.parametrize("text", ["Adam / SGD(1e-05)", "SGD(0.1, weight_decay=0.1) / SGD(0.001)"])
def test_a_cast_is_followed_in_what_is_kept(text, monkeypatch):
    """A model that was cast after its tower was made, from half precision."""

    def cast():
        model = make_model().to(torch.bfloat16)
        tower = gdtuo.Tower(model.parameters(), gdtuo.parse(text))
        model.to(torch.float32)
        random = torch.Generator().manual_seed(0)
        for _ in range(STEPS):
            for p in model.parameters():
                p.grad = torch.randn(p.shape, generator=random)
            tower.step()
        kept = tower.state[model[0].weight]
        assert {x.dtype for k, x in kept.items() if k.startswith("previous")} == {torch.float32}
        return parameters_of(model)

    expected = cast()
    shorten(monkeypatch)
    for p, q in zip(cast(), expected, strict=True):
        torch.testing.assert_close(p, q, rtol=1e-5, atol=1e-6)
