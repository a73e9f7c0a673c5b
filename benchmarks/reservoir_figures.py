"""What can be measured on the simulated reservoirs, for docs/simulator.md: spectra, how well a threshold finds the water, how well the area tells the level.

`python benchmarks/reservoir_figures.py` prints it and draws contact sheets (`sheet_*.png`) under benchmarks/out/reservoirs.
"""

from __future__ import annotations

import csv
import os
import sys
import time

import numpy as np
from osgeo import gdal
from reservoir_basins import FACTOR, PIXEL_M, PLACES
from reservoirs import ROOT, SENSORS, Made, simulate

OUT = os.path.join(ROOT, "benchmarks", "out", "reservoirs")
DARK_DB = -24.0  # VH: half-way between water and land here
MOST_HIDDEN = 0.10  # of the reservoir, by QA60: what a careful user still takes


def truth(made: Made) -> list[dict]:
    with open(made.truth, newline="", encoding="utf-8") as file:
        return [{k: v if k in ("scene", "time") else float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def inside(made: Made, around: int = 3) -> np.ndarray:
    """Pixels within the polygon and so many around it."""
    from scipy import ndimage

    scene = gdal.Open(made.scenes[0])
    mask = gdal.GetDriverByName("MEM").Create("", scene.RasterXSize, scene.RasterYSize, 1, gdal.GDT_Byte)
    mask.SetGeoTransform(scene.GetGeoTransform())
    mask.SetProjection(scene.GetProjection())
    gdal.Rasterize(mask, made.polygons, burnValues=[1], allTouched=True)
    within = mask.ReadAsArray() > 0
    return ndimage.binary_dilation(within, iterations=around) if around else within


def water_maps(made: Made, sensor: str, folder: str) -> list[str]:
    """What someone would make of the scenes by thresholds, as in `water_areas`: class rasters (0 land, 1 water, 255 hidden), for area-level curves."""
    from scipy import ndimage

    os.makedirs(folder, exist_ok=True)
    paths = []
    for scene in made.scenes:
        source = gdal.Open(scene)
        bands = source.ReadAsArray()
        if sensor == "sentinel-2":
            classes = np.where((bands[3] > 0) | (bands[0] == 0), 255, bands[0] > bands[2])
        else:
            classes = ndimage.median_filter(bands[1], 3) < DARK_DB
        paths.append(os.path.join(folder, os.path.basename(scene)))
        target = gdal.GetDriverByName("GTiff").Create(
            paths[-1], source.RasterXSize, source.RasterYSize, 1, gdal.GDT_Byte, ["COMPRESS=DEFLATE"]
        )
        target.SetGeoTransform(source.GetGeoTransform())
        target.SetProjection(source.GetProjection())
        target.GetRasterBand(1).SetNoDataValue(255)
        target.GetRasterBand(1).SetCategoryNames(["land", "water"])
        target.GetRasterBand(1).WriteArray(classes.astype(np.uint8))
        target = None
    return paths


def water_areas(made: Made, sensor: str) -> np.ndarray:
    """Water area (m2) of each scene by threshold, within the polygon and 30 m around: NDWI > 0 (McFeeters 1996, doi:10.1080/01431169608948714), or
    VH below `DARK_DB` after a median of 3 x 3; nan where QA60 hides more than MOST_HIDDEN."""
    from scipy import ndimage

    where = inside(made)
    areas = np.full(len(made.scenes), np.nan)
    for number, path in enumerate(made.scenes):
        bands = gdal.Open(path).ReadAsArray()
        if sensor == "sentinel-2":
            green, nir = bands[0].astype(float), bands[2].astype(float)
            hidden = (bands[3] > 0) | (bands[0] == 0)
            if hidden[where].mean() > MOST_HIDDEN:
                continue
            wet = where & ~hidden & (green > nir)
            areas[number] = wet.sum() * PIXEL_M**2 / (1 - hidden[where].mean())
        else:
            smooth = ndimage.median_filter(bands[1], 3)
            areas[number] = (where & (smooth < DARK_DB)).sum() * PIXEL_M**2
    return areas


def curve_figures(area: np.ndarray, level: np.ndarray, folds: int = 10) -> dict:
    """How well a curve through area tells the level of dates in contiguous parts that the fit has not seen: isotonic, by pooling adjacent violators
    on medians of 15 neighbours in area."""
    known = np.flatnonzero(np.isfinite(area))
    told = np.full(len(area), np.nan)
    for part in np.array_split(known, folds):
        rest = np.setdiff1d(known, part)
        order = rest[np.argsort(area[rest])]
        x, y = area[order], _isotonic(np.array([np.median(level[order[max(k - 7, 0) : k + 8]]) for k in range(len(order))]))
        told[part] = np.interp(area[part], x, y)
    error = told[known] - level[known]
    spread = level[known] - level[known].mean()
    return {
        "n": len(known),
        "r2": 1 - (error**2).sum() / (spread**2).sum(),
        "rmse": float(np.sqrt((error**2).mean())),
        "mae": float(np.abs(error).mean()),
        "sd": float(spread.std()),
    }


def _isotonic(y: np.ndarray) -> np.ndarray:
    blocks = []
    for value in y:
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, m), (b, n) = blocks[-2:]
            blocks[-2:] = [[(a * m + b * n) / (m + n), m + n]]
    return np.repeat([b[0] for b in blocks], [b[1] for b in blocks])


def spectra(made: Made) -> dict:
    """Quantiles of reflectance over clear scenes: open water (the true share is 1 within a pixel), land beyond the polygon."""
    from scipy import ndimage

    water, land = [], []
    outside = ~ndimage.binary_dilation(inside(made), iterations=2)
    for row, path, wet in zip(truth(made), made.scenes, made.water):
        bands = gdal.Open(path).ReadAsArray()
        if row["cloud"] + row["shadow"] > 0.0 or (bands == 0)[:3].any():
            continue
        deep = ndimage.binary_erosion(gdal.Open(wet).ReadAsArray() > 0, iterations=2)
        water.append(bands[:3, deep] / 1e4)
        land.append(bands[:3, outside][:, ::7] / 1e4)
    return {"water": np.concatenate(water, axis=1), "land": np.concatenate(land, axis=1)}


def sheet(made: Made, sensor: str, path: str, count: int = 24) -> None:
    """A contact sheet: every so-many-th scene, false colour (8, 4, 3) or VV, with level and date; the true shore where there is truth."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    pick = np.unique(np.linspace(0, len(made.scenes) - 1, count).astype(int))
    rows = truth(made)
    figure, axes = plt.subplots(4, -(-len(pick) // 4), figsize=(32, 22))
    for axis in axes.flat:
        axis.axis("off")
    for axis, k in zip(axes.flat, pick):
        bands = gdal.Open(made.scenes[k]).ReadAsArray()
        if sensor == "sentinel-2":
            colour = np.clip(bands[[2, 1, 0]] / 1e4 / np.array([0.40, 0.28, 0.22])[:, None, None], 0, 1) ** 0.8
            axis.imshow(np.moveaxis(colour, 0, 2))
            if 0 < np.count_nonzero(bands[3]) < bands[3].size:
                axis.contour(bands[3] > 0, [0.5], colors="magenta", linewidths=0.8)
        else:
            axis.imshow(bands[0], cmap="gray", vmin=-25, vmax=0)
        wet = gdal.Open(made.water[k]).ReadAsArray() if made.water else np.zeros(1)
        if wet.any():
            axis.contour(wet, [0.5], colors="yellow", linewidths=0.5)
        axis.set_title(f"{rows[k]['time'][:10]}  {rows[k]['level_m']:.1f} m  {rows[k]['area_m2'] / 1e4:.1f} ha")
    figure.tight_layout()
    figure.savefig(path, dpi=45)
    plt.close(figure)


def main(names: list[str]) -> None:
    print(f"cells of {PIXEL_M / FACTOR:.2f} m, pixels of {PIXEL_M:g} m")
    quantiles = {}
    for sensor in SENSORS:
        for name in names:
            start = time.time()
            made = simulate(PLACES[name], os.path.join(OUT, sensor, name), sensor, truth=True)
            took = time.time() - start
            rows = truth(made)
            level, true = (np.array([row[k] for row in rows]) for k in ("level_m", "area_m2"))
            area = water_areas(made, sensor)
            clear = np.isfinite(area) & (np.array([row["cloud"] + row["shadow"] for row in rows]) < 0.02)
            off = (area[clear] - true[clear]) / true[clear]
            of_area, of_truth = curve_figures(area, level), curve_figures(true, level)
            relative = np.abs(area - true)[np.isfinite(area)] / true[np.isfinite(area)]
            print(
                f"{sensor} {name}: {len(rows)} scenes in {took:.0f} s, level {level.min():.1f}..{level.max():.1f} m sd {level.std():.2f}, area {true.min() / 1e4:.1f}..{true.max() / 1e4:.1f} ha, "
                f"{100 * np.mean(np.array([row['cloud'] for row in rows]) > 0.1):.0f} % clouded; clear scenes: area off by {100 * np.median(off):+.1f} % median, {100 * off.std():.1f} % sd; "
                f"all dates used: off by {100 * relative.mean():.0f} % on average (median {100 * np.median(relative):.0f} %); curve on {of_area['n']} dates R2 {of_area['r2']:.2f} rmse {of_area['rmse']:.2f} mae {of_area['mae']:.2f} m; on true areas rmse {of_truth['rmse']:.2f} m"
            )
            sheet(made, sensor, os.path.join(OUT, f"sheet_{sensor}_{name}.png"))
            if sensor == "sentinel-2":
                quantiles[name] = spectra(made)
    for what in ("water", "land"):
        values = np.concatenate([q[what] for q in quantiles.values()], axis=1)
        index = (values[0] - values[2]) / (values[0] + values[2])
        for band, v in zip(("green", "red", "near infrared", "NDWI"), (*values, index)):
            print(what, band, "quantiles 2 10 50 90 98 %:", np.percentile(v, [2, 10, 50, 90, 98]).round(3))


if __name__ == "__main__":
    main(sys.argv[1:] or list(PLACES))
