"""What runs train. A new task is a module beside this one and a line in `TASKS`."""

from experiments import ExperimentError
from experiments.tasks.autoencoder import Autoencoder
from experiments.tasks.char_rnn import CharRnn
from experiments.tasks.convnet import ConvNet
from experiments.tasks.factorization import Factorization
from experiments.tasks.gpt import Gpt
from experiments.tasks.logistic import Logistic
from experiments.tasks.mlp import Mlp
from experiments.tasks.resnet20 import ResNet20
from experiments.tasks.resnet152 import ResNet152
from experiments.tasks.task import StackableTask as StackableTask
from experiments.tasks.task import Task as Task
from experiments.tasks.vit import ViT

TASKS: dict[str, type[Task]] = {
    "mlp": Mlp,
    "resnet20": ResNet20,
    "resnet152": ResNet152,
    "char_rnn": CharRnn,
    "gpt": Gpt,
    "convnet": ConvNet,
    "logistic": Logistic,
    "autoencoder": Autoencoder,
    "vit": ViT,
    "factorization": Factorization,
}


def find(name: str) -> type[Task]:
    """The task `name`, or an error that lists those there are."""
    if name not in TASKS:
        raise ExperimentError(f"there is no task {name!r}; known: {', '.join(TASKS)}")
    return TASKS[name]
