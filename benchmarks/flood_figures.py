"""Better elevation model, better flood map: floods a fine elevation model and coarser ones alike, and compares. `python benchmarks/flood_figures.py`
makes the coarse ones from ../shared/data (block means with noise), prints the table of docs/floods.md and, with `pictures`, draws its pictures;
`speed` measures HAND in seconds and bytes per pixel, with numba and without.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time

import numpy as np
from osgeo import gdal, gdal_array

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

from water_dl_plugin.engine.flood.assess import assess_flood  # noqa: E402
from water_dl_plugin.engine.flood.extent import flood_extent  # noqa: E402
from water_dl_plugin.engine.flood.flow import Flow  # noqa: E402
from water_dl_plugin.engine.flood.scores import AGREEMENT  # noqa: E402
from water_dl_plugin.engine.heights import gradient  # noqa: E402
from water_dl_plugin.engine.panels import colourise, shades  # noqa: E402
from water_dl_plugin.engine.raster import Raster  # noqa: E402
from water_dl_plugin.engine.settings import AssessFloodConfig, FloodConfig  # noqa: E402

DATA = os.path.join(os.path.dirname(ROOT), "shared", "data", "lidar_dem")
KEYS = ("pod", "far", "csi", "bias", "map_km2", "reference_km2", "depth_rmse_m", "depth_bias_m")


def cases(reference_dem: str) -> dict[str, FloodConfig]:
    """Floods that suit any elevation model: a level that its lowest fifth lies below, and 1 and 2 m above the streams that gather 2 % of it."""
    with Raster(reference_dem, "1") as raster:
        pixels, valid = raster.read(_whole(raster))
        level = round(float(np.percentile(pixels[0][valid[0]], 20)), 1)
        area = round(float(raster.grid.areas_m2().sum()) / 1e6 * 0.02, 4)
    hand = {f"HAND {s:g} m": FloodConfig(method="hand", stage=s, stream_area=area) for s in (1.0, 2.0)}
    return {f"bathtub {level:g} m": FloodConfig(level=level), **hand}


def figures(reference_dem: str, dems: dict[str, str], floods: dict | None = None, keep: dict | None = None, area: str = "") -> list[dict]:
    """A line per flood and elevation model: `flood`, `dem`, and the figures of KEYS, against the flood of `reference_dem`, on its grid, in pixels
    that all of them know (inside the polygons `area`). `dems`: name -> path, on any grid. `floods`: name -> FloodConfig. `keep` takes the pictures, by (flood, dem)."""
    rows = []
    for flood, config in (floods or cases(reference_dem)).items():
        with tempfile.TemporaryDirectory() as folder:
            paths = [os.path.join(folder, f"{number}.tif") for number in range(len(dems) + 1)]
            for dem, path in zip((reference_dem, *dems.values()), paths):
                flood_extent(dem, config, depth=path)
            settings = AssessFloodConfig(map_kind="depth", reference_kind="depth")
            done = assess_flood(paths[1:], paths[0], settings, names=list(dems), area=area)
            for score in done.scores:
                found = score.figures()
                rows.append({"flood": flood, "dem": score.name, **{key: found[key] for key in KEYS}})
                if keep is not None:
                    keep[flood, score.name] = score.picture
    return rows


def coarse(dem: str, factor: int, noise_m: float, folder: str, seed: int = 0) -> str:
    """Block means of `dem`, `factor` times as coarse, with noise that is alike over about two coarse pixels (half of its variance) and white."""
    path, source = os.path.join(folder, f"coarse_{factor}_{noise_m:g}.tif"), gdal.Open(dem)
    t = source.GetGeoTransform()
    data = gdal.Warp(path, source, xRes=t[1] * factor, yRes=-t[5] * factor, resampleAlg="average", dstNodata=-9999)
    band = data.GetRasterBand(1)
    pixels, rng = band.ReadAsArray(), np.random.default_rng(seed)
    white, rough = (rng.normal(0, 1, tuple(n + 4 for n in pixels.shape)) for _ in range(2))
    smooth = sum(np.roll(rough, (i, j), (0, 1)) for i in range(3) for j in range(3))[2:-2, 2:-2] / 3
    added = noise_m * np.sqrt(0.5) * (smooth + white[2:-2, 2:-2])
    band.WriteArray(np.where(pixels == -9999, pixels, pixels + added).astype(np.float32))
    return path


def upsampled(path: str, like: str, method: str) -> str:
    """`path` on the grid of `like`."""
    target, source = path.replace(".tif", f"_{method}.tif"), gdal.Open(like)
    t, width, height = source.GetGeoTransform(), source.RasterXSize, source.RasterYSize
    bounds = (t[0], t[3] + height * t[5], t[0] + width * t[1], t[3])
    gdal.Warp(target, path, width=width, height=height, outputBounds=bounds, resampleAlg=method)
    return target


def table(rows: list[dict]) -> str:
    """In Markdown."""
    lines = ["| flood | elevation model | POD | FAR | CSI | bias | depth RMSE (m) | depth bias (m) |", "| --- " * 8 + "|"]
    for r in rows:
        lines.append(
            "| "
            + " | ".join([r["flood"], r["dem"], *(f"{r[k]:.3f}" for k in ("pod", "far", "csi", "bias", "depth_rmse_m", "depth_bias_m"))])
            + " |"
        )
    return "\n".join(lines)


def main(pictures: bool = False) -> None:
    fine, kept = os.path.join(DATA, "drumlin_ny_2m.tif"), {}
    with tempfile.TemporaryDirectory() as folder:
        dems = {}
        for name, factor, noise in (
            ("4 m, no noise", 2, 0),
            ("12 m, no noise", 6, 0),
            ("12 m, noise 0.5 m", 6, 0.5),
            ("12 m, noise 1.5 m", 6, 1.5),
        ):
            dems[name] = upsampled(coarse(fine, factor, noise, folder), fine, "cubic")
        print(table(figures(fine, dems, keep=kept)))
    if pictures:
        flood = next(name for name, _ in kept if name.startswith("HAND 1"))
        colours, sheet = [c.colour for c in AGREEMENT], []
        for (name, _), picture in kept.items():
            if name == flood:
                sheet += [colourise(picture, colours), np.full((len(picture), 8, 3), 255, np.uint8)]
        draw(os.path.join(ROOT, "docs", "images", "flood-maps.png"), np.concatenate(sheet[:-1], axis=1))
        draw(os.path.join(ROOT, "docs", "images", "flood-methods.png"), methods(fine))


def methods(dem: str) -> np.ndarray:
    """Shaded relief with the first bathtub and the first HAND of `cases`, and the heights above drainage between them; each second pixel."""
    bathtub, hand = list(cases(dem).values())[:2]
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, f"{name}.tif") for name in ("bathtub", "hand", "above")]
        flood_extent(dem, bathtub, depth=paths[0])
        flood_extent(dem, hand, depth=paths[1], hand=paths[2])
        level, water, above = (gdal.Open(p).ReadAsArray() for p in paths)
    with Raster(dem, "1") as raster:
        pixels, valid = raster.read(_whole(raster))
    relief = shades([gradient(np.where(valid[0], pixels[0], np.nan), 1.0, 1.0)])[0] / 255
    ramp = np.array([[33, 113, 181], [158, 202, 225], [166, 217, 106], [255, 255, 191], [216, 179, 101], [140, 81, 10]])
    place = np.interp(above, np.array([0, 1, 1.5, 3, 6, 12]) * hand.stage, np.arange(6))
    sheets = [
        np.where((plane > 0)[..., None], [40, 110, 190], [245, 243, 238]) * relief if ramped is None else ramped * relief
        for plane, ramped in (
            (level, None),
            (above, np.stack([np.interp(place, np.arange(6), band) for band in ramp.T], axis=-1)),
            (water, None),
        )
    ]
    for sheet, plane in zip(sheets, (level, above, water)):
        sheet[plane == -9999] = 225
    gap = np.full((len(pixels[0][::2]), 8, 3), 255)
    small = [part for sheet in sheets for part in (sheet[::2, ::2], gap)][:-1]
    return np.concatenate(small, axis=1).clip(0, 255).astype(np.uint8)


def draw(path: str, picture: np.ndarray) -> None:
    gdal.GetDriverByName("PNG").CreateCopy(path, gdal_array.OpenArray(np.ascontiguousarray(np.moveaxis(picture, -1, 0))))
    if os.path.exists(path + ".aux.xml"):
        os.remove(path + ".aux.xml")
    print(os.path.relpath(path, ROOT))


def speed(side: int = 0, compiled: bool = True) -> None:
    """HAND of a rough square with `side` pixels, in this process; 0: start one for each road, since the peak of memory is the process's."""
    if not side:
        for size, road in ((4000, "numba"), (2000, "numpy")):
            subprocess.run([sys.executable, __file__, "speed", str(size), road], check=True)
        return
    rng = np.random.default_rng(0)
    heights = np.empty((side, side), np.float32)
    for row in range(side):  # hills of some sizes, and noise: full of pits
        heights[row] = sum(3e3 / k * np.sin(k * row / side + k) * np.cos(k * np.arange(side) / side) for k in (3, 11, 37, 97)) + rng.normal(
            0, 1, side
        )
    Flow(heights[:64, :64], compiled=compiled)  # the compiler's time and memory are not those of the work
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    flow = Flow(heights, compiled=compiled)
    streams = flow.accumulate(np.ones(heights.shape, np.float32)) > side
    bed = flow.corrected(heights)
    above = bed - flow.drainage_height(bed, streams)
    wall, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(
        f"{'numba' if compiled else 'numpy'} {side} px: {wall / side**2 * 1e6:.2f} s/Mpx, {peak * 1024 / side**2 + 4:.1f} bytes/px, {np.nanmax(above):.0f} m"
    )


def _whole(raster: Raster):
    from water_dl_plugin.engine.windows import Window

    return Window(0, 0, raster.grid.width, raster.grid.height)


if __name__ == "__main__":
    if sys.argv[1:2] == ["speed"]:
        speed(int(sys.argv[2]) if sys.argv[2:] else 0, sys.argv[3:] != ["numpy"])
    else:
        main("pictures" in sys.argv)
