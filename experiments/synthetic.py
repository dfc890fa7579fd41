"""Data sets that are made up: always the same, from a stream that is frozen for good."""

import numpy as np

SIZE = 50  # small enough for a condition of 1e4 to matter within thousands of steps
STEEPNESS = 3.0  # of the true weights: one label in seven is not the likelier one
TRAIN = 5000  # as many test
ROWS, COLUMNS, RANK = 600, 400, 8
KNOWN, ASKED = 30_000, 5_000  # entries; of the training set four for each free number
NOISE = 0.1  # its deviation; that of the entries themselves is 1


def gaussian() -> list[np.ndarray]:
    """White inputs, and labels that are drawn by the logistic model."""
    random = np.random.RandomState(0)
    inputs = random.standard_normal((2 * TRAIN, SIZE))
    weights = random.standard_normal(SIZE)
    logits = inputs @ (STEEPNESS * weights / np.linalg.norm(weights))
    labels = random.uniform(size=len(inputs)) < 1 / (1 + np.exp(-logits))
    inputs, labels, n = inputs.astype(np.float32), labels.astype(np.uint8), TRAIN
    return [inputs[:n], labels[:n], inputs[n:], labels[n:]]


def low_rank() -> list[np.ndarray]:
    """Some entries of a matrix of low rank with noise: row and column as inputs, the value to find.

    The values are added up factor by factor, since the last bit of a product of matrices is
    another on other machines.
    """
    random = np.random.RandomState(0)
    left = random.standard_normal((ROWS, RANK))
    right = random.standard_normal((COLUMNS, RANK))
    entries = random.permutation(ROWS * COLUMNS)[: KNOWN + ASKED].astype(np.int64)
    rows, columns = entries // COLUMNS, entries % COLUMNS
    values = sum(left[rows, k] * right[columns, k] for k in range(RANK)) / np.sqrt(RANK)
    values = (values + NOISE * random.standard_normal(len(entries))).astype(np.float32)
    places = np.stack([rows, columns], axis=1)
    return [places[:KNOWN], values[:KNOWN], places[KNOWN:], values[KNOWN:]]
