"""A model of the ponds' levels made by hand: it counts dark pixels, and knows that a bowl's radius grows with its depth."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
from onnx import helper

from tests import ponds, road
from tests.ponds import Pond
from water_dl_plugin.engine.raster import Grid

DEEP = replace(ponds.LOWER, full_m=7.5)  # as steep as the other one
PONDS = (ponds.UPPER, DEEP)
OFF = (0.1, -0.1)  # m: what the two members are off


def grid_of(pond: Pond, size: int = 48) -> Grid:
    """Of the pond's chips."""
    left, top = pond.x - 5 * size, pond.y + 5 * size
    return Grid(size, size, (left, 10.0, 0.0, top, 0.0, -10.0), ponds.GRID.crs)


def place(pond: Pond, **more) -> dict:
    grid = grid_of(pond)
    return {"name": pond.name, "datum_m": pond.zero_m, "low_m": pond.zero_m, "high_m": pond.zero_m + pond.full_m, "crs": grid.crs,
            "transform": list(grid.transform), "width": grid.width, "height": grid.height, **more}  # fmt: skip


def known(errors, pond: int = 0, part: str = "validation", first=dt.datetime(2015, 1, 1)) -> list:
    """Rows of a model's series: levels of 105 m, off by these errors out of sample (None: seen by all members)."""
    return [
        [pond, (first + dt.timedelta(days=k)).strftime("%Y-%m-%dT%H:%M:%S"), 105.0, None if e is None else 105.0 + e, part, "x.tif"]
        for k, e in enumerate(errors)
    ]


def write(path, listed=PONDS, series=(), sensor: str = "sentinel-2", places=None, off=OFF) -> str:
    """The model file; `series` as in a model's details."""
    nodes = [
        helper.make_node("Slice", ["image", "two", "three", "one"], ["nir"]),
        helper.make_node("Sub", ["level", "nir"], ["dark"]),
        helper.make_node("Mul", ["dark", "steep"], ["darker"]),
        helper.make_node("Sigmoid", ["darker"], ["water"]),
        helper.make_node("ReduceSum", ["water", "all"], ["pixels"], keepdims=0),
        helper.make_node("Mul", ["pixels", "pixel"], ["squared"]),
        helper.make_node("Sqrt", ["squared"], ["radius"]),
        helper.make_node("Mul", ["radius", "bank"], ["depth"]),
        helper.make_node("Unsqueeze", ["depth", "one"], ["single"]),
        helper.make_node("Add", ["single", "off"], ["out"]),
    ]
    constants = {
        "one": np.array([1]), "two": np.array([2]), "three": np.array([3]), "all": np.array([1, 2, 3]),
        "level": np.float32(1600), "steep": np.float32(0.05), "pixel": np.float32(100 / np.pi), "bank": np.float32(0.05), "off": np.array([off], np.float32),
    }  # fmt: skip
    told = road.waterdl(3)
    told.update(
        task="level", classes=[], bands=[{"name": n, "unit": ""} for n in ("B3", "B4", "B8")], chip_size=48, pixel_size_m=10.0,
        normalisation={"scheme": "minmax", "in_graph": True, "bands": [{"low": 300.0, "high": 3100.0, "fill": 3000.0}] * 3},
        details={"target": {"name": "level", "unit": "m"}, "sensor": sensor, "reservoirs": places or [place(p) for p in listed], "members": len(off),
                 "series": list(series)},
    )  # fmt: skip
    return road.onnx_file(
        path, nodes, 3, constants=constants, props={"waterdl": told}, shape=("n", None, 48, 48), out_shape=["n", len(off)]
    )
