"""What the tests of the road need: rasters and model files made by hand, with GDAL and onnx themselves and not with our own code."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import helper
from osgeo import gdal, gdal_array, osr

UTM = (500000.0, 10.0, 0.0, 4500000.0, 0.0, -10.0)  # 10 m pixels


def wkt(epsg: int) -> str:
    reference = osr.SpatialReference()
    reference.ImportFromEPSG(epsg)
    return reference.ExportToWkt()


def tif(path, pixels, nodata=None, transform=UTM, epsg=32612, names=(), options=(), alpha=False, mask=None) -> str:
    """Write `(bands, rows, cols)` of any dtype; `alpha`: the last band is one; `mask` `(rows, cols)` inside the file."""
    pixels = np.asarray(pixels)
    count, rows, cols = pixels.shape
    signed = ["PIXELTYPE=SIGNEDBYTE"] if pixels.dtype == np.int8 and gdal.VersionInfo() < "3070000" else []
    kind = gdal_array.NumericTypeCodeToGDALTypeCode(pixels.dtype.type)
    dataset = gdal.GetDriverByName("GTiff").Create(
        str(path), cols, rows, count, kind, [*options, *signed, "PHOTOMETRIC=MINISBLACK", "ALPHA=NO"]
    )
    if transform:
        dataset.SetGeoTransform(transform)
    if epsg:
        dataset.SetProjection(wkt(epsg))
    for i in range(count):
        band = dataset.GetRasterBand(i + 1)
        if nodata is not None:
            band.SetNoDataValue(float(nodata))
        if i < len(names):
            band.SetDescription(names[i])
        band.WriteArray(np.ascontiguousarray(pixels[i]))
    if alpha:
        band.SetColorInterpretation(gdal.GCI_AlphaBand)
    if mask is not None:
        before = gdal.GetConfigOption("GDAL_TIFF_INTERNAL_MASK")
        gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", "YES")
        dataset.CreateMaskBand(gdal.GMF_PER_DATASET)
        gdal.SetConfigOption("GDAL_TIFF_INTERNAL_MASK", before)
        dataset.GetRasterBand(1).GetMaskBand().WriteArray(np.where(mask, 255, 0).astype(np.uint8))
    del band, dataset
    return str(path)


def onnx_file(
    path, nodes, bands=1, channels=1, dtype=np.float32, constants=None, props=None, shape=("n", None, "h", "w"), out_shape=None
) -> str:
    """A model file of these nodes, from `image` to `out`. `shape` is that of the input, with None for the bands; `props` go in as JSON texts
    unless they are texts already."""
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    shape = [bands if n is None else n for n in shape]
    out_shape = out_shape or [shape[0], channels, *shape[2:]]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("image", kind, shape)], [helper.make_tensor_value_info("out", kind, out_shape)],
        [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {k: v if isinstance(v, str) else json.dumps(v) for k, v in (props or {}).items()})
    Path(path).write_bytes(model.SerializeToString())
    return str(path)


def identity(path, bands=1, dtype=np.float32, **more) -> str:
    return onnx_file(path, [helper.make_node("Identity", ["image"], ["out"])], bands, bands, dtype, **more)


def mean3(path, bands=1, **more) -> str:
    """The mean of 3 x 3 pixels over all bands, zeros outside: one channel."""
    kernel = np.full((1, bands, 3, 3), 1 / (9 * bands), np.float32)
    return onnx_file(
        path, [helper.make_node("Conv", ["image", "k"], ["out"], pads=[1, 1, 1, 1])], bands, 1, constants={"k": kernel}, **more
    )


def waterdl(bands=1, classes=("land", "water"), **more) -> dict:
    """The JSON of the `waterdl` key, written by hand; the model takes pixels as they are."""
    return {
        "schema": 1, "task": "segmentation", "architecture": {"name": "unet", "arguments": {"encoder": "resnet18"}},
        "bands": [{"name": f"B{i + 1}", "unit": ""} for i in range(bands)],
        "normalisation": {"scheme": "none", "in_graph": False, "bands": [{"fill": 0.0}] * bands},
        "classes": [{"value": i, "name": name, "colour": [10 * i, 20, 30]} for i, name in enumerate(classes)],
        "pixel_size_m": 10.0, "chip_size": 64, "margin": 0, "multiple": 1, "nodata": "any", "threshold": 0.5,
        "training": {"epochs": 3, "figures": {"miou": 0.5}}, "licence": "CC0", "card": "# Card", **more,
    }  # fmt: skip
