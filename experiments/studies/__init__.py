"""The studies. A new one is a module beside these and an entry in `STUDIES`."""

from experiments import ExperimentError
from experiments.studies import (
    choices,
    figure2a,
    figure2b,
    figure3,
    figure4a,
    figure4b,
    figure4c,
    figure4d,
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
        robustness,
        peers,
        ingredients,
        heldout,
    )
}
# What is measured, not trained.
TIMING = figure4f.STUDY
EXHIBITS: dict[str, Exhibit] = {**STUDIES, TIMING.name: TIMING}


def find(name: str) -> Study:
    """The study `name`, or an error that lists those there are."""
    if name == TIMING.name:
        raise ExperimentError(f"{name} is measured, not trained: use {TIMING.command('paper')}")
    if name not in STUDIES:
        raise ExperimentError(f"there is no study {name!r}; known: {', '.join(STUDIES)}")
    return STUDIES[name]
