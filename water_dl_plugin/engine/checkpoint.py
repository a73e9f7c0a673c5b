"""State of a training run in one safetensors file: tensors, and everything else as JSON in its header. Nothing is pickled."""

from __future__ import annotations

import json
import os
from typing import Any, Optional

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes

from .tables import write_bytes


def save(path: str, tensors: dict[str, torch.Tensor], state: dict[str, Any]) -> None:
    """Write beside, then rename: after a kill the older state is there, whole. Raises `OutputError` (disk full)."""
    whole = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_bytes(path, to_bytes(whole, {"state": json.dumps(state)}))


def load(path: str) -> Optional[tuple[dict[str, torch.Tensor], dict[str, Any]]]:
    """Tensors and state, or None where there is no usable file: then training starts anew, which loses time and nothing else."""
    if not os.path.exists(path):
        return None
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 safe_open is no dict
            state = json.loads((file.metadata() or {})["state"])
    except (SafetensorError, KeyError, ValueError, OSError, RecursionError):
        return None
    return (tensors, state) if isinstance(state, dict) else None


def of_optimiser(optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Adam's moments by parameter number: `optimiser.3.exp_avg`."""
    return {
        f"optimiser.{i}.{key}": torch.as_tensor(value)
        for i, state in optimiser.state_dict()["state"].items()
        for key, value in state.items()
    }


def into_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict] = {}
    for name, tensor in tensors.items():
        if name.startswith("optimiser."):
            _, number, key = name.split(".")
            state.setdefault(int(number), {})[key] = tensor
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors under a prefix, without it."""
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(prefix + ".")}
