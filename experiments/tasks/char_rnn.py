"""The character LSTM on War and Peace (section 3.3.2), as torch-rnn trains it."""

from typing import Any

import torch
from torch import Tensor, nn

from experiments import data as datasets
from experiments.tasks import networks
from experiments.tasks.precision import mixed_precision
from experiments.tasks.task import Figures, Task

# torch-rnn's shares of the text: first the training set, then the validation set, then the test
# set. Nothing is chosen by validation here, so the middle of the text is not used.
TRAIN, TEST = 0.8, 0.9
EVALUATED = 500  # characters of each stream at once
CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}


class CharRnn(Task):
    """A recurrent network that predicts the next character; judged by perplexity on the text's end.

    The training text is cut into as many streams as a batch has; each goes on where it was, with
    its state, and all start over, from a state of zero, at their end. The paper says nothing of
    batch, sequence, embedding and clipping: they are torch-rnn's, which it took the set-up from.

    Options:
        batch: streams; torch-rnn's 50.
        sequence: characters of a stream in a step; torch-rnn's 50.
        hidden: units in each of the two layers; the paper's 128.
        epoch_steps: steps from one look at the test set to the next; that is what an epoch is here.
        autocast: "bfloat16" computes the network in mixed precision.
        cell: "lstm", the paper's, or "gru".
        carried: whether the state goes from one sequence to the next. If not, each starts from
            zero, in the test too, which is then cut into sequences of the same length.
        tested: streams that the test text is cut into; 0: as many as in a batch.
    """

    version = 1
    metric = "test_perplexity"
    options = {  # noqa: RUF012
        "batch": 50, "sequence": 50, "hidden": 128, "epoch_steps": 500, "autocast": "none",
        "cell": "lstm", "carried": True, "tested": 0,
    }  # fmt: skip
    choices = {**Task.choices, "cell": tuple(CELLS)}  # noqa: RUF012
    clip = 5.0  # torch-rnn's

    def __init__(self, data: str, seed: int, device: str, **options: Any) -> None:
        chosen = {**self.options, **self.chosen(options)}
        self.sequence, self.steps = chosen["sequence"], chosen["epoch_steps"]
        self.batch, self.carries = chosen["batch"], chosen["carried"]
        self.mixed = mixed_precision(device, chosen["autocast"])
        layers = CELLS[chosen["cell"]]
        self.data = datasets.load(data, device)
        self.fingerprint = self.data.fingerprint
        text = self.data.characters
        self.trained = _streams(text[: int(TRAIN * len(text))], self.batch)
        self.tested = _streams(text[int(TEST * len(text)) :], chosen["tested"] or self.batch)
        self.position = 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = networks.CharLSTM(self.data.size, chosen["hidden"], layers).to(device)
        shape = (self.model.lstm.num_layers, self.batch, chosen["hidden"])
        count = 2 if layers is nn.LSTM else 1
        self.carried = tuple(torch.zeros(shape, device=device) for _ in range(count))

    def begin(self) -> None:
        """Nothing is drawn: the order is the text's."""

    def inputs(self, step: int) -> tuple[Tensor, ...]:
        if self.position + self.sequence > self.trained[0].shape[1]:
            self.position = 0
            for part in self.carried:
                part.zero_()
        here = slice(self.position, self.position + self.sequence)
        self.position += self.sequence
        characters, targets = (x[:, here] for x in self.trained)
        return characters, targets, *(part.clone() for part in self.carried)

    def loss_of(self, characters: Tensor, targets: Tensor, *carried: Tensor) -> Tensor:
        outputs, state = self._outputs(characters, carried if len(carried) > 1 else carried[0])
        if self.carries:
            parts = (state,) if isinstance(state, Tensor) else state  # a GRU's, an LSTM's two
            for place, part in zip(self.carried, parts, strict=True):
                place.copy_(part.detach())
        return nn.functional.cross_entropy(outputs, targets.flatten())

    @torch.no_grad()
    def evaluate(self) -> Figures:
        total, carried = 0.0, None
        at_once = EVALUATED if self.carries else self.sequence
        for inputs, targets in zip(*(x.split(at_once, dim=1) for x in self.tested), strict=True):
            outputs, carried = self._outputs(inputs, carried if self.carries else None)
            loss = nn.functional.cross_entropy(outputs, targets.flatten(), reduction="sum")
            total += loss.double().item()
        mean = torch.tensor(total / self.tested[0].numel(), dtype=torch.float64)
        return {"test_perplexity": mean.exp().item()}

    def _outputs(
        self, inputs: Tensor, carried: networks.Carried
    ) -> tuple[Tensor, networks.Carried]:
        with self.mixed():
            outputs, carried = self.model.carried(inputs, carried)
        return outputs.float(), carried

    def state(self) -> dict[str, Any]:
        return {"position": self.position, "carried": self.carried}

    def restore(self, state: dict[str, Any]) -> None:
        self.position = state["position"]
        for place, part in zip(self.carried, state["carried"], strict=True):
            place.copy_(part)


def _streams(text: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The characters of each stream, and for each of them the next one."""
    length = (len(text) - 1) // count
    used = count * length
    return text[:used].view(count, length), text[1 : used + 1].view(count, length)
