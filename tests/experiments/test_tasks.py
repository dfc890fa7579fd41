"""What is trained: data, steps, and going on from a state."""

import dataclasses
import math
import os

import pytest
import torch
from torch.nn.utils import parameters_to_vector

from experiments import ExperimentError, comparison, data, tasks
from experiments.batches import batches
from experiments.execution import execute, execute_all
from experiments.run import Run
from experiments.tasks.char_rnn import CharRnn
from experiments.tasks.convnet import ConvNet
from experiments.tasks.images import _statistics
from experiments.tasks.resnet20 import ResNet20

SMALL = {
    "resnet20": ("digits", {"width": 4}),
    "char_rnn": ("sonnets", {"batch": 4, "sequence": 16, "hidden": 8, "epoch_steps": 70}),
    "mlp": ("digits", {"batch": 300}),
    "gpt": ("sonnets", {"batch": 4, "sequence": 16, "width": 8, "epoch_steps": 70}),
    "convnet": ("digits", {"width": 4}),
    "logistic": ("gaussian", {}),
    "autoencoder": ("digits", {}),
    "vit": ("digits", {"width": 16, "layers": 1, "batch": 32}),
    "factorization": ("low_rank", {}),
}


def test_every_task_is_here():
    assert SMALL.keys() == tasks.TASKS.keys() - {"resnet152"}  # which needs torchvision


def made(name, seed=0, **others):
    dataset, options = SMALL[name]
    return tasks.find(name)(dataset, seed, "cpu", **options, **others)


def train(task, steps):
    optimizer = torch.optim.SGD(task.model.parameters(), 0.1)
    losses = []
    for step in steps:
        optimizer.zero_grad()
        loss = task.loss(step)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", SMALL)
def test_a_task_goes_on_to_the_bit(name):
    """From a state taken in the middle of an epoch, into the next."""
    whole, part = made(name), made(name)
    for task in (whole, part):
        task.begin()
        train(task, range(3))
    other = made(name, seed=1)
    other.model.load_state_dict(part.model.state_dict())
    other.restore(part.state())
    for task in (whole, other):
        task.rest = train(task, range(3, 5))
        task.begin()
        task.rest += train(task, range(2))
    assert other.rest == whole.rest
    assert other.evaluate() == whole.evaluate()


def replayed(task, places, inputs):
    """As a CUDA graph of `loss_of` would: no name in the task is bound anew, for no Python runs."""
    for place, x in zip(places, inputs, strict=True):
        place.copy_(x)
    before = dict(vars(task))
    loss = task.loss_of(*places)
    vars(task).clear()
    vars(task).update(before)
    return loss


@pytest.mark.parametrize(
    ("name", "others"), [*((name, {}) for name in SMALL), ("char_rnn", {"cell": "gru"})]
)
def test_a_replayed_loss_is_the_same(name, others):
    """Between ordinary steps, as at the beginning of an epoch, too: what one step leaves for the
    next has to be written where it was."""
    expected, task = made(name, **others), made(name, **others)
    for each in (expected, task):
        each.begin()
    places = None
    for step in range(4):
        inputs = task.inputs(step)
        places = places or [x.clone() for x in inputs]
        loss = task.loss_of(*inputs) if step in (0, 2) else replayed(task, places, inputs)
        assert loss.equal(expected.loss(step))


@pytest.mark.parametrize("name", SMALL)
def test_weights_and_order_are_the_seeds(name):
    torch.manual_seed(5)
    first, again, other = made(name), made(name), made(name, seed=1)
    vectors = [parameters_to_vector(task.model.parameters()) for task in (first, again, other)]
    assert vectors[0].equal(vectors[1])
    assert not vectors[0].equal(vectors[2])
    for task in (first, again):
        task.begin()
    assert first.loss(0).equal(again.loss(0))


@pytest.mark.parametrize("name", SMALL)
def test_a_run_learns(name):
    dataset, options = SMALL[name]
    run = Run(name, dataset, "Adam(0.01) / SGD(1e-6)", seed=0, epochs=2, options=options)
    record = execute(run)
    assert record.status == "ok", record.message
    assert record.steps == 2 * made(name).steps
    first, last = record.curves["train_loss"]
    assert last < first
    metric = record.curves[tasks.find(name).metric]
    assert len(metric) == 2
    assert metric[1] < metric[0]
    assert tasks.find(name).metric in comparison.NARROWEST


@pytest.mark.parametrize("name", sorted(SMALL.keys() - {"char_rnn", "gpt"}))
def test_an_epoch_may_be_of_any_steps_and_a_test_of_any_examples(name):
    dataset, options = SMALL[name]
    options = {**options, "batch": 300, "epoch_steps": 5}
    task = tasks.find(name)(dataset, 0, "cpu", **options, tested=7)
    assert task.steps == 5
    task.begin()
    sizes = [len(task.order.batch(step)) for step in range(5)]
    assert sizes == [300] * 5
    used = torch.cat([task.order.batch(step) for step in range(5)])
    assert len(used.unique()) == min(1500, len(task.data.train_targets))
    whole = tasks.find(name)(dataset, 0, "cpu", **options)
    assert len(whole.data.test_targets) >= 500
    whole.data = dataclasses.replace(
        whole.data,
        test_inputs=whole.data.test_inputs[:7],
        test_targets=whole.data.test_targets[:7],
    )
    assert task.evaluate() == whole.evaluate()


@pytest.mark.parametrize("name", ["logistic", "autoencoder", "factorization"])
def test_stackable_tasks_are_trained_together_as_alone(name):
    dataset, options = SMALL[name]
    options = {**options, "epoch_steps": 5}
    runs = [Run(name, dataset, "Adam / SGD(1e-6)", seed, 2, options=options) for seed in range(2)]
    assert batches(runs) == [runs]
    metric = tasks.find(name).metric
    for run, member in zip(runs, execute_all(runs, [None] * 2), strict=True):
        assert member.provenance["ensemble"] == 2
        assert member.curves[metric] == pytest.approx(execute(run).curves[metric], rel=1e-4)


def test_resnet20_is_that_of_he_et_al():
    assert sum(p.numel() for p in ResNet20("digits", 0, "cpu").model.parameters()) == 269_722


def test_images_are_cropped_and_flipped_at_random():
    task = made("resnet20")
    images = torch.arange(1.0, 65).view(1, 1, 8, 8).expand(4000, 3, 8, 8)
    for flips in (False, True):
        task.flips = flips
        kinds = task._cropped(images, *task._crops(4000)).flatten(1).unique(dim=0)
        assert len(kinds) == 9 * (2 if flips else 1)  # by up to one pixel either way
        kept = (kinds == images[0].flatten()).all(dim=1).sum()
        assert kept == 1


def test_test_images_are_left_alone():
    task = made("resnet20")
    assert task.evaluate() == task.evaluate()


def test_channels_are_normalised_by_the_training_set():
    task = made("resnet20")
    images = task._normalised(task.data.train_inputs)
    mean, deviation = _statistics(images)
    assert mean.abs().max() < 1e-5
    assert (deviation - 1).abs().max() < 1e-5


FAST = {
    "resnet20": {"autocast": "bfloat16", "channels_last": True},
    "char_rnn": {"autocast": "bfloat16"},
    "gpt": {"autocast": "bfloat16"},
    "convnet": {"autocast": "bfloat16", "channels_last": True},
    "vit": {"autocast": "bfloat16"},
}


@pytest.mark.parametrize("name", FAST)
def test_mixed_precision_changes_little(name):
    dataset, options = SMALL[name]
    run = Run(name, dataset, "SGD", 0, 1, options={**options, **FAST[name]})
    plain, fast = made(name), tasks.find(name)(dataset, 0, "cpu", **dict(run.options))
    for task in (plain, fast):
        task.begin()
    losses = plain.loss(0), fast.loss(0)
    assert losses[1].dtype == torch.float32
    assert losses[0] != losses[1]
    torch.testing.assert_close(*losses, rtol=0.02, atol=0)


# Loading the compiler, torch warns of what it has deprecated itself.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_network_is_the_same_to_rounding():
    """Full batches; the last one of an epoch and the test images are computed as ever."""
    dataset, options = SMALL["convnet"]
    plain = made("convnet")
    torch.compiler.reset()
    fast = ConvNet(dataset, 0, "cpu", **options, compile=True)
    for task in (plain, fast):
        task.begin()
    last = plain.steps - 1
    assert len(plain.order.batch(last)) < plain.order.size
    compiled = torch._dynamo.utils.counters["frames"]
    counts, losses = [], []
    for task in (plain, fast):
        compiled.clear()
        losses.append(train(task, [0]))
        counts.append(compiled["ok"])
    assert counts[0] == 0
    assert counts[1] > 0  # losses may be the same to the bit
    with torch.compiler.set_stance("fail_on_recompile"):
        for task, found in zip((plain, fast), losses, strict=True):
            found += train(task, [1, 2, last])
        assert fast.evaluate() == pytest.approx(plain.evaluate(), rel=1e-3)
    torch.testing.assert_close(*losses, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", FAST)
def test_another_precision_is_refused(name):
    with pytest.raises(ExperimentError, match="'float16'; expected 'none' or 'bfloat16'"):
        tasks.find(name)(SMALL[name][0], 0, "cpu", autocast="float16")


def test_streams_go_on_where_they_were():
    """Two sequences with what is carried between them are one of twice the length."""
    short = CharRnn("sonnets", 0, "cpu", batch=4, sequence=10, hidden=8)
    long = CharRnn("sonnets", 0, "cpu", batch=4, sequence=20, hidden=8)
    halves = (short.loss(0) + short.loss(1)) / 2
    torch.testing.assert_close(halves, long.loss(0))
    text = short.data.characters
    inputs, targets = short.trained
    assert inputs[1, 0] == text[inputs.shape[1]]
    assert targets[:, :-1].equal(inputs[:, 1:])


def test_where_no_state_is_carried_each_sequence_is_one_by_itself():
    """In training and in the test, which is as one of the first sequence alone, again and again."""
    options = {"batch": 4, "sequence": 10, "hidden": 8}
    kept, cold = (CharRnn("sonnets", 0, "cpu", carried=c, **options) for c in (True, False))
    assert kept.loss(0) == cold.loss(0)
    assert not kept.loss(1).isclose(second := cold.loss(1))
    cold.position = cold.sequence
    assert cold.loss(1) == second
    assert not any(part.any() for part in cold.carried)
    repeated = [x[:, :10].repeat(1, 3) for x in cold.tested]
    cold.tested = kept.tested = tuple(x[:, :10] for x in repeated)
    first = kept.evaluate()
    assert cold.evaluate() == first
    cold.tested = kept.tested = tuple(repeated)
    assert cold.evaluate()["test_perplexity"] == pytest.approx(first["test_perplexity"])
    assert kept.evaluate() != first


def test_the_test_text_has_streams_of_its_own_number():
    few, many = (CharRnn("sonnets", 0, "cpu", batch=b, tested=6, hidden=8) for b in (1, 12))
    assert len(few.trained[0]) == 1
    assert len(few.tested[0]) == len(many.tested[0]) == 6
    assert few.evaluate() == many.evaluate()


def test_at_the_end_of_the_text_streams_start_over():
    task = made("char_rnn")
    length = task.trained[0].shape[1]
    first = task.loss(0).item()
    while task.position + task.sequence <= length:
        task.loss(0)
    assert task.loss(0).item() == first


def test_perplexity_of_one_who_knows_nothing_is_the_number_of_characters():
    task = made("char_rnn")
    for parameter in task.model.output.parameters():
        torch.nn.init.zeros_(parameter)
    assert task.evaluate()["test_perplexity"] == pytest.approx(task.data.size, rel=1e-5)


def test_perplexity_beyond_all_bounds_is_infinite():
    task = made("char_rnn")
    torch.nn.init.constant_(task.model.output.bias, 0)
    task.model.output.bias.data[0] = 1e6
    assert math.isinf(task.evaluate()["test_perplexity"])


def test_the_test_set_is_the_end_of_the_text():
    task = made("char_rnn")
    text = task.data.characters
    used = task.tested[0].flatten()
    start = int(0.9 * len(text))
    assert used.equal(text[start : start + len(used)])


def test_sonnets():
    text = data.load("sonnets")
    assert len(text.characters) > 4000
    assert text.characters.max() == text.size - 1


@pytest.mark.skipif("GDTUO_DATA" not in os.environ, reason="needs CIFAR-10: set GDTUO_DATA")
def test_cifar10():
    images = data.load("cifar10")
    assert images.train_inputs.shape == (50_000, 3, 32, 32)
    assert images.train_inputs.dtype == torch.uint8
    assert images.train_targets.bincount().tolist() == [5000] * 10
    assert images.test_targets.bincount().tolist() == [1000] * 10
    task = ResNet20("cifar10", 0, "cpu")
    # What everybody normalises by, of images from 0 to 1.
    expected = torch.tensor([0.4914, 0.4822, 0.4465])
    torch.testing.assert_close(task.mean.flatten() / 255, expected, atol=1e-4, rtol=0)
    assert task.steps == 391
    assert task.note == images.note
    task.begin()
    assert 2 < task.loss(0).item() < 4


@pytest.mark.skipif("GDTUO_DATA" not in os.environ, reason="needs War and Peace: set GDTUO_DATA")
def test_war_and_peace():
    task = CharRnn("tolstoy", 0, "cpu")
    assert len(task.data.characters) == 3_258_250
    assert task.data.size == 87
    assert task.trained[0].shape == (50, int(0.8 * 3_258_250 - 1) // 50)
    assert task.loss(0).item() == pytest.approx(math.log(87), abs=0.1)


def test_a_long_epoch_of_the_mlp_begins_as_a_short_one():
    """After the same warm-up: what differs is the horizon alone."""
    short, long = (
        tasks.find("mlp")("digits", 0, "cpu", batch=300, epoch_steps=steps, warmup=7)
        for steps in (2, 11)
    )
    plain = tasks.find("mlp")("digits", 0, "cpu", batch=300)
    vectors = [parameters_to_vector(t.model.parameters()) for t in (short, long, plain)]
    assert vectors[0].equal(vectors[1])
    assert not vectors[0].equal(vectors[2])
    for task in (short, long):
        task.begin()
    assert all(short.batch(step).equal(long.batch(step)) for step in range(2))
    sizes = [len(long.batch(step)) for step in range(11)]
    assert sizes == [300] * 11
    assert (short.steps, long.steps) == (2, 11)
