"""A small learnable scene with labels, the real qgis_process, and a Python process with QGIS in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from onnx import helper
from osgeo import gdal, ogr, osr

from tests import helpers, road

ROOT = Path(__file__).resolve().parents[2]
WIDTH, HEIGHT = 200, 160
# the smallest training that learns this scene
QUICK = {"ENCODER": "resnet18", "EPOCHS": 4, "BATCH_SIZE": 4, "LEARNING_RATE": 0.002, "THREADS": 1, "DEVICE": "cpu"}


class Refused(Exception):
    """processing.run raised QgsProcessingException with this text."""


class Inside:
    """A process with QGIS, see inside.py."""

    def __init__(self, python: str = sys.executable, **environment):
        env = {**os.environ, "QT_QPA_PLATFORM": "offscreen", "PYTHONPATH": str(ROOT), **environment}
        command = [python, str(Path(__file__).with_name("inside.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, encoding="utf-8")

    def _ask(self, task: dict) -> dict:
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, f"QGIS ended with {self._process.wait(10)}"
        told = json.loads(line)
        assert "broken" not in told, told["broken"]
        return told

    def run(self, algorithm: str, **parameters) -> SimpleNamespace:
        """`processing.run`: its results and the log. Raises `Refused`."""
        told = self._ask({"algorithm": f"waterdl:{algorithm}", "parameters": parameters})
        if "refused" in told:
            raise Refused(told["refused"])
        return SimpleNamespace(**told)

    def do(self, code: str, **names):
        """Run Python there; what it puts into `answer`."""
        return self._ask({"code": code, **names})["answer"]

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(30)


@pytest.fixture(scope="session")
def inside(tmp_path_factory):
    process = Inside(QGIS_CUSTOM_CONFIG_PATH=str(tmp_path_factory.mktemp("profile inside")))
    yield process
    process.close()


@pytest.fixture(scope="session")
def qgis_process(tmp_path_factory):
    """The real qgis_process, with a profile of its own: `qgis_process("run", "waterdl:modelinfo", MODEL=...)`."""
    profile = str(tmp_path_factory.mktemp("profile"))

    def run(*arguments: str, env=None, cwd=None, **parameters) -> subprocess.CompletedProcess:
        listed = [(name, one) for name, value in parameters.items() for one in (value if isinstance(value, list) else [value])]
        given = ["--", *(f"{name}={value}" for name, value in listed)] if listed else []
        command = [str(ROOT / "scripts" / "qgis_process"), *arguments, *given]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=cwd,
            env={**os.environ, "QGIS_CUSTOM_CONFIG_PATH": profile, **(env or {})},
        )

    return run


def small_model(path, bands: int, **more) -> str:
    """A model file of one convolution: a probability that rises with the brightness of 3 x 3 pixels. See road.onnx_file."""
    kernel = np.full((1, bands, 3, 3), 1e-4 / (9 * bands), np.float32)
    nodes = [helper.make_node("Conv", ["image", "k"], ["x"], pads=[1, 1, 1, 1]), helper.make_node("Sigmoid", ["x"], ["out"])]
    return road.onnx_file(path, nodes, bands, 1, constants={"k": kernel}, **more)


def scene_pixels(water: np.ndarray, seed: int = 0) -> np.ndarray:
    """Four bands uint16 (blue, green, red, NIR as reflectance x 10000) of a water mask, with noise."""
    rng = np.random.default_rng(seed)
    land, lake = np.array([900, 1100, 1200, 3000]), np.array([700, 650, 400, 200])
    level = np.where(water[None], lake[:, None, None], land[:, None, None])
    return np.clip(level * rng.normal(1, 0.08, (4, *water.shape)), 1, 10000).astype(np.uint16)


def lakes(height: int = HEIGHT, width: int = WIDTH, seed: int = 1) -> np.ndarray:
    """A water mask of round lakes."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[:height, :width]
    mask = np.zeros((height, width), bool)
    for _ in range(14):
        row, col, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(8, 22)
        mask |= (rows - row) ** 2 + ((cols - col) / 1.3) ** 2 < radius**2
    return mask


def label_layer(path, classes: np.ndarray, names: dict, grid) -> str:
    """Polygons in EPSG:4326 of a class array, field `kind`; `role` is "check" in the right third of the scene, else "train"."""
    raster = gdal.GetDriverByName("MEM").Create("", grid.width, grid.height, 2, gdal.GDT_Int32)
    raster.SetGeoTransform(grid.transform)
    cols = np.arange(grid.width)[None] >= 2 * grid.width // 3
    raster.GetRasterBand(1).WriteArray(np.where(classes < 0, 0, 1 + 2 * classes + cols).astype(np.int32))
    raster.GetRasterBand(2).WriteArray((classes >= 0).astype(np.int32))
    drawn = (ogr.GetDriverByName("Memory") or ogr.GetDriverByName("MEM")).CreateDataSource("")
    layer = drawn.CreateLayer("drawn")
    layer.CreateField(ogr.FieldDefn("code", ogr.OFTInteger))
    gdal.Polygonize(raster.GetRasterBand(1), raster.GetRasterBand(2), layer, 0)
    utm, degrees = osr.SpatialReference(grid.crs), osr.SpatialReference()
    degrees.ImportFromEPSG(4326)
    for reference in (utm, degrees):
        reference.SetAxisMappingStrategy(osr.OAMS_TRADITIONAL_GIS_ORDER)
    move, features = osr.CoordinateTransformation(utm, degrees), []
    for feature in layer:
        geometry = feature.GetGeometryRef().Clone()
        geometry.Transform(move)
        kind, check = divmod(feature.GetField("code") - 1, 2)
        features.append((geometry.ExportToWkt(), {"kind": names[kind], "role": "check" if check else "train"}))
    return helpers.write_layer(path, features, helpers.crs(4326))


@pytest.fixture(scope="session")
def scene(tmp_path_factory) -> SimpleNamespace:
    """A scene with lakes and its labels. `train` and `check` are parts of the label layer, as QGIS names a filtered layer."""
    folder = tmp_path_factory.mktemp("scene")
    grid, water = helpers.utm(WIDTH, HEIGHT), lakes()
    raster = helpers.write_raster(folder / "scene 2021-07-15.tif", scene_pixels(water), grid, names=("blue", "green", "red", "nir"))
    labels = label_layer(folder / "labels.gpkg", water.astype(int), {0: "land", 1: "water"}, grid)
    train, check = (f"{labels}|layername=labels|subset=\"role\" = '{role}'" for role in ("train", "check"))
    return SimpleNamespace(folder=folder, grid=grid, water=water, raster=raster, labels=labels, train=train, check=check)


@pytest.fixture(scope="session")
def job(scene, qgis_process, tmp_path_factory) -> SimpleNamespace:
    """The main job through qgis_process, once: each step's outcome, and where the files are."""
    out = tmp_path_factory.mktemp("main job")
    done = SimpleNamespace(
        out=out, chips=out / "chips", model=out / "water.onnx", training=out / "training.html", classes=out / "water map.tif",
        probability=out / "probability.tif", report=out / "assessment.html", csv=out / "assessment.csv", json=out / "assessment.json", steps={},
    )  # fmt: skip

    def step(name, **parameters):
        done.steps[name] = qgis_process("--json", "run", f"waterdl:{name}", **parameters)

    step(
        "exportchips", INPUT=scene.raster, LABELS=scene.train, CLASS_FIELD="kind", TILE_SIZE=32, STRIDE=16, BLOCK_SIZE=64, OUTPUT=done.chips
    )
    step("trainmodel", CHIPS=done.chips, **QUICK, OUTPUT=done.model, REPORT=done.training)
    step("classifyraster", INPUT=scene.raster, MODEL=done.model, OVERLAP=32, OUTPUT=done.classes, PROBABILITY=done.probability)
    step(
        "assessclassification",
        INPUT=done.probability,
        LABELS=scene.check,
        CLASS_FIELD="kind",
        REPORT=done.report,
        CSV=done.csv,
        JSON=done.json,
    )
    return done


@pytest.fixture(scope="session")
def model(job) -> str:
    """The path of the trained model."""
    assert job.steps["trainmodel"].returncode == 0, job.steps["trainmodel"].stderr
    return str(job.model)
