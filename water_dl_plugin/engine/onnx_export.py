"""From a trained network to the model file: normalisation that is not linear and the activation go into the graph."""

from __future__ import annotations

import dataclasses
import io
import warnings
from typing import Optional

import numpy as np
import torch
from torch import nn

from . import bundle
from .errors import ModelError
from .normalise import EQUALIZE_BINS, Normalisation, equalize_table

OPSET = 17  # the newest that ONNX Runtime 1.17 (Deepness' pin) reads
TOLERANCE = 1e-4
HALF_TOLERANCE = 1e-3  # a half-precision number is good to 5e-4 of itself; levels of 0 to 10 m changed by 1 mm


class Deployed(nn.Module):
    """What the model file holds: raw or linearly normalised pixels in, probabilities out."""

    def __init__(self, net: nn.Module, activate, normalisation: Normalisation):
        super().__init__()
        self.net, self.activate = net, activate
        self.normalise = nn.Identity() if normalisation.linear else InGraph(normalisation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.activate(self.net(self.normalise(x)))


class Portable(Deployed):
    """The same for Deepness and GeoDeep, which give pixels / 255 (GeoDeep knows no other normalisation) and take the class from the
    largest of several channels (GeoDeep makes one sigmoid channel all background)."""

    def __init__(self, net: nn.Module, activate, normalisation: Normalisation):
        super().__init__(net, activate, normalisation)
        self.normalise = nn.Identity() if normalisation.scheme == "none" else InGraph(normalisation)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        given = super().forward(255 * x)
        return torch.cat([1 - given, given], 1) if given.shape[1] == 1 else given


def outside(normalisation: Normalisation, portable: bool) -> Normalisation:
    """What is left to do before the graph: the linear schemes; of a portable model the division by 255."""
    if not portable:
        return dataclasses.replace(normalisation, in_graph=not normalisation.linear)
    return Normalisation("minmax", tuple({"fill": b["fill"], "low": 0.0, "high": 255.0} for b in normalisation.bands))


class InGraph(nn.Module):
    """`normalise.transform` as a torch module, `(n, bands, rows, cols)`."""

    def __init__(self, normalisation: Normalisation):
        super().__init__()
        self.scheme, bands = normalisation.scheme, normalisation.bands
        spans = {
            "low": [b["low"] for b in bands],
            "span": [b["high"] - b["low"] for b in bands],
        }  # in double: a narrow range far from 0 stays one
        if self.scheme == "dynamic_world":
            spans["floor"] = [b["floor"] for b in bands]
        for key, numbers in spans.items():
            self.register_buffer(key, torch.tensor(numbers, dtype=torch.float32)[:, None, None])
        if self.scheme == "equalize":
            self.register_buffer("table", torch.tensor(np.stack([equalize_table(b) for b in bands]), dtype=torch.float32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.scheme == "equalize":
            place = ((x - self.low) / self.span * EQUALIZE_BINS).clamp(0, EQUALIZE_BINS - 1).long()
            return torch.stack([self.table[i][place[:, i]] for i in range(len(self.table))], 1)
        if self.scheme == "dynamic_world":
            x = torch.log(torch.maximum(x, self.floor))
        scaled = (x - self.low) / self.span
        if self.scheme == "percentile_clipped":
            return scaled.clamp(0, 1)
        return torch.sigmoid((5 * scaled - 1).clamp(-60, 60)) if self.scheme.startswith("dynamic_world") else scaled


def write(
    path: str,
    net: nn.Module,
    activate,
    info: bundle.ModelInfo,
    example: np.ndarray,
    normalisation: Optional[Normalisation] = None,
    portable: bool = False,
    half: bool = False,
) -> None:
    """Write the model file and check that ONNX Runtime gives what torch gives.

    `normalisation` is that of the training (None: that of `info`); `info` holds what of it is left to do before the graph (see `outside`). `example`
    `(n, bands, rows, cols)` as the graph takes it. A `portable` model has the example's rows and columns for good. With `half` the weights
    take half the space; the arithmetic stays as it is.

    Raises `ModelError` if they differ by more than 1e-4, or 1e-3 with `half` (of the largest number given, if that is above 1), `OutputError` if it can't be written.
    """
    deployed = (Portable if portable else Deployed)(net, activate, normalisation or info.normalisation).cpu().eval()
    given = torch.from_numpy(np.ascontiguousarray(example, np.float32))
    buffer, name = io.BytesIO(), "probability" if info.task == "segmentation" else "value"
    axes = {0: "batch"} if portable else {0: "batch", 2: "rows", 3: "columns"}
    with torch.no_grad():
        expected = deployed(given).numpy()
    given_axes = axes if expected.ndim == 4 else {0: "batch"}  # one number, or one class, per chip
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns that it is the old one; the new one writes an IR that Deepness can't read
        torch.onnx.export(deployed, (given,), buffer, dynamo=False, opset_version=OPSET, input_names=["image"], output_names=[name], dynamic_axes={"image": axes, name: given_axes})  # fmt: skip
    graph = halved(buffer.getvalue()) if half else buffer.getvalue()
    bundle.save(path, graph, info, check=lambda partial: _agree(partial, given.numpy(), expected, HALF_TOLERANCE if half else TOLERANCE))


def halved(graph: bytes) -> bytes:
    """An ONNX graph with its large float32 weights stored as float16; they are made float32 again when the file is loaded."""
    import onnx

    model = onnx.load_model_from_string(graph)
    kept, casts = [], []
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and np.prod(tensor.dims) > 1000:
            name, values = tensor.name, onnx.numpy_helper.to_array(tensor)
            tensor = onnx.numpy_helper.from_array(values.clip(-65504, 65504).astype(np.float16), f"{name}_half")
            casts.append(onnx.helper.make_node("Cast", [tensor.name], [name], to=onnx.TensorProto.FLOAT))
        kept.append(tensor)
    nodes = [*casts, *model.graph.node]
    for part, new in ((model.graph.initializer, kept), (model.graph.node, nodes)):
        del part[:]
        part.extend(new)
    return model.SerializeToString()


def _agree(path: str, given: np.ndarray, expected: np.ndarray, tolerance: float = TOLERANCE) -> None:
    import onnxruntime  # not through backends.OnnxModel, which takes models that give images only

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    onnxruntime.disable_telemetry_events()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    difference = float(np.abs(session.run(None, {"image": given})[0] - expected).max())
    if not difference <= tolerance * max(1.0, float(np.abs(expected).max())):
        raise ModelError(
            f"The exported model differs from the trained one by {difference:.2g}.", "Please report this with the output of diagnostics."
        )
