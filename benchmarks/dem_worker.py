"""The pieces of `bench.py dem` that run in a process of their own. Each prints one line of JSON last."""

from __future__ import annotations

import json
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [ROOT, os.path.join(ROOT, "benchmarks")]

FACTOR = 3
KINDS = ("elevation", "image", "image", "image")


def model(folder: str) -> dict:
    """A model file of the default network for an elevation model and three image bands; its weights are drawn by chance."""
    import torch

    from water_dl_plugin.engine import bundle, nets, onnx_export
    from water_dl_plugin.engine.normalise import Normalisation
    from water_dl_plugin.engine.settings import TrainConfig

    torch.manual_seed(0)
    defaults = TrainConfig()
    net = nets.build("demunet", len(KINDS), 2, elevations=(0,), depth=defaults.depth, width=defaults.width).eval()
    torch.nn.init.normal_(net.head.weight, 0, 0.01)
    numbers = [{"elevation": True, "fill": 0.0} if kind == "elevation" else {"fill": 100.0, "low": 0.0, "high": 200.0} for kind in KINDS]
    info = bundle.ModelInfo(
        task="regression", bands=tuple((f"Band {k + 1}", "") for k in range(len(KINDS))), normalisation=Normalisation("minmax", tuple(numbers)),
        architecture="demunet", pixel_size_m=10.0, chip_size=128, margin=net.margin, multiple=net.stride, nodata="base",
        details={
            "target": {"name": "fine", "unit": "m", "factor": float(FACTOR), "vertical": "constant"},
            "bands": [{"kind": kind, "resampling": ""} for kind in KINDS], "spread_scale": 1.0,
        },
    )  # fmt: skip
    onnx_export.write(os.path.join(folder, "dem.onnx"), net, torch.nn.Identity(), info, example=torch.rand(1, len(KINDS), 64, 64).numpy())
    return {"margin": net.margin, "parameters": sum(p.numel() for p in net.parameters())}


def scene(folder: str, size: str) -> dict:
    """A base of 30 m pixels and an image of 10 m pixels, `size` px wide and high, full of data."""
    import numpy as np
    from osgeo import gdal

    gdal.UseExceptions()
    rng, fine = np.random.default_rng(0), int(size)
    for name, count, side, pixel, kind in (
        ("base", 1, -(-fine // FACTOR), 10 * FACTOR, gdal.GDT_Float32),
        ("image", 3, fine, 10, gdal.GDT_Byte),
    ):
        path = os.path.join(folder, f"{name}.tif")
        data = gdal.GetDriverByName("GTiff").Create(path, side, side, count, kind, ["TILED=YES", "COMPRESS=DEFLATE", "BIGTIFF=IF_SAFER"])
        data.SetGeoTransform((500_000.0, pixel, 0.0, 5_000_000.0, 0.0, -pixel))
        data.SetProjection("EPSG:32633")
        for row in range(0, side, 512):
            high = min(512, side - row)
            y, x = np.mgrid[row : row + high, :side]
            hills = 1500 + 300 * np.sin(x / 90) * np.cos(y / 70) + 20 * np.sin(x / 7 + y / 11) + rng.normal(0, 1, x.shape)
            for band in range(count):
                plane = hills.astype(np.float32) if count == 1 else rng.integers(0, 200, x.shape).astype(np.uint8)
                data.GetRasterBand(band + 1).WriteArray(plane, 0, row)
        data = None
    return {}


def downscale(folder: str, consistent: str) -> dict:
    """downscaledem's engine on it, heights and expected error: seconds, processor time, peak memory."""
    from bench_worker import peak_gb, timed

    from water_dl_plugin.engine.dem.downscale import downscale as run
    from water_dl_plugin.engine.settings import DownscaleConfig

    paths = {name: os.path.join(folder, name) for name in ("base.tif", "image.tif", "dem.onnx", "fine.tif", "error.tif")}
    done: list = []
    seconds, cpu = timed(lambda: done.append(run(
        [paths["base.tif"]], paths["dem.onnx"], paths["fine.tif"], DownscaleConfig(consistent=consistent == "1"), others=[paths["image.tif"]],
        error=paths["error.tif"],
    )))  # fmt: skip
    return {
        "seconds": seconds,
        "cpu_s": cpu,
        "peak_gb": peak_gb(),
        "pixels": done[0].pixels,
        "width": done[0].grid.width,
        "provider": done[0].provider,
    }


JOBS = {"model": model, "scene": scene, "downscale": downscale}

if __name__ == "__main__":
    print(json.dumps(JOBS[sys.argv[1]](*sys.argv[2:])))
