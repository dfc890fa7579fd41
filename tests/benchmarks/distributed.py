"""What a tower costs under FSDP2, its sum over ranks apart: the tables of docs/distributed.md.

OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 -m tests.benchmarks.distributed

The example's GPT, on a CPU by gloo; all sides in turns, in one process group.
"""

from __future__ import annotations

import functools
import runpy
import statistics
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard

import gdtuo
from tests.benchmarks.race import Race, settings

GPT = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "train_fsdp.py"))["GPT"]
RULE = gdtuo.parse("Adam(1e-4) / SGD(1e-9)")
MUON = gdtuo.parse("Muon(1e-4) / SGD(1e-9)")
ROUNDS = 20


def muon(parameters, **options):
    matrices = [p for p in parameters if p.dim() == 2]
    rest = {"params": [p for p in parameters if p.dim() != 2], "rule": RULE}
    return gdtuo.Tower([{"params": matrices}, rest], MUON, **options)


OPTIMIZERS = {
    "torch.optim.Adam": functools.partial(torch.optim.Adam, lr=1e-4, foreach=True),
    "Adam / SGD": lambda parameters: gdtuo.Tower(parameters, RULE),
    "Adam / SGD, compiled": lambda parameters: gdtuo.Tower(parameters, RULE, compile=True),
    "Muon / SGD": muon,
}


def measure(width: int, blocks: int, batch: int) -> None:
    length = 64
    x = torch.randint(64, (batch, length + 1))
    training, stepping = {}, {}
    for name, make in OPTIMIZERS.items():
        torch.manual_seed(0)
        model = GPT(64, length, width, blocks, 4)
        elements = sum(p.numel() for p in model.parameters())
        for block in model.blocks:
            fully_shard(block)
        fully_shard(model)
        optimizer = make(list(model.parameters()))

        def train(model=model, optimizer=optimizer):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[:, :-1]), x[:, 1:].flatten()).backward()
            optimizer.step()

        training[name], stepping[name] = train, optimizer.step
    alone = GPT(64, length, width, blocks, 4)  # on each rank for itself: what is not communication
    nn.functional.cross_entropy(alone(x[:, :-1]), x[:, 1:].flatten()).backward()
    stepping["Muon / SGD, not sharded"] = muon(list(alone.parameters())).step
    numbers = [torch.zeros(3), torch.zeros(())]
    stepping["the sum alone"] = lambda: optimizer._ranks.sums(numbers)
    for what, sides in (("training step", training), ("`step()` alone", stepping)):
        if sides is stepping:
            training["torch.optim.Adam"]()  # so that there are gradients
        race = Race(sides, warm=False).run(ROUNDS)
        if dist.get_rank() == 0:
            medians = {name: statistics.median(each) for name, each in race.seconds.items()}
            base = medians["torch.optim.Adam"]
            print(f"{what}, {elements / 1e6:.1f} million parameters, {batch} sequences a rank")
            for name, median in medians.items():
                print(f"  {name}: {1e3 * median:.3f} ms, {median / base:.2f}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    dist.init_process_group("gloo")
    if dist.get_rank() == 0:
        print(settings())
    measure(width=64, blocks=2, batch=16)
    measure(width=256, blocks=4, batch=4)
    dist.destroy_process_group()
