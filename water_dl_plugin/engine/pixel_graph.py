"""Random forests and support vector machines as ONNX graphs, made node by node. Nothing here knows how they were trained.

`TreeEnsembleRegressor` (ai.onnx.ml) does the work of a forest; for the machines plain matrix products do, block by block in a `Scan`.
"""

from __future__ import annotations

import io
import warnings

import numpy as np
import torch
from onnx import ModelProto, TensorProto, compose, helper, load_model_from_string, numpy_helper
from torch import nn

from .normalise import Normalisation
from .onnx_export import OPSET, InGraph

IR = 8  # that of opset 17, see `onnx_export.OPSET`
BLOCK = 128  # pixels at once of a machine: their kernel stays in the processor's cache
TREES_AT_ONCE = 10  # of one operator: so many stay in the processor's cache while all pixels pass through them


def forest(trees: list, columns: list) -> tuple[list, list]:
    """Nodes and constants from `pixels` `(n, bands)` to `values` `(n, channels)`, the mean vote of all trees.

    `trees` are scikit-learn's (`estimator.tree_`); `columns`: for each channel the number of its class within them, None for a class that
    they don't know. Pixels are float32 and thresholds float64 there: x <= t is the same as x <= (the largest float32 not above t).
    """
    nodes, sums = [], []
    for start in range(0, len(trees), TREES_AT_ONCE):
        sums.append(f"votes{start}")
        attributes = _ensemble(trees[start : start + TREES_AT_ONCE], columns, len(trees))
        nodes.append(helper.make_node("TreeEnsembleRegressor", ["pixels"], sums[-1:], domain="ai.onnx.ml", **attributes))
    nodes.append(helper.make_node("Sum", sums, ["votes"]))
    nodes.append(helper.make_node("Clip", ["votes", "zero", "one"], ["values"]))  # a sum of 150 float32 may be 1.0000001
    return nodes, [_constant("zero", 0), _constant("one", 1)]


def _ensemble(trees: list, columns: list, total: int) -> dict:
    """Attributes of a TreeEnsembleRegressor over some of the `total` trees."""
    every: dict[str, list] = {}
    for number, tree in enumerate(trees):
        leaf = tree.children_left < 0
        votes = tree.value[:, 0, :] / tree.value[:, 0, :].sum(axis=1, keepdims=True) / total  # counts before scikit-learn 1.3, shares since
        known = [(channel, column) for channel, column in enumerate(columns) if column is not None]
        count, leaves = tree.node_count, np.flatnonzero(leaf)
        for key, numbers in (
            ("nodes_treeids", np.full(count, number)), ("nodes_nodeids", np.arange(count)),
            ("nodes_featureids", np.where(leaf, 0, tree.feature)), ("nodes_values", np.where(leaf, 0, below(tree.threshold))),
            ("nodes_modes", np.where(leaf, "LEAF", "BRANCH_LEQ")), ("nodes_truenodeids", np.where(leaf, 0, tree.children_left)),
            ("nodes_falsenodeids", np.where(leaf, 0, tree.children_right)),
            ("target_treeids", np.full(len(leaves) * len(known), number)), ("target_nodeids", leaves.repeat(len(known))),
            ("target_ids", np.tile([channel for channel, _ in known], len(leaves))),
            ("target_weights", votes[leaves][:, [column for _, column in known]].ravel()),
        ):  # fmt: skip
            every.setdefault(key, []).extend(numbers.tolist())
    return {**every, "n_targets": len(columns), "aggregate_function": "SUM", "post_transform": "NONE"}


def below(numbers: np.ndarray) -> np.ndarray:
    """The largest float32 that is not above each float64."""
    near = numbers.astype(np.float32)
    return np.where(near > numbers, np.nextafter(near, np.float32(-np.inf)), near)


def machines(vectors: np.ndarray, weights: np.ndarray, gamma: float, slopes: np.ndarray, shifts: np.ndarray) -> tuple[list, list]:
    """Nodes and constants from `pixels` `(n, bands)` to `values` `(n, channels)`, probabilities of rbf machines.

    `vectors` `(S, bands)`: the support vectors of all machines; `weights` `(S, channels)`: 0 where it is none of that machine; the
    probability is sigmoid(slope * sum_s weight_s * exp(-gamma |x - s|^2) + shift). The kernel of one block of pixels with all vectors is
    in memory at a time, whatever the window: so the `Scan` over blocks.
    """
    bands, channels = vectors.shape[1], weights.shape[1]
    # -gamma |x - s|^2 = [x, |x|^2] @ [2 gamma s, -gamma] - gamma |s|^2: one matrix product for all pairs
    matrix = np.concatenate([2 * gamma * vectors.T, np.full((1, len(vectors)), -gamma)])
    # Thousands of weights with either sign meet kernels that are all near their mean: without it, float32 keeps a digit more of the sum.
    mean = np.exp(-gamma * ((vectors[:100, None] - vectors[None]) ** 2).sum(axis=2)).mean()
    inside = [
        helper.make_node("ReduceSumSquare", ["block"], ["square"], axes=[1], keepdims=1),
        helper.make_node("Concat", ["block", "square"], ["wide"], axis=1),
        helper.make_node("Gemm", ["wide", "matrix", "bias"], ["exponent"]),
        helper.make_node("Exp", ["exponent"], ["kernel"]),
        helper.make_node("Sub", ["kernel", "mean"], ["difference"]),
        helper.make_node("MatMul", ["difference", "weights"], ["product"]),
        helper.make_node("Add", ["product", "shifts"], ["logits"]),
    ]
    body = helper.make_graph(
        inside, "block", [helper.make_tensor_value_info("block", TensorProto.FLOAT, [BLOCK, bands])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [BLOCK, channels])],
    )  # fmt: skip
    nodes = [
        helper.make_node("Shape", ["pixels"], ["size"]),
        helper.make_node("Slice", ["size", "start", "end"], ["count"]),
        helper.make_node("Neg", ["count"], ["negative"]),
        helper.make_node("Mod", ["negative", "block_size"], ["missing"]),
        helper.make_node("Concat", ["no_rows", "missing", "no_bands"], ["pads"], axis=0),
        helper.make_node("Pad", ["pixels", "pads"], ["padded"]),
        helper.make_node("Reshape", ["padded", "blocks_shape"], ["blocks"]),
        helper.make_node("Scan", ["blocks"], ["by_block"], body=body, num_scan_inputs=1),
        helper.make_node("Reshape", ["by_block", "flat_shape"], ["with_pads"]),
        helper.make_node("Slice", ["with_pads", "start", "count"], ["sums"]),
        helper.make_node("Sigmoid", ["sums"], ["values"]),
    ]
    whole = {"start": [0], "end": [1], "block_size": [BLOCK], "no_rows": [0, 0], "no_bands": [0], "blocks_shape": [-1, BLOCK, bands], "flat_shape": [-1, channels]}  # fmt: skip
    constants = [
        _constant("matrix", matrix), _constant("bias", -gamma * (vectors**2).sum(axis=1)), _constant("mean", mean),
        _constant("weights", weights * slopes), _constant("shifts", shifts + mean * slopes * weights.sum(axis=0)),
    ]  # fmt: skip
    return nodes, [*constants, *(_constant(name, numbers, np.int64) for name, numbers in whole.items())]


def image_model(nodes: list, constants: list, factors: np.ndarray, normalisation: Normalisation, window: int = 0) -> bytes:
    """The graph around `forest` or `machines`: `image` `(n, bands, rows, cols)` -> `probability` `(n, channels, rows, cols)`, one channel
    for two classes.

    `factors` `(classes,)`: how many times as frequent each class is as in the pixels learned from; see `baselines.reweigh`.
    A normalisation that is not linear goes into the graph, as `onnx_export` does it. `window` > 0: for Deepness and GeoDeep, with windows
    of that size only, pixels / 255, all normalisation inside, and two channels for two classes (see `onnx_export.Portable`).
    """
    before = [InGraph(normalisation)] if normalisation.scheme != "none" and (window or not normalisation.linear) else []
    before = [*([_Times255()] if window else []), *before]
    given, bands, classes = "normalised" if before else "image", len(normalisation.bands), len(factors)
    channels = 1 if classes == 2 and not window else classes
    around = [
        helper.make_node("Transpose", [given], ["pixelwise"], perm=[0, 2, 3, 1]),
        helper.make_node("Shape", ["pixelwise"], ["shape"]),
        helper.make_node("Reshape", ["pixelwise", "pixels_shape"], ["pixels"]),
        *nodes,
        helper.make_node("Slice", ["shape", "nought", "three"], ["image_shape"]),
        helper.make_node("Concat", ["image_shape", "any"], ["values_shape"], axis=0),
        helper.make_node("Reshape", ["values", "values_shape"], ["placed"]),
    ]
    numbers = {"nought": 0, "first": 1, "two": 2, "three": 3, "any": -1}
    constants = [
        *constants,
        *(_constant(name, [number], np.int64) for name, number in numbers.items()),
        _constant("pixels_shape", [-1, bands], np.int64),
    ]
    if classes == 2:
        around.append(helper.make_node("Sub", ["certain", "placed"], ["other"]))
        around.append(helper.make_node("Concat", ["other", "placed"], ["each"], axis=3))
        constants.append(_constant("certain", 1))
    around += [
        helper.make_node("Mul", ["placed" if classes > 2 else "each", "factors"], ["weighed"]),
        helper.make_node("ReduceSum", ["weighed", "any"], ["sum"], keepdims=1),
        helper.make_node("Max", ["sum", "least"], ["whole"]),  # no class claims the pixel at all: 0, not NaN
        helper.make_node("Div", ["weighed", "whole"], ["all_classes"]),
        helper.make_node("Transpose", ["all_classes"], ["probability" if channels > 1 else "both"], perm=[0, 3, 1, 2]),
        *([helper.make_node("Slice", ["both", "first", "two", "first"], ["probability"])] if channels == 1 else []),
    ]
    constants += [_constant("factors", factors), _constant("least", 1e-30)]
    rows, cols = (window, window) if window else ("rows", "columns")
    graph = helper.make_graph(
        around, "pixels", [helper.make_tensor_value_info(given, TensorProto.FLOAT, ["batch", bands, rows, cols])],
        [helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["batch", channels, rows, cols])], constants,
    )  # fmt: skip
    domains = [helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=IR, producer_name="Water DL")
    if before:
        model = compose.merge_models(_exported(nn.Sequential(*before), bands, rows, cols), model, io_map=[("normalised", "normalised")])
    return model.SerializeToString()


class _Times255(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 255 * x


def _exported(module: nn.Module, bands: int, rows, cols) -> ModelProto:
    buffer, axes = io.BytesIO(), {0: "batch", **({} if isinstance(rows, int) else {2: rows, 3: cols})}
    example = torch.zeros(1, bands, *((rows, cols) if isinstance(rows, int) else (8, 8)))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # as in `onnx_export.write`
        torch.onnx.export(module, (example,), buffer, dynamo=False, opset_version=OPSET, input_names=["image"], output_names=["normalised"], dynamic_axes={"image": axes, "normalised": axes})  # fmt: skip
    model = load_model_from_string(buffer.getvalue())
    model.ir_version = IR
    return model


def _constant(name: str, numbers, dtype=np.float32) -> TensorProto:
    return numpy_helper.from_array(np.asarray(numbers, dtype), name)
