"""The tasks beside the paper's: each is what it says it is."""

import pytest
import torch

from experiments import ExperimentError
from experiments.run import Run
from experiments.tasks.autoencoder import Autoencoder
from experiments.tasks.char_rnn import CharRnn
from experiments.tasks.factorization import Factorization
from experiments.tasks.gpt import Gpt
from experiments.tasks.logistic import Logistic
from experiments.tasks.vit import ViT


@pytest.fixture
def gpt():
    return Gpt("sonnets", 0, "cpu", batch=4, sequence=16, width=8, epoch_steps=70)


def gru(seed=0, **options):
    return CharRnn("sonnets", seed, "cpu", batch=4, hidden=8, cell="gru", **options)


@pytest.mark.parametrize("condition", [10.0, 1e4])
def test_logistic_regression_has_the_condition_that_is_chosen(condition):
    inputs = Logistic("gaussian", 0, "cpu", condition=condition).data.train_inputs.double()
    values = torch.linalg.eigvalsh(inputs.T @ inputs / len(inputs))
    assert values[-1] == pytest.approx(1, rel=0.1)
    assert values[-1] / values[0] == pytest.approx(condition, rel=0.2)


def test_an_autoencoder_is_judged_by_the_squared_error_of_an_image():
    task = Autoencoder("digits", 0, "cpu")
    images = task.data.test_inputs
    assert task.score(images.flatten(1) + 0.5) == {"test_loss": pytest.approx(64 / 4)}
    assert task.model(images[:3]).shape == (3, 64)


def test_a_transformer_does_not_see_what_it_is_to_predict(gpt):
    rows = gpt.tested[:2].clone()
    before = gpt.model(rows[:, :-1])
    rows[:, 10] = (rows[:, 10] + 1) % gpt.data.size
    after = gpt.model(rows[:, :-1])
    assert after[:, :10].equal(before[:, :10])
    assert (after[:, 10:] != before[:, 10:]).any(dim=2).all()


def test_a_transformer_that_knows_nothing_and_its_rows(gpt):
    assert gpt.evaluate()["test_perplexity"] == pytest.approx(gpt.data.size, rel=0.05)
    text, rows = gpt.data.characters, gpt.tested
    assert rows.flatten()[:17].equal(text[int(0.9 * len(text)) :][:17])
    assert rows[1, 0] == rows[0, -1]  # each character but the first is predicted once
    gpt.begin()
    assert gpt.starts.max() + gpt.sequence < len(gpt.text) < rows.numel() * 10


def test_a_vision_transformer_sees_each_patch_and_where_it_is():
    model = ViT("digits", 0, "cpu", width=16).model
    images = torch.zeros(5, 3, 8, 8)
    for image, (row, column) in enumerate([(0, 0), (0, 4), (4, 0), (4, 4)]):
        images[image, :, row : row + 4, column : column + 4] = 1
    outputs = model(images)
    assert outputs.shape == (5, 10)
    assert len(outputs.unique(dim=0)) == 5
    torch.nn.init.zeros_(model.positions.weight)
    outputs = model(images)
    torch.testing.assert_close(outputs[:4], outputs[:1].expand(4, -1))


def test_a_vision_transformer_that_knows_nothing():
    task = ViT("digits", 0, "cpu")
    assert task.evaluate()["test_loss"] == pytest.approx(torch.tensor(10.0).log().item(), rel=0.02)


def test_a_gru_is_another_run_and_an_lstm_the_same_as_ever():
    plain, lstm, other = (
        Run("char_rnn", "sonnets", "Adam", 0, 1, options=options)
        for options in ({}, {"cell": "lstm"}, {"cell": "gru"})
    )
    assert plain.key == lstm.key != other.key
    assert isinstance(gru().model.lstm, torch.nn.GRU)
    with pytest.raises(ExperimentError, match="cell is 'elman'; expected 'lstm' or 'gru'"):
        CharRnn("sonnets", 0, "cpu", cell="elman")


def test_a_gru_goes_on_with_its_state():
    short, long = gru(sequence=10), gru(sequence=20)
    first = short.loss(0)
    state = short.state()
    (carried,) = state["carried"]
    assert not carried.requires_grad
    other = gru(seed=1, sequence=10)
    other.model.load_state_dict(short.model.state_dict())
    other.restore(state)
    second = other.loss(1)
    assert second.equal(short.loss(1))
    torch.testing.assert_close((first + second) / 2, long.loss(0))


def test_factors_know_nothing_at_first_and_can_be_those_of_the_matrix():
    task = Factorization("low_rank", 0, "cpu", rank=1)
    values = task.data.test_targets
    assert task.evaluate()["test_loss"] == pytest.approx(values.var().item(), rel=0.02)
    with torch.no_grad():
        task.model.rows.weight.copy_(torch.arange(600.0)[:, None])
        task.model.columns.weight.copy_(torch.arange(400.0)[:, None])
    places = torch.tensor([[2, 3], [599, 399]])
    assert task.model(places).tolist() == [6.0, 599.0 * 399.0]
