"""A small transformer on characters."""

from typing import Any

import torch
from torch import Tensor, nn

from experiments import data as datasets
from experiments.tasks.char_rnn import TEST, TRAIN
from experiments.tasks.precision import mixed_precision
from experiments.tasks.task import Figures, Task


class Block(nn.Module):
    """Attention, then a perceptron, each of the normalised input and added to it.

    Attention is to what came before if `causal`, else to everything.
    """

    def __init__(self, width: int, heads: int, causal: bool = True) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = self.attention(self.before_attention(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=self.causal)
        x = x + self.joined(seen.transpose(1, 2).flatten(2))
        return x + self.mlp(self.before_mlp(x))


def initialize(model: nn.Module) -> None:
    """GPT-2's initial weights."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)


class CharGPT(nn.Module):
    """GPT-2 in small: learned positions, normalization first, its initial weights, no dropout."""

    def __init__(self, characters: int, length: int, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.characters = nn.Embedding(characters, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, characters))
        initialize(self)

    def forward(self, x: Tensor) -> Tensor:
        """The logits of the next character, at each place of each row."""
        places = self.positions.weight[: x.shape[1]]
        return self.head(self.blocks(self.characters(x) + places))


class Gpt(Task):
    """A transformer that predicts the next character; the metric is perplexity on the text's end.

    A batch is of sequences from anywhere in the first part of the text.

    Options:
        batch, sequence: rows, and characters in each.
        width, layers, heads: of the network; with the defaults a step takes tens of milliseconds.
        epoch_steps: steps from one look at the test set to the next; that is what an epoch is here.
        tested: sequences of the test set that are looked at; a look then takes a few steps' time.
        autocast: "bfloat16" computes the network in mixed precision.
    """

    version = 1
    metric = "test_perplexity"
    options = {  # noqa: RUF012
        "batch": 32, "sequence": 64, "width": 64, "layers": 2, "heads": 4, "epoch_steps": 100,
        "tested": 256, "autocast": "none",
    }  # fmt: skip

    def __init__(self, data: str, seed: int, device: str, **options: Any) -> None:
        chosen = {**self.options, **self.chosen(options)}
        self.batch, self.sequence = chosen["batch"], chosen["sequence"]
        self.steps = chosen["epoch_steps"]
        self.mixed = mixed_precision(device, chosen["autocast"])
        self.data = datasets.load(data, device)
        self.fingerprint = self.data.fingerprint
        text = self.data.characters
        self.text = text[: int(TRAIN * len(text))]
        rows = text[int(TEST * len(text)) :].unfold(0, self.sequence + 1, self.sequence)
        self.tested = rows[: chosen["tested"]]
        # Both streams are the processor's, so that they don't depend on the device.
        self.random = torch.Generator().manual_seed(seed)
        self.starts: Tensor | None = None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            sizes = (chosen[name] for name in ("sequence", "width", "layers", "heads"))
            self.model = CharGPT(self.data.size, *sizes).to(device)

    def begin(self) -> None:
        end = len(self.text) - self.sequence
        self.starts = torch.randint(end, (self.steps, self.batch, 1), generator=self.random)

    def inputs(self, step: int) -> tuple[Tensor, ...]:
        places = self.starts[step] + torch.arange(self.sequence + 1)
        return (self.text[places.to(self.text.device)],)

    def loss_of(self, rows: Tensor) -> Tensor:
        """The mean over all characters but the first of each row."""
        with self.mixed():
            outputs = self.model(rows[:, :-1]).float()
        return nn.functional.cross_entropy(outputs.flatten(0, 1), rows[:, 1:].flatten())

    @torch.no_grad()
    def evaluate(self) -> Figures:
        parts = self.tested.split(self.batch)
        total = sum(self.loss_of(rows).double() * len(rows) for rows in parts)
        return {"test_perplexity": (total / len(self.tested)).exp().item()}

    def state(self) -> dict[str, Any]:
        return {"starts": self.starts, "random": self.random.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.starts = state["starts"]
        self.random.set_state(state["random"])
