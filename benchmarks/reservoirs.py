"""Reservoirs that a camera and a radar in space have looked at, made on real terrain with real levels: the files that a user would have.

    made = simulate(PLACES["shallow"], folder)                      # Sentinel-2: B3, B4, B8, QA60
    made = simulate(PLACES["steep"], folder, sensor="sentinel-1")   # VV, VH in dB

`reservoir_basins.py` dams valleys of real elevation models, `reservoir_seasons.py` makes the weather, `reservoir_cover.py` covers the ground,
`reservoir_optics.py` and `reservoir_radar.py` look at it; docs/simulator.md tells what each effect is and where its numbers come from. As a program,
`python benchmarks/reservoir_figures.py [place ...]` makes them all under benchmarks/out/reservoirs and measures them.
"""

from __future__ import annotations

import csv
import datetime as dt
import os
import sys
from dataclasses import dataclass
from typing import Callable, Optional

import numpy as np
from osgeo import gdal, ogr, osr

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
if os.path.join(ROOT, "benchmarks") not in sys.path:
    sys.path.insert(0, os.path.join(ROOT, "benchmarks"))

import reservoir_cover  # noqa: E402
import reservoir_optics as optics  # noqa: E402
import reservoir_radar as radar  # noqa: E402
from reservoir_basins import CELL_M, FACTOR, PIXEL_M, PLACES, SIDE, Basin, Place, basin, find, inner, key, levels  # noqa: E402, F401 PLACES is for those who import this
from reservoir_seasons import passes, seasons, sun  # noqa: E402

SENSORS = ("sentinel-2", "sentinel-1")
EPSG, NORTH_KM = 32734, 6242.0
SWATH_EDGE = 0.03  # share of optical scenes that the edge of the swath cuts


@dataclass(frozen=True)
class Made:
    """What `simulate` wrote. `scenes`, `water` (truth as classes, if asked for): paths in order of time; `truth`: CSV with scene, time, level, water area and
    the shares of the full reservoir that cloud or its shadow hides."""

    name: str
    folder: str
    scenes: tuple
    polygons: str
    gauge: str
    dem: str
    truth: str
    water: tuple = ()


def simulate(
    place: Place,
    folder: str,
    sensor: str = "sentinel-2",
    dates: Optional[list] = None,
    seed: int = 0,
    truth: bool = False,
    data: Optional[str] = None,
    progress: Callable = lambda fraction, message: None,
) -> Made:
    """Writes dated scenes (GeoTIFF, names as the products have), the polygon (GeoPackage: name, datum_m), the gauge's readings (CSV, as they are),
    the elevation model of the dry basin (10 m, on the gauge's zero) and the truth. `dates`: times (UTC) instead of the satellite's calendar;
    `truth`: class rasters too; `data`: folder of the real data, found if None; "" makes do with a made valley and made levels if the place has
    no `dem`. The same arguments give the same files. Raises `FileNotFoundError` if a place needs data that is not there."""
    data = find() if data is None else data
    if place.dem and not data:
        raise FileNotFoundError(
            "The elevation models and levels are not here: ../shared/data beside the checkout, or WATER_DL_DATA=FOLDER."
        )
    if sensor not in SENSORS:
        raise ValueError(f"sensor is {sensor!r}; it can be {SENSORS}.")
    os.makedirs(os.path.join(folder, "scenes"), exist_ok=True)
    record = levels(place, data, seed)
    full = float(record.clean.max())
    terrain = basin(place, data, full)
    ground = reservoir_cover.ground(place, terrain, seed)
    weather = seasons(place, record, seed)
    dates = passes(place, sensor, weather, record, seed) if dates is None else sorted(dates)
    look = optics.Light(terrain) if sensor == "sentinel-2" else radar.View(terrain)
    pool = terrain.wet(full)
    pool_share = _coarse(inner(pool))
    scenes, water, rows = [], [], []
    for number, when in enumerate(dates):
        progress(number / len(dates), f"{place.name} {when:%Y-%m-%d}")
        day = record.index(when)
        rng = np.random.default_rng(
            [seed, 4, key(place.name), sensor == "sentinel-1", int((when - dt.datetime(2000, 1, 1)).total_seconds())]
        )
        cover = reservoir_cover.cover(terrain, ground, record, weather, day)
        path = os.path.join(folder, "scenes", product_name(when, sensor, place, number))
        hidden = shaded = 0.0
        if sensor == "sentinel-2":
            air = optics.sky(rng, *sun(when), float(weather.wind[day]), float(weather.cloudy[day]))
            image, bits, masks = optics.scene(
                rng, cover, look, air, float(weather.matter[day]), float(weather.algae[day]), float(weather.stain[day])
            )
            if rng.random() < SWATH_EDGE:
                image, bits = _cut(rng, image), bits
            _write(path, place, np.concatenate([image, bits[None]]), (*optics.BANDS, "QA60"), nodata=0)
            hidden, shaded = (float((masks[k] * pool_share).sum() / pool_share.sum()) for k in ("cloud", "shadow"))
        else:
            image = radar.scene(rng, cover, look, float(record.clean[day]), float(weather.wind[day]))
            _write(path, place, image, radar.BANDS)
        scenes.append(path)
        rows.append(
            [
                os.path.basename(path),
                when.strftime("%Y-%m-%dT%H:%M:%S"),
                f"{record.clean[day]:.3f}",
                f"{reservoir_cover.area_m2(cover):.0f}",
                f"{hidden:.3f}",
                f"{shaded:.3f}",
            ]
        )
        if truth:
            os.makedirs(os.path.join(folder, "truth"), exist_ok=True)
            water.append(os.path.join(folder, "truth", f"water_{when:%Y%m%dT%H%M%S}.tif"))
            _write(water[-1], place, (_coarse(cover.wet) >= 0.5).astype(np.uint8)[None], ("water",), classes=("land", "water"))
    return Made(
        place.name, folder, tuple(scenes), _polygon(folder, place, terrain, full), _gauge(folder, place, record), _dem(folder, place, terrain, seed),
        _csv(os.path.join(folder, "truth.csv"), ["scene", "time", "level_m", "area_m2", "cloud", "shadow"], rows), tuple(water),
    )  # fmt: skip


def together(made: list[Made], folder: str) -> tuple[str, str]:
    """One layer of polygons and one gauge table of several places, for a regional model: their paths."""
    os.makedirs(folder, exist_ok=True)
    polygons = os.path.join(folder, "reservoirs.gpkg")
    for number, one in enumerate(made):
        options = gdal.VectorTranslateOptions(layerName="reservoirs", accessMode="append" if number else None)
        gdal.VectorTranslate(polygons, one.polygons, options=options)
    rows = []
    for one in made:
        with open(one.gauge, newline="", encoding="utf-8") as file:
            rows += list(csv.reader(file))[1:]
    return polygons, _csv(os.path.join(folder, "gauge.csv"), ["reservoir", "date", "level_m"], rows)


def product_name(when: dt.datetime, sensor: str, place: Place, number: int) -> str:
    stamp = when.strftime("%Y%m%dT%H%M%S")
    if sensor == "sentinel-2":
        return f"S2{'AB'[number % 2]}_MSIL2A_{stamp}_N0204_R121_{place.tile}_{(when + dt.timedelta(hours=4)).strftime('%Y%m%dT%H%M%S')}.tif"
    end = (when + dt.timedelta(seconds=25)).strftime("%Y%m%dT%H%M%S")
    return f"S1{'AB'[number % 2]}_IW_GRDH_1SDV_{stamp}_{end}_{7000 + number:06d}_{40000 + 7 * number:06X}_{key(stamp) % 65536:04X}.tif"


def origin(place: Place) -> tuple:
    return (place.east_km * 1000, PIXEL_M, 0.0, NORTH_KM * 1000, 0.0, -PIXEL_M)


def _coarse(cells: np.ndarray) -> np.ndarray:
    return cells.reshape(SIDE, FACTOR, SIDE, FACTOR).mean(axis=(1, 3))


def _cut(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Nodata beyond a slanting line, as at the edge of a swath."""
    angle, offset = np.radians(rng.uniform(8, 16)), rng.uniform(-0.2, 0.7) * SIDE
    y, x = np.indices(image.shape[1:])
    return np.where(x * np.cos(angle) + y * np.sin(angle) < offset, 0, image).astype(image.dtype)


def _reference() -> osr.SpatialReference:
    reference = osr.SpatialReference()
    reference.ImportFromEPSG(EPSG)
    reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    return reference


_TYPES = {"uint8": gdal.GDT_Byte, "uint16": gdal.GDT_UInt16, "float32": gdal.GDT_Float32}


def _write(path: str, place: Place, bands: np.ndarray, names: tuple, nodata=None, classes: tuple = ()) -> str:
    raster = gdal.GetDriverByName("GTiff").Create(path, SIDE, SIDE, len(bands), _TYPES[str(bands.dtype)], ["COMPRESS=DEFLATE"])
    raster.SetGeoTransform(origin(place))
    raster.SetProjection(_reference().ExportToWkt())
    for number, (band, name) in enumerate(zip(bands, names), 1):
        target = raster.GetRasterBand(number)
        target.SetDescription(name)
        if nodata is not None and name != "QA60":
            target.SetNoDataValue(nodata)
        if classes:
            target.SetCategoryNames(list(classes))
        target.WriteArray(band)
    raster = None
    return path


def _dem(folder: str, place: Place, terrain: Basin, seed: int) -> str:
    """As a survey of the dry basin gives it: means over pixels, with an error of a decimetre."""
    heights = _coarse(inner(terrain.heights).astype(np.float64)) + np.random.default_rng([seed, 5, key(place.name)]).normal(
        0, 0.1, (SIDE, SIDE)
    )
    path = _write(os.path.join(folder, "dem.tif"), place, heights.astype(np.float32)[None], ("elevation",))
    return path


def _polygon(folder: str, place: Place, terrain: Basin, full: float) -> str:
    """The outline of the full reservoir, as a map has it: simplified to half a pixel."""
    mask = (inner(terrain.wet(full)) >= 0.5).astype(np.uint8)
    raster = gdal.GetDriverByName("MEM").Create("", *mask.shape[::-1], 1, gdal.GDT_Byte)
    x, _, _, y, _, _ = origin(place)
    raster.SetGeoTransform((x, CELL_M, 0, y, 0, -CELL_M))
    raster.GetRasterBand(1).WriteArray(mask)
    memory = ogr.GetDriverByName("Memory").CreateDataSource("")  # a layer without its source in a variable crashes
    shapes = memory.CreateLayer("", _reference(), ogr.wkbPolygon)
    gdal.Polygonize(raster.GetRasterBand(1), raster.GetRasterBand(1), shapes, -1)
    outline = max((f.GetGeometryRef().Clone() for f in shapes), key=lambda g: g.GetArea()).Buffer(3).Simplify(4)
    path = os.path.join(folder, "reservoir.gpkg")
    if os.path.exists(path):
        os.remove(path)
    target = ogr.GetDriverByName("GPKG").CreateDataSource(path)
    layer = target.CreateLayer("reservoirs", _reference(), ogr.wkbPolygon)
    layer.CreateField(ogr.FieldDefn("name", ogr.OFTString))
    layer.CreateField(ogr.FieldDefn("datum_m", ogr.OFTReal))
    feature = ogr.Feature(layer.GetLayerDefn())
    feature.SetField("name", place.name)
    feature.SetField("datum_m", round(terrain.bottom_m, 2))
    feature.SetGeometry(outline)
    layer.CreateFeature(feature)
    feature = layer = target = shapes = memory = None
    return path


def _gauge(folder: str, place: Place, record) -> str:
    inside = (record.days >= np.datetime64(place.first)) & (record.days <= np.datetime64(place.last)) & np.isfinite(record.raw)
    rows = [[place.name, str(day), f"{level:.2f}"] for day, level in zip(record.days[inside], record.raw[inside])]
    return _csv(os.path.join(folder, "gauge.csv"), ["reservoir", "date", "level_m"], rows)


def _csv(path: str, head: list, rows: list) -> str:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    return path
