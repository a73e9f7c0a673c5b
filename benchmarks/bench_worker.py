"""The pieces of `bench.py` that run in a process of their own. Each prints one line of JSON last."""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

CHIP = 256
REPEATED = 1024  # px, side of the tile that large scenes repeat
BLOCK, SPACING = 256, 10_000  # px: blocks of data in a sparse scene
NODATA = 0


def prepare(folder: str, bands: str) -> dict:
    """Model files with weights drawn by chance (speed and memory don't depend on them), and an empty plugin."""
    import onnx
    import onnxruntime
    import torch
    from osgeo import gdal

    from water_dl_plugin.engine import bundle, nets, onnx_export
    from water_dl_plugin.engine.classes import MapClass
    from water_dl_plugin.engine.normalise import Normalisation

    torch.manual_seed(0)
    count = int(bands)
    designs = {"unet": ("unet", 1), "unet20": ("unet", 20), "tiny": ("", 1)}
    for name, (architecture, channels) in designs.items():
        net = nets.build(architecture, count, channels, encoder="resnet18") if architecture else torch.nn.Conv2d(count, channels, 1)
        info = bundle.ModelInfo(
            task="segmentation", bands=tuple((f"Band {k + 1}", "") for k in range(count)),
            normalisation=Normalisation("percentile", tuple({"fill": 100.0, "low": 10.0, "high": 200.0} for _ in range(count))),
            classes=tuple(MapClass(k, f"class {k}", (10 * k, 100, 100)) for k in range(max(channels, 2))), chip_size=CHIP,
            multiple=net.stride if architecture else 1,
        )  # fmt: skip
        activate = torch.sigmoid if channels == 1 else lambda x: torch.softmax(x, 1)
        onnx_export.write(os.path.join(folder, f"{name}.onnx"), net, activate, info, example=torch.rand(1, count, 64, 64).numpy())
    plugin = os.path.join(folder, "empty_plugin")
    os.makedirs(plugin)
    with open(os.path.join(plugin, "__init__.py"), "w", encoding="utf-8") as file:
        file.write(EMPTY)
    return {"torch": torch.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__, "GDAL": gdal.__version__}


EMPTY = """
from qgis.core import QgsApplication, QgsProcessingProvider


class Provider(QgsProcessingProvider):
    def id(self): return "empty"
    def name(self): return "Empty"
    def loadAlgorithms(self): pass


class Plugin:
    def initProcessing(self):
        self.provider = Provider()
        QgsApplication.processingRegistry().addProvider(self.provider)


def classFactory(iface):
    return Plugin()
"""


def scene(path: str, width: str, height: str, where: str) -> dict:
    """A raster of 7 uint8 bands. `solid`: written out; `all`: a VRT that repeats a tile; `blocks`: a sparse GeoTIFF,
    one block of data every 10 000 px both ways."""
    import numpy as np
    from osgeo import gdal

    gdal.UseExceptions()
    w, h = int(width), int(height)
    rng = np.random.default_rng(0)
    smooth = np.kron(rng.integers(1, 200, (7, REPEATED // 16, REPEATED // 16)), np.ones((16, 16))) + rng.integers(
        0, 40, (7, REPEATED, REPEATED)
    )
    tile = smooth.astype(np.uint8)

    def create(name, columns, rows):
        made = gdal.GetDriverByName("GTiff").Create(
            name, columns, rows, 7, gdal.GDT_Byte, ["TILED=YES", "COMPRESS=DEFLATE", "SPARSE_OK=TRUE", "BIGTIFF=YES"]
        )
        made.SetGeoTransform((500000.0, 10.0, 0.0, 5000000.0, 0.0, -10.0))
        made.SetProjection("EPSG:32633")
        for band in range(7):
            made.GetRasterBand(band + 1).SetNoDataValue(NODATA)
        return made

    def fill(dataset, left, top, right, bottom):
        for row in range(top, bottom, REPEATED):
            for col in range(left, right, REPEATED):
                part = tile[:, : min(REPEATED, bottom - row), : min(REPEATED, right - col)]
                dataset.WriteArray(np.ascontiguousarray(part), col, row)

    if where == "all":
        base = path + ".tile.tif"
        small = create(base, REPEATED, REPEATED)
        fill(small, 0, 0, REPEATED, REPEATED)
        small = None
        _repeat(path, base, w, h)
        return {}
    dataset = create(path, w, h)
    if where == "solid":
        fill(dataset, 0, 0, w, h)
    else:
        for row in range(min(SPACING, h) // 2, h, SPACING):
            for col in range(SPACING // 2, w, SPACING):
                fill(dataset, col, row, min(col + BLOCK, w), min(row + BLOCK, h))
    dataset = None
    return {}


def _repeat(path: str, base: str, w: int, h: int) -> None:
    from osgeo import gdal

    source = gdal.Open(base)
    lines = [
        f'<VRTDataset rasterXSize="{w}" rasterYSize="{h}"><SRS>EPSG:32633</SRS><GeoTransform>500000, 10, 0, 5000000, 0, -10</GeoTransform>'
    ]
    for band in range(1, source.RasterCount + 1):
        lines.append(f'<VRTRasterBand dataType="Byte" band="{band}"><NoDataValue>{NODATA}</NoDataValue>')
        for row in range(0, h, REPEATED):
            for col in range(0, w, REPEATED):
                x, y = min(REPEATED, w - col), min(REPEATED, h - row)
                lines.append(
                    f'<SimpleSource><SourceFilename relativeToVRT="1">{os.path.basename(base)}</SourceFilename><SourceBand>{band}</SourceBand>'
                    f'<SrcRect xOff="0" yOff="0" xSize="{x}" ySize="{y}"/><DstRect xOff="{col}" yOff="{row}" xSize="{x}" ySize="{y}"/></SimpleSource>'
                )
        lines.append("</VRTRasterBand>")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n</VRTDataset>\n")


def peak_gb() -> float:
    """Largest resident memory of this program so far. VmHWM where there is /proc: `ru_maxrss` counts what came before exec, too."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024 / 1e9
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _map(scene_path: str, model: str, folder: str):
    from water_dl_plugin.engine.mapping import map_classes
    from water_dl_plugin.engine.settings import InferConfig

    return map_classes(
        scene_path, model, os.path.join(folder, "class.tif"), InferConfig(), probability=os.path.join(folder, "probability.tif")
    )


def map_scene(scene_path: str, model: str, folder: str) -> dict:
    mapped: list = []
    seconds, cpu = timed(lambda: mapped.append(_map(scene_path, model, folder)))
    return {"seconds": seconds, "cpu_s": cpu, "peak_gb": peak_gb(), "data_px": sum(mapped[0].pixels)}


def speed(scene_path: str, model: str, folder: str, repeats: str) -> dict:
    """The road, and ONNX Runtime alone on the very windows that the road cuts (normalised, in memory, in the same batches)."""
    import numpy as np

    from water_dl_plugin.engine import infer
    from water_dl_plugin.engine.backends import OnnxModel
    from water_dl_plugin.engine.raster import Stack
    from water_dl_plugin.engine.settings import InferConfig

    config, batches = InferConfig(), []

    class Recorder(OnnxModel):
        def __call__(self, batch):
            batches.append(batch.copy() if len(batches) < 8 else batch.shape)
            return super().__call__(batch)

    network = OnnxModel(model, config.device, config.threads)
    with Stack(scene_path) as source:
        pixels = source.grid.width * source.grid.height
        for _ in infer.predict(source, Recorder(model, config.device, config.threads), config):
            pass
    held = [b if isinstance(b, np.ndarray) else next(h for h in batches if isinstance(h, np.ndarray) and h.shape == b) for b in batches]
    road, bare = [], []
    for _ in range(int(repeats)):
        bare.append(timed(lambda: [network(batch) for batch in held]))
        road.append(timed(lambda: _map(scene_path, model, folder)))
    seconds, cpu = (tuple(statistics.median(run[k] for run in runs) for runs in (road, bare)) for k in (0, 1))
    return {
        "pixels": pixels, "windows": sum(len(b) for b in held), "road_s": seconds[0], "bare_s": seconds[1], "road_cpu_s": cpu[0], "bare_cpu_s": cpu[1],
        "ratio": statistics.median(r[0] / b[0] for r, b in zip(road, bare)), "cpu_ratio": statistics.median(r[1] / b[1] for r, b in zip(road, bare)),
    }  # fmt: skip


def timed(work) -> tuple[float, float]:
    """Seconds by the clock and of processor time that `work()` takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def provider(name: str, folder: str) -> dict:
    """Milliseconds from the first import to a registered provider, as qgis_process loads a plugin."""
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    import qgis.utils  # noqa: F401  (QGIS itself imports it before any plugin)
    from qgis.core import QgsApplication

    application = QgsApplication([], False)
    application.initQgis()
    sys.path.insert(0, folder)
    start, used = time.perf_counter(), time.process_time()
    plugin = __import__(name).classFactory(None)
    plugin.initProcessing()
    taken = 1e3 * (time.perf_counter() - start)
    cpu = 1e3 * (time.process_time() - used)
    heavy = [m for m in ("torch", "onnxruntime", "onnx", "skimage", "matplotlib", "scipy", "osgeo.gdal") if m in sys.modules]
    print(json.dumps({"ms": taken, "cpu_ms": cpu, "heavy": heavy}), flush=True)
    os._exit(0)  # leaving QGIS tidily is not what is measured


JOBS = {"prepare": prepare, "scene": scene, "map": map_scene, "speed": speed, "provider": provider}

if __name__ == "__main__":
    print(json.dumps(JOBS[sys.argv[1]](*sys.argv[2:])))
