"""What bounds a compiled step of a large tensor: its two passes, in memory and in the caches.

docs/performance.md has what follows from it.
"""

from __future__ import annotations

import statistics

import pytest
import torch

from gdtuo import core, layout, parse
from gdtuo.core import Inputs
from gdtuo.passes import options
from tests.benchmarks.race import Race

LARGE, SMALL, SMALLER = 8_000_000, 2**16, 2**14
ROUNDS = 20


def passes(rule, n):
    """The pull-back and the update of ``n`` elements, and what they are measured against."""
    level = layout.levels_of(parse(rule))[0]
    learned, constant = (
        level.initial(names, torch.float32, torch.device("cpu"))
        for names in (level.learned, level.constant)
    )
    w, g, previous, m = (torch.randn(n) / 10 for _ in range(4))
    v, t = torch.rand(n) / 100, torch.tensor(5.0)
    p = torch.nn.Parameter(w.clone())
    p.grad = g.clone()

    def kept(previous, m, v, t):
        state = {"exp_avg": m, "exp_avg_sq": v}
        return Inputs(previous if level.lags else None, state, t)

    def pull(g, previous, m, v, learned, t):
        return core.pull_back(level, learned, constant, kept(previous, m, v, t), g)[0]

    def update(w, g, previous, m, v, learned, t):
        state = core.remade(level, learned, constant, kept(previous, m, v, t))[1]
        step, after = core.update(level, learned, constant, Inputs(g, state, t + 1))
        w.sub_(step)
        for tensor, key in ((m, "exp_avg"), (v, "exp_avg_sq")):
            tensor.copy_((state if level.lags else after)[key])
        if level.lags:
            previous.copy_(g)

    pull, update = (
        torch.compile(f, fullgraph=True, dynamic=True, options=options("inductor"))
        for f in (pull, update)
    )
    return {
        "fused": torch.optim.Adam([p], fused=True).step,
        "copy": lambda: w.copy_(g),
        "pull": lambda: pull(g, previous, m, v, learned, t),
        "update": lambda: update(w, g, previous, m, v, learned, t),
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # as the compiler is loaded
@pytest.mark.parametrize("rule", ["Adam / SGD(1e-05)", "Adam^lr / SGD(1e-05)"])
def test_floor(rule, benchmark):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # between two, what is small would measure their meeting
    with torch.no_grad():
        medians = {}
        for n in (LARGE, SMALL, SMALLER):
            race = Race(passes(rule, n))
            race.run(ROUNDS if n == LARGE else 10 * ROUNDS)
            medians[n] = {name: statistics.median(x) for name, x in race.seconds.items()}
    benchmark.pedantic(lambda: None)
    between = SMALL - SMALLER
    in_caches = {k: (medians[SMALL][k] - medians[SMALLER][k]) / between for k in medians[SMALL]}
    benchmark.extra_info |= {
        "tower": rule,
        "elements": LARGE,
        "nanoseconds_an_element": {k: round(1e9 * x / LARGE, 3) for k, x in medians[LARGE].items()},
        "nanoseconds_an_element_in_the_caches": {
            k: round(1e9 * x, 3) for k, x in in_caches.items()
        },
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    torch.set_num_threads(threads)
