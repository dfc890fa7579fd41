"""A small GPT on characters, its parameters and its tower's state sharded over processes (FSDP2).

    torchrun --nproc-per-node 2 examples/train_fsdp.py
    torchrun --nproc-per-node 8 examples/train_fsdp.py --text war_and_peace.txt --width 512

On a CPU the processes talk by gloo, on GPUs by nccl. Every rank draws the same batch and takes its
part of it, so that as many ranks as you like train the same run, to rounding. The same command
goes on from the last checkpoint, on another number of ranks too.

What a tower adds to the training loop of any optimizer is one line, the one that makes it.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.fsdp import fully_shard

import gdtuo

SONNETS = Path(__file__).parents[1] / "experiments" / "texts" / "sonnets.txt"


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.transpose(1, 3).unbind(2)  # [batch, heads, length, width / heads] each
        attended = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    def __init__(self, characters: int, length: int, width: int, blocks: int, heads: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, characters)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x) + self.position
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).flatten(0, 1))  # of all characters in all sequences


def batch_at(step: int, text: Tensor, batch: int, length: int) -> Tensor:
    """This rank's part of a batch that depends on the step alone: [batch / ranks, length + 1]."""
    generator = torch.Generator().manual_seed(step)
    starts = torch.randint(len(text) - length, (batch,), generator=generator)
    starts = starts.chunk(dist.get_world_size())[dist.get_rank()]
    return torch.stack([text[start : start + length + 1] for start in starts])


def checkpoints(folder: Path) -> list[Path]:
    """Those that are complete, the last one last: their metadata is written when all is there."""
    return sorted(path.parent for path in folder.glob("step-*/.metadata"))


def train(options: argparse.Namespace, device: torch.device) -> None:
    written = options.text.read_text(encoding="utf-8")
    characters = {character: i for i, character in enumerate(sorted(set(written)))}
    text = torch.tensor([characters[character] for character in written])
    torch.manual_seed(0)  # the same first weights on every rank
    model = GPT(len(characters), options.length, options.width, options.blocks, heads=4).to(device)
    for block in model.blocks:
        fully_shard(block)
    fully_shard(model)
    # A step size that is too small, and what mends it. The guard skips a step that is not finite.
    rule = gdtuo.Adam(1e-4, optimizer=gdtuo.SGD(1e-6))
    tower = gdtuo.Tower(model.parameters(), rule, safeguards=gdtuo.Safeguards(guard=100))

    first = 0
    if options.checkpoints and (found := checkpoints(options.checkpoints)):
        load(model, tower, found[-1])
        first = int(found[-1].name.removeprefix("step-"))
        say(f"goes on from {found[-1]}")
    start = time.perf_counter()
    for step in range(first + 1, options.steps + 1):
        part = batch_at(step, text, options.batch, options.length).to(device)
        tower.zero_grad()
        logits = model(part[:, :-1])
        loss = nn.functional.cross_entropy(logits, part[:, 1:].flatten())
        loss.backward()
        tower.step()
        if step % options.report == 0 or step == options.steps:
            mean = loss.detach().clone()
            dist.all_reduce(mean)
            seconds = (time.perf_counter() - start) / (step - first)
            lr = tower.hyperparameters()[0]["lr"]
            say(
                f"step {step}/{options.steps}: loss {mean.item() / dist.get_world_size():.4f}, "
                f"learned lr {lr:.6f}, {seconds:.3f} seconds a step"
            )
        if options.checkpoints and (step % options.save == 0 or step == options.steps):
            save(model, tower, options.checkpoints / f"step-{step:08}")


def save(model: nn.Module, tower: gdtuo.Tower, folder: Path) -> None:
    model_state, tower_state = get_state_dict(model, tower)
    dcp.save({"model": model_state, "tower": tower_state}, checkpoint_id=folder)


def load(model: nn.Module, tower: gdtuo.Tower, folder: Path) -> None:
    model_state, tower_state = get_state_dict(model, tower)  # what is to be filled
    state = {"model": model_state, "tower": tower_state}
    dcp.load(state, checkpoint_id=folder)
    set_state_dict(model, tower, model_state_dict=state["model"], optim_state_dict=state["tower"])


def say(line: str) -> None:
    if dist.get_rank() == 0:
        print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--text", type=Path, default=SONNETS, help="a file; a few sonnets")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=32, help="of all ranks together")
    parser.add_argument("--length", type=int, default=64, help="of a sequence, in characters")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--report", type=int, default=20, help="every so many steps")
    parser.add_argument("--checkpoints", type=Path, help="a folder; without, none are left")
    parser.add_argument("--save", type=int, default=100, help="every so many steps")
    options = parser.parse_args()
    if "LOCAL_RANK" not in os.environ:
        parser.error("start it by torchrun --nproc-per-node 2 examples/train_fsdp.py")
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        train(options, device)
    finally:
        dist.destroy_process_group()
    # One of gloo's threads may let go of the last tensor while the interpreter is being taken down,
    # where torch 2.13 aborts. All is written, so the process ends at once.
    os._exit(0)


if __name__ == "__main__":
    main()
