"""The studies. A new one is a module beside these and an entry in `STUDIES`."""

from collections.abc import Mapping
from typing import TypeVar

from experiments import ExperimentError
from experiments.studies import (
    choices,
    cost,
    figure2a,
    figure2b,
    figure3,
    figure3_choices,
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
        figure3_choices,
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

E = TypeVar("E", bound=Exhibit)


def having(tier: str | None, exhibits: Mapping[str, E]) -> dict[str, E]:
    """Those of `exhibits` that have `tier`, all if it is None, or an error that lists the tiers."""
    found = {name: each for name, each in exhibits.items() if tier is None or tier in each.tiers}
    if not found:
        known = dict.fromkeys(name for each in exhibits.values() for name in each.tiers)
        raise ExperimentError(f"no study has a tier {tier!r}; there are {', '.join(known)}")
    return found


def find(name: str) -> Study:
    """The study `name`, or an error that lists those there are."""
    if name in TIMINGS:
        command = TIMINGS[name].command("paper")
        raise ExperimentError(f"{name} is measured, not trained: use {command}")
    if name not in STUDIES:
        raise ExperimentError(f"there is no study {name!r}; known: {', '.join(EXHIBITS)}")
    return STUDIES[name]
