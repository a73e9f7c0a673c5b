"""Small scenes, labels and chips for tests. Files are written with GDAL directly, not with the code under test."""

from __future__ import annotations

import dataclasses
import json
import os

import numpy as np
from osgeo import gdal, gdal_array, ogr, osr

from water_dl_plugin.engine.raster import Grid


def crs(epsg: int) -> str:
    reference = osr.SpatialReference()
    reference.ImportFromEPSG(epsg)
    return reference.ExportToWkt()


def utm(width: int, height: int, pixel: float = 10.0, x: float = 400_000.0, y: float = 4_500_000.0, epsg: int = 32612) -> Grid:
    """A north-up grid in UTM zone 12 north."""
    return Grid(width, height, (x, pixel, 0.0, y, 0.0, -pixel), crs(epsg))


def write_raster(path, pixels: np.ndarray, grid: Grid, nodata=None, tags=None, names=()) -> str:
    """`(bands, rows, cols)` or `(rows, cols)` as a plain GeoTIFF."""
    pixels = pixels if pixels.ndim == 3 else pixels[None]
    data = gdal.GetDriverByName("GTiff").Create(
        str(path), pixels.shape[2], pixels.shape[1], len(pixels), gdal_array.NumericTypeCodeToGDALTypeCode(pixels.dtype.type)
    )
    data.SetGeoTransform(grid.transform)
    if grid.crs:
        data.SetProjection(grid.crs)
    if tags:
        data.SetMetadata(tags)
    for i, plane in enumerate(pixels):
        band = data.GetRasterBand(i + 1)
        if nodata is not None:
            band.SetNoDataValue(float(nodata))
        if i < len(names):
            band.SetDescription(names[i])
        band.WriteArray(plane)
    data = None
    return str(path)


def read_raster(path) -> tuple[np.ndarray, np.ndarray, tuple]:
    """Pixels `(bands, rows, cols)`, mask of the first band (True: data) and geotransform."""
    data = gdal.Open(str(path))
    pixels = data.ReadAsArray()
    return (pixels if pixels.ndim == 3 else pixels[None]), data.GetRasterBand(1).GetMaskBand().ReadAsArray() > 0, data.GetGeoTransform()


def box(grid: Grid, col: float, row: float, width: float, height: float) -> str:
    """WKT of a rectangle of pixels."""
    corners = [grid.to_map(c, r) for c, r in ((col, row), (col + width, row), (col + width, row + height), (col, row + height), (col, row))]
    return "POLYGON((" + ",".join(f"{x!r} {y!r}" for x, y in corners) + "))"


_KINDS = {str: ogr.OFTString, int: ogr.OFTInteger, float: ogr.OFTReal}


def write_layer(path, features, grid_crs: str, layer: str = "labels", kind=None) -> str:
    """Features are (WKT, {field: value}); a GeoPackage, or a GeoJSON in longitude and latitude by its name. `append` by another layer name."""
    path = str(path)
    reference = None
    if grid_crs:
        reference = osr.SpatialReference(grid_crs)
        reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    if os.path.exists(path):
        data = gdal.OpenEx(path, gdal.OF_VECTOR | gdal.OF_UPDATE)
    else:
        data = ogr.GetDriverByName("GeoJSON" if path.endswith("json") else "GPKG").CreateDataSource(path)
    made = data.CreateLayer(layer, reference, ogr.wkbUnknown)
    fields: dict = {}
    for _, values in features:
        fields.update({name: kind or _KINDS[type(value)] for name, value in values.items() if value is not None and name not in fields})
    for name, code in fields.items():
        made.CreateField(ogr.FieldDefn(name, code))
    for wkt, values in features:
        feature = ogr.Feature(made.GetLayerDefn())
        feature.SetGeometry(ogr.CreateGeometryFromWkt(wkt))
        for name, value in values.items():
            if value is not None:
                feature.SetField(name, value)
        made.CreateFeature(feature)
    data = made = None
    return path


def read_layer(path, layer: str) -> list[dict]:
    """The fields of all features of a layer, and their geometry's envelope."""
    data = gdal.OpenEx(str(path), gdal.OF_VECTOR)  # must live as long as its layers
    return [{**f.items(), "envelope": f.GetGeometryRef().GetEnvelope()} for f in data.GetLayerByName(layer)]


def chips_folder(
    folder, images, labels, split=None, *, classes=("land", "water"), task="segmentation", values=None, epsg=32612, chips=None, **manifest
) -> str:
    """A chips folder of `images` (n, bands, size, size) and `labels` (n, size, size), which are 0 where ignored. `chips`: further fields."""
    from water_dl_plugin.engine.chips import Chip, Manifest, write_manifest
    from water_dl_plugin.engine.classes import MapClass, colour_of

    folder = str(folder)
    os.makedirs(os.path.join(folder, "images"))
    os.makedirs(os.path.join(folder, "labels"))
    size, told, chips = images.shape[-1], chips, []
    for i, image in enumerate(images):
        grid = utm(size, size, x=400_000.0 + 10 * size * i, epsg=epsg)
        write_raster(os.path.join(folder, "images", f"{i:09d}.tif"), image, grid)
        if labels is not None:
            write_raster(os.path.join(folder, "labels", f"{i:09d}.tif"), labels[i], grid)
        chips.append(Chip(
            f"images/{i:09d}.tif", f"labels/{i:09d}.tif" if labels is not None else None, split[i] if split else "",
            value=None if values is None else float(values[i]), **(told[i] if told else {}),
        ))  # fmt: skip
    write_manifest(folder, Manifest(
        task=task, classes=tuple(MapClass(i, n, colour_of(n, i)) for i, n in enumerate(classes)), chips=tuple(chips), tile_size=size,
        **{"bands": tuple({"name": f"B{b + 1}", "unit": "", "dtype": str(images.dtype)} for b in range(images.shape[1])),
           "pixel_size": (10.0, 10.0), "pixel_size_m": 10.0, **manifest},
    ))  # fmt: skip
    return folder


def bright_is_water(number: int, size: int = 32, bands: int = 2, classes: int = 2, seed: int = 0, ignored: float = 0.0):
    """A problem that anyone can learn: (images uint8, labels uint8 with class index + 1). Squares of `size / 4` px, brighter by class."""
    rng = np.random.default_rng(seed)
    index = rng.integers(0, classes, (number, 4, 4)).repeat(size // 4, 1).repeat(size // 4, 2)
    level = np.linspace(60, 200, classes)[index]
    images = np.clip(level[:, None] + rng.normal(0, 8, (number, bands, size, size)), 0, 255).astype(np.uint8)
    labels = (index + 1).astype(np.uint8)
    if ignored:
        labels[rng.random(labels.shape) < ignored] = 0
    return images, labels


def hills(number: int, size: int = 64, bands: int = 1, seed: int = 0):
    """Elevations to be made finer: (images float32 `(number, bands, size, size)`, values `(number, size, size)`). The base is a smoothed
    version of the values, so that what is missing can be told from what is there; every further elevation model is it with other noise."""
    rng = np.random.default_rng(seed)
    place = 2 * np.pi * np.arange(size) / size
    truth = np.zeros((number, size, size))
    for k in (1, 2, 3, 5, 8):
        wave = np.sin(k * place[:, None] + rng.uniform(0, 7, (number, 1, 1))) * np.sin(k * place + rng.uniform(0, 7, (number, 1, 1)))
        truth += 60 / k * wave
    spectrum = np.fft.fft2(truth)
    damped = np.exp(-0.5 * (np.abs(np.fft.fftfreq(size) * size) / 5) ** 2)
    base = np.fft.ifft2(spectrum * damped[:, None] * damped).real
    level = rng.uniform(0, 3000, (number, 1, 1))
    images = np.stack([base + level, *(base + level + rng.normal(0, 0.5, base.shape) for _ in range(bands - 1))], 1)
    return images.astype(np.float32), (truth + level).astype(np.float32)


def tiny_network():
    """A network of two convolutions: training with it is a matter of a second."""
    from torch import nn

    class Tiny(nn.Module):
        stride, margin = 1, 0

        def __init__(self, bands, channels, inner: int = 8):
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(bands, inner, 3, padding=1), nn.BatchNorm2d(inner), nn.ReLU(),
                nn.Conv2d(inner, inner, 3, padding=1), nn.BatchNorm2d(inner), nn.ReLU(),
            )  # fmt: skip
            self.head = nn.Conv2d(inner, channels, 1)

        def forward(self, x):
            return self.head(self.body(x))

    return Tiny


def allow_network(name: str, factory) -> None:
    """Register a network under `name` and let `TrainConfig` and `TuneConfig` take it."""
    from water_dl_plugin.engine import nets
    from water_dl_plugin.engine.settings import TrainConfig, TuneConfig

    nets.register(name, factory)
    for config in (TrainConfig, TuneConfig):
        choices = next(f for f in dataclasses.fields(config) if f.name == "architecture").metadata["param"]
        choices["choices"] = (*choices["choices"], name)


def forget_network(name: str) -> None:
    from water_dl_plugin.engine import nets
    from water_dl_plugin.engine.settings import TrainConfig, TuneConfig

    nets.ARCHITECTURES.pop(name)
    for config in (TrainConfig, TuneConfig):
        choices = next(f for f in dataclasses.fields(config) if f.name == "architecture").metadata["param"]
        choices["choices"] = tuple(c for c in choices["choices"] if c != name)


def load_json(path):
    with open(path, encoding="utf-8-sig") as file:
        return json.load(file)


def small_disk(folder, size: str, options: str = "") -> bool:
    """Mount a little disk on `folder` if this machine lets us (as root on Linux); undo with `umount`."""
    import subprocess

    os.makedirs(folder, exist_ok=True)
    done = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}{options}", "none", str(folder)], capture_output=True)
        if os.name == "posix"
        else None
    )
    return done is not None and done.returncode == 0


def umount(folder) -> None:
    import subprocess

    subprocess.run(["umount", "-l", str(folder)], check=True)
