"""Draws docs/images/fine-dem.jpg from what `python benchmarks/downscaling.py --only x3` left in benchmarks/out (Colorado: U.S. Geological Survey,
public domain): shaded relief of the coarse model, its cubic interpolation, the network's and the reference, and the errors, in held-out blocks."""

from __future__ import annotations

import os
import sys

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, ROOT)

import downscaling  # noqa: E402

from water_dl_plugin.engine import plots  # noqa: E402
from water_dl_plugin.engine.dem.resample import heights_on  # noqa: E402
from water_dl_plugin.engine.grid import spacing_m  # noqa: E402
from water_dl_plugin.engine.heights import gradient  # noqa: E402
from water_dl_plugin.engine.panels import shades  # noqa: E402
from water_dl_plugin.engine.raster import Raster  # noqa: E402
from water_dl_plugin.engine.windows import Window  # noqa: E402

FOLDER = os.path.join(downscaling.OUT, "downscaling", "x3")
SIZE = 192  # px: two blocks of the split
LARGEST = 6.0  # m


def main() -> None:
    fine = os.path.join(FOLDER, f"{downscaling.COLORADO}.tif")
    held = downscaling.test_blocks(os.path.join(FOLDER, "chips_both"), fine)
    with Raster(fine) as reference:
        grid = reference.grid
        truth = reference.read(Window(0, 0, grid.width, grid.height))[0][0].astype(np.float64)
    planes = {}
    for name, how in (("30 m, as it is", "nearest"), ("cubic interpolation", "cubic")):
        with Raster(os.path.join(FOLDER, f"{downscaling.COLORADO}_glo3.tif")) as raster:
            planes[name] = heights_on(raster, grid, how)[0][0]
    made, spread = (downscaling.both(os.path.join(FOLDER, f"both_home{end}.tif"))[0] for end in ("", "_error"))
    planes.update({"demunet": made, "reference (10 m)": truth})
    shares = {
        (r, c): held[r : r + SIZE, c : c + SIZE].mean() for r in range(0, grid.height - SIZE, 32) for c in range(0, grid.width - SIZE, 32)
    }
    row, col = max(shares, key=lambda place: shares[place])
    cut = (slice(row, row + SIZE), slice(col, col + SIZE))
    print(f"Row {row}, column {col}: {shares[row, col]:.0%} of it held out.")
    level = float(np.median(truth - planes["cubic interpolation"]))
    figure = plots.new_figure(6.3, width=12.0)
    axes = figure.subplots(2, 4)
    relief, _ = shades([gradient(planes[name][cut], *spacing_m(grid)) for name in ("reference (10 m)", *list(planes)[:3])], 0)
    for axis, name, picture in zip(axes[0], planes, np.split(np.roll(relief, -SIZE, axis=1), 4, axis=1)):
        axis.imshow(picture)
        axis.set_title(name, loc="left", fontsize=11, color=plots.INK)
    errors = {"error of cubic": planes["cubic interpolation"] + level - truth, "error of demunet": made + level - truth}
    for axis, (name, plane) in zip(axes[1, 1:3], errors.items()):
        shown = axis.imshow(plane[cut], cmap="RdBu_r", vmin=-LARGEST, vmax=LARGEST)
        axis.set_title(f"{name}: RMSE {np.sqrt((plane[cut] ** 2).mean()):.2f} m", loc="left", fontsize=11, color=plots.INK)
    figure.colorbar(shown, ax=axes[1, 1:3], shrink=0.8, label="m")
    shown = axes[1, 3].imshow(spread[cut], cmap="magma", vmin=0)
    axes[1, 3].set_title("expected error of demunet", loc="left", fontsize=11, color=plots.INK)
    figure.colorbar(shown, ax=axes[1, 3], shrink=0.8, label="m")
    axes[1, 0].axis("off")
    for axis in axes.ravel():
        axis.set(xticks=[], yticks=[])
    figure.savefig(os.path.join(ROOT, "docs", "images", "fine-dem.jpg"), dpi=90, pil_kwargs={"quality": 85})


if __name__ == "__main__":
    main()
