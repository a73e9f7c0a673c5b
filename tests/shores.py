"""Small scenes for the refinement: a rough water map and the image that shows the true shores."""

from __future__ import annotations

import numpy as np
from scipy import ndimage


def scene(seed: int = 0, size: int = 96, bands: int = 4, noise: float = 4.0):
    """`(image float32 (bands, rows, cols) like 0..255, probability float32 (1, rows, cols), truth bool (rows, cols))`: lakes that are dark, above all
    in the last band; the probability is the truth blurred, with blobs of error."""
    rng = np.random.default_rng(seed)
    level = ndimage.gaussian_filter(rng.normal(size=(size, size)), size / 10)
    truth = level > np.quantile(level, 0.65)
    colours = ((40, 110), (60, 120), (50, 100), (25, 150))[:bands]
    image = np.stack([
        ndimage.gaussian_filter(np.where(truth, water, land).astype(float), 0.7)
        + 20 * ndimage.gaussian_filter(rng.normal(size=truth.shape), 2) + rng.normal(0, noise, truth.shape)
        for water, land in colours
    ])  # fmt: skip
    logits = ndimage.gaussian_filter(np.where(truth, 3.0, -3.0), 3) + 6 * ndimage.gaussian_filter(rng.normal(size=truth.shape), 2)
    return image.clip(0, 255).astype(np.float32), (1 / (1 + np.exp(-logits))).astype(np.float32)[None], truth
