"""A spec as a classifier of scikit-learn's kind: its own checks, a search, and probabilities."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed")

from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from cnnspec.sklearn import CnnClassifier

SPEC = """\
cnnspec: 1
input: [1, 8, 8]
layers:
  - {type: conv2d, filters: 8, kernel_size: 3}
  - relu
  - flatten
  - {id: logits, type: dense, units: 10}
data: {source: digits}
train: {epochs: 2, batch_size: 32, optimizer: {type: adam, learning_rate: 0.01}}
"""


ROUNDING = "in single precision the last digits of an output depend on where in the batch its image stands"
ROUNDED = {"check_methods_sample_order_invariance": ROUNDING, "check_methods_subset_invariance": ROUNDING}


@pytest.mark.slow
@parametrize_with_checks([CnnClassifier()], expected_failed_checks=lambda estimator: ROUNDED)  # type: ignore[untyped-decorator]
def test_the_contract_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def test_a_spec_is_cross_validated_and_searched() -> None:
    pixels, classes = load_digits(return_X_y=True)
    pixels, names = np.minimum(pixels * 16, 255)[:600], np.array([f"digit {label}" for label in classes[:600]])
    assert cross_val_score(CnnClassifier(SPEC, epochs=3), pixels, names, cv=2).mean() > 0.8
    search = GridSearchCV(CnnClassifier(SPEC), {"epochs": [1, 3]}, cv=2).fit(pixels, names)
    assert search.best_params_ == {"epochs": 3}
    chances = search.best_estimator_.predict_proba(pixels)
    np.testing.assert_allclose(chances.sum(axis=1), 1)
    assert (search.best_estimator_.classes_[chances.argmax(1)] == search.predict(pixels)).all()


def test_answers_do_not_depend_on_what_is_asked_beside_them() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=(30, 5))
    fitted = CnnClassifier().fit(x, x[:, 0] > 0)
    one_by_one = np.concatenate([fitted.predict_proba(row[None]) for row in x])
    np.testing.assert_allclose(one_by_one, fitted.predict_proba(x), rtol=0, atol=1e-5)


def test_what_does_not_fit_is_told() -> None:
    random = np.random.default_rng(0)
    with pytest.raises(ValueError, match="expected one output for each of 3 classes"):
        CnnClassifier(SPEC).fit(random.integers(0, 256, (9, 64)), np.arange(9) % 3)
