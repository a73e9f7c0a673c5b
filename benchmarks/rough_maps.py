"""Rough maps of real images and what is known about them: for `refinement.py`.

NAIP (5 m): a random forest on the 4 bands and their means over 9 x 9 px learns from the images of 2009 and 2020, with labels that
nobody drew (NDWI cut by Otsu's method, on blocks of 4 x 4 px: a coarse map of another year is what one often has) and maps the image
of 2014. QuickBird (2.6 m): such a forest learns from the four training polygons of one chip and maps the other. The window blurs the
edges, as the coarse inner maps of a network do. Chips12 (30 m): the probabilities of a U-Net that `accuracy.py` keeps, each chip mapped
by a network that has not seen its place.

The first two are judged in windows where waters were drawn by hand (`truth/`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import chips12
import numpy as np
from osgeo import gdal, ogr
from scipy import ndimage

gdal.UseExceptions()
HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "out")
BLOCK = 4  # pixels of a side of a label of NAIP
PIXELS = 20_000  # that a forest learns from
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
    probability = make()
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
        planes[kind] = _burnt(layer, shape, transform, burn_values=[1]) > 0
    return planes["water"], planes["window"] & ~planes["unsure"]


def _burnt(layer, shape: tuple, transform: tuple, **what) -> np.ndarray:
    target = gdal.GetDriverByName("MEM").Create("", shape[1], shape[0], 1, gdal.GDT_Byte)
    target.SetGeoTransform(transform)
    target.SetProjection(layer.GetSpatialRef().ExportToWkt())
    gdal.RasterizeLayer(target, [1], layer, **what)
    return target.ReadAsArray()


def _naip_map(folder: str, path: str) -> np.ndarray:
    """Probability of water in the image of 2014."""
    learnt = []
    for year in ("20090818", "20200831"):
        image = _read(os.path.join(folder, NAIP.format(year)))[0]
        green, infrared = (_blocks(image[k].astype(np.float32)) for k in (1, 3))
        index = (green - infrared) / np.maximum(green + infrared, 1)
        wet = np.kron(index > chips12.otsu_threshold(index.ravel()), np.ones((BLOCK, BLOCK), bool))
        learnt.append((_even(image)[:, : wet.shape[0], : wet.shape[1]], wet + 1))
    return _forest(learnt, _even(_read(path)[0]))


def _even(image: np.ndarray) -> np.ndarray:
    """Each band's 1 to 99 % range as 0..1: the years differ in season and exposure."""
    low, high = (np.percentile(image, q, axis=(1, 2))[:, None, None] for q in (1, 99))
    return (image - low) / (high - low)


def _blocks(plane: np.ndarray) -> np.ndarray:
    rows, cols = (n // BLOCK for n in plane.shape)
    return plane[: rows * BLOCK, : cols * BLOCK].reshape(rows, BLOCK, cols, BLOCK).mean(axis=(1, 3))


def _quickbird_map(folder: str, path: str) -> np.ndarray:
    """Probability of water in chip 1."""
    other, _, transform = _read(os.path.join(folder, "QB_2.tif"))
    source = ogr.Open(os.path.join(folder, "QB_2_training_polygons.geojson"))
    labels = _burnt(source.GetLayer(0), other.shape[1:], transform, options=["ATTRIBUTE=class"])
    water = 1
    return _forest([(other, np.where(labels == 0, 0, np.where(labels == water, 2, 1)))], _read(path)[0])


def _forest(learnt: list, image: np.ndarray) -> np.ndarray:
    """Probability of water `(rows, cols)` of a random forest that learns from pairs of image and labels (0 unknown, 1 land, 2 water)."""
    from sklearn.ensemble import RandomForestClassifier

    features = np.concatenate([_features(one)[labels > 0] for one, labels in learnt])
    water = np.concatenate([labels[labels > 0] == 2 for _, labels in learnt])
    some = np.random.default_rng(0).permutation(len(water))[:PIXELS]
    forest = RandomForestClassifier(100, max_features=2, class_weight="balanced", n_jobs=1, random_state=0)
    forest.fit(features[some], water[some])
    return forest.predict_proba(_features(image).reshape(-1, features.shape[1]))[:, 1].reshape(image.shape[1:]).astype(np.float32)


def _features(image: np.ndarray) -> np.ndarray:
    """`(rows, cols, 2 x bands)`: the bands and their means over 9 x 9 px."""
    image = image.astype(np.float32)
    return np.moveaxis(np.concatenate([image, ndimage.uniform_filter(image, (0, 9, 9))]), 0, -1)
