"""A training step as one CUDA graph, which takes a fraction of the time that its parts take."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# What is compiled must have been compiled, and libraries must have made their choices.
ORDINARY = 8


class Captured:
    """Takes a step by replays, once it has been taken a few times in the ordinary way.

    Args:
        device: a GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)
        self.taken = 0
        self.shapes: list[torch.Size] = []  # of the graph's inputs; before, those of the last step
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(
        self, step: Callable[..., Tensor], *inputs: Tensor, ordinary: bool = False
    ) -> Tensor:
        """Take the step; what it returns is written over by the next one.

        Args:
            step: always the same. It takes the inputs, and returns a tensor that it made, with
                operations on the device alone; all else that these read and write stays where it
                is, and no name that it binds outlives it.
            inputs: of the step; where they are of another shape than those of the graph, it is
                taken in the ordinary way.
            ordinary: as it must be taken for the host's part in it to be done, which is a new
                factor of a schedule.
        """
        self.taken += 1
        shapes = [x.shape for x in inputs]
        with self._aside():
            if ordinary or self.taken <= ORDINARY or shapes != self.shapes:
                if self.graph is None:  # what comes twice in a row is what comes most
                    self.shapes = shapes
                return step(*inputs)
            if self.graph is None:
                self._capture(step, inputs)
            for place, x in zip(self.inputs, inputs, strict=True):
                place.copy_(x)
            self.graph.replay()
            return self.output

    def _capture(self, step: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
        self.inputs = [x.clone() for x in inputs]
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=self.stream):
            self.output = step(*self.inputs)

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """All steps are on one side stream: the default one can't be captured."""
        current = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            yield
        current.wait_stream(self.stream)
