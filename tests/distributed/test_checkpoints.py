"""Checkpoints: saved on as many ranks as you like, loaded on as many others."""

from __future__ import annotations

import copy
import io
import itertools

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.tensor import DTensor, Shard

import gdtuo
from gdtuo import Safeguards
from tests.distributed.problem import TOWERS, Spread, read

RULES = [TOWERS[name] for name in ("AdamW 1", "NAdam 1", "Muon 1")]
SAFE = Safeguards(guard=10)
HIDDEN = 8  # one that tensor parallelism and FSDP can both take


def start(kind, rule):
    spread = Spread(kind, HIDDEN)
    return spread, spread.tower(rule, safeguards=SAFE)


def go(folder, kind, steps, first, last):
    """Take some steps, from a checkpoint unless they are the first, and leave one."""
    found = []
    for i, rule in enumerate(RULES):
        spread, tower = start(kind, rule)
        if not first:
            load(spread.model, tower, f"{folder}/{i}-{steps.start}")
        spread.train(tower, steps)
        if not last:
            state = state_of(spread.model, tower)
            dcp.save(state, checkpoint_id=f"{folder}/{i}-{steps.stop}")
        found.append([read(tower), spread.parameters()])
    return found


def state_of(model, tower):
    return {
        "model": get_model_state_dict(model),
        "optimizer": get_optimizer_state_dict(model, tower),
    }


def load(model, tower, folder):
    state = state_of(model, tower)
    dcp.load(state, checkpoint_id=folder)
    set_model_state_dict(model, state["model"])
    set_optimizer_state_dict(model, tower, state["optimizer"])


def test_a_run_goes_on_with_fewer_ranks_and_more(processes, tmp_path):
    """4 ranks, 2 in another way, 1, and 4 again in a third."""
    ways = [("fsdp", 4), ("tp", 2), ("fsdp", 1), ("fsdp and tp", 4)]
    for j, (kind, ranks) in enumerate(ways):
        steps = range(3 * j, 3 * j + 3)
        end = (j == 0, j == len(ways) - 1)
        found = processes.run(go, ranks, str(tmp_path), kind, steps, *end)[0]
    for rule, (learned, parameters) in zip(RULES, found, strict=True):
        spread, tower = start("one", rule)
        spread.train(tower, range(12))
        assert learned == pytest.approx(read(tower), rel=1e-9, abs=1e-9)
        assert parameters == pytest.approx(spread.parameters(), rel=1e-9, abs=1e-9)


def resumed():
    """The state itself, a state of whole tensors, a copy and a pickle: each goes on the same."""
    found = []
    for rule in RULES:
        spread, tower = start("fsdp", rule)
        spread.train(tower, range(3))
        model, state = copy.deepcopy(spread.model.state_dict()), copy.deepcopy(tower.state_dict())
        options = StateDictOptions(full_state_dict=True)
        full = get_optimizer_state_dict(spread.model, tower, options=options)
        spread.train(tower, range(3, 6))
        expected = [read(tower), spread.parameters()]
        for j in range(2):
            again, other = start("fsdp", rule)
            again.model.load_state_dict(model)
            if j == 0:
                other.load_state_dict(state)
            else:
                dist.broadcast_object_list(holder := [full])
                set_optimizer_state_dict(again.model, other, holder[0], options=options)
            again.train(other, range(3, 6))
            found.append([read(other), again.parameters()] == expected)
    return found


def test_a_run_resumes_to_the_bit(processes):
    assert processes.run(resumed, 2) == [[True] * 2 * len(RULES)] * 2


def shown():
    spread, tower = start("fsdp", TOWERS["AdamW 1"])
    spread.train(tower, range(2))
    state = tower.state_dict()["state"]
    kinds = [
        (p.shape == value.shape and p.placements == value.placements)
        for p, i in zip(spread.model.parameters(), itertools.count(), strict=False)
        for key, value in state[i].items()
        if isinstance(value, DTensor)
    ]
    plain = {
        key for store in state.values() for key, x in store.items() if not isinstance(x, DTensor)
    }
    # What is shown is what is kept: a load in place needs no more.
    state[0]["exp_avg"].to_local().fill_(7.0)
    p = next(spread.model.parameters())
    return kinds, sorted(plain), bool((tower.state[p]["exp_avg"] == 7.0).all())


def test_the_state_is_spread_as_the_parameters_are(processes):
    for kinds, plain, is_shared in processes.run(shown, 2):
        assert len(kinds) == 8 * 4  # m, v, the last gradient and the last values
        assert all(kinds)
        assert plain == ["is_kept", "is_valid", "skipped", "step"]
        assert is_shared


def copied():
    spread, tower = start("fsdp", TOWERS["Adam 1"])
    spread.train(tower, range(2))
    tower.zero_grad()  # torch can't copy gradients that are DTensors
    parameters, other = copy.deepcopy((list(spread.model.parameters()), tower))
    for p, q in zip(parameters, spread.model.parameters(), strict=True):
        q.grad = torch.ones_like(q)
        p.grad = torch.ones_like(p)
    tower.step()
    other.step()
    torch.save(tower.state_dict(), io.BytesIO())
    return read(tower) == read(other), all(
        torch.equal(p.full_tensor(), q.full_tensor())
        for p, q in zip(parameters, spread.model.parameters(), strict=True)
    )


def test_a_copy_goes_the_same_way(processes):
    assert processes.run(copied, 2) == [(True, True)] * 2


def placed_otherwise():
    """A state of whole tensors, and one of DTensors by columns, are loaded by rows."""
    spread, tower = start("fsdp", TOWERS["AdamW 1"])
    spread.train(tower, range(3))
    state = tower.state_dict()

    def changed(change):
        stores = {
            i: {k: change(x) if isinstance(x, DTensor) else x for k, x in store.items()}
            for i, store in state["state"].items()
        }
        return state | {"state": stores}

    def by_columns(x):
        return x.redistribute(placements=[Shard(x.dim() - 1)])

    same = []
    for change in (DTensor.full_tensor, by_columns):
        other = start("fsdp", TOWERS["AdamW 1"])[1]
        other.load_state_dict(changed(change))
        kept = [
            (store[key], theirs[key])
            for store, theirs in zip(tower.state.values(), other.state.values(), strict=True)
            for key in ("exp_avg", "exp_avg_sq", "previous_gradient", "previous_parameter")
        ]
        same.append(all(torch.equal(x, y) for x, y in kept))
    alone = start("one", TOWERS["AdamW 1"])[1]
    alone.load_state_dict(state)  # whole, where the parameters are
    whole = [x.full_tensor() for store in state["state"].values() for x in list(store.values())[:4]]
    theirs = [x for store in alone.state.values() for x in list(store.values())[:4]]
    return [*same, all(torch.equal(x, y) for x, y in zip(whole, theirs, strict=True))]


def test_a_state_that_lies_otherwise_is_brought_where_the_parameters_are(processes):
    assert processes.run(placed_otherwise, 2) == [[True] * 3] * 2


def of_another_shape():
    tower = start("fsdp", TOWERS["Adam 1"])[1]
    other = Spread("fsdp", 2 * HIDDEN).tower(TOWERS["Adam 1"], safeguards=SAFE)
    with pytest.raises(gdtuo.GdtuoError, match=r"exp_avg of shape \[8, 6\] .* \[16, 6\]"):
        other.load_state_dict(tower.state_dict())


def test_the_state_of_another_model_is_refused(processes):
    processes.run(of_another_shape, 2)
