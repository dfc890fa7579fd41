"""A small vision transformer."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from experiments.tasks.gpt import Block, initialize
from experiments.tasks.images import ImageTask


class Transformer(nn.Module):
    """Square patches as a sequence with learned positions, blocks, and the mean over the patches.

    Normalization comes first in each block, and before the one linear layer at the end; the initial
    weights are GPT-2's.
    """

    def __init__(
        self, side: int, patch: int, width: int, layers: int, heads: int, classes: int
    ) -> None:
        super().__init__()
        self.patch = patch
        self.embedding = nn.Linear(3 * patch**2, width)
        self.positions = nn.Embedding((side // patch) ** 2, width)
        self.blocks = nn.Sequential(*(Block(width, heads, causal=False) for _ in range(layers)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)
        initialize(self)

    def forward(self, images: Tensor) -> Tensor:
        patches = nn.functional.unfold(images, self.patch, stride=self.patch).transpose(1, 2)
        x = self.embedding(patches) + self.positions.weight
        return self.head(self.norm(self.blocks(x)).mean(dim=1))


class ViT(ImageTask):
    """Patches of images under attention; without convolutions or batch normalization.

    Options:
        batch: images in a batch.
        patch: pixels along an edge of a patch, which the images' edge is a multiple of.
        width, layers, heads: of the network; with the defaults a step takes tens of milliseconds.
        autocast, channels_last, compile, epoch_steps, tested: `ImageTask.shared`.
    """

    version = 1
    options = {  # noqa: RUF012
        "batch": 64, "patch": 4, "width": 64, "layers": 2, "heads": 4, **ImageTask.shared,
    }  # fmt: skip

    def network(self, chosen: Mapping[str, Any]) -> nn.Module:
        sizes = (chosen[name] for name in ("patch", "width", "layers", "heads"))
        classes = int(self.data.train_targets.max()) + 1
        return Transformer(self.data.train_inputs.shape[-1], *sizes, classes)
