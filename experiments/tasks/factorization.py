"""A matrix of low rank, found from some of its entries."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from experiments.tasks.order import OrderedTask
from experiments.tasks.task import Figures

# Of the initial factors: products are near 0, as one answers who knows nothing.
DEVIATION = 0.1


class Factors(nn.Module):
    """A vector for each row and each column; an entry is their inner product."""

    def __init__(self, rows: int, columns: int, rank: int) -> None:
        super().__init__()
        self.rows, self.columns = nn.Embedding(rows, rank), nn.Embedding(columns, rank)
        for table in (self.rows, self.columns):
            nn.init.normal_(table.weight, std=DEVIATION)

    def forward(self, places: Tensor) -> Tensor:
        return (self.rows(places[:, 0]) * self.columns(places[:, 1])).sum(dim=1)


class Factorization(OrderedTask):
    """Matrix completion by two tables of factors; the metric is the squared error of other entries.

    It classifies nothing, its gradients are zero for whatever a batch has no entry of, and its
    weights start beside a saddle point.

    Options:
        batch: entries in a batch; at 500 of the data set `low_rank` half of the rows have one.
        rank: of the factors; that of `low_rank` itself.
        epoch_steps, tested: as those of `Mlp`.
    """

    version = 1
    metric = "test_loss"
    options = {"batch": 500, "rank": 8, **OrderedTask.shared}  # noqa: RUF012

    def network(self, chosen: Mapping[str, Any]) -> nn.Module:
        rows, columns = (self.data.train_inputs.amax(dim=0) + 1).tolist()
        return Factors(rows, columns, chosen["rank"])

    @staticmethod
    def criterion(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.mse_loss(outputs, targets)

    def score(self, outputs: Tensor) -> Figures:
        return {"test_loss": self.criterion(outputs, self.data.test_targets).item()}
