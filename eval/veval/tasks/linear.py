"""Linear classification of frozen features: multinomial logistic regression, to its optimum.

Features are standardised by the mean and deviation of the training videos. The loss is the mean cross-entropy plus half
the strength times the squared weights (not the biases). L-BFGS minimises it over all videos at once in float64: no
random numbers, no learning rate. The strength is chosen on held-out videos of the training split, never on the test;
then all of the training split is used. Besides the features, memory holds two copies of them in float64.

V videos   D feature   C classes
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from veval.evaluation import Progress, nothing
from veval.features.table import Features, Ints, by_video, films
from veval.tasks.knn import Classified, counts, refuse_unusable_pair
from vprep.errors import UsageError

STRENGTHS = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4, 1e-5)
DEFAULT_STRENGTH = 0.01  # when there are too few videos to hold any out
HELD_OUT = 0.2
STEPS = 500
FLAT = 1e-6  # largest entry of the gradient at what counts as the optimum


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A linear classifier, with the standardisation of its inputs."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    gradient: float  # its largest entry at the end of training

    def predict(self, features_VD: Tensor) -> Tensor:
        return (_standardised(features_VD, self.mean, self.scale) @ self.weight.T + self.bias).argmax(1)

    def accuracy(self, features_VD: Tensor, class_V: Tensor) -> float:
        return 100 * float((self.predict(features_VD) == class_V).double().mean())


def classify(
    train: Features,
    test: Features,
    *,
    strengths: Sequence[float] = STRENGTHS,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = nothing,
) -> Classified:
    """Train on `train`, test on `test`; features of several clips are averaged.

    The details hold the strength, the accuracy on the held-out videos for each strength, and the accuracy on the
    training videos. If even the training videos are not discriminated, a low number is due to the features, not to too
    few videos.
    """
    refuse_unusable_pair(train, test)
    if not strengths or min(strengths) <= 0:
        raise UsageError(f"strengths are {list(strengths)}; one or more are needed, each above 0")
    learned, tested = train.taken(train.labelled()), test.taken(test.labelled())
    labels, class_V = np.unique(learned.label, return_inverse=True)
    features_VD, target_V = torch.tensor(by_video(learned), device=device), torch.tensor(class_V, device=device)
    held = held_out(learned, seed)
    strength, tried = _best_strength(features_VD, target_V, held, strengths, progress)
    fit = trained(features_VD, target_V, len(labels), strength)
    progress(len(strengths) + 1, len(strengths) + 1)
    predicted_V = fit.predict(torch.tensor(by_video(tested), device=device)).cpu().numpy()
    details = {
        **counts(train, test),
        "strength": strength,
        "chosen": "on held-out training videos" if tried else _why_not_chosen(strengths),
        "held_out": len(held) if tried else 0,
        "held_out_top1": {f"{value:g}": accuracy for value, accuracy in tried.items()},
        "train_top1": fit.accuracy(features_VD, target_V),
        "optimum": "reached" if fit.gradient < FLAT else f"not reached, gradient {fit.gradient:.1e}",
    }
    return Classified(keys=tested.keys, label=tested.label, predicted=labels[predicted_V], details=details)


def few(features: Features, k: int, seed: int = 0) -> Features:
    """Return `k` labelled videos of each class, drawn by seed and key: the same for any weights and any order."""
    if k < 1:
        raise UsageError(f"--few is {k}; it must be at least 1")
    rows: defaultdict[int, list[int]] = defaultdict(list)
    for row in features.labelled().tolist():
        rows[int(features.label[row])].append(row)
    if not rows:
        raise UsageError("none of the videos to learn from has a label; choose another --gallery")
    smallest = min(rows, key=lambda label: (len(rows[label]), label))
    most = len(rows[smallest])
    if most < k:
        small = sum(len(found) < k for found in rows.values())
        raise UsageError(
            f"{small} of {len(rows)} classes have fewer than {k} videos (class {smallest} has {most}); "
            f"choose a --few of at most {most}"
        )
    chosen = [row for found in rows.values() for row in _shuffled(found, [features.keys[r] for r in found], seed)[:k]]
    return features.taken(np.array(sorted(chosen), np.int64))


def held_out(features: Features, seed: int) -> Ints:
    """Return the rows to hold out: about HELD_OUT of each class, all videos of a film together, never a full class.

    Videos that were cut from one film are similar. If some were trained on, the others would seem easy.
    """
    by_class: defaultdict[int, list[str]] = defaultdict(list)
    members: defaultdict[str, list[int]] = defaultdict(list)
    for row, (label, film) in enumerate(zip(features.label.tolist(), films(features), strict=True)):
        if film not in members:
            by_class[label].append(film)
        members[film].append(row)
    chosen: list[int] = []
    for names in by_class.values():
        wanted = HELD_OUT * sum(len(members[name]) for name in names)
        shuffled = [names[number] for number in _shuffled(list(range(len(names))), names, seed)]
        taken = 0
        for name in shuffled[:-1]:
            if taken >= wanted:
                break
            chosen += members[name]
            taken += len(members[name])
    return np.array(sorted(chosen), np.int64)


def trained(features_VD: Tensor, class_V: Tensor, classes: int, strength: float, begin: Fit | None = None) -> Fit:
    """Return the classifier with the least loss; starting from `begin` is faster."""
    x_VD = features_VD.double()
    mean = x_VD.mean(0)
    deviation = x_VD.std(0, correction=0)
    # A feature that is the same in all videos carries no information; do not amplify its rounding errors.
    scale = torch.where(deviation > 1e-12 * (1 + mean.abs()), 1 / deviation, 0.0)
    x_VD = _standardised(x_VD, mean, scale)
    weight = (begin.weight if begin else x_VD.new_zeros(classes, x_VD.shape[1])).clone().requires_grad_()
    bias = (begin.bias if begin else x_VD.new_zeros(classes)).clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weight, bias],
        max_iter=STEPS,
        tolerance_grad=FLAT / 10,
        tolerance_change=1e-14,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        found = F.cross_entropy(x_VD @ weight.T + bias, class_V) + strength / 2 * weight.square().sum()
        found.backward()  # type: ignore[no-untyped-call]
        return found

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    loss()
    gradient = max(float(part.grad.abs().max()) for part in (weight, bias) if part.grad is not None)
    return Fit(mean=mean, scale=scale, weight=weight.detach(), bias=bias.detach(), gradient=gradient)


def _best_strength(
    features_VD: Tensor, class_V: Tensor, held: Ints, strengths: Sequence[float], progress: Progress
) -> tuple[float, dict[float, float]]:
    """Return the strength that is best on the held-out rows (of equals, the strongest), and the accuracy of each."""
    if not len(held):
        return (strengths[0] if len(strengths) == 1 else DEFAULT_STRENGTH), {}
    if len(strengths) == 1:
        return strengths[0], {}
    out_V = torch.zeros(len(class_V), dtype=torch.bool, device=class_V.device)
    out_V[torch.tensor(held, device=class_V.device)] = True
    accuracy: dict[float, float] = {}
    fit = None
    for number, strength in enumerate(sorted(strengths, reverse=True)):
        progress(number, len(strengths) + 1)
        fit = trained(features_VD[~out_V], class_V[~out_V], int(class_V.max()) + 1, strength, fit)
        accuracy[strength] = fit.accuracy(features_VD[out_V], class_V[out_V])
    return max(accuracy, key=accuracy.__getitem__), accuracy


def _why_not_chosen(strengths: Sequence[float]) -> str:
    return "given" if len(strengths) == 1 else "too few videos for it"


def _standardised(features_VD: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    return (features_VD.double() - mean) * scale


def _shuffled(rows: list[int], names: Sequence[str], seed: int) -> list[int]:
    """Return the rows in an order that depends on the seed and their names only."""
    marks = [hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=16).digest() for name in names]
    return [row for _, row in sorted(zip(marks, rows, strict=True))]
