"""Losses of segmentation by name; all honour ignored pixels, and all are computed in float32.

`loss(name, logits, target, class_weights)` with logits (N, K, H, W) and target (N, H, W), int64: the class index, negative where ignored.
K = 1 is the binary case (target 0 or 1, sigmoid), K >= 2 are exclusive classes (softmax). A batch is one set of labelled pixels: overlaps
are not taken per chip, since sparse labels leave chips without a single pixel of a class.

`class_weights` (two for K = 1: of 0 and of 1; else K) weigh the pixels in the terms that are means over pixels: cross entropy and focal,
and the cross entropy in `bce_dice`; the sum is divided by the sum of the weights. Dice and Lovasz terms are ratios per class, in which
a rare class counts as much as a frequent one; they take no weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Callable, Optional

import torch
from torch.nn import functional as F

from .errors import ConfigError, LabelError

FOCAL_GAMMA = 2.0


def loss(name: str, logits: torch.Tensor, target: torch.Tensor, class_weights: Optional[Sequence[float]] = None) -> torch.Tensor:
    """A scalar, float32; 0 (with zero gradients) where every pixel is ignored.

    Raises `ConfigError` for a wrong name or weights, `LabelError` for a target beyond the classes, `ValueError` for shapes that disagree.
    """
    if name not in LOSSES:
        raise ConfigError(f"There is no loss {str(name)[:60]!r}.", f"Choose one of: {', '.join(LOSSES)}.")
    if logits.ndim != 4 or target.shape != (logits.shape[0], *logits.shape[2:]):
        raise ValueError(f"logits {tuple(logits.shape)} and target {tuple(target.shape)} disagree")
    channels = logits.shape[1]
    classes = max(channels, 2)
    weights = _weights(class_weights, classes, logits.device)
    # Losses see the labelled pixels only: what is ignored can't leak into a sum or a sort, and sparse labels sort quickly.
    target = target.reshape(-1)
    labelled = target >= 0
    target = target[labelled]
    highest = int(target.max()) if target.numel() else 0
    if highest >= classes:
        raise LabelError(f"A label is class {highest}; the model knows 0 to {classes - 1}.", "Train on chips with the model's classes.")
    # Under autocast too: no operation below is one that it would take back to half precision.
    scores = logits.permute(0, 2, 3, 1).reshape(-1, channels)[labelled].float()
    if not target.numel():
        return scores.sum()
    return LOSSES[name](scores, target, weights)


def _weights(values: Optional[Sequence[float]], classes: int, device: torch.device) -> torch.Tensor:
    if values is None:
        return torch.ones(classes, device=device)
    weights = torch.as_tensor(values, dtype=torch.float32, device=device)
    if weights.shape != (classes,) or not torch.isfinite(weights).all() or bool((weights <= 0).any()):
        raise ConfigError(f"The class weights {str(values)[:100]} don't fit.", f"Give {classes} positive numbers, one per class.")
    return weights


# Below: scores (P, K) and target (P,) of the labelled pixels, P >= 1; weights (K,), or (2,) for K = 1.


def _weighted_mean(values: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    weight = weights[target]
    return (values * weight).sum() / weight.sum()


def _negative_log_likelihood(scores: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Minus the log of the probability of the true class, (P,). In both cases from logits, so that 1e4 overflows nothing."""
    if scores.shape[1] == 1:
        return F.softplus(torch.where(target == 1, -scores[:, 0], scores[:, 0]))
    return F.nll_loss(F.log_softmax(scores, 1), target, reduction="none")


def _cross_entropy(scores: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return _weighted_mean(_negative_log_likelihood(scores, target), target, weights)


def _focal(scores: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """(1 - p)^gamma * -log(p), p the probability of the true class (Lin et al. 2017, 10.1109/ICCV.2017.324; alpha is `class_weights`)."""
    surprise = _negative_log_likelihood(scores, target)
    return _weighted_mean((-torch.expm1(-surprise)) ** FOCAL_GAMMA * surprise, target, weights)


def _class_columns(scores: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Probability and truth (0 or 1) of the classes that count in an overlap, both (P, classes).

    Binary: the foreground. Several classes: those that occur in the batch, since an absent one has no overlap to speak of.
    """
    if scores.shape[1] == 1:
        return torch.sigmoid(scores), target.float()[:, None]
    present = torch.unique(target)
    return F.softmax(scores, 1)[:, present], (target[:, None] == present).float()


def _bce_dice(scores: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """0.5 * cross entropy + soft Dice loss, 1 - (2 sum(p t) + 1) / (sum p + sum t + 1), mean over classes (as Milletari et al. 2016,
    10.1109/3DV.2016.79, without their squares). The 1 gives a batch without foreground the loss 0 for an empty answer."""
    probability, truth = _class_columns(scores, target)
    dice = (2 * (probability * truth).sum(0) + 1) / (probability.sum(0) + truth.sum(0) + 1)
    return 0.5 * _cross_entropy(scores, target, weights) + (1 - dice).mean()


def _lovasz(scores: torch.Tensor, target: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Lovasz hinge (K = 1) and Lovasz softmax (mean over the classes present): Berman et al. 2018, 10.1109/CVPR.2018.00464."""
    if scores.shape[1] == 1:
        truth = target.float()[:, None]
        errors = F.relu(1 - scores * (2 * truth - 1))
    else:
        probability, truth = _class_columns(scores, target)
        errors = (truth - probability).abs()
    return _lovasz_extension(errors, truth).mean()


def _lovasz_extension(errors: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """The convex extension of the Jaccard loss 1 - IoU from sets of wrong pixels to errors >= 0; both (P, classes), result (classes,).

    Sorted by falling error, pixel i weighs as much as the Jaccard loss grows when i joins the wrong pixels.
    """
    errors, order = torch.sort(errors, dim=0, descending=True, stable=True)
    # Counted in float64: whole numbers are exact in float32 up to 2^24 only, and a batch may have more pixels.
    truth = torch.gather(truth, 0, order).double()
    total = truth.sum(0)
    hits = truth.cumsum(0)
    false = (1 - truth).cumsum(0)
    jaccard = 1 - (total - hits) / (total + false)
    growth = torch.diff(jaccard, dim=0, prepend=torch.zeros_like(jaccard[:1])).float()
    return (errors * growth).sum(0)


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "bce_dice": _bce_dice,
    "lovasz": _lovasz,
    "cross_entropy": _cross_entropy,
    "focal": _focal,
}
