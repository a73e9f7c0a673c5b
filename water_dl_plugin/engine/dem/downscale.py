"""Coarse elevation model, further rasters and a model file -> fine elevation model and its expected error, window by window."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np

from .. import bundle
from ..backends import OnnxModel
from ..errors import ConfigError, GridMismatchError
from ..grid import Grid, horizontal, spacing_m, with_vertical
from ..infer import predict, window_size
from ..maps import check_outputs
from ..progress import Progress, part, silent
from ..raster import Raster, Writer, small_cache
from ..settings import DownscaleConfig, InferConfig
from ..version import version
from ..windows import Window, blocks
from . import vertical
from .consistency import HALO, axis, correction
from .finer import at_resolution, finer, place_in
from .predictors import Predictors
from .wanted import Wanted, check_unit, doubts, layers, wanted, zfactor

NODATA = -9999.0
RAMP = 32  # px that neighbouring windows share beyond their margins: where voids are filled they may differ a little
BLOCK = 1024
DOUBTFUL = 3.0  # mean change over mean expected error; a good model changes less than it expects to err
_SAMPLE = 16  # every so many pixels along both axes the expected error is looked at


@dataclass(frozen=True)
class Downscaled:
    """What `downscale` wrote: the grid, the unit of the heights, map units per unit of height (`zfactor`), pixels with and without a height, mean and largest change of the interpolated base (absolute, in
    the base's unit), mean expected error and the one that 98 % of the pixels stay below, and who ran the model."""

    grid: Grid
    unit: str
    zfactor: float
    pixels: int
    voids: int
    mean_change: float
    largest_change: float
    mean_error: float
    high_error: float
    provider: str


def downscale(
    dems: Sequence[str], model_path: str, output: str, config: DownscaleConfig, *, others: Sequence[str] = (), grid_path: str = "",
    error: str = "", progress: Progress = silent
) -> Downscaled:  # fmt: skip
    """Make an elevation model finer. `dems`: elevation models, the first is the base; `others`: further rasters, in the order of training;
    `grid_path`: a raster whose pixels the result gets ("": the base's area at the pixel size of the settings).

    `output` gets the heights, `error` ("": not wanted) their expected error, one standard deviation: float32 GeoTIFFs, nodata -9999, in the
    base's unit and with its vertical reference. Nodata where the base has none, and only there.

    Raises `ModelError` when the rasters do not fit the model, `GridMismatchError` when they do not lie over each other.
    """
    if not dems or not output:
        raise ConfigError("There is no elevation model, or nothing to write.", "Choose at least one elevation model, and an output.")
    check_outputs(output, error, (*dems, *others, *filter(None, (grid_path, model_path))))
    model = OnnxModel(model_path, config.device, config.threads)
    design = wanted(model.info, model.channels)
    with small_cache(), ExitStack() as files:
        base = files.enter_context(Raster(dems[0]))
        check_unit(design, base.bands[0].unit)
        grid, crs = _grid(base, design, config, grid_path)
        if config.consistent:
            place_in(base.grid, grid)  # raises now, not after the first pass
        source = files.enter_context(Predictors(grid, layers(design, dems, others)))
        job = _Job(design, model, config, base, source, replace(grid, crs=crs))
        job.tell(progress)
        job.level(dems, progress)
        tags = {
            "WATERDL_VERSION": version(), "WATERDL_MODEL": f"{os.path.basename(model_path)} {bundle.file_hash(model_path)}",
            "WATERDL_SETTINGS": json.dumps(config.to_json()), "WATERDL_SOURCE": "; ".join(os.path.basename(p) for p in (*dems, *others)),
        }  # fmt: skip
        job.run(files, output, error, tags, progress)
        progress(1, "Writing overviews.")
    return job.result(progress)


def _grid(base: Raster, design: Wanted, config: DownscaleConfig, grid_path: str) -> tuple[Grid, str]:
    """The output's grid with a CRS without vertical part (a warp would shift heights by it), and the CRS to be written."""
    if grid_path:
        with Raster(grid_path) as raster:
            grid = raster.grid
        if bool(grid.crs) != bool(base.grid.crs) or not grid.georeferenced:
            raise GridMismatchError(f"{grid_path} or the base has no CRS.", "Assign it first, or choose no grid.")
        return replace(grid, crs=horizontal(grid.crs)), with_vertical(grid.crs, base.grid.crs)
    grid = at_resolution(base.grid, config.resolution) if config.resolution else finer(base.grid, design.factor)
    return replace(grid, crs=horizontal(grid.crs)), base.grid.crs


class _Job:
    def __init__(self, design: Wanted, model: OnnxModel, config: DownscaleConfig, base: Raster, source: Predictors, grid: Grid):
        self.design, self.model, self.config, self.base, self.source, self.grid = design, model, config, base, source, grid
        self.unit = base.bands[0].unit or design.unit
        self.pixels = self.voids = self.lost = 0
        self.change = self.largest = self.errors = 0.0
        self.sampled: list[np.ndarray] = []

    def tell(self, progress: Progress) -> None:
        coarse, fine, config = spacing_m(self.base.grid), spacing_m(self.source.grid), self._infer()
        size, least = window_size(self.model, config, self.source.grid), config.overlap + self.model.info.multiple
        if size < least:
            raise ConfigError(
                f"Windows of {size} px are too small: each pixel sees {self.model.info.margin} px around it.",
                f"Leave the window size at 0, or choose at least {2 * least} px.",
            )
        progress(
            0,
            f"Base: pixels of {_shown(coarse)} m, {self.base.grid.width} x {self.base.grid.height} px; result: {_shown(fine)} m, "
            f"{self.grid.width} x {self.grid.height} px ({self.source.base_factor:.3g} times finer).",
        )
        progress(0, f"Runs on {self.model.provider.replace('ExecutionProvider', '')}; windows of {size} px, overlap {config.overlap} px.")
        names = [b.name for b in self.source.bands]
        for line in (*doubts(self.design, names, float(np.sqrt(coarse[0] * coarse[1])), self.source.grid), *self.source.doubts()):
            progress(0, line)

    def level(self, dems: Sequence[str], progress: Progress) -> None:
        """Bring the other elevation models to the base's level, as in training."""
        kind = self.design.vertical if self.config.vertical == "model" else self.config.vertical
        for i, path in enumerate(dems[1:], start=1):
            name = os.path.basename(path)
            found = vertical.pairs(self.base, self.source.member(i), self.source.grid, progress=lambda _, message: progress(0, message))
            for line in vertical.doubts(found.b, found.a, name, found.x, found.y):
                progress(0, line)
            offset = vertical.fit(found.a - found.b, found.x, found.y, kind)
            self.source.set_offset(i, offset)
            if kind != "none":
                progress(
                    0,
                    f"{name} is {'raised' if offset.c >= 0 else 'lowered'} by {abs(offset.c):.2f} {self.unit}{' and tilted' if offset.a or offset.b else ''} to the base's level.",
                )

    def _infer(self) -> InferConfig:
        shared = ("window", "batch_size", "flips", "compression", "device", "threads")
        return InferConfig(overlap=2 * self.model.info.margin + RAMP, **{name: getattr(self.config, name) for name in shared})

    def run(self, files: ExitStack, output: str, error: str, tags: dict, progress: Progress) -> None:
        """One pass with the network; for the coarse heights' sake a second one over what the first wrote."""

        def writer(path: str, name: str, **more) -> Writer:
            return Writer(
                path, self.grid, 1, np.float32, NODATA, names=[name], metadata=tags, unit=self.unit,
                **{"compression": self.config.compression, **more},
            )  # fmt: skip

        spread = files.enter_context(writer(error, "expected error (standard deviation)")) if error else None
        if not self.config.consistent:
            self._first(files.enter_context(writer(output, "elevation")), spread, progress)
            return
        step = f"{output}.step.tif"
        files.callback(lambda: os.path.exists(step) and os.remove(step))
        with writer(step, "elevation", compression="NONE", overviews=False) as between:
            self._first(between, spread, part(progress, 0, 0.9))
        rough = files.enter_context(Raster(step))
        self._second(rough, files.enter_context(writer(output, "elevation")), part(progress, 0.9, 1))

    def _first(self, heights: Writer, spread, progress: Progress) -> None:
        for window, given, holds in predict(self.source, self.model, self._infer(), progress):
            base, valid = self.source.base(window)
            finite = np.isfinite(given).all(axis=0)
            self.lost += int((holds & valid & ~finite).sum())
            holds = holds & valid & finite
            change, error = np.where(holds, given[0], 0), np.where(holds, np.maximum(given[1], 0), 0)
            heights.write(window, np.where(holds, base + change, NODATA).astype(np.float32)[None])
            if spread is not None:
                spread.write(window, np.where(holds, error, NODATA).astype(np.float32)[None])
            number = int(holds.sum())
            self.pixels, self.voids = self.pixels + number, self.voids + holds.size - number
            size = np.abs(change)
            self.change += float(size.sum(dtype=np.float64))
            self.largest = max(self.largest, float(size.max(initial=0)))
            self.errors += float(error.sum(dtype=np.float64))
            some = (slice(-window.row % _SAMPLE, None, _SAMPLE), slice(-window.col % _SAMPLE, None, _SAMPLE))
            self.sampled.append(error[some][holds[some]])

    def _second(self, rough: Raster, heights: Writer, progress: Progress) -> None:
        """Block by block: the means over the base's pixels become the base's heights."""
        grid, coarse = self.source.grid, self.base.grid
        col, row, across, down = place_in(coarse, grid)
        done, squares, number = 0, 0.0, 0
        for window in blocks(grid.width, grid.height, BLOCK):
            a, b = (_around(at + step * first, step * count, most) for at, step, first, count, most in ((col, across, window.col, window.width, coarse.width), (row, down, window.row, window.height, coarse.height)))  # fmt: skip
            few = Window(a[0], b[0], a[1] - a[0], b[1] - b[0])
            done += window.width * window.height
            if few.empty:  # the output reaches beyond the base
                heights.write(window, np.full((1, window.height, window.width), NODATA, np.float32))
                continue
            left, top = min(int((a[0] - col) / across) - 1, window.col), min(int((b[0] - row) / down) - 1, window.row)
            right = max(int((a[1] - col) / across) + 2, window.col + window.width)
            bottom = max(int((b[1] - row) / down) + 2, window.row + window.height)
            wide = Window(left, top, right - left, bottom - top).inside(grid.width, grid.height)
            fine, valid = (x[0] for x in rough.read(wide))
            target, known = (x[0] for x in self.base.read(few))
            added, missing = correction(
                fine.astype(np.float64), valid, target.astype(np.float64), known,
                axis(wide.height, few.height, row + down * wide.row - few.row, down), axis(wide.width, few.width, col + across * wide.col - few.col, across),
            )  # fmt: skip
            here = window.shifted(-wide.col, -wide.row).slices
            heights.write(window, np.where(valid[here], fine[here] + added[here], NODATA).astype(np.float32)[None])
            squares, number = squares + float((missing**2).sum()), number + int((missing != 0).sum())
            progress(done / (grid.width * grid.height), "")
        progress(
            1,
            f"The means over the base's pixels were off by {np.sqrt(squares / max(number, 1)):.3g} {self.unit} (root mean square); now they are the base's heights.",
        )

    def result(self, progress: Progress) -> Downscaled:
        if self.lost:
            progress(1, f"Warning: the model gave no number for {self.lost} pixels; they are nodata.")
        total, count = self.pixels + self.voids, max(self.pixels, 1)
        sampled = np.concatenate(self.sampled) if self.sampled else np.zeros(0)
        high = float(np.quantile(sampled, 0.98)) if sampled.size else 0.0
        done = Downscaled(
            self.grid,
            self.unit,
            zfactor(self.source.grid, self.unit),
            self.pixels,
            self.voids,
            self.change / count,
            self.largest,
            self.errors / count,
            high,
            self.model.provider,
        )
        if self.pixels and done.mean_change > DOUBTFUL * done.mean_error:
            progress(
                1,
                f"Warning: the heights were changed by {done.mean_change:.3g} {self.unit} on average, far more than their expected error ({done.mean_error:.3g}). "
                "The inputs are unlike those of the training: check their units, order and nodata, and don't use the result.",
            )
        progress(
            1,
            f"{100 * self.voids / total:.2f} % of the pixels are void, where the base is. The interpolated base was changed by {done.mean_change:.3g} {self.unit} on average, "
            f"{done.largest_change:.3g} {self.unit} at most; expected error {done.mean_error:.3g} {self.unit} on average.",
        )
        return done


def _around(start: float, length: float, most: int) -> tuple[int, int]:
    """First and end coarse pixel that a block must see."""
    return int(np.clip(np.floor(start) - HALO, 0, most)), int(np.clip(np.ceil(start + length) + HALO, 0, most))


def _shown(sides: tuple) -> str:
    a, b = (f"{side:.3g}" for side in sides)
    return a if a == b else f"{a} x {b}"
