"""A refinement over rasters of any size: tiles with a halo, superpixel seeds and lattice on the whole raster's grid, memory bounded by the tile."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from ..classes import NODATA, classify
from ..errors import ConfigError, GridMismatchError
from ..maps import PROBABILITY_NODATA, check_outputs, open_map, writers
from ..normalise import Sketch
from ..progress import Progress, part, silent
from ..raster import Raster, Stack, Writer, overlap, small_cache
from ..settings import RefineConfig
from ..version import version
from ..windows import Window, blocks
from .stages import MOST_BANDS, Plan, centred, components, noise, plan, run, scale, stretch, turned, uncentred

SAMPLES, SAMPLE_PX = 64, 256  # windows, and their side, that a band's range is found from; half of them must hold data
STRIP = 512  # rows of the image that are read and scaled at once
LARGEST_SIDE = 16384  # of a tile with its halo, px: pixels times vertices of a simplex fit into 32 bits
SUREST = 1e-4  # a threshold of 0 or 1 is moved inside by this: its logit must be finite
MOST_UNNAMED = 32  # values of a raster that names no classes; more of them are no classes


@dataclass(frozen=True)
class Refined:
    """What `refine_raster` wrote: the classes, pixels of each before and after, pixels whose class changed, pixels without data."""

    classes: tuple
    before: tuple
    after: tuple
    changed: int
    nodata: int


def refine_raster(
    path: str, image: str, output: str, config: RefineConfig, *, stack: Sequence[str] = (), probability: str = "", progress: Progress = silent
) -> Refined:  # fmt: skip
    """Refine the map `path` (probabilities, or classes) by `image` (and the bands of further rasters, `stack`).

    `output` (class values uint8, 255 nodata) and `probability` (float32, -1 nodata) are GeoTIFFs on the map's grid; either may be "". An image on
    another grid is warped. Pixels without image data keep what they have. Raises `GridMismatchError` where map and image do not overlap,
    `ConfigError` for settings that make no sense.
    """
    check_outputs(output, probability, (path, image, *stack))
    with small_cache(), ExitStack() as files:
        raster = files.enter_context(Raster(path))
        rough = open_map(raster, config.classes, config.threshold)
        if not rough.probabilities and len(rough.classes) > MOST_UNNAMED and all(c.name == str(c.value) for c in rough.classes):
            raise ConfigError(
                f"{path} has {len(rough.classes)} values without names: it is no class raster.",
                "Is it a map of probabilities as 0..255? Divide it by 255, as floating-point numbers, first. If these are classes, name them in the classes field.",
            )
        if len(rough.classes) < 2:
            raise ConfigError(f"{path} has one class only.", "Choose a map with the class of interest and its surroundings.")
        scene = files.enter_context(_Scene(raster, image, stack, config.bands))
        grid = raster.grid
        scene.look(config, part(progress, 0, 0.02))
        chosen = plan(config, grid.pixel_size[0], grid.pixel_size_m, scene.noise)
        if chosen.segment > max(grid.width, grid.height) and "slic" in chosen.steps:
            raise ConfigError(
                f"A superpixel ({chosen.segment} px) is larger than the raster ({grid.width} x {grid.height} px).",
                "Choose a smaller segment size, or the steps 'crf'.",
            )
        for line in (*chosen.lines(grid.pixel_size_m), *scene.doubts(rough)):
            progress(0.02, line)
        threshold = 0.5 if rough.threshold is None else min(max(rough.threshold, SUREST), 1 - SUREST)
        tags = {
            "WATERDL_VERSION": version(), "WATERDL_THRESHOLD": f"{threshold:g}", "WATERDL_SETTINGS": json.dumps(config.to_json()),
            "WATERDL_SOURCE": f"{os.path.basename(path)}; {os.path.basename(image)}",
        }  # fmt: skip
        channels = len(raster.bands) if rough.probabilities else (1 if len(rough.classes) == 2 else len(rough.classes))
        outputs = writers(files, grid, rough.classes, channels, output, probability, config.compression, tags)
        job = _Job(rough, raster, scene, chosen, threshold, channels, outputs)
        job.run(files, f"{output or probability}.step.tif", part(progress, 0.02, 1))
        progress(1, "Writing overviews.")
    result = job.result()
    share = 100 * result.changed / max(sum(result.after), 1)
    progress(1, f"{result.changed} pixels ({share:.2f} %) have another class; {result.nodata} pixels without data.")
    return result


class _Scene:
    """The image on the map's grid."""

    def __init__(self, raster: Raster, image: str, stack: Sequence[str], bands: str):
        self._stack, self._grid = Stack(image, stack, bands), raster.grid
        try:
            mine, other = self._grid, self._stack.grid
            self._same = mine.same_pixels(other)
            if not self._same:
                if not (mine.georeferenced and other.georeferenced):
                    raise GridMismatchError(
                        f"The image is {other.width} x {other.height} px, the map {mine.width} x {mine.height}, and they are not georeferenced.",
                        "Georeference them first, or choose an image of the same size.",
                    )
                if not overlap(mine, other):
                    raise GridMismatchError(
                        "The image does not lie over the map.", "Choose an image of the same place, and check the CRS of both."
                    )
        except BaseException:
            self.close()
            raise
        self._numbers, self._rows, self.noise = None, None, 0.0

    @property
    def bands(self) -> int:
        return min(len(self._stack.bands), MOST_BANDS)

    def doubts(self, rough) -> list[str]:
        lines = []
        if not self._same:
            lines.append("Warning: image and map have different grids; the image is warped onto the map's (bilinear).")
        lines += self._stack.doubts()
        if len(rough.classes) > 20:
            lines.append(f"Warning: the map has {len(rough.classes)} classes; time and memory grow with their number.")
        return lines

    def look(self, config: RefineConfig, progress: Progress) -> None:
        """Find the range of each band, and the noise, from windows all over the raster."""
        sketches, seen = [Sketch() for _ in self._stack.bands], []
        places = list(blocks(self._grid.width, self._grid.height, SAMPLE_PX))
        for i, k in enumerate(np.random.default_rng(0).permutation(len(places))):
            if i >= SAMPLES and len(seen) >= SAMPLES // 2:  # else the scene is mostly nodata: look on
                break
            progress(i / len(places), "")
            pixels, valid = self._read(places[k])
            for sketch, plane, ok in zip(sketches, pixels, valid):
                sketch.update(plane[ok])
            if valid.all(axis=0).any():
                seen.append(places[k])
        if not seen:
            progress(1, "Warning: the image has no data on the map: nothing can be refined.")
            return
        if all(s.low == s.high for s in sketches):
            progress(1, "Warning: the image is constant where it was sampled: outlines can't be improved by it.")
        if config.stretch:
            self._numbers = stretch(sketches)
        if len(self._stack.bands) > MOST_BANDS:
            self._rows = components([image[:, valid][:, ::64] for image, valid in map(self.read, seen)])
            progress(1, f"The {len(self._stack.bands)} bands take part as {MOST_BANDS} principal components.")
        found = [noise(*self.read(window)) for window in seen]
        self.noise = float(np.median([n for n in found if n] or [0.0]))

    def _read(self, window: Window):
        return self._stack.read(window) if self._same else self._stack.read_on(self._grid.part(window))

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Scaled bands (or their principal components) float32 `(bands, rows, cols)`, and where all have data. In strips: there may be hundreds
        of bands, and warped ones are float64."""
        image = np.empty((len(self._stack.bands if self._rows is None else self._rows), window.height, window.width), np.float32)
        valid = np.empty(image.shape[1:], bool)
        for top in range(0, window.height, STRIP):
            rows = slice(top, top + STRIP)
            pixels, ok = self._read(Window(window.col, window.row + top, window.width, min(STRIP, window.height - top)))
            valid[rows] = ok.all(axis=0)
            image[:, rows] = turned(scale(pixels, valid[rows], self._numbers), self._rows)
        return image, valid

    def close(self) -> None:
        self._stack.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class _Job:
    def __init__(self, rough, raster: Raster, scene: _Scene, chosen: Plan, threshold: float, channels: int, outputs: tuple):
        self.rough, self.scene, self.chosen, self.threshold = rough, scene, chosen, threshold
        self.channels, self.outputs = channels, outputs
        self.raster, self.grid, self.values = raster, raster.grid, np.array([c.value for c in rough.classes], np.uint8)
        self.before, self.after = np.zeros(len(self.values), np.int64), np.zeros(len(self.values), np.int64)
        self.changed, self.nodata = 0, 0

    def run(self, files: ExitStack, name: str, progress: Progress) -> None:
        """One pass over the raster per step; between two passes the probabilities wait in the file `name`, which is removed at the end (and,
        if a run is killed, by the next one). A raster of one tile makes one pass."""
        steps = [(step,) for step in self.chosen.steps]
        if (self.chosen.config.tile or self._side(self.chosen.steps)) >= max(self.grid.width, self.grid.height):
            steps = [self.chosen.steps]
        between = None
        for number, some in enumerate(steps):
            share = part(progress, number / len(steps), (number + 1) / len(steps))
            if number + 1 == len(steps):
                self._pass(some, between, None, share)
                break
            files.callback(lambda: os.path.exists(name) and os.remove(name))
            with Writer(name, self.grid, self.channels, np.float32, PROBABILITY_NODATA, compression="NONE", overviews=False) as target:
                self._pass(some, between, target, share)
            between = files.enter_context(Raster(name))

    def _core(self, steps: tuple) -> int:
        """Side of the tiles without halo, a multiple of the output's tiles: what the memory allows."""
        if self.chosen.config.tile:
            return -(-self.chosen.config.tile // 256) * 256
        side, halo = self._side(steps), max(self.chosen.halo(step) for step in steps)
        if side >= max(self.grid.width, self.grid.height):
            return -(-side // 256) * 256
        core = (side - 2 * halo) // 256 * 256
        if core < 256:
            raise ConfigError(
                f"With its halo of {halo} px a tile does not fit into {self.chosen.config.memory:g} GB.",
                "Choose a smaller reach (sxy) or segment size, or more memory.",
            )
        return core

    def _side(self, steps: tuple) -> int:
        """Side of a tile with its halo that the memory holds."""
        bands, channels = self.scene.bands, self.channels
        each = 120 + 12 * channels + (12 * bands if steps == ("slic",) else 12 * (bands + 3) if bands < 5 else 230)  # bytes, as measured
        return min(int(np.sqrt(self.chosen.config.memory * 1e9 / each)), LARGEST_SIDE)

    def _pass(self, steps: tuple, between, target, progress: Progress) -> None:
        core, width, height = self._core(steps), self.grid.width, self.grid.height
        halo = max(self.chosen.halo(step) for step in steps)
        tiles = list(blocks(width, height, core))
        for number, window in enumerate(tiles):
            outer = Window(window.col - halo, window.row - halo, window.width + 2 * halo, window.height + 2 * halo).inside(width, height)
            tick = part(progress, number / len(tiles), (number + 1) / len(tiles))
            rough, chances, valid = self._rough(outer)
            inner = centred(chances, self.threshold, self.chosen.config.limit) if between is None else between.read(outer)[0]
            use = valid
            if valid.any():
                image, seen = self.scene.read(outer)
                use = valid & seen
                for k, step in enumerate(steps):
                    share = part(tick, k / len(steps), (k + 1) / len(steps))
                    inner = run(step, self.chosen, inner, image, use, (outer.col, outer.row), lambda done, share=share: share(done, ""))
                del image
            cut = window.shifted(-outer.col, -outer.row).slices
            whole = (slice(None), *cut)
            if target is not None:
                target.write(window, np.where(valid[cut], inner[whole], PROBABILITY_NODATA).astype(np.float32))
            else:  # what the image does not show stays as it was
                self._finish(window, rough[cut], np.where(use[cut], uncentred(inner[whole], self.threshold), chances[whole]), valid[cut])
            tick(1, "")

    def _rough(self, window: Window):
        """The rough map: class indices, probabilities float32 `(channels, rows, cols)`, and where it has data."""
        guess, chances = self.rough.read(window)
        valid = guess >= 0
        if chances is None:
            chances = _from_classes(guess, len(self.values), self.channels, self.chosen.config.certainty)
        chances = np.where(valid, chances[-self.channels :], 0.5).astype(np.float32)
        return guess, chances, valid

    def _finish(self, window: Window, rough, chances, valid) -> None:
        guess = classify(chances, self.threshold)
        self.before += np.bincount(rough[valid], minlength=len(self.values))
        self.after += np.bincount(guess[valid], minlength=len(self.values))
        self.changed += int((guess != rough)[valid].sum())
        self.nodata += int((~valid).sum())
        for writer, values in zip(
            self.outputs,
            (
                np.where(valid, self.values[guess], NODATA).astype(np.uint8)[None],
                np.where(valid, chances, PROBABILITY_NODATA).astype(np.float32),
            ),
        ):
            if writer is not None:
                writer.write(window, values)

    def result(self) -> Refined:
        return Refined(self.rough.classes, tuple(map(int, self.before)), tuple(map(int, self.after)), self.changed, self.nodata)


def _from_classes(guess: np.ndarray, classes: int, channels: int, certainty: float) -> np.ndarray:
    """Probabilities of a class raster, as sure as `certainty`."""
    if channels == 1:
        return np.where(guess == 1, certainty, 1 - certainty)[None]
    return np.where(guess == np.arange(classes)[:, None, None], certainty, (1 - certainty) / (classes - 1))
