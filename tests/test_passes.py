"""What is done to the graph of a step before loops are made of it."""

from collections import Counter

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import gdtuo
from gdtuo import compiled, passes

aten = torch.ops.aten


def changed(function, *inputs):
    """The calls of the graph before and after, and that it is the same function."""
    graph = make_fx(function, tracing_mode="symbolic")(*inputs)
    before = Counter(node.target for node in graph.graph.nodes)
    passes.divide_once(graph.graph)
    passes.compute_scalars_once(graph.graph)
    graph.graph.lint()
    graph.recompile()
    torch.testing.assert_close(graph(*inputs), function(*inputs))
    return before, Counter(node.target for node in graph.graph.nodes)


def step(x, s):
    root = x.sqrt()
    return x / root + (x + 1) / root, x / s.pow(3)


@pytest.mark.parametrize("shapes", [((7,), ()), ((3, 7), (3, 1))], ids=["one", "an ensemble"])
def test_scalars_and_inverses_are_computed_once(shapes):
    before, after = changed(step, *(torch.rand(shape, dtype=torch.float64) for shape in shapes))
    assert before[aten.div.Tensor] == 3
    assert after[aten.div.Tensor] == 0
    assert after[aten.reciprocal.default] == 2  # of the root, and of the power
    assert after[aten.as_strided.default] == 1


def test_a_single_quotient_stays_one():
    before, after = changed(lambda x, y: x / (y + 1), torch.rand(7), torch.rand(7))
    assert before == after


def test_an_entry_of_a_vector_is_read_where_it_is():
    """A view by strides alone would be of the first entry."""
    x, h = torch.rand(7), torch.tensor([2.0, 3.0])
    _, after = changed(lambda x, h: x * h.unbind()[1], x, h)
    assert after[aten.as_strided.default] == 0


@pytest.mark.skipif(
    not hasattr(torch._dynamo.types, "GuardFilterEntry"), reason="this torch can't be told"
)
def test_a_level_adds_nothing_to_look_at_at_each_call(monkeypatch):
    """A graph is one tower's kind, so its rules are not compared again with those it was made for:
    that took most of a level's time."""
    kept = []
    of_tensors = passes._of_tensors

    def counted(guards):
        keep = of_tensors(guards)
        kept.append((sum(keep), len(keep)))
        return keep

    monkeypatch.setattr(passes, "_of_tensors", counted)
    compiled._graph.cache_clear()
    for height in (1, 4):
        weight = torch.nn.Parameter(torch.ones(3))
        rule = gdtuo.parse("SGD(0.01)" + " / SGD(1e-3)" * height)
        tower = gdtuo.Tower([weight], rule, compile="eager")
        for _ in range(4):
            weight.grad = torch.ones(3)
            tower.step()
    compiled._graph.cache_clear()  # other tests count what is in it
    # torch asks twice about each graph.
    low, high = kept[0], kept[-1]
    assert low[0] == high[0] > 0
    assert high[1] > low[1] + 3
