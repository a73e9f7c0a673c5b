"""The pieces of `bench.py`'s part `refine` that run in a process of their own. Each prints one line of JSON last."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import contextmanager

import numpy as np

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [ROOT, os.path.join(ROOT, "benchmarks")]
from bench_worker import timed  # noqa: E402

NAIP = os.path.join(ROOT, "..", "shared", "data", "naip_wetland", "m_4709963_se_14_1_20140720.tif")


def shore(size: int, bands: int) -> tuple[np.ndarray, np.ndarray]:
    """Image float32 and rough probability of `size` px: NAIP imagery, mirrored, where it is there, else a made-up scene; the probability is
    blurred NDWI with noise (or that of the made-up scene)."""
    from osgeo import gdal
    from scipy import ndimage

    from tests.shores import scene

    def mirrored(array):
        array = np.concatenate([array, array[..., ::-1]], -1)
        array = np.concatenate([array, array[..., ::-1, :]], -2)
        times = [-(-size // n) for n in array.shape[-2:]]
        return np.ascontiguousarray(np.tile(array, (1, *times))[:, :size, :size])

    rng = np.random.default_rng(0)
    if os.path.exists(NAIP):
        image = gdal.Open(NAIP).ReadAsArray().astype(np.float32)
        index = ndimage.gaussian_filter((image[1] - image[3]) / (image[1] + image[3] + 1), 2)
        image, logits = mirrored(image), 12 * mirrored(index[None])
        logits += 4 * ndimage.gaussian_filter(rng.normal(size=logits.shape), (0, 1.5, 1.5))
        return image[:bands], (1 / (1 + np.exp(-logits))).astype(np.float32)
    image, probability, _ = scene(0, 1024, 4)
    return mirrored(image)[:bands], mirrored(probability)


def memory_mb(field: str) -> float:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(field)) * 1024 / 1e6


def step(what: str, engine: str, size: str, bands: str, repeats: str) -> dict:
    """Seconds of the CRF (`what` "crf") or SLIC ("slic") on arrays, and peak memory above them. One small run first: libraries are loaded, and
    numba's cache is read (or made)."""
    from water_dl_plugin.engine.refine.crf import Kernels, mean_field
    from water_dl_plugin.engine.refine.slic import slic

    image, probability = shore(int(size), int(bands))
    valid = np.ones(image.shape[1:], bool)

    def work(cut=slice(None)):
        picture, rough, inside = image[:, cut, cut], probability[:, cut, cut], valid[cut, cut]
        if what == "crf":
            return mean_field(rough, picture, inside, Kernels(), 10, engine=engine)
        if engine == "scikit-image":
            from skimage.segmentation import slic as theirs

            return theirs(
                np.moveaxis(picture, 0, -1) / 255, n_segments=picture[0].size // 39**2 + 1, compactness=60 / 255, max_num_iter=10, channel_axis=-1,
                convert2lab=False, min_size_factor=0.25,
            )  # fmt: skip
        return slic(picture, inside, 39, 60.0, 10, engine=engine)

    work(slice(0, 64))
    before = memory_mb("VmRSS")
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")  # the peak is counted anew
    with watched() as stall:
        runs = [timed(work) for _ in range(int(repeats))]
    return {
        "seconds": min(run[0] for run in runs), "cpu_s": min(run[1] for run in runs), "stall_ms": 1e3 * stall[0],
        "bytes_per_px": (memory_mb("VmHWM") - before) * 1e6 / valid.size,
    }  # fmt: skip


@contextmanager
def watched():
    """How long another thread, a window's for example, had to wait at most; seconds."""
    waited, over = [0.0], threading.Event()

    def watch():
        last = time.perf_counter()
        while not over.is_set():
            time.sleep(0.005)
            now = time.perf_counter()
            waited[0], last = max(waited[0], now - last - 0.005), now

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield waited
    finally:
        over.set()
        thread.join()


def agree(size: str, bands: str) -> dict:
    """Labels in which numba's and pydensecrf's CRF differ, %."""
    from water_dl_plugin.engine.refine.crf import Kernels, mean_field

    image, probability = shore(int(size), int(bands))
    ours, theirs = (mean_field(probability, image, np.ones(image.shape[1:], bool), Kernels(), 10, engine=e) for e in ("auto", "pydensecrf"))
    return {"labels_percent": float(100 * ((ours > 0.5) != (theirs > 0.5)).mean()), "probability": float(np.abs(ours - theirs).mean())}


def large(folder: str, size: str) -> dict:
    """The whole of refinewater on a raster of `size` px, 4 bands: seconds and peak memory of the process."""
    from bench_worker import peak_gb
    from osgeo import gdal

    from water_dl_plugin.engine.refine import refine_raster
    from water_dl_plugin.engine.settings import RefineConfig

    image, probability = shore(2048, 4)
    names = []
    for name, pixels, kind in (("image", image.astype(np.uint8), gdal.GDT_Byte), ("rough", probability, gdal.GDT_Float32)):
        tile = gdal.GetDriverByName("GTiff").Create(os.path.join(folder, f"{name}.tile.tif"), 2048, 2048, len(pixels), kind, ["TILED=YES"])
        tile.WriteArray(pixels)
        del tile
        names.append(os.path.join(folder, f"{name}.vrt"))
        _repeat(names[-1], f"{name}.tile.tif", int(size), len(pixels), gdal.GetDataTypeName(kind))
    del image, probability
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    done: list = []
    seconds, cpu = timed(lambda: done.append(refine_raster(
        names[1], names[0], os.path.join(folder, "fine.tif"), RefineConfig(), probability=os.path.join(folder, "fine_p.tif"),
    )))  # fmt: skip
    return {"seconds": seconds, "cpu_s": cpu, "peak_gb": peak_gb(), "changed": done[0].changed}


def _repeat(path: str, base: str, size: int, bands: int, kind: str) -> None:
    lines = [
        f'<VRTDataset rasterXSize="{size}" rasterYSize="{size}"><SRS>EPSG:32614</SRS><GeoTransform>500000, 0.5, 0, 5000000, 0, -0.5</GeoTransform>'
    ]
    for band in range(1, bands + 1):
        lines.append(f'<VRTRasterBand dataType="{kind}" band="{band}">')
        for row in range(0, size, 2048):
            for col in range(0, size, 2048):
                x, y = min(2048, size - col), min(2048, size - row)
                lines.append(
                    f'<SimpleSource><SourceFilename relativeToVRT="1">{base}</SourceFilename><SourceBand>{band}</SourceBand>'
                    f'<SrcRect xOff="0" yOff="0" xSize="{x}" ySize="{y}"/><DstRect xOff="{col}" yOff="{row}" xSize="{x}" ySize="{y}"/></SimpleSource>'
                )
        lines.append("</VRTRasterBand>")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n</VRTDataset>\n")


JOBS = {"step": step, "agree": agree, "large": large}

if __name__ == "__main__":
    print(json.dumps(JOBS[sys.argv[1]](*sys.argv[2:])))
