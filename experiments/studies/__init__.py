"""The studies. A new one is a module beside these and an entry in `STUDIES`."""

from experiments import ExperimentError
from experiments.studies import (
    choices,
    cost,
    figure2a,
    figure2b,
    figure3,
    figure4a,
    figure4b,
    figure4c,
    figure4c_adam,
    figure4d,
    figure4d_adam,
    figure4e,
    figure4f,
    heights2019,
    heldout,
    horizon,
    ingredients,
    kappa,
    peers,
    robustness,
    sensitivity2019,
    table1,
)
from experiments.study import Exhibit, Study

STUDIES: dict[str, Study] = {
    module.STUDY.name: module.STUDY
    for module in (
        table1,
        kappa,
        figure2a,
        figure2b,
        figure3,
        figure4a,
        figure4b,
        figure4c,
        figure4d,
        figure4e,
        sensitivity2019,
        heights2019,
        horizon,
        choices,
        figure4c_adam,
        figure4d_adam,
        robustness,
        peers,
        ingredients,
        heldout,
    )
}
# What is measured, not trained.
TIMINGS = {study.name: study for study in (figure4f.STUDY, cost.STUDY)}
EXHIBITS: dict[str, Exhibit] = {**STUDIES, **TIMINGS}


def find(name: str) -> Study:
    """The study `name`, or an error that lists those there are."""
    if name in TIMINGS:
        command = TIMINGS[name].command("paper")
        raise ExperimentError(f"{name} is measured, not trained: use {command}")
    if name not in STUDIES:
        raise ExperimentError(f"there is no study {name!r}; known: {', '.join(STUDIES)}")
    return STUDIES[name]
