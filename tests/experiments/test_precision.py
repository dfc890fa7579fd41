"""What a processor lacks in bfloat16 is computed by way of float32."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from experiments.tasks.char_rnn import CharRnn
from experiments.tasks.convnet import ConvNet
from experiments.tasks.precision import NATIVE, ByWayOfFloat32, mixed_precision
from experiments.tasks.task import Task

HALF_A_STEP = 2**-8  # at most this far is a number from the bfloat16 next to it, relatively
CHOICES = list(itertools.product((1, 2), (0, 1), (1, 2)))
OPTIONS = {"batch": 64, "width": 4, "autocast": "bfloat16", "epoch_steps": 2, "tested": 64}


@pytest.fixture
def without(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")


def first(results) -> Tensor:
    return results if isinstance(results, Tensor) else results[0]


def computed(way, function, operands: list[Tensor], gradient: Tensor) -> list[Tensor]:
    """What comes out, and the gradient of each of the operands along `gradient` of the first."""
    leaves = [operand.clone().requires_grad_() for operand in operands]
    with way():
        results = function(*leaves)
    first(results).backward(gradient.to(first(results).dtype))
    results = [results] if isinstance(results, Tensor) else results
    return [*results, *(leaf.grad for leaf in leaves)]


def check(function, operands: list[Tensor]) -> None:
    """What is computed is rounded, and is float64's of rounded operands; gradients likewise."""
    gradient = torch.randn_like(first(function(*operands))).bfloat16()
    found = computed(mixed_precision("cpu", "bfloat16"), function, operands, gradient)
    rounded = [operand.bfloat16().double() for operand in operands]
    exact = computed(mixed_precision("cpu", "none"), function, rounded, gradient)
    assert found[0].dtype == torch.bfloat16
    assert {leaf.dtype for leaf in found[-len(operands) :]} == {torch.float32}
    for ours, theirs in zip(found, exact, strict=True):
        assert torch.equal(ours, ours.bfloat16().to(ours.dtype))
        torch.testing.assert_close(ours.double(), theirs, rtol=HALF_A_STEP, atol=1e-5)


@pytest.mark.parametrize(("stride", "padding", "groups"), CHOICES)
def test_of_a_convolution_operands_and_results_are_rounded(without, stride, padding, groups):
    torch.manual_seed(0)
    operands = [torch.randn(6, 8, 9, 9), torch.randn(10, 8 // groups, 3, 3), torch.randn(10)]
    options = {"stride": stride, "padding": padding, "groups": groups}
    check(lambda *operands: nn.functional.conv2d(*operands, **options), operands)


def test_of_a_matrix_product_too(without):
    torch.manual_seed(0)
    check(nn.functional.linear, [torch.randn(6, 8), torch.randn(10, 8), torch.randn(10)])


def test_of_recurrent_layers_too(without):
    torch.manual_seed(0)
    for kind, states in ((nn.LSTM, 2), (nn.GRU, 1)):
        weights = [w.detach() for w in kind(8, 6, 2).parameters()]
        operands = [torch.randn(5, 7, 8), *(torch.randn(2, 5, 6) for _ in range(states)), *weights]

        def function(x, *others, kind=kind, states=states):
            carried, weights = others[:states], list(others[states:])
            layers = torch.lstm if kind is nn.LSTM else torch.gru
            state = carried if kind is nn.LSTM else carried[0]
            return layers(x, state, weights, True, 2, 0.0, True, False, True)

        check(function, operands)


def test_the_result_is_that_of_torch_in_bfloat16():
    torch.manual_seed(0)
    images, weight, bias = torch.randn(6, 8, 9, 9), torch.randn(10, 8, 3, 3), torch.randn(10)
    with torch.autocast("cpu", torch.bfloat16):
        native = nn.functional.conv2d(images, weight, bias)
        with ByWayOfFloat32([torch.conv2d]):
            ours = nn.functional.conv2d(images, weight=weight, bias=bias)
    assert ours.dtype == native.dtype == torch.bfloat16
    assert (ours != native).float().mean() < 0.01  # rounded the other way
    torch.testing.assert_close(ours, native, rtol=2 * HALF_A_STEP, atol=1e-3)


def test_what_a_processor_has_is_left_alone(monkeypatch):
    for unit, native in ((NATIVE, True), ("AVX2", False), ("DEFAULT", False)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda unit=unit: unit)
        with mixed_precision("cpu", "bfloat16")():
            assert torch.is_autocast_enabled("cpu")
            [mode] = torch.overrides._get_current_function_mode_stack()
        assert (torch.lstm not in mode.functions) == native
        assert (torch.conv2d not in mode.functions) == native
        assert torch.gru in mode.functions
    with mixed_precision("cpu", "none")():
        assert not torch.overrides._get_current_function_mode_stack()


def trained(task: Task, optimizer: torch.optim.Optimizer, metric: str) -> list[float]:
    """The last loss of an epoch, and what the test set says after it."""
    task.begin()
    for step in range(task.steps):
        optimizer.zero_grad()
        loss = task.loss(step)
        loss.backward()
        optimizer.step()
    return [loss.item(), task.evaluate()[metric]]


def test_a_network_trains_as_with_native_ones(monkeypatch):
    losses = []
    for capability in (NATIVE, "AVX2"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda it=capability: it)
        task = ConvNet("digits", 0, "cpu", **OPTIONS)
        optimizer = torch.optim.SGD(task.model.parameters(), lr=0.1)
        losses.append(trained(task, optimizer, "test_loss"))
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_recurrent_network_is_trained_in_it_anywhere(cell):
    """On this processor, whatever it has: an LSTM's results are torch's own where there are any."""
    losses = []
    for autocast in ("none", "bfloat16"):
        options = {"batch": 8, "sequence": 16, "hidden": 16, "epoch_steps": 10, "cell": cell}
        task = CharRnn("sonnets", 0, "cpu", autocast=autocast, **options)
        optimizer = torch.optim.Adam(task.model.parameters(), lr=0.01)
        losses.append(trained(task, optimizer, "test_perplexity"))
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


# Loading the compiler, torch warns of what it has deprecated itself.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_they_can_be_compiled(without):
    plain = ConvNet("digits", 0, "cpu", **OPTIONS)
    torch.compiler.reset()
    fast = ConvNet("digits", 0, "cpu", **OPTIONS, compile=True)
    for task in (plain, fast):
        task.begin()
    torch.testing.assert_close(plain.loss(0), fast.loss(0), rtol=0.01, atol=0)


def test_networks_that_are_stacked_can_have_them(without):
    torch.manual_seed(0)
    images, weights = torch.randn(6, 8, 9, 9), torch.randn(3, 10, 8, 3, 3)
    with mixed_precision("cpu", "bfloat16")():
        stacked = torch.vmap(nn.functional.conv2d, (None, 0))(images, weights)
        alone = torch.stack([nn.functional.conv2d(images, weight) for weight in weights])
    assert stacked.dtype == torch.bfloat16
    torch.testing.assert_close(stacked, alone, rtol=2 * HALF_A_STEP, atol=1e-3)
