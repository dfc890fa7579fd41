"""Each block of docs/integrations.md runs as it stands; then: did it do what the page says?"""

import copy
import os
import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[2] / "docs" / "integrations.md"
TEXT = PAGE.read_text(encoding="utf-8")
SECTION = re.compile(
    r"^## (?P<title>.+?)\n(?:(?!^## ).)*?^```python\n(?P<block>.*?)^```", re.M | re.S
)
BLOCKS = {found["title"]: found for found in SECTION.finditer(TEXT)}
LOOP = "A loop of your own: mixed precision, accumulation, clipping"

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        "torch.distributed is disabled:UserWarning",  # one process is what is meant
        "'pin_memory' argument is set as true:UserWarning:torch",  # Trainer's default, on a CPU
        ".*LeafSpec.*is deprecated:FutureWarning:lightning",
        "The dirpath has changed:UserWarning:lightning",  # a resumed run logs elsewhere
        ".*does not have many workers:UserWarning:lightning",  # on more than two cores
    )
]


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the block of a section, after replacements if any are given, and return its names."""
    environment = dict(os.environ)
    monkeypatch.chdir(tmp_path)

    def run(title, **changes):
        found = BLOCKS[title]
        block = found["block"]
        for old, new in changes.items():
            assert old in block
            block = block.replace(old, new)
        before = "\n" * TEXT[: found.start("block")].count("\n")  # tracebacks then cite the page
        names = {"__name__": "integrations"}
        exec(compile(before + block, str(PAGE), "exec"), names)
        return names

    yield run
    os.environ.clear()  # trainers write in it
    os.environ.update(environment)


def assert_same(a, b):
    """To the bit, in whatever dictionaries and lists."""
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        a, b = list(a.values()), list(b.values())
    if isinstance(a, list | tuple):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    else:
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def state(model, tower):
    return {"model": model.state_dict(), "tower": tower.state_dict()}


def test_every_block_is_tested():
    tested = re.findall(r'run\((?:"(.+?)"|(LOOP))', Path(__file__).read_text(encoding="utf-8"))
    assert {title or LOOP for title, _ in tested} == set(BLOCKS)
    assert TEXT.count("```python") == TEXT.count("\n## ") == len(BLOCKS)


def test_loop(run):
    names = run(LOOP)
    assert names["losses"][-1] < 0.1 * names["losses"][0]
    assert names["tower"].hyperparameters()[0]["lr"] > 10 * 1e-4


def test_loop_goes_as_without_a_scaler(run):
    """The scale is a power of 2, and it is taken away again. (In float16 it saves underflow.)"""
    cpu = {'"cuda" if torch.cuda.is_available() else "cpu"': '"cpu"'}
    no_scaler = {"GradScaler(device)": "GradScaler(device, enabled=False)"}
    scaled, plain = run(LOOP, **cpu), run(LOOP, **cpu, **no_scaler)
    assert scaled["scaler"].get_scale() > 1 == plain["scaler"].get_scale()
    assert_same(*(state(each["model"], each["tower"]) for each in (scaled, plain)))


def test_a_skipped_step_changes_nothing(run):
    names = run(LOOP)
    model, tower, scaler = names["model"], names["tower"], names["scaler"]
    before, scale = copy.deepcopy(state(model, tower)), scaler.get_scale()
    for p in model.parameters():
        p.grad = torch.full_like(p, torch.inf)
    scaler.step(tower)
    scaler.update()
    assert scaler.get_scale() < scale
    assert_same(before, state(model, tower))


def test_schedulers(run):
    names = run("Schedulers")
    model, tower, taken = names["model"], names["tower"], list(names["taken"])
    learned = tower.hyperparameters()[0]["lr"]
    assert learned > 10 * 1e-3
    assert max(taken) > 10 * 1e-3  # the schedule goes to 1e-3
    assert taken[0] == pytest.approx(0.01 * 1e-3, rel=0.01)  # the warm-up's
    assert 0 < taken[-1] < max(taken) / 100

    straight = names["start"]()
    assert straight[1].param_groups[0]["lr"] == pytest.approx(0.01 * 1e-3)
    names["train"](*straight, range(100))
    assert_same(state(model, tower), state(*straight[:2]))


def test_lightning(run):
    pytest.importorskip("lightning", reason="Lightning is not installed")
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    names = run("Lightning")
    module, tower = names["module"], names["trainer"].optimizers[0]
    assert names["trainer"].global_step == 64
    assert tower.hyperparameters()[0]["lr"] > 10 * 1e-4
    assert tower.param_groups[0]["lr"] == pytest.approx(1e-4 * 0.9**4)

    log = events.EventAccumulator("logs/lightning_logs/version_1").Reload()
    assert {"level0/lr", "level0/beta1", "level1/lr"} <= set(log.Tags()["scalars"])
    logged = log.Scalars("level0/lr")
    assert [each.step for each in logged] == [39, 47, 55, 63]
    assert logged[-1].value == tower.hyperparameters()[0]["lr"]

    trainer, straight = names["fit"](epochs=4)
    assert_same(state(module, tower), state(straight, trainer.optimizers[0]))


def test_accelerate(run):
    pytest.importorskip("accelerate", reason="Accelerate is not installed")
    names = run("Accelerate")
    accelerator, tower, (model, *_) = names["accelerator"], names["tower"], names["prepared"]
    assert tower.hyperparameters()[0]["lr"] > 10 * 1e-4
    assert {each["step"] for each in tower.state.values()} == {4 * 16 // 2}
    assert tower.param_groups[0]["lr"] == pytest.approx(1e-4 * 0.99 ** (4 * 16 // 2))

    accelerator.free_memory()
    straight, prepared = names["start"]()
    names["train"](*prepared, epochs=4)
    assert_same(state(model, tower), state(prepared[0], straight))


def test_hugging_face_trainer(run):
    pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="Accelerate is not installed")
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    names = run("Hugging Face Trainer")
    tower, trainer = names["tower"], names["trainer"]
    model = trainer.model
    assert model.lm_head.weight is model.transformer.wte.weight
    history = [each for each in trainer.state.log_history if "loss" in each]
    assert [each["step"] for each in history] == list(range(5, 41, 5))
    assert history[-1]["loss"] < 0.95 * history[0]["loss"]
    assert history[-1]["level0/lr"] == tower.hyperparameters()[0]["lr"] > 2 * 1e-4
    assert history[-1]["learning_rate"] == pytest.approx(0, abs=1e-6)

    (log,) = Path("gpt2").rglob("events.*")
    logged = events.EventAccumulator(str(log)).Reload().Scalars("train/level0/lr")
    assert [each.step for each in logged] == [*range(5, 41, 5), 40]
    assert logged[-1].value == tower.hyperparameters()[0]["lr"]

    once, again = Path("gpt2/checkpoint-40"), Path("gpt2-again/checkpoint-40")
    assert not again.with_name("checkpoint-20").exists()  # it began after that one
    assert (once / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    assert_same(*(torch.load(path / "optimizer.pt") for path in (once, again)))
    assert_same(tower.state_dict(), torch.load(again / "optimizer.pt"))
    assert_same(*(torch.load(path / "scheduler.pt") for path in (once, again)))


def test_hugging_face_trainer_makes_groups(run):
    pytest.importorskip("transformers", reason="transformers is not installed")
    pytest.importorskip("accelerate", reason="Accelerate is not installed")
    names = run("Hugging Face Trainer: weight decay by group")
    tower, trainer = names["tower"], names["trainer"]
    decayed, free = (tower.hyperparameters(group=i)[0] for i in range(2))
    assert decayed.pop("weight_decay") == pytest.approx(0.1)
    assert decayed == free  # learned together
    assert free["lr"] > 2 * 1e-4
    assert tower.param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)  # the schedule is linear
    dims = [{p.dim() for p in group["params"]} for group in tower.param_groups]
    assert dims == [{2}, {1}]
    history = [each["loss"] for each in trainer.state.log_history if "loss" in each]
    assert history[-1] < 0.95 * history[0]

    once, again = Path("decayed/checkpoint-40"), Path("decayed-again/checkpoint-40")
    assert not again.with_name("checkpoint-20").exists()  # it began after that one
    assert (once / "model.safetensors").read_bytes() == (again / "model.safetensors").read_bytes()
    assert_same(*(torch.load(path / "optimizer.pt") for path in (once, again)))


@pytest.mark.skipif(torch.__version__ < (2, 7), reason="torch 2.6 knows no no_dist")
def test_distributed_checkpoint(run):
    names = run("torch.distributed.checkpoint")
    model, tower = names["model"], names["tower"]
    first, second = (tower.hyperparameters(group=i)[0]["lr"] for i in range(2))
    assert first > 10 * 1e-4
    assert second not in (first, 1e-3)
    assert set(names["state"]["optimizer"]["state"]) == set(dict(model.named_parameters()))

    straight = names["start"]()
    names["train"](*straight, range(40))
    assert_same(state(model, tower), state(*straight))
