"""Rough maps of real images and what is known about them: for `refinement.py`.

NAIP (5 m): a U-Net of ours, trained on the images of 2009 and 2020 with labels that nobody drew (NDWI cut by Otsu's method, on blocks of 4 x 4
pixels: a coarse map of another year is what one often has), maps the image of 2014. QuickBird (2.6 m): a random forest on 4 bands and
their means over 9 x 9 px learns from the four training polygons of one chip and maps the other. Chips12 (30 m): the probabilities that
`accuracy.py` keeps, each chip mapped by a network that has not seen its place.

Both are judged in windows where waters were drawn by hand (`truth/`). Maps are kept in benchmarks/out and made once.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

import chips12
import numpy as np
from osgeo import gdal, ogr
from scipy import ndimage

from water_dl_plugin.engine import chips, train
from water_dl_plugin.engine.backends import OnnxModel
from water_dl_plugin.engine.chips import Chip, Manifest
from water_dl_plugin.engine.infer import predict
from water_dl_plugin.engine.raster import Grid, Stack, write_small
from water_dl_plugin.engine.settings import InferConfig, TrainConfig

gdal.UseExceptions()
HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "out")
SIDE = 128  # of the chips of NAIP
BLOCK = 4  # pixels of a side of a label there
NAIP = "m_4709963_se_14_1_{}.tif"


@dataclass(frozen=True)
class Piece:
    """One image with its rough map: `image` `(bands, rows, cols)`, all others `(rows, cols)`; `known`: where `truth` may be judged."""

    image: np.ndarray
    probability: np.ndarray
    valid: np.ndarray
    truth: np.ndarray
    known: np.ndarray


def data_folder(name: str) -> str:
    """A folder of the real data, or "": WATER_DL_DATA, else `../shared/data` beside the checkout."""
    data = os.environ.get("WATER_DL_DATA") or os.path.join(os.path.dirname(os.path.dirname(HERE)), "shared", "data")
    folder = os.path.join(data, name)
    return folder if os.path.isdir(folder) else ""


def naip(folder: str) -> list[Piece]:
    path = os.path.join(folder, NAIP.format("20140720"))
    return [_piece(path, "naip_2014", lambda: _naip_map(folder, path))]


def quickbird(folder: str) -> list[Piece]:
    path = os.path.join(folder, "QB_1.tif")
    return [_piece(path, "quickbird_1", lambda: _quickbird_map(folder, path))]


def chips_12(folder: str) -> list[Piece]:
    """Nothing where `accuracy.py` has not run yet. A chip has no neighbours here: it is refined by itself."""
    if not os.path.isfile(kept_chips()):
        return []
    data = chips12.read(folder)
    with np.load(kept_chips()) as file:
        if file["names"].tolist() != data.names:
            return []
        probability = file["probability"]
    return [Piece(*parts, parts[2]) for parts in zip(data.pixels, probability, data.valid, data.water)]


def kept_chips() -> str:
    return os.path.join(OUT, "chips12_probability.npz")


def keep_chips(data: chips12.Chips12, probability: np.ndarray) -> None:
    """For `accuracy.py`: the probability of water of all chips, `(n, 128, 128)`, each of a network that has not seen its place."""
    np.savez_compressed(kept_chips(), probability=probability.astype(np.float16), names=data.names)


def _piece(path: str, name: str, make) -> Piece:
    image, valid, transform = _read(path)
    kept = os.path.join(OUT, f"{name}_probability.npz")
    if os.path.isfile(kept):
        with np.load(kept) as file:
            probability = file["probability"]
    else:
        probability = make()
        np.savez_compressed(kept, probability=probability)
    truth, known = _drawn(os.path.join(HERE, "truth", f"{name}.geojson"), valid.shape, transform)
    return Piece(image, probability, valid, truth, known & valid)


def _read(path: str) -> tuple:
    raster = gdal.Open(path)
    image = raster.ReadAsArray()
    return image, (image > 0).any(axis=0), raster.GetGeoTransform()  # nodata is 0, but so is clear water in the near infrared


def _drawn(path: str, shape: tuple, transform: tuple) -> tuple[np.ndarray, np.ndarray]:
    """Truth and where it is known, of a file in `truth/`: the pixels whose middle lies in the polygons."""
    source = ogr.Open(path)
    planes = {}
    for kind in ("window", "water", "unsure"):
        layer = source.GetLayer(0)
        layer.SetAttributeFilter(f"kind = '{kind}'")
        target = gdal.GetDriverByName("MEM").Create("", shape[1], shape[0], 1, gdal.GDT_Byte)
        target.SetGeoTransform(transform)
        target.SetProjection(layer.GetSpatialRef().ExportToWkt())
        gdal.RasterizeLayer(target, [1], layer, burn_values=[1])
        planes[kind] = target.ReadAsArray() > 0
    return planes["water"], planes["window"] & ~planes["unsure"]


def _naip_map(folder: str, path: str) -> np.ndarray:
    """Probability of water in the image of 2014."""
    from accuracy import otsu_threshold  # not above: accuracy.py calls refinement.py

    work = os.path.join(OUT, "naip")
    shutil.rmtree(work, ignore_errors=True)
    listed = []
    for part in ("images", "labels"):
        os.makedirs(os.path.join(work, part))
    for year in ("20090818", "20200831"):
        image, valid, _ = _read(os.path.join(folder, NAIP.format(year)))
        green, infrared = (_blocks(image[k].astype(np.float32)) for k in (1, 3))
        index = (green - infrared) / (green + infrared)
        wet = np.kron(index > otsu_threshold(index[np.isfinite(index)]), np.ones((BLOCK, BLOCK), bool))
        for row in range(0, wet.shape[0] - SIDE + 1, SIDE):
            for col in range(0, wet.shape[1] - SIDE + 1, SIDE):
                here = (slice(row, row + SIDE), slice(col, col + SIDE))
                name = f"{year}_{row}_{col}.tif"
                write_small(os.path.join(work, "images", name), image[(slice(None), *here)], Grid(SIDE, SIDE), valid[here])
                write_small(os.path.join(work, "labels", name), (wet[here] + 1).astype(np.uint8)[None], Grid(SIDE, SIDE))
                water = float(wet[here].mean())
                part = "validation" if col == 3 * SIDE else "train"
                listed.append(Chip(f"images/{name}", f"labels/{name}", part, 0, shares=(1 - water, water)))
    bands = tuple({"name": name, "unit": "", "dtype": "uint8"} for name in ("red", "green", "blue", "nir"))
    chips.write_manifest(work, Manifest("segmentation", bands, chips12.CLASSES, SIDE, tuple(listed), stride=SIDE, seed=0))
    model = os.path.join(OUT, "naip.onnx")
    config = TrainConfig(epochs=12, resume=False)
    train.train(work, model, config, lambda _, message="": print(f"  {message}", flush=True) if message.startswith("Epoch") else None)
    with Stack(path, bands="1-4") as source:  # band 4 is declared as alpha in the files; it is near infrared
        result = np.zeros((source.grid.height, source.grid.width), np.float32)
        for window, given, _ in predict(source, OnnxModel(model), InferConfig()):
            result[window.slices] = given[0]
    return result


def _blocks(plane: np.ndarray) -> np.ndarray:
    rows, cols = (n // BLOCK for n in plane.shape)
    return plane[: rows * BLOCK, : cols * BLOCK].reshape(rows, BLOCK, cols, BLOCK).mean(axis=(1, 3))


def _quickbird_map(folder: str, path: str) -> np.ndarray:
    """Probability of water in chip 1."""
    from sklearn.ensemble import RandomForestClassifier

    other, _, transform = _read(os.path.join(folder, "QB_2.tif"))
    source = ogr.Open(os.path.join(folder, "QB_2_training_polygons.geojson"))
    layer = source.GetLayer(0)
    target = gdal.GetDriverByName("MEM").Create("", other.shape[2], other.shape[1], 1, gdal.GDT_Byte)
    target.SetGeoTransform(transform)
    target.SetProjection(layer.GetSpatialRef().ExportToWkt())
    gdal.RasterizeLayer(target, [1], layer, options=["ATTRIBUTE=class"])
    labels = target.ReadAsArray()
    forest = RandomForestClassifier(150, max_features=2, class_weight="balanced", n_jobs=1, random_state=0)
    forest.fit(_features(other)[labels > 0], labels[labels > 0] == 1)
    image = _read(path)[0]
    return forest.predict_proba(_features(image).reshape(-1, 8))[:, 1].reshape(image.shape[1:]).astype(np.float32)


def _features(image: np.ndarray) -> np.ndarray:
    """`(rows, cols, 8)`: the bands and their means over 9 x 9 px."""
    image = image.astype(np.float32)
    return np.moveaxis(np.concatenate([image, ndimage.uniform_filter(image, (0, 9, 9))]), 0, -1)
