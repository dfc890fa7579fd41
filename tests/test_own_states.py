"""The state of a rule of one's own: tried, handed on, of its own dtype, called what one likes."""

import copy

import pytest
import torch
from torch import nn

import gdtuo
from tests.problem import make_model, train


@pytest.mark.parametrize("by_name", [False, True])
def test_a_state_is_tried_in_two_dtypes(by_name):
    """And made once for each tensor, the learned coordinates beneath an upper level among them."""
    shapes = []

    class Noted(gdtuo.Rule):
        lr: float = gdtuo.hyperparameter(default=0.1)
        elementwise = True

        def init(self, w):
            shapes.append(tuple(w.shape))
            return {"m": torch.zeros_like(w)}

        def update(self, g, state, h):
            return h.lr * g, state

    gdtuo.Tower(nn.Parameter(torch.ones(5)), Noted())
    assert shapes == [(3,), (3,), (5,)]
    shapes.clear()  # and not again for another group or tower of the same rule
    gdtuo.Tower([{"params": nn.Parameter(torch.ones(n))} for n in (5, 7)], Noted())
    assert shapes == [(5,), (7,)]
    shapes.clear()
    lr = {"lr": 0.1} if by_name else 0.1
    gdtuo.Tower(nn.Parameter(torch.ones(5)), gdtuo.SGD(optimizer=Noted(lr)))
    tried = (1,) if by_name else (3,)
    assert shapes == [tried, tried, (1,)]


@pytest.mark.parametrize("state", [None, {"m": 0.0}])
def test_a_state_is_of_tensors(state):
    class Stateless(gdtuo.Rule):
        lr: float = gdtuo.hyperparameter(default=0.1)

        def init(self, w):
            return state

        def update(self, g, state, h):
            return h.lr * g, state

    with pytest.raises(gdtuo.GdtuoError, match=r"Stateless\.init returns .* dictionary of tensors"):
        gdtuo.Tower(make_model().parameters(), Stateless())


class TwoBack(gdtuo.Rule):
    """w <- w - lr (g + the last g / 2 + the one before / 4): its state is handed on as it is."""

    lr: float = gdtuo.hyperparameter(default=0.01)
    elementwise = True

    def init(self, w):
        zero = torch.zeros_like(w)
        return {"last": zero, "before": zero}

    def update(self, g, state, h):
        step = h.lr * (g + state["last"] / 2 + state["before"] / 4)
        return step, {"last": g, "before": state["last"].view_as(g)}


class Anchored(gdtuo.Rule):
    """w <- w - lr (g + w - w_0), whose state is the tensor it was made of."""

    lr: float = gdtuo.hyperparameter(default=0.1)
    elementwise = True

    def init(self, w):
        return {"anchor": w}

    def update(self, g, state, h, w):
        return h.lr * (g + w - state["anchor"]), state


@pytest.mark.parametrize("compile", [False, "aot_eager"])
@pytest.mark.parametrize("size", [10, gdtuo.cell.PIECE + 1], ids=["small", "in pieces"])
@pytest.mark.parametrize("learned", [False, True], ids=["plain", "learned"])
def test_memory_that_is_handed_on_is_not_written_to(learned, size, compile):
    """By the last two gradients as numbers."""
    w = torch.zeros(size, dtype=torch.float64, requires_grad=True)
    rule = TwoBack(1.0, optimizer=gdtuo.SGD(0.0)) if learned else TwoBack(1.0)
    tower = gdtuo.Tower([w], rule, compile=compile)
    expected, steps, gradients = 0.0, [0.0], [0.0, 0.0]
    for k in range(6):
        w.grad = torch.full_like(w, 10.0**k)
        tower.step()
        gradients.append(10.0**k)
        steps.append(gradients[-1] + gradients[-2] / 2 + gradients[-3] / 4)
        expected -= steps[-1]
    torch.testing.assert_close(w.detach(), torch.full_like(w, expected))
    if learned:
        found = tower.hypergradients()[0]["lr"]
        assert found == pytest.approx(-size * gradients[-1] * steps[-2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("per", ["group", "tensor"])
@pytest.mark.parametrize("shapes", [[3], [3, 2], [gdtuo.cell.PIECE + 1]], ids=str)
def test_a_first_state_is_no_parameter_itself(shapes, per, dtype):
    parameters = [torch.ones(shape, dtype=dtype, requires_grad=True) for shape in shapes]
    tower = gdtuo.Tower(parameters, Anchored(), per=per)
    for _ in range(50):
        for p in parameters:
            p.grad = torch.ones_like(p)
        tower.step()
    for p in parameters:  # it goes to w_0 - 1
        torch.testing.assert_close(p.detach(), torch.zeros_like(p), rtol=0, atol=0.02)


@pytest.mark.parametrize("name", ["g", "w", "along", "lr_factor"])
def test_a_compiled_step_takes_no_state_for_something_else(name):
    """Beside what is kept a graph is given gradients, parameters and a schedule's factor."""

    class Last(gdtuo.Rule):
        lr: float = gdtuo.hyperparameter(default=0.02)
        elementwise = True

        def init(self, w):
            return {name: torch.zeros_like(w)}

        def update(self, g, state, h):
            return h.lr * (g + 0.5 * state[name]), {name: g}

    runs = []
    for compile in (False, "eager"):
        model = make_model()
        tower = gdtuo.Tower(model.parameters(), Last(optimizer=gdtuo.SGD(1e-4)), compile=compile)
        runs.append(train(model, tower, 6))
    assert runs[1] == pytest.approx(runs[0], rel=1e-12)


class Summing(gdtuo.Rule):
    """w <- w - lr (m + s / 8) / n, with a count n and, whatever w is, a sum s in float64."""

    lr: float = gdtuo.hyperparameter(default=0.02)
    elementwise = True

    def init(self, w):
        n = torch.zeros((), dtype=torch.int64)
        return {"n": n, "sum": torch.zeros_like(w, dtype=torch.float64), "m": torch.zeros_like(w)}

    def update(self, g, state, h):
        n, total, m = state["n"] + 1, state["sum"] + g.double(), state["m"] / 2 + g
        return h.lr * (m + total.to(g) / 8) / n, {"n": n, "sum": total, "m": m}


@pytest.mark.parametrize("compile", [False, "eager"])
def test_a_state_of_its_own_dtype_keeps_it(compile):
    def make():
        model = make_model(torch.float32)
        rule = Summing(optimizer=Summing(1e-6))
        return model, gdtuo.Tower(model.parameters(), rule, compile=compile)

    model, tower = make()
    train(model, tower, 5, dtype=torch.float32)
    again, other = make()
    again.load_state_dict(model.state_dict())
    other.load_state_dict(copy.deepcopy(tower.state_dict()))
    losses = train(model, tower, 4, start=5, dtype=torch.float32)
    assert train(again, other, 4, start=5, dtype=torch.float32) == losses
    for each in (tower, other):
        stores = [*each.state.values(), *each.param_groups]
        sums = [x for store in stores for key, x in store.items() if key.endswith("sum")]
        assert len(sums) == 5
        assert {x.dtype for x in sums} == {torch.float64}


@pytest.mark.parametrize("compile", [False, "eager"])
def test_a_trace_stands_beside_a_count(compile):
    """Whose dtype is not that of the coordinates."""
    rule = Summing(learn=["lr"], coordinates={"lr": "log"}, trace=0.5, optimizer=gdtuo.SGD(1e-3))
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), rule, compile=compile)
    train(model, tower, 5)
    assert tower.hyperparameters()[0]["lr"] != 0.02
