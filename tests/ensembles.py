"""Ensembles of the tiny problem's model, and each of their members alone."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from gdtuo import Ensemble, Safeguards, Tower
from tests import problem
from tests.problem import numbers
from tests.rules_table import ROWS, stacked

STEPS = 16  # a warm-up of 10, and some after it
FACTORS = (1.0, 0.6, 1.3)  # of the members' first values
ELEMENTWISE = [row for row in ROWS if row.rule.elementwise]


def batch(step, member=None):
    """The rows of a step; with ``member``, other ones for each."""
    return problem.batch((step + (member or 0)) % 4, torch.float64)


def mlp(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def models(make=mlp):
    return [make(i) for i in range(len(FACTORS))]


def varied(rule, factor):
    """``rule`` with other first values, learned ones and constants, at every level."""
    changed = {}
    for name in rule.hyperparameters:
        value = getattr(rule, name)
        if isinstance(value, tuple):
            changed[name] = {entry: v * factor for entry, v in value}
        elif name == "lr":
            changed[name] = value * factor
        elif value != 0:  # betas and the like stay inside (0, 1), switches stay as they are
            changed[name] = 1 - (1 - value) * factor / 1.5
    for name, (low, high) in dict(rule.bounds or ()).items():
        changed[name] = min(max(changed[name], low), high)
    above = None if rule.optimizer is None else varied(rule.optimizer, factor)
    return dataclasses.replace(rule, **changed, optimizer=above)


def tall(row, height):
    """The rule on itself, with upper step sizes that many steps stand."""
    above = None
    for _ in range(height):
        above = dataclasses.replace(row.pronounced, lr=row.pronounced.lr / 100, optimizer=above)
    return stacked(row.pronounced, above)


def losses_of(ensemble, step, separate=False):
    pairs = [batch(step, i) if separate else batch(step) for i in range(len(ensemble))]
    x, y = (torch.stack(each) for each in zip(*pairs, strict=True))
    outputs = ensemble(x, separate=True) if separate else ensemble(x[0])
    return torch.vmap(cross_entropy)(outputs, y)


def train(ensemble, steps, start=0, separate=False, scheduler=None):
    """The members' losses before each step, [steps, N]."""
    losses = []
    for i in range(start, start + steps):
        ensemble.zero_grad()
        each = losses_of(ensemble, i, separate)
        each.sum().backward()
        ensemble.step()
        if scheduler is not None:
            scheduler.step()
        losses.append(each.detach())
    return torch.stack(losses)


def alone(model, rule, member, steps, separate=False, safeguards=None, schedule=None):
    model = copy.deepcopy(model)
    tower = Tower(model.parameters(), rule, safeguards=safeguards or Safeguards())
    scheduler = schedule(tower) if schedule else None
    for i in range(steps):
        tower.zero_grad()
        x, y = batch(i, member) if separate else batch(i)
        cross_entropy(model(x), y).backward()
        tower.step()
        if scheduler is not None:
            scheduler.step()
    return model, tower


def agree(ensemble, member, model, tower):
    """That a member's weights, buffers, values and hypergradients are those of the run alone."""
    ours, theirs = ensemble.member(member).state_dict(), model.state_dict()
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)
    for mine, other in (
        (ensemble.hyperparameters(member), tower.hyperparameters()),
        (ensemble.hypergradients(member), tower.hypergradients()),
    ):
        assert numbers(mine) == pytest.approx(numbers(other), rel=1e-8, abs=1e-9)


def compare(rule, separate=False, safeguards=None, schedule=None, steps=STEPS, compile=False):
    rules, starts = [varied(rule, factor) for factor in FACTORS], models()
    safe = safeguards or Safeguards()
    ensemble = Ensemble(starts, rules, safeguards=safe, compile=compile)
    before = [ensemble.hyperparameters(i) for i in range(3)]
    assert len({str(values) for values in before}) == 3  # they do start from other values
    scheduler = schedule(ensemble.tower) if schedule else None
    losses = train(ensemble, steps, separate=separate, scheduler=scheduler)
    assert losses.isfinite().all()
    for i, (model, own) in enumerate(zip(starts, rules, strict=True)):
        agree(ensemble, i, *alone(model, own, i, steps, separate, safeguards, schedule))
        learns = rule.optimizer is not None
        assert (ensemble.hyperparameters(i) != before[i]) == learns


class Normalized(nn.Module):
    """Norms, a buffer that counts, a tied weight and a frozen one."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.BatchNorm1d(6)
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.norm = nn.BatchNorm1d(6)
        self.b.weight = self.a.weight
        self.scale = nn.Parameter(torch.tensor(1.5))  # of no dimension
        self.a.bias.requires_grad_(False)
        self.double()

    def forward(self, x):
        return self.head(self.b(self.norm(self.a(self.first(x))).tanh()) * self.scale)
