"""The problem of the distributed tests, and the ways in which a model is spread over ranks."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

import gdtuo
from gdtuo import Rule, Safeguards
from tests.problem import numbers
from tests.rules_table import ROWS, homogeneous

#: of a group of gradients, for a rule that takes matrices only
REST = gdtuo.parse("AdamW(0.01) / SGD(1e-4)")

#: every rule of the table on itself, to height 3, and Muon, which stands at level 0 only
TOWERS: dict[str, Rule] = {
    f"{row.name} {height}": homogeneous(row.pronounced, height)
    for row in ROWS
    for height in (range(4) if row.rule.elementwise else range(1))
} | {
    "Muon 1": gdtuo.Muon(0.02, learn=["lr", "momentum", "weight_decay"], optimizer=gdtuo.SGD(1e-3)),
    "Muon 0": gdtuo.Muon(0.02),
}


class Model(nn.Module):
    """Normalization, two layers, normalization: of sequences of 4 vectors."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.LayerNorm(6)
        self.first = nn.Linear(6, hidden)
        self.last = nn.Linear(hidden, 5)
        self.end = nn.LayerNorm(5)
        self.double()

    def forward(self, x: Tensor) -> Tensor:
        x = self.end(self.last(torch.tanh(self.first(self.norm(x)))))
        return x.full_tensor() if isinstance(x, DTensor) else x


def loss_at(model: Any, step: int, part: int = 0, parts: int = 1) -> Tensor:
    """Of one of the equal ``parts`` of the batch of a step."""
    generator = torch.Generator().manual_seed(step)
    x = torch.randn(8, 4, 6, generator=generator, dtype=torch.float64)
    y = torch.randint(5, (8, 4), generator=generator)
    x, y = x.chunk(parts)[part], y.chunk(parts)[part]
    return nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())


#: The ways, and the size of the hidden layer in each. 9, 6 and 5 rows are uneven parts: on 4 ranks
#: the last has none of anything.
HIDDEN = {"one": 9, "ddp": 9, "fsdp": 9, "hsdp": 9, "tp": 8, "fsdp and tp": 8, "replicated": 9}


class Spread:
    """A model spread in one of the ways of ``HIDDEN``, and the part of each batch that it sees."""

    def __init__(self, kind: str, hidden: int | None = None) -> None:
        self.model: nn.Module = Model(hidden or HIDDEN[kind])
        self.part, self.parts = 0, 1
        if kind != "one":
            self.part, self.parts = dist.get_rank(), dist.get_world_size()
            getattr(self, kind.replace(" ", "_"))()

    def ddp(self) -> None:
        self.model = nn.parallel.DistributedDataParallel(self.model, gradient_as_bucket_view=True)

    def fsdp(self) -> None:
        self._fully_shard(init_device_mesh("cpu", (self.parts,)))

    def hsdp(self) -> None:
        self._fully_shard(
            init_device_mesh("cpu", (2, self.parts // 2), mesh_dim_names=("replicate", "shard"))
        )

    def tp(self) -> None:
        """The first layer by columns, the last by rows; the first normalization by the sequence, so
        that its gradients are partial sums; the last is left as it is, plain and on all ranks."""
        mesh = init_device_mesh("cpu", (self.parts,))
        self._parallelize(mesh, RowwiseParallel(output_layouts=Replicate()))
        self.part, self.parts = 0, 1

    def fsdp_and_tp(self) -> None:
        mesh = init_device_mesh("cpu", (self.parts // 2, 2), mesh_dim_names=("dp", "tp"))
        plan = {"end": SequenceParallel()}
        self._parallelize(mesh["tp"], RowwiseParallel(output_layouts=Shard(1)), plan)
        self._fully_shard(mesh["dp"])
        self.part, self.parts = self.part // 2, self.parts // 2

    def replicated(self) -> None:
        """DTensors on all ranks beside plain tensors, and the whole batch on each."""
        mesh = init_device_mesh("cpu", (self.parts,))
        for name, p in list(self.model.first.named_parameters()):
            whole = nn.Parameter(distribute_tensor(p.detach(), mesh, [Replicate()]))
            self.model.first.register_parameter(name, whole)
        forward = self.model.first.forward

        def of_dtensors(x: Tensor) -> Tensor:
            return forward(DTensor.from_local(x, mesh, [Replicate()])).to_local()

        self.model.first.forward = of_dtensors
        self.part, self.parts = 0, 1

    def _parallelize(self, mesh: Any, last: Any, plan: dict[str, Any] | None = None) -> None:
        plan = (plan or {}) | {
            "norm": SequenceParallel(),
            "first": ColwiseParallel(input_layouts=Shard(1)),
            "last": last,
        }
        parallelize_module(self.model, mesh, plan)

        def on_all_ranks(module: nn.Module, inputs: tuple[Tensor]) -> Any:
            return DTensor.from_local(inputs[0], mesh, [Replicate()])

        # Plain inputs would be taken for a rank's part of the sequence.
        self.model.norm.register_forward_pre_hook(on_all_ranks, prepend=True)

    def _fully_shard(self, mesh: Any) -> None:
        for layer in (self.model.first, self.model.last, self.model):
            fully_shard(layer, mesh=mesh)

    def tower(self, rule: Rule, **options: Any) -> gdtuo.Tower:
        """Of one group, or two where the rule takes matrices only."""
        named = list(self.model.named_parameters())
        if isinstance(rule, gdtuo.Muon):
            matrices = [(n, p) for n, p in named if p.dim() == 2]
            rest = [(n, p) for n, p in named if p.dim() != 2]
            groups = [{"params": matrices}, {"params": rest, "rule": REST}]
            return gdtuo.Tower(groups, rule, **options)
        return gdtuo.Tower(named, rule, **options)

    def backward(self, step: int) -> None:
        loss_at(self.model, step, self.part, self.parts).backward()

    def synchronizes(self, last: bool) -> None:
        """Whether the next gradients are to be complete, as the last of those accumulated are."""
        if isinstance(self.model, nn.parallel.DistributedDataParallel):
            self.model.require_backward_grad_sync = last  # what `no_sync()` sets
        elif isinstance(self.model, FSDPModule):
            self.model.set_requires_gradient_sync(last)

    def train(self, tower: gdtuo.Tower, steps: range) -> None:
        for step in steps:
            tower.zero_grad()
            self.backward(step)
            tower.step()

    def parameters(self) -> list[float]:
        return numbers([whole(p) for p in self.model.parameters()])


def whole(x: Any) -> Tensor:
    return x.full_tensor() if isinstance(x, DTensor) else x.detach()


def read(tower: gdtuo.Tower) -> list[float]:
    """All hyperparameters and hypergradients."""
    groups = range(len(tower.param_groups))
    return numbers([(tower.hyperparameters(i), tower.hypergradients(i)) for i in groups])


@dataclasses.dataclass(frozen=True)
class Case:
    """A tower to train, and what is done with it."""

    rule: Rule
    per: str = "group"
    safeguards: Safeguards = Safeguards()  # noqa: RUF009
    compile: bool | str = False
    steps: int = 4
    #: a group for each layer, with starts of their own
    by_layer: bool = False
    #: hypergradients along the gradients of another batch
    held_out: bool = False
    #: the gradients of so many batches are accumulated
    batches: int = 1
    #: of more elements, a tensor is updated by itself, and in pieces of so many
    piece: int = 0
    freezes: bool = False
    schedules: bool = False

    def run(self, spread: Spread) -> list[list[float]]:
        """What is learned at each step, and the parameters at the end."""
        values = []
        with contextlib.ExitStack() as stack:
            for constant in ("cell.PIECE", "gathering.PIECE", "tower.PIECE", "compiled.ALONE"):
                if self.piece:
                    stack.enter_context(mock.patch(f"gdtuo.{constant}", self.piece))
            tower = self.tower(spread)
            for step in range(self.steps):
                self.step(spread, tower, step)
                values.append(read(tower))
        return [*values, spread.parameters()]

    def tower(self, spread: Spread) -> gdtuo.Tower:
        options = {"per": self.per, "safeguards": self.safeguards, "compile": self.compile}
        if self.by_layer:
            model: Any = getattr(spread.model, "module", spread.model)
            layers = ((model.first, 0.01), (model.last, 0.02), (model.norm, 0.03), (model.end, 0.0))
            groups = [{"params": layer.parameters(), "lr": lr} for layer, lr in layers]
            return gdtuo.Tower(groups, self.rule, **options)
        return spread.tower(self.rule, **options)

    def step(self, spread: Spread, tower: gdtuo.Tower, step: int) -> None:
        parameters = [p for group in tower.param_groups for p in group["params"]]
        cotangents = None
        if self.held_out:
            spread.backward(100 + step)
            cotangents = [p.grad.clone() for p in parameters]  # DDP writes into its buckets
        tower.zero_grad()
        for i in range(self.batches):
            spread.synchronizes(i == self.batches - 1)
            spread.backward(self.batches * step + i)
        if self.freezes and step in (1, 3):
            (tower.freeze if step == 1 else tower.unfreeze)("lr")
        if self.schedules:
            for group in tower.param_groups:
                group["lr"] = group["unscheduled_lr"] / (1 + step)
        tower.step(cotangents=cotangents)


def trajectories(kind: str, cases: list[Case], hidden: int | None = None) -> Any:
    return [case.run(Spread(kind, hidden)) for case in cases]
