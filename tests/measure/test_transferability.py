import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.optimize
from sklearn.neighbors import KNeighborsClassifier

from convtl.measure import transferability as measure


def _clusters(
    seed: int, n: int = 60, classes: int = 4, d: int = 6, apart: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    return rng.normal(size=(classes, d))[labels] * apart + rng.normal(size=(n, d)), labels


# --- evidence ---------------------------------------------------------------------------------------


def _log_evidence(f: np.ndarray, y: np.ndarray, alpha: float, beta: float) -> float:
    """Of Bayesian linear regression, from the marginal y ~ N(0, F F' / alpha + I / beta)."""
    covariance = f @ f.T / alpha + np.eye(len(y)) / beta
    sign, logdet = np.linalg.slogdet(covariance)
    assert sign == 1
    return -0.5 * (len(y) * math.log(2 * math.pi) + logdet + y @ np.linalg.solve(covariance, y))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n", "d"), [(40, 5), (12, 30)])
def test_logme_is_the_evidence_at_its_largest(n: int, d: int, seed: int) -> None:
    f, labels = _clusters(seed, n, 3, d, apart=0.7)
    best = []
    for label in range(3):
        y = (labels == label).astype(float)
        runs = [
            scipy.optimize.minimize(
                lambda p, y=y: -_log_evidence(f, y, *np.exp(np.clip(p, -25, 25))),
                start,
                method="Nelder-Mead",
                options={"xatol": 1e-5, "fatol": 1e-9, "maxiter": 2000},
            )
            for start in ([0.0, 0.0], [5.0, 2.0], [-3.0, 3.0])
        ]
        best.append(-min(run.fun for run in runs) / n)
    assert measure.logme(f, labels) == pytest.approx(np.mean(best), abs=2e-5)


def test_logme_agrees_with_the_papers_iteration() -> None:
    f, labels = _clusters(5, 200, 3, 8)
    u, s, vt = np.linalg.svd(f, full_matrices=False)
    total = 0.0
    for label in range(3):
        y = (labels == label).astype(float)
        alpha = beta = 1.0
        for _ in range(200):
            gamma = (beta * s**2 / (alpha + beta * s**2)).sum()
            m = vt.T @ (beta * s * (u.T @ y) / (alpha + beta * s**2))
            alpha, beta = gamma / (m @ m), (200 - gamma) / np.square(y - f @ m).sum()
        total += _log_evidence(f, y, alpha, beta) / 200
    assert measure.logme(f, labels) == pytest.approx(total / 3, abs=1e-8)


def test_logme_where_features_tell_nothing_or_all() -> None:
    labels = np.arange(30) % 3
    y = labels == 0
    nothing = 0.5 * (math.log(30 / y.sum()) - 1 - math.log(2 * math.pi))  # y ~ N(0, 1 / beta)
    assert measure.logme(np.zeros((30, 4)), labels) == pytest.approx(nothing)
    noise = np.random.default_rng(0).normal(size=(30, 1))
    noise -= noise.mean(0)
    assert measure.logme(noise * 1e-3, labels) >= nothing - 1e-9
    told = measure.logme(np.eye(3)[labels], labels)
    assert np.isfinite(told)
    assert told > measure.logme(np.eye(3)[labels] + noise, labels)


# --- neighbours, probe ---------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3, 5])
def test_neighbours_are_scikit_learns(k: int) -> None:
    f, labels = _clusters(1, 40, 2)
    right = 0
    for i in range(40):
        others = np.arange(40) != i
        guess = KNeighborsClassifier(k).fit(f[others], labels[others]).predict(f[[i]])[0]
        right += guess == labels[i]
    assert measure.knn_accuracy(f, labels, k) == right / 40  # two classes and odd k: no ties


def test_nearer_neighbours_break_ties() -> None:
    features, labels = np.array([[0.0], [1.0], [-3.0], [50.0]]), np.array([0, 0, 1, 1])
    # of the 2 nearest: to image 0 are 1 (class 0) and 2; to 1 are 0 and 2; to 2 are 0 and 1; to 3 are 1 and 0
    assert measure.knn_accuracy(features, labels, 2) == 0.5


@pytest.mark.parametrize(
    "score",
    [measure.logme, measure.knn_accuracy, measure.linear_probe_accuracy],
)
def test_better_separated_classes_score_higher(score: Callable[..., float]) -> None:
    scores = [score(*_clusters(2, 120, 4, 6, apart)) for apart in (0.0, 0.5, 2.0)]
    assert scores[0] < scores[1] < scores[2]
    if score in (measure.knn_accuracy, measure.linear_probe_accuracy):
        assert 0.1 < scores[0] < 0.4  # chance is 1/4
        assert scores[2] > 0.8


def test_no_image_is_predicted_by_a_probe_that_has_seen_it() -> None:
    """Features that name the image: learned by heart they would be perfect, and they generalise to nothing."""
    for score in (measure.linear_probe_accuracy, measure.knn_accuracy):
        assert score(np.eye(40), np.arange(40) % 2) < 0.7


def test_features_that_do_not_vary() -> None:
    f, labels = _clusters(3, 60, 3)
    padded = np.concatenate([f, np.full((60, 2), 0.1)], axis=1)
    assert measure.linear_probe_accuracy(padded, labels) == measure.linear_probe_accuracy(f, labels)
    assert measure.knn_accuracy(padded, labels) == measure.knn_accuracy(f, labels)
    constant = np.full((60, 3), 0.1)
    assert measure.linear_probe_accuracy(constant, labels) == 0


@pytest.mark.parametrize(
    "score",
    [measure.logme, measure.knn_accuracy, measure.linear_probe_accuracy],
)
def test_labels_that_do_not_go_with_the_features(score: Callable[..., float]) -> None:
    f, labels = _clusters(0)
    with pytest.raises(ValueError, match="labels must be 60 integers"):
        score(f, labels[:-1])
    with pytest.raises(ValueError, match="features must be"):
        score(f[:, 0], labels)
    f[3, 2] = np.nan
    with pytest.raises(ValueError, match="all finite"):
        score(f, labels)


def test_too_few_images() -> None:
    f, labels = _clusters(0, 5, 4)
    with pytest.raises(ValueError, match="k=5"):
        measure.knn_accuracy(f, labels)
    with pytest.raises(ValueError, match="2 images of each class"):
        measure.linear_probe_accuracy(f, labels)
