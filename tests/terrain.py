"""Terrain and model files for the tests of finer elevation models, made by hand: numpy, onnx and GDAL, not our own code."""

from __future__ import annotations

import numpy as np
from onnx import helper

from tests import road

#: what a pixel of the model sees, in px, and what its layers pool
MARGIN, STRIDE = 4, 2
_SECOND = np.array([[[0, 1, 0], [0, -2, 0], [0, 1, 0]], [[0, 0, 0], [1, -2, 1], [0, 0, 0]], [[1, 0, -1], [0, 0, 0], [-1, 0, 1]]], float)


def rough(rows: int, cols: int, seed: int = 0, height: float = 1800.0) -> np.ndarray:
    """Heights float64 `(rows, cols)`: hills of many sizes, up to some 100 m, and roughness of a metre."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :cols] / 40.0
    result = np.full((rows, cols), height)
    for k in range(1, 9):
        a, b, phase = rng.normal(0, k / 2), rng.normal(0, k / 2), rng.uniform(0, 6)
        result += 90 / k**1.5 * np.sin(a * x + b * y + phase)
    return result + rng.normal(0, 0.5, result.shape)


def model(
    path,
    kinds=("elevation",),
    factor=3.0,
    *,
    unit="m",
    vertical="constant",
    channels=2,
    resampling=(),
    target=None,
    seed=1,
    high=100.0,
    **info,
) -> str:
    """A model file with fixed random weights: what it adds to the base is made of second differences of the elevations (so planes come back)
    and of the other bands; it pools once. Its second channel is a positive number."""
    rng, bands = np.random.default_rng(seed), len(kinds)
    first = np.zeros((6, bands, 3, 3))
    for k, kind in enumerate(kinds):
        if kind == "elevation":
            first[:, k] = np.einsum("of,fyx->oyx", rng.normal(0, 0.2, (6, 3)), _SECOND)
            if k:  # how far it lies above the base
                beside = rng.normal(0, 0.2, 6)
                first[:, k, 1, 1] += beside
                first[:, 0, 1, 1] -= beside
        else:
            first[:, k] = rng.normal(0, 0.2, (6, 3, 3))
    constants = {
        "first": first, "deep": rng.normal(0, 0.3, (6, 6, 3, 3)), "last": rng.normal(0, 1.1, (channels, 12, 1, 1)),
        "twice": np.array([1, 1, 2, 2]),
    }  # fmt: skip
    constants = {name: array.astype(np.float32) for name, array in constants.items()}
    constants |= {"zero": np.array([0]), "one": np.array([1]), "two": np.array([channels]), "channel": np.array([1])}
    node = helper.make_node
    nodes = [
        node("Conv", ["image", "first"], ["a"], pads=[1, 1, 1, 1]), node("Tanh", ["a"], ["b"]),
        node("AveragePool", ["b"], ["c"], kernel_shape=[2, 2], strides=[2, 2]), node("Conv", ["c", "deep"], ["d"], pads=[1, 1, 1, 1]),
        node("Resize", ["d", "", "twice"], ["e"], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        node("Concat", ["b", "e"], ["f"], axis=1), node("Conv", ["f", "last"], ["g"]),
        node("Slice", ["g", "zero", "one", "channel"], ["residual"]), node("Slice", ["g", "one", "two", "channel"], ["h"]),
        node("Softplus", ["h"], ["spread"]), node("Concat", ["residual", "spread"], ["out"], axis=1),
    ]  # fmt: skip
    told = road.waterdl(
        bands, task="regression", classes=(), nodata="base", margin=MARGIN, multiple=STRIDE, chip_size=128,
        details={
            "target": {"name": "fine", "unit": unit, "factor": factor, "vertical": vertical} if target is None else target,
            "bands": [{"kind": kind, "resampling": resampling[k] if resampling else ""} for k, kind in enumerate(kinds)], "spread_scale": 1.0,
        },
        normalisation={
            "scheme": "zscore", "in_graph": False,
            "bands": [{"elevation": True, "fill": 0.0} if kind == "elevation" else {"fill": 0.0, "low": 0.0, "high": high} for kind in kinds],
        },
    )  # fmt: skip
    told |= {"bands": [{"name": f"{kind} {k + 1}", "unit": unit} for k, kind in enumerate(kinds)], "classes": [], **info}
    return road.onnx_file(path, nodes, bands, channels, constants=constants, props={"waterdl": told})
