"""Finer elevation models beside interpolation: part of `make accuracy`, or alone: `python benchmarks/downscaling.py --only x3`.

From real fine elevation models two coarse ones each are derived (coarse_dems.py says how, and what noise they have). A model is trained by the
product's own road: exportchips with TARGET=values, trainmodel, downscaledem, once with both coarse models and once with the better one alone.
It is judged on blocks of the map that training and the choice of the epoch have not seen, and on other places altogether ("foreign"), of
the same pixel sizes, beside nearest, bilinear and cubic interpolation of the better coarse model, cubic interpolation of the other one, and
their mean. The drumlins are flooded on each of them, too: what a better model is worth for a flood map, in the held-out blocks. All inputs are put onto the reference's level first, by their median difference, so that no method gains by a mere shift.
Slope error: RMSE of the slope (Horn) in degrees. `spread`: RMSE over the mean expected error; 1 is honest.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time

import numpy as np
from osgeo import gdal

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import coarse_dems  # noqa: E402
import flood_figures  # noqa: E402
import rough_maps  # noqa: E402

from water_dl_plugin.engine.dem.downscale import downscale  # noqa: E402
from water_dl_plugin.engine.dem.resample import heights_on  # noqa: E402
from water_dl_plugin.engine.export import export  # noqa: E402
from water_dl_plugin.engine.grid import spacing_m  # noqa: E402
from water_dl_plugin.engine.heights import level_areas, slope_deg  # noqa: E402
from water_dl_plugin.engine.raster import Raster  # noqa: E402
from water_dl_plugin.engine.settings import ChipsConfig, DownscaleConfig, TrainConfig  # noqa: E402
from water_dl_plugin.engine.train import train  # noqa: E402
from water_dl_plugin.engine.windows import Window  # noqa: E402

OUT = os.path.join(ROOT, "benchmarks", "out")
SEED = 1
EPOCHS = 30
WANTED = 0.15  # of cubic's RMSE must be gone on held-out blocks, for the one with both coarse models
COLORADO, DRUMLINS, PRAIRIE, TOWN = "colorado_3dep_10m", "drumlin_ny_2m", "depressions_mn_1m", "merewether_1m"
# name: factor, (fine model, averaged by, pixel in m, side of the blocks in px) to train on, and foreign ones of the same pixel
CASES = {
    "x3": (3, (COLORADO, 1, 9.0, 96), [(DRUMLINS, 5, 10.0), (PRAIRIE, 10, 10.0)]),
    "x5": (5, (DRUMLINS, 1, 2.0, 128), [(PRAIRIE, 2, 2.0), (TOWN, 2, 2.0)]),
    "x6": (6, (DRUMLINS, 1, 2.0, 128), [(PRAIRIE, 2, 2.0), (TOWN, 2, 2.0)]),
}
INPUTS = {"both": ("glo", "nasa"), "one": ("glo",)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Finer elevation models beside interpolation.")
    parser.add_argument("--only", choices=CASES, help="one case alone")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--inputs", choices=INPUTS, help="models with these coarse elevation models alone")
    parser.add_argument("--threads", type=int, default=0, help="processor threads; 0: all")
    given = parser.parse_args(arguments)
    source = rough_maps.data_folder("lidar_dem")
    if not source:
        print(
            "Downscaling is skipped: the elevation models are not here (../shared/data/lidar_dem beside the checkout, or WATER_DL_DATA=FOLDER)."
        )
        return 0
    work, start, result = os.path.join(OUT, "downscaling"), time.perf_counter(), {}
    shutil.rmtree(work, ignore_errors=True)
    for name in CASES if given.only is None else (given.only,):
        folder = os.path.join(work, name)
        os.makedirs(folder)
        result[name] = case(name, source, folder, given)
    print(f"\n{(time.perf_counter() - start) / 60:.1f} min")
    with open(os.path.join(OUT, "downscaling.json"), "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
    return 0 if enough(result) else 1


def enough(result: dict) -> bool:
    """Is 15 % of cubic's RMSE gone where it was trained, and none added elsewhere, with both coarse models?"""
    good = True
    for name, places in result.items():
        for place, rows in places.items():
            if place != "floods" and "model, both" in rows:
                gone = 1 - rows["model, both"]["rmse"] / rows["cubic"]["rmse"]
                if gone < (0 if place.startswith("foreign") else WANTED):
                    print(f"NOT ENOUGH: {name}, {place}: {gone:.1%} of cubic's RMSE is gone.")
                    good = False
    return good


def case(name: str, source: str, folder: str, given) -> dict:
    factor, (fine, by, pixel_m, block), others = CASES[name]
    home = scene(source, folder, fine, by, factor, pixel_m)
    places = {f"{fine}, held-out blocks": home, **{f"foreign: {o}": scene(source, folder, o, k, factor, px) for o, k, px in others}}
    result: dict = {place: {} for place in places}
    held = None
    for title, kinds in INPUTS.items():
        if given.inputs not in (None, title):
            continue
        chips, model = os.path.join(folder, f"chips_{title}"), os.path.join(folder, f"{title}.onnx")
        config = ChipsConfig(
            target="values", tile_size=96, stride=48, block_size=block, validation_share=0.15, test_share=0.25, min_labelled=10, seed=SEED
        )
        export([home[k] for k in kinds], home["fine"], chips, config)
        print(f"\n{name}, {title}", flush=True)
        train(chips, model, TrainConfig(epochs=given.epochs, seed=SEED, threads=given.threads), told, os.path.join(folder, f"{title}.html"))
        held = test_blocks(chips, home["fine"])
        for place, scene_ in places.items():
            made, spread = (
                os.path.join(folder, f"{title}_{place.split()[-1] if 'foreign' in place else 'home'}{end}.tif") for end in ("", "_error")
            )
            downscale([scene_[k] for k in kinds], model, made, DownscaleConfig(), grid_path=scene_["fine"], error=spread)
            result[place][f"model, {title}"] = (made, spread)
    table = {}
    for place, scene_ in places.items():
        table[place] = judge(scene_, result[place], None if "foreign" in place else held)
        show(f"{name}: {place}", table[place])
    if fine == DRUMLINS and given.inputs is None:
        print(f"\n{name}: floods on {fine}, in the held-out blocks, against those on the reference\n")
        rows = floods(folder, home, next(iter(result.values())))
        print(flood_figures.table(rows))
        table["floods"] = rows
    return table


def floods(folder: str, home: dict[str, str], made: dict) -> list[dict]:
    """Figures of flood maps, see `flood_figures.figures`. Every model is put onto the reference's level first, those of the networks by what the
    interpolated base is raised by: `downscaledem` keeps the base's level."""
    heights, transform, crs = coarse_dems.read(home["fine"])
    with Raster(home["fine"]) as reference:
        grid = reference.grid
    planes, dems = {}, {}
    for label, kind in (("cubic", "glo"), ("cubic, other model", "nasa")):
        with Raster(home[kind]) as raster:
            found, valid = heights_on(raster, grid, "cubic")
        planes[label] = np.where(valid[0], found[0], np.nan)
    level = {label: float(np.nanmedian(heights - z)) for label, z in planes.items()}
    planes.update({label: coarse_dems.read(path)[0] for label, (path, _) in made.items()})
    for number, (label, z) in enumerate(planes.items()):
        dems[label] = coarse_dems.write(os.path.join(folder, f"level{number}.tif"), z + level.get(label, level["cubic"]), transform, crs)
    area = f"{os.path.join(folder, 'chips_both', 'chips.gpkg')}|layername=blocks|subset=split = 'test'"
    return flood_figures.figures(home["fine"], dems, area=area)


def scene(source: str, folder: str, name: str, by: int, factor: int, pixel_m: float) -> dict[str, str]:
    """Paths of a fine model and of its coarse ones. A place without CRS gets one: the files of a scene must share it, no more."""
    heights, transform, crs = coarse_dems.read(os.path.join(source, f"{name}.tif"))
    heights, transform = coarse_dems.averaged(heights, transform, by)
    fine = coarse_dems.write(os.path.join(folder, f"{name}.tif"), heights, transform, crs)
    return {"fine": fine, **coarse_dems.derive(fine, factor, folder, SEED, pixel_m)}


def told(_: float, message: str = "") -> None:
    if message.startswith("Epoch") and (message.split()[1].split("/")[0].endswith(("0", "5")) or message.startswith("Epoch 1/")):
        print(f"  {message}", flush=True)


def test_blocks(chips: str, fine: str) -> np.ndarray:
    """bool `(rows, cols)` of the fine model: in a block that is set apart for the test."""
    data = gdal.Open(fine)
    layer = gdal.OpenEx(os.path.join(chips, "chips.gpkg"), gdal.OF_VECTOR)
    blocks = layer.GetLayerByName("blocks")
    blocks.SetAttributeFilter("split = 'test'")
    mask = gdal.GetDriverByName("MEM").Create("", data.RasterXSize, data.RasterYSize, 1)
    mask.SetGeoTransform(data.GetGeoTransform())
    mask.SetProjection(data.GetProjection())
    gdal.RasterizeLayer(mask, [1], blocks, burn_values=[1])
    return mask.ReadAsArray() > 0


def judge(scene_: dict, made: dict, held) -> dict:
    """Figures of every method where the reference and all methods have heights, in the held-out blocks or everywhere."""
    with Raster(scene_["fine"]) as reference:
        grid = reference.grid
        truth, known = reference.read(Window(0, 0, grid.width, grid.height))
    good = known[0] & ~level_areas(truth[0], known[0])
    truth = np.where(known[0], truth[0].astype(np.float64), np.nan)  # a slope beside a void is none
    heights = {}
    for label, kind, how in (
        ("nearest", "glo", "nearest"),
        ("bilinear", "glo", "bilinear"),
        ("cubic", "glo", "cubic"),
        ("cubic, other model", "nasa", "cubic"),
    ):
        with Raster(scene_[kind]) as raster:
            planes, valid = heights_on(raster, grid, how)
        heights[label], good = np.where(valid[0], planes[0], np.nan), good & valid[0]
    spreads = {}
    for label, (path, error) in made.items():
        planes, valid = both(path)
        heights[label] = np.where(valid, planes, np.nan)
        spreads[label], _ = both(error)
        good = good & valid
    if held is not None:
        good &= held
    level = {label: float(np.nanmedian(truth - z)) for label, z in heights.items() if not label.startswith("model")}
    heights = {label: z + level.get(label, level["cubic"]) for label, z in heights.items()}
    heights["mean of both cubics"] = (heights["cubic"] + heights["cubic, other model"]) / 2
    size = spacing_m(grid)
    reference_slope = slope_deg(truth, *size)
    rows = {}
    for label, z in heights.items():
        error, slope = (z - truth)[good], (slope_deg(z, *size) - reference_slope)[good]
        rows[label] = {
            "rmse": float(np.sqrt((error**2).mean())), "mae": float(np.abs(error).mean()), "bias": float(error.mean()),
            "slope": float(np.sqrt(np.nanmean(slope**2))), "pixels": int(good.sum()),
        }  # fmt: skip
        if label in spreads:
            rows[label]["spread"] = float(np.sqrt((error**2).mean() / (spreads[label][good] ** 2).mean()))
    return rows


def both(path: str) -> tuple[np.ndarray, np.ndarray]:
    with Raster(path) as raster:
        pixels, valid = raster.read(Window(0, 0, raster.grid.width, raster.grid.height))
    return pixels[0].astype(np.float64), valid[0]


def show(title: str, rows: dict) -> None:
    cubic = rows["cubic"]["rmse"]
    print(
        f"\n{title} ({next(iter(rows.values()))['pixels']} px)\n\n|  | RMSE m | MAE m | bias m | slope error deg | RMSE against cubic | spread |\n|---|---|---|---|---|---|---|"
    )
    for label, row in rows.items():
        spread = f"{row['spread']:.2f}" if "spread" in row else ""
        print(
            f"| {label} | {row['rmse']:.3f} | {row['mae']:.3f} | {row['bias']:+.3f} | {row['slope']:.2f} | {row['rmse'] / cubic - 1:+.1%} | {spread} |"
        )


if __name__ == "__main__":
    sys.exit(main())
