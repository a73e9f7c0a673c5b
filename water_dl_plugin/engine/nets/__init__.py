"""The registry of network architectures. Importable without torch, since a form needs the names.

A new architecture is one file beside this one and one line in `ARCHITECTURES`. It is a `torch.nn.Module` with

- a constructor `(bands: int, channels: int, **arguments)`, every argument with a default and of a type that JSON has;
- `forward(x: (N, bands, H, W)) -> logits (N, channels, H, W)` for any H, W >= 1, without a final activation; with `gives = "number"`
  (N, channels), for tasks of one number per chip;
- `stride: int`, the window size in pixels whose multiples need no padding inside;
- `learning_rate: float`, if another one than 0.0005 suits it; `epochs: int`, if other than 30;
- `margin: int`, pixels at a window's edge that are worth discarding (0 where blending of windows is enough).
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Callable, Union

from ..errors import ConfigError, PackageMissingError

#: Encoders (backbones) of `unet` and `linknet`.
ENCODERS = ("resnet18", "resnet34", "resnet50")

#: What `levelnet` may have before its encoder: nothing, channel attention, channel and spatial attention.
ATTENTIONS = ("none", "cam", "csam")

#: Name -> "module:Class" (a module of this package) or a callable.
ARCHITECTURES: dict[str, Union[str, Callable]] = {
    "unet": ".unet:UNet", "linknet": ".linknet:LinkNet", "demunet": ".demunet:DemUNet", "levelnet": ".levelnet:LevelNet",
}  # fmt: skip

#: What is no network but can be trained: name -> "module:Class" of its `trainer.Trainer`. `build` does not know them.
TRAINERS: dict[str, str] = {"random_forest": "..baselines:ForestTrainer", "svm": "..baselines:MachinesTrainer"}

#: What an architecture may say of itself, and what holds for one that does not: ResNet encoders that give images.
USUAL = {"learning_rate": 5e-4, "epochs": 30, "gives": "image"}

# Far above any sensor or legend; a model file from a stranger may ask for 10**12.
MAXIMUM_BANDS = 1024
MAXIMUM_CHANNELS = 1024


def names() -> tuple[str, ...]:
    """The registered architectures, in the order of registration."""
    return tuple(ARCHITECTURES)


def register(name: str, factory: Union[str, Callable]) -> None:
    """Add an architecture: `factory` is a class (or callable), or "module:Class". Raises `ConfigError` for a name that is taken."""
    if name in ARCHITECTURES:
        raise ConfigError(f"An architecture named {name!r} is registered already.", f"Taken are: {', '.join(names())}.")
    ARCHITECTURES[name] = factory


def build(name: str, bands: int, channels: int, **arguments):
    """A `torch.nn.Module` with fresh weights (drawn from torch's global generator: seed it first).

    `bands` of input, `channels` of output; `arguments` are the architecture's own, e.g. `encoder="resnet34"`.
    Raises `ConfigError` for a wrong name, number or argument, `PackageMissingError` without torch.
    """
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ConfigError(f"There is no architecture {str(name)[:60]!r}.", f"Choose one of: {', '.join(names())}.")
    _check_count("bands", bands, MAXIMUM_BANDS)
    _check_count("channels", channels, MAXIMUM_CHANNELS)
    factory = _resolve(ARCHITECTURES[name])
    accepted = inspect.signature(factory).parameters
    if not any(item.kind is item.VAR_KEYWORD for item in accepted.values()):
        allowed = sorted(set(accepted) - {"bands", "channels"})
        wrong = sorted(set(arguments) - set(allowed))
        if wrong:
            known = f"Known are: {', '.join(allowed)}." if allowed else "It takes none."
            raise ConfigError(f"The architecture {name} has no argument {', '.join(wrong)[:200]}.", known)
    return factory(bands, channels, **arguments)


def takes(name: str, argument: str) -> bool:
    """Has this architecture that argument? (One may be built of something else than an encoder.)"""
    return name in ARCHITECTURES and argument in inspect.signature(_resolve(ARCHITECTURES[name])).parameters


def usual(name: str, setting: str):
    """What suits an architecture where the user names nothing: its attribute of that name, else that of `USUAL`."""
    return getattr(_resolve(ARCHITECTURES[name]), setting, USUAL[setting]) if name in ARCHITECTURES else USUAL[setting]


def trainer(name: str) -> Union[Callable, None]:
    """The trainer of what is no network, None for a network. Raises `PackageMissingError` without scikit-learn."""
    return _resolve(TRAINERS[name]) if name in TRAINERS else None


def _check_count(what: str, value: int, maximum: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= maximum:
        raise ConfigError(f"The number of {what} can't be {str(value)[:60]!r}.", f"It must be a whole number from 1 to {maximum}.")


def _resolve(factory: Union[str, Callable]) -> Callable:
    if not isinstance(factory, str):
        return factory
    module, _, attribute = factory.partition(":")
    try:
        return getattr(import_module(module, __name__), attribute)
    except ModuleNotFoundError as error:
        missing = {"torch": "torch", "sklearn": "scikit-learn"}.get(error.name)
        if missing is None:
            raise
        raise PackageMissingError(
            f"The package {missing} is not installed.", "Run 'Install packages' in the Water DL group Deploy."
        ) from None
