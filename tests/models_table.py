"""Small models, each for what it asks of an optimizer; all take the problem's batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

import gdtuo


class BatchNorm(nn.Module):
    """Buffers that the forward pass changes, an integer among them."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x[:, None])).tanh().flatten(1))


class Lstm(nn.Module):
    """Parameters of which the module keeps a list of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.last = nn.LSTM(2, 4, num_layers=2, batch_first=True), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.lstm(x.view(-1, 3, 2))[0][:, -1])


class Transformer(nn.Module):
    """Attention, layer norms, dropout: the key's bias has no gradient but rounding."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 4), nn.Linear(4, 3)
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout, "gelu", batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layer(self.first(x.view(-1, 3, 2))).mean(1))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(2, 12), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.first(x.view(-1, 3, 2)).chunk(3, dim=-1)
        return self.last(nn.functional.scaled_dot_product_attention(q, k, v).mean(1))


class Embedding(nn.Module):
    """Rows that are never used, or never learned."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.last = nn.Embedding(9, 2, padding_idx=0), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.embedding((4 * x.abs()).long().clamp_max(7)).flatten(1))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.second(self.first(x).tanh()).tanh())


class WeightNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = parametrizations.weight_norm(nn.Linear(6, 8))
        self.last = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x).tanh())


class Scaled(nn.Module):
    """Parameters without a dimension and without an element."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.nothing = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(0, 3))
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x) * self.scale + self.nothing.sum()


class Checkpointed(nn.Module):
    """The forward pass of the layers is made again in the backward pass, dropout and all."""

    def __init__(self, again: bool = True, dropout: float = 0.0) -> None:
        super().__init__()
        self.first, self.last, self.again = nn.Linear(6, 8), nn.Linear(8, 3), again
        self.between = nn.Sequential(nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 8), nn.Tanh())

    def forward(self, x: Tensor) -> Any:
        x = self.first(x)
        x = checkpoint(self.between, x, use_reentrant=False) if self.again else self.between(x)
        return self.last(x)


MODELS: dict[str, Callable[[], nn.Module]] = {
    kind.__name__: kind
    for kind in (
        BatchNorm,
        Lstm,
        Transformer,
        Attention,
        Embedding,
        Tied,
        WeightNorm,
        Scaled,
        Checkpointed,
    )
}


def build(name: str, **options: Any) -> nn.Module:
    """The model of that name, in float64, always from the same start."""
    torch.manual_seed(5)
    return MODELS[name](**options).double()


#: What to train them with: values at which every hypergradient is well away from 0.
TOWERS = {
    "Adam": gdtuo.Adam(0.02, beta1=0.6, beta2=0.8, optimizer=gdtuo.SGD(1e-5)),
    "SGD": gdtuo.SGD(
        0.2, momentum=0.5, optimizer=gdtuo.SGD(1e-3, momentum=0.5, optimizer=gdtuo.SGD(1e-5))
    ),
}


def build_both(name: str, rule: gdtuo.Rule, **options: Any) -> tuple[nn.Module, gdtuo.Tower]:
    """The model of that name, and a tower over its parameters."""
    model = build(name, **options)
    return model, gdtuo.Tower(model.parameters(), rule)


def addresses(model: nn.Module) -> list[tuple[str, int, int]]:
    """Which tensors a model has, and where."""
    parameters = model.named_parameters(remove_duplicate=False)
    return [(name, id(t), t.data_ptr()) for name, t in (*parameters, *model.named_buffers())]
