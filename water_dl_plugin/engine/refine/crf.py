"""Fully connected conditional random field: mean-field inference with Potts compatibility.

Krähenbühl, Koltun 2011, Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials, arXiv:1210.5644. Two kernels: one over
colour and place, which pulls outlines onto the image's edges, and one over place alone, which removes specks.

For two classes the field is one signed channel: with u the logits of the class of interest, the rounds are z = u + sum_k w_k F_k(tanh(z / 2)),
where F_k is the kernel, symmetrically normalised; the probability is then sigmoid(z).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Callable

import numpy as np
from scipy.special import expit

from ..errors import PackageMissingError
from .lattice import Lattice, Parts, Smooth, inverse_root, phase

CLIP = 1e-5  # no probability is surer than this: its logit must be finite


@dataclass(frozen=True)
class Kernels:
    """Standard deviations and weights. `far`: over colour (`srgb`, in the units of `image`) and place (`sxy`, px); `near`: over place alone."""

    sxy: float = 80.0
    srgb: float = 13.0
    far_weight: float = 10.0
    near_sxy: float = 3.0
    near_weight: float = 3.0


def compiled(engine: str) -> bool:
    """Shall the compiled loops be taken? Raises `PackageMissingError` if `engine` needs a package that is not there."""
    if engine == "pydensecrf" and find_spec("pydensecrf") is None:
        raise PackageMissingError("The engine pydensecrf is not installed.", "Set the engine to auto.")
    if engine == "numpy":
        return False
    there = os.environ.get("NUMBA_DISABLE_JIT", "0") != "1"
    try:
        from . import loops_numba  # noqa: F401
    except Exception:  # not there, or made for another NumPy, or without its DLL: each raises something else
        there = False
    if engine == "numba" and not there:
        raise PackageMissingError(
            "The engine numba is not installed, or does not work.", "Set the engine to auto, or run Install packages."
        )
    return there


def mean_field(
    probability: np.ndarray, image: np.ndarray, valid: np.ndarray, kernels: Kernels, iterations: int = 10, *, origin: tuple = (0, 0),
    engine: str = "auto", threads: int = 0, tick: Callable[[float], None] = lambda share: None
) -> np.ndarray:  # fmt: skip
    """Refine class probabilities by the image.

    `probability` float32 `(channels, rows, cols)`: one channel is the class of interest against the rest; several sum up to 1. `image`
    `(bands, rows, cols)`, finite, scaled like 0..255; `valid` bool `(rows, cols)`: other pixels take part in no sum and come back as they are.
    `origin`: column and row of the first pixel in the whole raster. `tick(share)` is called after each round and may raise.
    Returns float32 of the shape of `probability`.
    """
    fast, valid = compiled(engine), np.ascontiguousarray(valid, bool)
    probability = np.ascontiguousarray(probability, np.float32)
    if not valid.any() or iterations == 0 or not (kernels.far_weight or kernels.near_weight):
        return probability.copy()
    if engine == "pydensecrf":
        return _by_pydensecrf(probability, image, valid, kernels, iterations, origin, tick)
    with Parts(threads or os.cpu_count() or 1) as parts:
        field = _Field(image, valid, kernels, origin, parts, fast)
        tick(0.2)
        rounds = field.two_classes if len(probability) == 1 else field.classes
        result = rounds(probability, iterations, lambda share: tick(0.2 + 0.8 * share))
    return np.where(valid, result, probability)


class _Field:
    def __init__(self, image, valid, kernels: Kernels, origin, parts: Parts, fast: bool):
        self.shape, self.parts, self.fast = valid.shape, parts, fast
        self.near_weight, self.far_weight = np.float32(kernels.near_weight), np.float32(kernels.far_weight)
        where = np.zeros(0, np.int32) if valid.all() else np.flatnonzero(valid).astype(np.int32)
        bands = np.ascontiguousarray(image, np.float32).reshape(len(image), -1)
        self.lattice = Lattice(bands, where, valid.shape[1], kernels.sxy, kernels.srgb, origin, parts, fast)
        self.far_scale = inverse_root(self.lattice.filter(np.ones(self.lattice.count, np.float32)))
        self.smooth = Smooth(kernels.near_sxy, parts, fast)
        self.near_scale = np.where(valid, inverse_root(self.smooth.filter(valid.astype(np.float32))), np.float32(0))

    def _pixels(self, image: np.ndarray) -> np.ndarray:
        """Image to the lattice's pixels."""
        flat = image.reshape(-1)
        return flat[self.lattice.where] if len(self.lattice.where) else flat

    def _messages(self, belief: np.ndarray) -> np.ndarray:
        """What all pixels tell each pixel `(rows, cols)`, both kernels, weighted. `belief` is used up: arrays of pixels are what memory goes to."""
        message = self.lattice.filter(self._pixels(belief) * self.far_scale)
        message *= self.far_scale
        message *= self.far_weight
        belief *= self.near_scale
        near = self.smooth.filter(belief)
        near *= self.near_scale
        near *= self.near_weight
        flat = near.reshape(-1)
        flat[self.lattice.where if len(self.lattice.where) else slice(None)] += message
        return near

    def two_classes(self, probability: np.ndarray, iterations: int, tick) -> np.ndarray:
        logits = np.clip(probability[0], CLIP, 1 - CLIP)
        logits /= 1 - logits
        np.log(logits, out=logits)
        z = self._compiled_rounds(logits, iterations, tick) if self.fast else self._plain_rounds(logits, iterations, tick)
        return expit(z, out=z)[None]

    def _plain_rounds(self, logits: np.ndarray, iterations: int, tick) -> np.ndarray:
        z = logits.copy()
        for turn in range(iterations):
            z *= np.float32(0.5)
            z = self._messages(np.tanh(z, out=z))
            z += logits
            tick((turn + 1) / iterations)
        return z

    def _compiled_rounds(self, logits: np.ndarray, iterations: int, tick) -> np.ndarray:
        """The same in one pass over the lattice's arrays per round: what a pixel gathers it scatters again at once."""
        from . import loops_numba

        lattice, flat = self.lattice, logits.reshape(-1)
        belief = np.tanh(0.5 * logits)
        near = belief * self.near_scale
        values = self._pixels(belief) * self.far_scale
        sums = lattice.run(lambda part, start, stop: lattice.splat_part(part, start, stop, values))
        final = np.zeros(0, np.float32)
        for turn in range(iterations):
            blurred, smoothed = lattice.blur(sums), self.smooth.filter(near).reshape(-1)
            if turn + 1 == iterations:
                final = flat.copy()

            def one(part, start, stop, blurred=blurred, smoothed=smoothed, sums=sums, final=final):
                loops_numba.step(
                    lattice.ids, lattice.weights, blurred, flat, smoothed, self.near_scale.reshape(-1), self.far_scale, self.near_weight,
                    self.far_weight, lattice.where, start, stop, near.reshape(-1), sums[part], final,
                )  # fmt: skip

            lattice.run(one)
            tick((turn + 1) / iterations)
        return final.reshape(logits.shape)

    def classes(self, probability: np.ndarray, iterations: int, tick) -> np.ndarray:
        belief = probability / np.maximum(probability.sum(axis=0), CLIP)
        for turn in range(iterations):
            for plane, own in zip(belief, probability):
                plane[:] = self._messages(plane)
                plane += np.log(np.clip(own, CLIP, 1))
            belief -= belief.max(axis=0)
            np.exp(belief, out=belief)
            belief /= belief.sum(axis=0)
            tick((turn + 1) / iterations)
        return belief


def _by_pydensecrf(probability, image, valid, kernels: Kernels, iterations: int, origin, tick) -> np.ndarray:
    """The same by pydensecrf (Python package pydensecrf2): slower, needs a compiler to install, and deaf to Cancel within a round."""
    from pydensecrf import densecrf

    chances = np.concatenate([1 - probability, probability]) if len(probability) == 1 else probability
    chances = np.clip(chances[:, valid], CLIP, 1)
    rows, cols = np.nonzero(valid)
    place = [np.stack([cols, rows]) + np.array(phase(origin, sxy))[:, None] for sxy in (kernels.near_sxy, kernels.sxy)]
    field = densecrf.DenseCRF(chances.shape[1], len(chances))
    field.setUnaryEnergy(np.ascontiguousarray(-np.log(chances), np.float32))
    if kernels.near_weight:
        field.addPairwiseEnergy(np.ascontiguousarray(place[0] / kernels.near_sxy, np.float32), compat=kernels.near_weight)
    if kernels.far_weight:
        features = np.concatenate([place[1] / kernels.sxy, np.asarray(image, np.float32)[:, valid] / kernels.srgb])
        field.addPairwiseEnergy(np.ascontiguousarray(features, np.float32), compat=kernels.far_weight)
    belief, first, second = field.startInference()
    for turn in range(iterations):
        field.stepInference(belief, first, second)
        tick((turn + 1) / iterations)
    result = probability.copy()
    result[:, valid] = np.asarray(belief)[-len(probability) :]
    return result
