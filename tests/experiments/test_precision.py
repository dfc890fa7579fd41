"""Where torch has no fast convolutions in bfloat16, float32 ones take their place."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from experiments.tasks.convnet import ConvNet
from experiments.tasks.precision import NATIVE, Convolutions, mixed_precision

HALF_A_STEP = 2**-8  # at most this far is a number from the bfloat16 next to it, relatively
CHOICES = list(itertools.product((1, 2), (0, 1), (1, 2)))
OPTIONS = {"batch": 64, "width": 4, "autocast": "bfloat16", "epoch_steps": 2, "tested": 64}


@pytest.fixture(params=[NATIVE, "AVX2"])
def unit(request, monkeypatch):
    """The vector unit that torch says it has."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: request.param)
    return request.param


@pytest.fixture
def without(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")


def convolved(way, operands: list[Tensor], gradient: Tensor, **options) -> list[Tensor]:
    """The result, and the gradient of each of the operands."""
    leaves = [operand.clone().requires_grad_() for operand in operands]
    with way():
        result = nn.functional.conv2d(*leaves, **options)
    result.backward(gradient.to(result.dtype))
    return [result, *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize(("stride", "padding", "groups"), CHOICES)
def test_what_is_multiplied_is_rounded_and_so_is_each_result(without, stride, padding, groups):
    torch.manual_seed(0)
    operands = [torch.randn(6, 8, 9, 9), torch.randn(10, 8 // groups, 3, 3), torch.randn(10)]
    options = {"stride": stride, "padding": padding, "groups": groups}
    gradient = torch.randn(nn.functional.conv2d(*operands, **options).shape).bfloat16()
    found = convolved(mixed_precision("cpu", "bfloat16"), operands, gradient, **options)
    rounded = [operand.bfloat16().double() for operand in operands]
    exact = convolved(mixed_precision("cpu", "none"), rounded, gradient, **options)
    assert [each.dtype for each in found] == [torch.bfloat16, *[torch.float32] * 3]
    for ours, theirs in zip(found, exact, strict=True):
        assert torch.equal(ours, ours.bfloat16().to(ours.dtype))
        torch.testing.assert_close(ours.double(), theirs, rtol=HALF_A_STEP, atol=1e-5)


def test_the_result_is_that_of_torch_in_bfloat16():
    torch.manual_seed(0)
    images, weight, bias = torch.randn(6, 8, 9, 9), torch.randn(10, 8, 3, 3), torch.randn(10)
    with torch.autocast("cpu", torch.bfloat16):
        native = nn.functional.conv2d(images, weight, bias)
        with Convolutions():
            ours = nn.functional.conv2d(images, weight=weight, bias=bias)
    assert ours.dtype == native.dtype == torch.bfloat16
    assert (ours != native).float().mean() < 0.01  # rounded the other way
    torch.testing.assert_close(ours, native, rtol=2 * HALF_A_STEP, atol=1e-3)


def test_native_ones_are_left_alone(unit):
    with mixed_precision("cpu", "bfloat16")():
        assert torch.is_autocast_enabled("cpu")
        modes = torch.overrides._get_current_function_mode_stack()
    assert [type(mode) for mode in modes] == ([] if unit == NATIVE else [Convolutions])
    with mixed_precision("cpu", "none")():
        assert not torch.overrides._get_current_function_mode_stack()


def test_a_network_trains_as_with_native_ones(monkeypatch):
    losses = []
    for capability in (NATIVE, "AVX2"):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda it=capability: it)
        task = ConvNet("digits", 0, "cpu", **OPTIONS)
        optimizer = torch.optim.SGD(task.model.parameters(), lr=0.1)
        task.begin()
        for step in range(task.steps):
            optimizer.zero_grad()
            loss = task.loss(step)
            loss.backward()
            optimizer.step()
        losses.append([loss.item(), task.evaluate()["test_loss"]])
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


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
