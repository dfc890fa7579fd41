"""What the two studies of the 2019 version (arXiv) have in common: SGD for one epoch of MNIST."""

from experiments.run import Run
from experiments.studies.presets import equal

# Its text: batches of 300, one epoch, which is 200 steps, in the order of the data set.
OPTIONS = {"batch": 300, "shuffled": False}
# As many steps of the small stand-in, whose 1,297 images are 5 batches.
EPOCHS = {"mnist": 1, "digits": 40}


def run(data: str, lr: float, height: int, seed: int) -> Run:
    """A tower of SGD with the same first step size at every level, as all of that version's."""
    tower = " / ".join(f"SGD({value!r})" for value in equal(lr, height))
    return Run("mlp", data, tower, seed, EPOCHS[data], options=OPTIONS)
