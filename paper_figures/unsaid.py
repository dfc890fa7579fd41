"""What the paper does not say, what was chosen here, and how much hangs on it."""

from collections.abc import Sequence
from types import ModuleType

from experiments.studies import (
    figure2a,
    figure2b,
    figure4c,
    figure4c_adam,
    figure4d,
    figure4d_adam,
    figure4e,
    mlp_sweeps,
)
from experiments.study import Study
from experiments.words import counted
from paper_figures import choices, figure3_choices, points
from paper_figures.results import TITLES, Results
from paper_figures.timings import Timings

HEAD = ("left open", "chosen here", "how much hangs on it")
NOT_VARIED = "not varied"


def _epochs(study: ModuleType) -> int:
    """The length of a run at the paper's own protocol."""
    return study.STUDY.tier("paper").epochs


# Whose choices are undone one by one.
VARIED = {"Table 1": choices.FIGURE, "Figure 3": figure3_choices.FIGURE}
# Beside these.
OTHERS = (
    ("Figure 2: batch, augmentation, normalisation, where weight decay is added",
     "He et al.'s; weight decay is part of the update, so that the hypergradient knows of it",
     "not on record: in single runs of three epochs the learned step size of Figure 2b falls twice "
     "as fast with batches of 32, and no faster without weight decay or in float32 "
     "([findings](../docs/findings.md))"),
    ("Figure 3: the length of a sequence, embedding, clipping, split, how perplexity is measured",
     "50, 64, 5 and a tenth for the test, as in torch-rnn; perplexity is that of every character "
     "of the text's last tenth, which is not trained on", NOT_VARIED),
    ("Figures 2, 3, 4c and 4d: the precision",
     "Tier small in bfloat16 (mixed precision), for a processor's sake; of tier paper ResNet-20 "
     "alone, the LSTM in float32", NOT_VARIED),
    ("Figures 4a to 4d: epochs of every sweep, and what is learned of momentum and betas",
     f"4a and 4b: Table 1's {mlp_sweeps.EPOCHS} epochs; 4c: {_epochs(figure4c)}, where Figure 2a "
     f"has {_epochs(figure2a)} and 2b {_epochs(figure2b)}; 4d: as many steps as Figure 3; the step "
     "size alone is learned", NOT_VARIED),
    ("Figure 4e: all but the step sizes and heights",
     f"Adam, batch 32, {_epochs(figure4e)} epochs, four fifths of the images", NOT_VARIED),
    ("Figure 4f: what height 0 is", "This library's own tower without a level above", NOT_VARIED),
    ("Seeds, and what ± means",
     "Seeds are paired, and each figure says how many; bootstrap intervals", NOT_VARIED),
)  # fmt: skip


# Studies of towers of SGD, and of the same with Adam at the upper levels.
ABOVE = {
    "Figure 4c: the rule of the levels above SGD": (figure4c.STUDY, figure4c_adam.STUDY),
    "Figure 4d: the rule of the levels above Adam": (figure4d.STUDY, figure4d_adam.STUDY),
}


def _above(found: Sequence[Results | Timings], studies: Sequence[Study]) -> str:
    """What the rule of the upper levels is worth: how many of the same towers, by height, first
    step size and seed, diverge under SGD and Adam."""
    lost = []
    for study in studies:
        results = next((each for each in found if each.study is study), None)
        if not isinstance(results, Results) or results.data != study.data:
            return f"not yet run on {TITLES[study.data]} with both"
        lost.append({
            (cell, seed): record.status == "diverged"
            for cell, records in results.records.items()
            for seed, record in records.items()
            if "/" in record.run.tower
        })  # fmt: skip
    both = set.intersection(*map(set, lost))
    if not both:
        return "not yet run with both"
    sgd, adam = (sum(each[tower] for tower in both) for each in lost)
    towers = counted(len(both), "tower")
    return f"of {towers} that have run with both, {sgd} diverged with SGD and {adam} with Adam"


def table(found: Sequence[Results | Timings]) -> str:
    """In Markdown, with what the results among `found` say."""
    rows = []
    for of, exhibit in VARIED.items():
        varied = next((each for each in found if each.study is exhibit.study), None)
        known = isinstance(varied, Results) and varied.data == exhibit.study.data
        for key, choice in exhibit.choices.all.items():
            effect = exhibit.matters(varied, key) if known else ""
            data = TITLES[exhibit.study.data]
            rows.append((of, choice.made, effect or f"not yet run on {data}"))
    rows += OTHERS
    rows += [(what, "SGD", _above(found, studies)) for what, studies in ABOVE.items()]
    return points.table(HEAD, rows)
