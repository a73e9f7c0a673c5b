"""Running a model file. ONNX Runtime on the processor, or on a CUDA GPU when it can; says which one really runs."""

from __future__ import annotations

import os
from typing import Optional

import numpy as np

from . import bundle
from .errors import ConfigError, ModelError, PackageMissingError

MAX_CHANNELS = 1000
MAX_NUMBERS = 2**30  # of one input: a stranger's file must not ask for all memory
_GIVES = {
    "image": ("an image", "Choose a model that was trained on classes or elevations; Estimate water level runs those for levels."),
    "numbers": ("one number per image", "Choose a model that was trained on chips of Export level chips."),
}


class OnnxModel:
    """A model file ready to run.

    `info`: what it wants (`ModelInfo`); `gives`: "image", or "numbers" (a vector per image); `channels`: of its output; `tile`: fixed window size in px, or None; `batch`: fixed batch
    size, or None; `dtype`: of its input; `provider`: what really runs it.
    """

    def __init__(
        self, path: str, device: str = "auto", threads: int = 0, divide_by: float = 1.0, activation: str = "none", gives: str = "image"
    ):
        """`gives`: what the model shall give; "any" takes both. Raises `ModelError` for another one."""
        self._wanted = gives
        self._session = _session(path, device, threads)
        self.path, self.provider, self._activation = path, self._session.get_providers()[0], activation
        try:
            self._inspect(path, divide_by)
        except UnicodeDecodeError as error:
            raise ModelError(f"Names or metadata in {path} are no text ({error}).", "Get the file again from its maker.") from None

    def _inspect(self, path: str, divide_by: float) -> None:
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        dtypes = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in dtypes:
            raise ModelError(f"{path} does not take one image (batch, bands, rows, columns) of floats.", "Choose a segmentation model.")
        known = outputs and outputs[0].type.startswith("tensor(") and outputs[0].type != "tensor(string)"
        self.gives = {4: "image", 2: "numbers"}.get(len(outputs[0].shape), "") if known else ""
        if not self.gives or self._wanted not in ("any", self.gives):
            what, remedy = _GIVES.get(self._wanted, _GIVES["image"])
            raise ModelError(f"{path} does not give {what}.", remedy)
        self.dtype = np.dtype(dtypes[inputs[0].type])
        self._input, self._output = inputs[0].name, outputs[0].name
        batch, bands, rows, cols = (n if isinstance(n, int) and n > 0 else None for n in inputs[0].shape)
        if not bands or bands > MAX_CHANNELS:
            raise ModelError(f"{path} does not say how many bands it takes.", "Export it again with a fixed number of bands.")
        if rows != cols:
            raise ModelError(f"{path} takes windows of {rows or 'any'} x {cols or 'any'} px.", "Only square windows can be used.")
        if (rows or 1) ** 2 * bands * (batch or 1) > MAX_NUMBERS:
            raise ModelError(
                f"{path} takes {batch or 1} window(s) of {rows or 1} x {rows or 1} px at once, which no memory holds.",
                "Export it again with a smaller window.",
            )
        self.batch: Optional[int] = batch
        self.tile: Optional[int] = rows
        channels = outputs[0].shape[1]
        self.channels = channels if isinstance(channels, int) and channels > 0 else self._probe(bands)
        if not 1 <= self.channels <= MAX_CHANNELS:
            raise ModelError(f"{path} gives {self.channels} channels.", "Choose another model.")
        if self._activation == "softmax" and self.channels == 1:
            raise ConfigError("Softmax over one channel is 1 everywhere.", "Choose sigmoid for this model.")
        props = self._session.get_modelmeta().custom_metadata_map
        self.info = bundle.describe(props, bands, self.channels, self.tile, divide_by)
        if self.info.source == "waterdl" and self._activation != "none":
            raise ConfigError(
                "This model of Water DL gives probabilities already.", "Set the activation to none: it is for foreign models."
            )

    def _probe(self, bands: int) -> int:
        size = self.tile or 256
        given = self._run(np.zeros((self.batch or 1, bands, size, size), self.dtype)).shape
        return given[1] if len(given) in (2, 4) else 0

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        """`(n, bands, rows, cols)` -> `(n, channels, rows, cols)`, or `(n, channels)` of numbers, float32 (float64 for a double model)."""
        size = self.batch or len(batch)  # a fixed batch is filled up with copies of the last window
        parts = [batch[k : k + size] for k in range(0, len(batch), size)]
        return np.concatenate([self._checked(np.concatenate([p, np.repeat(p[-1:], size - len(p), axis=0)]))[: len(p)] for p in parts])

    def _checked(self, batch: np.ndarray) -> np.ndarray:
        out = self._run(batch.astype(self.dtype, copy=False))
        wanted = (len(batch), self.channels, *(batch.shape[2:] if self.gives == "image" else ()))
        if out.shape != wanted:
            raise ModelError(
                f"The model gave {_by(out.shape)} numbers for {_by(batch.shape)}, {_by(wanted)} were expected.",
                "Only models whose output has the size of their input can be used.",
            )
        if out.dtype not in (np.float32, np.float64):
            out = out.astype(np.float32)
        return _activate(out, self._activation)

    def _run(self, batch: np.ndarray) -> np.ndarray:
        try:
            return self._session.run([self._output], {self._input: batch})[0]
        except (Exception, MemoryError) as error:  # ONNX Runtime raises classes of its own without a common base
            raise ModelError(
                f"The model failed on a window of {batch.shape[2]} x {batch.shape[3]} px: {str(error)[:300]}",
                "Choose a smaller window or batch; if it stays, the model file is at fault.",
            ) from None


def _by(shape) -> str:
    return " x ".join(map(str, shape))


def _activate(out: np.ndarray, activation: str) -> np.ndarray:
    if activation == "sigmoid":
        return 1 / (1 + np.exp(-np.clip(out, -80, 80)))
    if activation == "softmax":
        out = np.exp(out - out.max(axis=1, keepdims=True))
        return out / out.sum(axis=1, keepdims=True)
    return out


def _session(path: str, device: str, threads: int):
    try:
        import onnxruntime
    except ImportError as error:
        raise PackageMissingError(f"ONNX Runtime can't be loaded ({error}).", "Run 'Install packages' (waterdl:installpackages).") from None
    onnxruntime.disable_telemetry_events()  # newer releases keep a record of who ran what in the user's home
    if not os.path.isfile(path):
        raise ModelError(f"There is no model file {path}.", "Check the path.")
    available = onnxruntime.get_available_providers()
    providers = ["CPUExecutionProvider"]
    if device != "cpu" and "CUDAExecutionProvider" in available:
        providers.insert(0, "CUDAExecutionProvider")
    elif device == "cuda":
        raise ConfigError("This ONNX Runtime can't use CUDA.", "Run 'Install packages' with CUDA chosen, or set the device to auto.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # as above
        raise ModelError(
            f"{path} is not a model that ONNX Runtime can load: {str(error)[:300]}", "Is the download complete? It must be an .onnx file."
        ) from None
    if device == "cuda" and session.get_providers()[0] != "CUDAExecutionProvider":
        raise ConfigError(
            "CUDA was asked for, but ONNX Runtime fell back to the processor.",
            "Check the NVIDIA driver and the CUDA libraries, or set the device to auto.",
        )
    return session
