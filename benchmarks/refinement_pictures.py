"""Draws the before/after pictures of docs/refinement.md: `python benchmarks/refinement_pictures.py`. Needs ../shared/data, and Pillow or GDAL's JPEG."""

from __future__ import annotations

import os
import sys

import numpy as np
from osgeo import gdal, gdal_array
from scipy import ndimage

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [ROOT, os.path.join(ROOT, "benchmarks")]
import refinement  # noqa: E402
import rough_maps  # noqa: E402
import synthetic  # noqa: E402

from water_dl_plugin.engine.refine import refine_arrays  # noqa: E402

OUTLINE = (255, 235, 0)


def draw(path: str, picture: np.ndarray, masks: list, zoom: int) -> None:
    """The picture `(rows, cols, 3)` once per mask, side by side, with the mask's outline."""
    panels = []
    for mask in masks:
        large, inside = np.kron(picture, np.ones((zoom, zoom, 1), np.uint8)), np.kron(mask, np.ones((zoom, zoom), bool))
        large[inside & ~ndimage.binary_erosion(inside, border_value=1)] = OUTLINE
        panels += [large, np.full((len(large), 6, 3), 255, np.uint8)]
    sheet = np.concatenate(panels[:-1], axis=1)
    gdal.GetDriverByName("JPEG").CreateCopy(
        path, gdal_array.OpenArray(np.ascontiguousarray(np.moveaxis(sheet, -1, 0))), options=["QUALITY=88"]
    )
    if os.path.exists(path + ".aux.xml"):
        os.remove(path + ".aux.xml")
    print(os.path.relpath(path, ROOT))


def main() -> None:
    config, folder = refinement.settings([]), os.path.join(ROOT, "docs", "images")
    image, truth, rough = synthetic.scene(1, 512)
    cut = (slice(0, 300), slice(0, 300))
    _, classes = refine_arrays(rough[None], image, np.ones(truth.shape, bool), config, 0.5)
    picture = np.moveaxis(np.clip(image[:3] * 1.8, 0, 255), 0, -1).astype(np.uint8)
    draw(os.path.join(folder, "refined-lake.jpg"), picture[cut], [(rough >= 0.5)[cut], (classes == 1)[cut], truth[cut]], 2)
    place = rough_maps.naip(rough_maps.data_folder("naip_wetland"))[0]
    _, classes = refine_arrays(place.probability[None], place.image, place.valid, config, 5.0)
    cut = (slice(490, 690), slice(110, 420))
    bands = place.image[[3, 0, 1]].astype(float)
    low, high = (np.percentile(bands[:, place.valid], q, axis=1)[:, None, None] for q in (1, 99))
    picture = np.moveaxis(255 * ((bands - low) / (high - low)).clip(0, 1), 0, -1).astype(np.uint8)
    draw(os.path.join(folder, "refined-ponds.jpg"), picture[cut], [(place.probability >= 0.5)[cut], (classes == 1)[cut]], 3)


if __name__ == "__main__":
    main()
