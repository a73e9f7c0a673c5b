"""Settings of `trainmodel`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ..config import Config, param
from ..nets import ARCHITECTURES, ATTENTIONS, ENCODERS, TRAINERS
from . import shared
from .inference import DEVICES

SCHEMES = ("percentile", "percentile_clipped", "minmax", "zscore", "dynamic_world", "dynamic_world_nolog", "equalize", "none")
LOSSES = ("bce_dice", "lovasz", "cross_entropy", "focal", "rmse", "mae", "huber")


@dataclass(frozen=True)
class TrainConfig(Config):
    """Settings of `trainmodel`."""

    architecture: str = param(
        "auto",
        "Network",
        "'auto': unet for classes, demunet for elevations, levelnet for water levels. 'unet' draws fine outlines; 'linknet' is smaller and quicker. 'demunet' makes elevation models finer. 'levelnet' tells the water level that an image shows. 'random_forest' and 'svm' know a pixel's bands and not its neighbours: quick baselines, for which most settings below (epochs, batch size, loss, encoder ...) are not used.",
        choices=("auto", *ARCHITECTURES, *TRAINERS),
    )
    encoder: str = param(
        "resnet18",
        "Encoder",
        "unet, linknet and levelnet: resnet18 suits a laptop; resnet34 (which the published levels were found with) and resnet50 want a GPU or patience.",
        choices=tuple(ENCODERS),
    )
    epochs: Optional[int] = param(
        None,
        "Epochs",
        "How often all training chips are seen. Empty: the network's own, 60 for levelnet and 30 for the others. Not used when stages are given.",
        minimum=1,
        maximum=10000,
    )
    batch_size: int = param(8, "Batch size", "Chips per step. Halve it when memory runs out.", unit="chips", minimum=1, maximum=512)
    learning_rate: Optional[float] = param(
        None,
        "Learning rate",
        "Step size at the start. Empty: the network's own, 0.003 for demunet and 0.0005 for the others. Not used when stages are given.",
        minimum=1e-7,
        maximum=1,
    )
    loss: str = param(
        "auto",
        "Loss",
        "What is made small. 'auto': bce_dice for classes, rmse for elevations, huber for levels. Classes: 0.5 * cross entropy + Dice, Lovasz (aims at IoU, for a second stage), cross entropy, focal. Elevations: root mean square error, mean absolute error (less moved by outliers such as trees). Levels: these two, and Huber's loss between them. Not used when stages are given.",
        choices=("auto", *LOSSES),
    )
    normalisation: str = param(
        "percentile",
        "Normalisation",
        "How band values are brought to a common range; fitted on the training chips, stored in the model.",
        choices=SCHEMES,
    )
    stages: str = param(
        "",
        "Stages",
        'A list of training stages as JSON, e.g. [{"loss": "bce_dice", "epochs": 45, "lr": 1e-4}, {"loss": "lovasz", "epochs": 25, "lr": 1e-5}]. Empty: one stage of the settings above.',
        advanced=True,
        multiline=True,
    )
    class_weights: str = param("", "Class weights", "'balanced', or one number per class, e.g. '1, 3'. Empty: all alike.", advanced=True)
    optimiser: str = param(
        "adamw", "Optimiser", "Adam with (adamw) or without (adam) decoupled weight decay.", choices=("adamw", "adam"), advanced=True
    )
    weight_decay: float = param(1e-4, "Weight decay", "Pull of the weights towards zero.", minimum=0, maximum=1, advanced=True)
    schedule: str = param(
        "polynomial",
        "Learning rate decay",
        "How the learning rate falls over a stage: polynomial (power 0.9), cosine, or not at all.",
        choices=("polynomial", "cosine", "constant"),
        advanced=True,
    )
    flips: bool = param(
        True,
        "Flips and quarter turns",
        "Chips are mirrored and turned at random, so that a lake's direction does not matter. Not those of levels, which always show the same place.",
        advanced=True,
    )
    brightness: float = param(
        0.1,
        "Brightness and contrast",
        "Each band is scaled and shifted by up to this share of its range, at random.",
        minimum=0,
        maximum=1,
        advanced=True,
    )
    noise: float = param(
        0.02, "Noise", "Standard deviation of noise that is added, as a share of the band's range.", minimum=0, maximum=1, advanced=True
    )
    patience: int = param(
        0,
        "Patience",
        "Stop a stage when the monitored figure has not improved for so many epochs. 0: never stop early.",
        unit="epochs",
        minimum=0,
        maximum=10000,
        advanced=True,
    )
    monitor: str = param(
        "",
        "Monitored figure",
        "Figure on the validation chips that picks the best epoch, e.g. miou, dice, accuracy, rmse, loss; 'last' takes the last epoch. Empty: the task's own: miou for classes, rmse for elevations, last for levels, where the held-out dates are needed to tell how far to trust the model.",
        advanced=True,
    )
    attention: str = param(
        "cam",
        "Attention",
        "levelnet: weights on the bands (cam), on bands and pixels (csam), or none before the network.",
        choices=ATTENTIONS,
        advanced=True,
    )
    members: int = param(
        5,
        "Members",
        "Levels: so many networks are trained, one after the other; the model file holds all and gives their mean and spread. The published levels are means of 20.",
        minimum=1,
        maximum=100,
        advanced=True,
    )
    depth: int = param(
        3,
        "Depth",
        "demunet: levels of the network below full resolution. Each doubles the context that a pixel sees.",
        minimum=1,
        maximum=5,
        advanced=True,
    )
    width: int = param(
        24,
        "Width",
        "demunet: channels at full resolution; each level below has twice as many.",
        unit="channels",
        minimum=4,
        maximum=256,
        advanced=True,
    )
    absolute: bool = param(
        False,
        "Elevation itself, not the residual",
        "demunet: predict the elevation itself instead of what is to be added to the interpolated one. Mostly worse.",
        advanced=True,
    )
    slope_weight: float = param(
        0.5,
        "Weight of the slope term",
        "Elevations: so much of the mean error of the height differences between neighbouring pixels is added to the loss, which keeps edges and channels sharp. 0: without.",
        minimum=0,
        maximum=100,
        advanced=True,
    )
    relief: float = param(
        4.0,
        "Vary the relief by up to",
        "Elevations: in training, the terrain of each chip is made up to so many times as high or as low, at random, while the errors of the coarse models stay as they are. So the network learns to tell terrain from error where there is more or less relief than here. 1: not at all.",
        minimum=1,
        maximum=100,
        advanced=True,
    )
    pixels_per_class: int = param(
        10_000,
        "Pixels per class",
        "random_forest and svm: so many pixels of each class are drawn from the training chips, and weigh as all of them do. svm takes at most 20 000 in all, since its time grows with their square.",
        unit="px",
        minimum=10,
        maximum=1_000_000,
        advanced=True,
    )
    trees: int = param(150, "Trees", "random_forest: more are steadier and slower.", minimum=1, maximum=2000, advanced=True)
    features_per_split: int = param(
        2,
        "Bands per split",
        "random_forest: so many bands, drawn at random, are tried at each branching.",
        minimum=1,
        maximum=1024,
        advanced=True,
    )
    svm_c: float = param(
        12.0,
        "SVM: C",
        "svm: price of a pixel on the wrong side; larger follows the labels more closely.",
        minimum=1e-6,
        maximum=1e6,
        advanced=True,
    )
    svm_gamma: float = param(
        0.187,
        "SVM: gamma",
        "svm: 1 / (2 * squared reach of a support vector), in units of the normalised bands; larger bends the border more.",
        minimum=1e-6,
        maximum=1e6,
        advanced=True,
    )
    validation_share: float = param(
        0.2,
        "Share for validation",
        "Only if the chips folder sets none apart: so many chips validate.",
        minimum=0,
        maximum=0.9,
        advanced=True,
    )
    gradient_clip: float = param(
        1.0, "Gradient clipping", "Largest norm of a step's gradient. 0: no limit.", minimum=0, maximum=1e6, advanced=True
    )
    initial_weights: str = param(
        "",
        "Start from",
        "A model file of Water DL to go on from (its .safetensors lies beside it), or torchvision's ImageNet file of the encoder (.pth, .safetensors). Empty: from scratch.",
        file="Weights (*.onnx *.safetensors *.pth)",
        advanced=True,
    )
    mixed_precision: bool = param(
        True,
        "Mixed precision",
        "Half-precision arithmetic where the hardware has it: about twice the speed and half the memory on GPUs and on processors with bfloat16 instructions; no effect elsewhere.",
        advanced=True,
    )
    device: str = param("auto", "Device", "'auto' takes a CUDA GPU when there is one.", choices=DEVICES, advanced=True)
    threads: int = shared.threads()
    seed: int = param(
        0, "Seed", "Same seed, same chips, same settings: same model (on a CPU).", minimum=0, maximum=2**31 - 1, advanced=True
    )
    resume: bool = param(
        True,
        "Go on where it was interrupted",
        "If a run with the same chips and settings was killed, go on from its last epoch; the result is as if it had not been.",
        advanced=True,
    )
    keep_best: bool = param(
        True, "On Cancel keep the best model", "Cancel writes the best model so far; otherwise nothing is written.", advanced=True
    )
    portable: bool = param(
        False,
        "Also for Deepness and GeoDeep",
        "Writes the model with a window of the chips' size, the normalisation inside and one channel per class, as those programs need it. In Water DL it gives the same map, a little slower.",
        advanced=True,
    )
    licence: str = param("", "Licence of the model", "Goes into the model file.", advanced=True)
    card: str = param(
        "", "Model card", "What the model is for, and what not, as Markdown. Goes into the model file.", advanced=True, multiline=True
    )
