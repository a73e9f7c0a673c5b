"""The steps of a refinement on arrays: superpixel fusion and CRF, with settings that follow from the pixel size.

Inside, a probability of 0.5 is where the class changes, whatever the map's threshold: its logit is moved there first and back at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Optional

import numpy as np

from ..classes import classify
from ..errors import ConfigError
from ..normalise import Normalisation, Sketch, fit
from ..settings import RefineConfig
from .crf import Kernels, compiled, mean_field
from .slic import slic

# Chosen on the scenes of benchmarks/refinement.py, where the optimum is flat. The published 2800 segments per 2048 x 2048 px at 0.52 m are 20 m wide:
# too wide for lakes of some 100 m2.
SEGMENT_M, SEGMENT_PX, SEGMENT_COARSE_PX = 7.5, (12, 15), 8
REACH_M, REACH_PX = 20.0, (20.0, 40.0)  # of the outline kernel: twice as far brings nothing and takes twice the halo
COARSE_M = 8.0  # from here on lakes of a few pixels are most of the lakes
SLIC_HALO, CRF_HALO = 8, 5  # in segments, in standard deviations of the wider kernel: what is farther away changes 2 pixels in 10 000
SRGB = 13.0
LARGEST = 1e6  # of scaled bands: what float32 still tells apart in the lattice; beyond are undeclared nodata and the like
MOST_BANDS = 5  # more become so many principal components: time and memory of the lattice grow fast with the number of dimensions


@dataclass(frozen=True)
class Plan:
    """A refinement with all numbers chosen. `steps`: "slic" and "crf" in order; `segment` in px."""

    steps: tuple
    segment: int
    kernels: Kernels
    config: RefineConfig

    def halo(self, step: str) -> int:
        """How far around a pixel the step looks, in px."""
        if step == "slic":
            return SLIC_HALO * self.segment
        reach = max(self.kernels.sxy if self.kernels.far_weight else 0, self.kernels.near_sxy if self.kernels.near_weight else 0)
        return int(np.ceil(CRF_HALO * reach)) if self.config.iterations else 0

    def lines(self, pixel_size_m: Optional[float]) -> list[str]:
        """For the log."""
        size = f" ({pixel_size_m:.3g} m pixels)" if pixel_size_m else ""
        loops = "numba" if compiled(self.config.engine) else "NumPy (numba makes it 2 to 3 times faster: Install packages)"
        engine = "pydensecrf" if self.config.engine == "pydensecrf" else loops
        texts = {
            "slic": f"superpixels of {self.segment} px{size}, compactness {self.config.compactness:g}",
            "crf": f"CRF with sxy {self.kernels.sxy:.3g} px, srgb {self.kernels.srgb:.3g}, weight {self.kernels.far_weight:g}; smoothness {self.kernels.near_sxy:.3g} px, weight {self.kernels.near_weight:g}; {self.config.iterations} iterations; {engine}",
        }
        return [texts[step] for step in self.steps]


def plan(config: RefineConfig, pixel_size: Optional[float] = None, pixel_size_m: Optional[float] = None, noise: float = 0.0) -> Plan:
    """Choose what the settings leave open. `pixel_size` in map units, `pixel_size_m` in metres (None: unknown, taken as 0.5 m), `noise` of the
    image, scaled like 0..255."""
    metres = pixel_size_m or 0.5
    if config.segment_size == 0:
        segment = float(np.clip(SEGMENT_M / metres, *SEGMENT_PX)) if metres < COARSE_M else SEGMENT_COARSE_PX
    elif config.segment_unit == "map units":
        segment = config.segment_size / (pixel_size or 1.0)
    elif config.segment_unit == "pixels":
        segment = config.segment_size
    else:
        segment = 2048 / np.sqrt(config.segment_size)
    if "slic" in config.mode and not 2.5 <= segment <= 2000:
        raise ConfigError(
            f"Superpixels would be {segment:.3g} px wide.",
            "Choose a segment size of 3 to 2000 px, or the steps 'crf' for very small lakes.",
        )
    compiled(config.engine)  # raises, before any work, if it is not there
    kernels = Kernels(
        config.sxy or float(np.clip(REACH_M / metres, *REACH_PX)), config.srgb or max(SRGB, 2 * noise), config.outline_weight,
        config.smooth_sxy or (3.0 if metres < COARSE_M else 1.0), config.smooth_weight,
    )  # fmt: skip
    return Plan(tuple(config.mode.split("_")), max(round(segment), 3), kernels, config)


def refine_arrays(
    probability: np.ndarray, image: np.ndarray, valid: np.ndarray, config: RefineConfig, pixel_size_m: Optional[float] = None,
    threshold: float = 0.5,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Refine a map that fits into memory. `probability` float `(1 or classes, rows, cols)`, `image` `(bands, rows, cols)` of any dtype, `valid` bool
    `(rows, cols)`, `threshold` above 0 and below 1. Returns the refined probability, float32 of the same shape, and the class indices uint8 `(rows, cols)`."""
    valid = valid & np.isfinite(image).all(axis=0)
    sketches = [Sketch() for _ in image]
    for sketch, plane in zip(sketches, image):
        sketch.update(plane[valid])
    scaled = scale(image, valid, stretch(sketches) if config.stretch and valid.any() else None)
    scaled = turned(scaled, components([scaled[:, valid][:, :: valid.sum() // 65536 + 1]]))
    chosen = plan(config, pixel_size_m, pixel_size_m, noise(scaled, valid))
    inner = centred(np.asarray(probability, np.float32), threshold, config.limit)
    for step in chosen.steps:
        inner = run(step, chosen, inner, scaled, valid, (0, 0), lambda share: None)
    refined = np.where(valid, uncentred(inner, threshold), probability).astype(np.float32)
    return refined, classify(refined, threshold)


def stretch(sketches: list[Sketch]) -> Normalisation:
    """The bands' 1 % and 99 % values."""
    return fit("percentile", sketches)


def scale(image: np.ndarray, valid: np.ndarray, numbers: Optional[Normalisation]) -> np.ndarray:
    """`(bands, rows, cols)` of any dtype to float32 like 0..255, at most `LARGEST`; where not valid `(rows, cols)`, any number."""
    everywhere = np.broadcast_to(valid, image.shape)
    with np.errstate(over="ignore"):
        if numbers is None:
            result = np.where(everywhere, image, 0).astype(np.float32)
        else:
            result = numbers.apply(image, everywhere)
            result *= np.float32(255)
    return np.clip(result, -LARGEST, LARGEST, out=result)


def components(samples: list[np.ndarray]) -> Optional[np.ndarray]:
    """Rows that turn more than `MOST_BANDS` scaled bands into so many principal components `(MOST_BANDS, bands)`; None for fewer bands.
    They are not whitened: distances between colours stay. `samples` are `(bands, pixels)`."""
    pixels = np.concatenate(samples, axis=1)
    if len(pixels) <= MOST_BANDS or pixels.shape[1] < 2:
        return None if len(pixels) <= MOST_BANDS else np.eye(MOST_BANDS, len(pixels), dtype=np.float32)
    low, high = np.percentile(pixels, (1, 99), axis=1, keepdims=True)
    pixels = np.clip(pixels, 2 * low - high, 2 * high - low)  # a single outlier would turn them all
    _, vectors = np.linalg.eigh(np.cov(pixels.astype(np.float64)))
    rows = vectors[:, : -MOST_BANDS - 1 : -1].T
    return (rows * np.sign(rows[np.arange(MOST_BANDS), np.abs(rows).argmax(axis=1)])[:, None]).astype(np.float32)


def turned(image: np.ndarray, rows: Optional[np.ndarray]) -> np.ndarray:
    """Scaled bands, or their principal components."""
    return image if rows is None else np.tensordot(rows, image, 1)


def noise(image: np.ndarray, valid: np.ndarray) -> float:
    """Standard deviation of the noise of scaled bands `(bands, rows, cols)`, root mean square over them; 0 if nothing can be said.

    Immerkær 1996, Fast Noise Variance Estimation, 10.1006/cviu.1996.0060, with the median instead of the mean, which edges do not move.
    """
    inside = valid[2:, 2:] & valid[2:, :-2] & valid[:-2, 2:] & valid[:-2, :-2] & valid[1:-1, 1:-1]
    if inside.sum() < 100:
        return 0.0
    found = []
    for band in image:
        down = band[2:] - 2 * band[1:-1] + band[:-2]
        across = down[:, 2:] - 2 * down[:, 1:-1] + down[:, :-2]
        found.append(np.median(np.abs(across[inside])) / (6 * 0.6745))
    return float(np.sqrt(np.mean(np.square(found))))


def centred(probability: np.ndarray, threshold: float, limit: float) -> np.ndarray:
    """Probabilities whose class changes at 0.5, none surer than `limit`."""
    if len(probability) == 2:
        second = centred(probability[1:], threshold, limit)
        return np.concatenate([1 - second, second])
    if len(probability) > 1:
        floor = np.float32((1 - limit) / (len(probability) - 1))
        limited = np.clip(probability, floor, np.float32(limit))
        return limited / limited.sum(axis=0)
    return np.clip(_moved(probability, -_logit(threshold)), np.float32(1 - limit), np.float32(limit))


def uncentred(probability: np.ndarray, threshold: float) -> np.ndarray:
    """The inverse of `centred`, but for the limit."""
    if len(probability) > 2:
        return probability
    moved = _moved(probability[-1:], _logit(threshold))
    return moved if len(probability) == 1 else np.concatenate([1 - moved, moved])


def _logit(threshold: float) -> float:
    return float(np.log(threshold / (1 - threshold)))


def _moved(probability: np.ndarray, by: float) -> np.ndarray:
    if by == 0:
        return probability
    inside = np.clip(probability, np.float32(1e-6), np.float32(1 - 1e-6))
    return (1 / (1 + (1 - inside) / inside * np.float32(np.exp(-by)))).astype(np.float32)


def run(step: str, chosen: Plan, probability, image, valid, origin: tuple, tick: Callable[[float], None]) -> np.ndarray:
    """One step on arrays: centred probabilities in and out; `origin` (column, row) of the arrays in the whole raster."""
    config = chosen.config
    if step == "crf":
        return mean_field(
            probability,
            image,
            valid,
            chosen.kernels,
            config.iterations,
            origin=origin,
            engine=config.engine,
            threads=config.threads,
            tick=tick,
        )
    labels = slic(
        image, valid, chosen.segment, config.compactness, config.slic_iterations, origin=origin, engine=config.engine, threads=config.threads,
        tick=tick,
    )  # fmt: skip
    return fuse(probability, labels, config.fusion)


def fuse(probability: np.ndarray, labels: np.ndarray, by: str = "majority") -> np.ndarray:
    """Give each superpixel one probability: the share of its pixels of each class, or (`by` "mean") their mean probability.

    `labels` int32 `(rows, cols)`, -1: left as it is.
    """
    inside = labels >= 0
    if not inside.any():
        return probability
    held = labels[inside]
    number = np.maximum(np.bincount(held), 1)
    votes = classify(probability, 0.5) if by == "majority" else None
    result = probability.copy()
    for k, plane in enumerate(probability):
        weight = plane[inside] if votes is None else votes[inside] == (k if len(probability) > 1 else 1)
        result[k][inside] = (np.bincount(held, weight, minlength=len(number)) / number)[held]
    return result
