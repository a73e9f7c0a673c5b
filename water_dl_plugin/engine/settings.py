"""Every setting of the engine's jobs, stated once. Nothing heavy is imported here: the Processing forms are made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from .config import Config, param
from .nets import ARCHITECTURES, ENCODERS

SCHEMES = ("percentile", "percentile_clipped", "minmax", "zscore", "dynamic_world", "dynamic_world_nolog", "equalize", "none")
LOSSES = ("bce_dice", "lovasz", "cross_entropy", "focal")
DEVICES = ("auto", "cpu", "cuda")


@dataclass(frozen=True)
class ChipsConfig(Config):
    """Settings of `exportchips`."""

    class_field: str = param(
        "",
        "Class field",
        "Field of the label layer that names the class, as text or whole number. Leave empty if all labels are one class; then choose that unlabelled pixels are background.",
        of_input="LABELS",
    )
    classes: str = param(
        "",
        "Order of classes",
        "Class names or numbers in the order they shall have, the class of interest last, e.g. 'land, water'. Empty: found in the labels, names for water last.",
    )
    unlabelled: str = param(
        "ignored",
        "Unlabelled pixels are",
        "'ignored': they take no part in training, so a few polygons are enough. 'background': every pixel without label is the class 'background'; only if the labels are complete.",
        choices=("ignored", "background"),
    )
    bands: str = param(
        "",
        "Bands",
        "Bands to keep, by number or name: '1-4', '2,3,7', 'B3,B8'. Empty: all. With further rasters the numbers count on through them.",
    )
    tile_size: int = param(256, "Tile size", "Width and height of a chip.", unit="px", minimum=16, maximum=4096)
    stride: int = param(
        0,
        "Stride",
        "Distance from one chip to the next. 0: the tile size. Smaller than the tile size: chips overlap, more of them to learn from.",
        unit="px",
        minimum=0,
        maximum=4096,
    )
    only_with_labels: bool = param(
        True,
        "Only tiles with labels",
        "Leave out tiles without any label (with unlabelled pixels as background: without any labelled feature).",
    )
    split: str = param(
        "blocks",
        "Split by",
        "How chips are set apart for validation and test. 'blocks': whole blocks of the map, so that neighbours don't leak from training into validation. 'source': whole scenes. 'random': chip by chip; figures are then too good where chips overlap.",
        choices=("blocks", "source", "random"),
    )
    validation_share: float = param(
        0.2, "Share for validation", "Share of the labels (blocks), scenes or chips that only validates.", minimum=0, maximum=0.9
    )
    test_share: float = param(0.0, "Share for test", "Share that is neither trained nor validated with.", minimum=0, maximum=0.9)
    block_size: int = param(
        0,
        "Block size",
        "Side of the map blocks of the split. 0: an eighth of the scene's longer side, at least 64 px.",
        unit="px",
        minimum=0,
        maximum=100000,
        advanced=True,
    )
    min_labelled: float = param(
        0.5,
        "Minimum labelled share",
        "Tiles with a smaller share of labelled pixels are left out.",
        unit="%",
        minimum=0,
        maximum=100,
        advanced=True,
    )
    max_nodata: float = param(
        50.0,
        "Maximum nodata share",
        "Tiles with a larger share of nodata pixels are left out.",
        unit="%",
        minimum=0,
        maximum=100,
        advanced=True,
    )
    rotation: float = param(
        0.0,
        "Rotation angle",
        "Each tile is exported again, turned by multiples of this angle up to a full turn. 0: not turned. Training turns chips by quarters anyway.",
        unit="degrees",
        minimum=0,
        maximum=180,
        advanced=True,
    )
    buffer: float = param(
        0.0,
        "Buffer",
        "Lines and points are widened by this distance on each side; polygons are not.",
        unit="map units of the scene",
        minimum=0,
        advanced=True,
    )
    image_format: str = param(
        "TIFF",
        "Image format",
        "TIFF takes any bands; PNG and JPEG only three 8-bit bands without nodata.",
        choices=("TIFF", "PNG", "JPEG"),
        advanced=True,
    )
    start_index: int = param(
        0,
        "Start index",
        "Number of the first chip. When appending, counting goes on after the last one if that is higher.",
        minimum=0,
        maximum=999_999_999,
        advanced=True,
    )
    append: bool = param(
        False,
        "Append to the folder",
        "Add to the chips that are already there. Otherwise an existing chips folder is replaced.",
        advanced=True,
    )
    seed: int = param(0, "Seed", "Same seed, same split.", minimum=0, maximum=2**31 - 1, advanced=True)


@dataclass(frozen=True)
class TrainConfig(Config):
    """Settings of `trainmodel`."""

    architecture: str = param(
        "unet", "Network", "'unet' draws fine outlines; 'linknet' is smaller and quicker.", choices=tuple(ARCHITECTURES)
    )
    encoder: str = param(
        "resnet18", "Encoder", "resnet18 suits a laptop; resnet34 and resnet50 want a GPU or patience.", choices=tuple(ENCODERS)
    )
    epochs: int = param(30, "Epochs", "How often all training chips are seen. Not used when stages are given.", minimum=1, maximum=10000)
    batch_size: int = param(8, "Batch size", "Chips per step. Halve it when memory runs out.", unit="chips", minimum=1, maximum=512)
    learning_rate: float = param(5e-4, "Learning rate", "Step size at the start. Not used when stages are given.", minimum=1e-7, maximum=1)
    loss: str = param(
        "bce_dice",
        "Loss",
        "What is made small: 0.5 * cross entropy + Dice (the default), Lovasz (aims at IoU, for a second stage), cross entropy, focal. Not used when stages are given.",
        choices=LOSSES,
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
        "Chips are mirrored and turned at random, so that a lake's direction does not matter.",
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
        "Figure on the validation chips that picks the best epoch, e.g. miou, dice, accuracy, loss. Empty: the task's own (miou for segmentation).",
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
    threads: int = param(0, "Threads", "Processor threads. 0: all.", minimum=0, maximum=1024, advanced=True)
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


@dataclass(frozen=True)
class InferConfig(Config):
    """Settings of `classifyraster`, and of everything that runs a model over a raster."""

    bands: str = param("", "Bands", "The raster's bands in the model's order: '1-4', '3,2,1', 'B3,B8'. Empty: all.")
    threshold: Optional[float] = param(
        None,
        "Threshold",
        "Two classes: the class of interest is drawn from this probability on. Empty: the model's own.",
        minimum=0,
        maximum=1,
    )
    overlap: int = param(
        64, "Overlap", "Pixels that neighbouring windows share and in which they are blended.", unit="px", minimum=0, maximum=4096
    )
    window: int = param(
        0,
        "Window size",
        "Side of the square that the network sees at once. 0: chosen from the model. Larger ones give more context and need more memory.",
        unit="px",
        minimum=0,
        maximum=8192,
        advanced=True,
    )
    batch_size: int = param(
        0,
        "Batch size",
        "Windows at once. 0: 8 on a GPU, 1 on a processor, where more take memory and no less time.",
        unit="windows",
        minimum=0,
        maximum=256,
        advanced=True,
    )
    blending: str = param(
        "blend",
        "At seams",
        "'blend': weighted mean over the overlap; 'crop': each pixel from the window that has it nearest to its centre.",
        choices=("blend", "crop"),
        advanced=True,
    )
    flips: bool = param(
        False,
        "Average over flips",
        "Each window is also mapped mirrored and the results averaged: four times the time, slightly better outlines.",
        advanced=True,
    )
    nodata: str = param("any", "A pixel is nodata if", "'any' of its bands is nodata, or 'all' are.", choices=("any", "all"), advanced=True)
    compression: str = param(
        "DEFLATE",
        "Compression",
        "Of the written rasters. ZSTD is quicker, but older programs can't read it.",
        choices=("DEFLATE", "ZSTD", "LZW", "NONE"),
        advanced=True,
    )
    device: str = param("auto", "Device", "'auto' takes a CUDA GPU when ONNX Runtime can use one.", choices=DEVICES, advanced=True)
    threads: int = param(0, "Threads", "Processor threads. 0: all.", minimum=0, maximum=1024, advanced=True)
    divide_by: float = param(
        1.0,
        "Foreign model: divide by",
        "Only for a model without a stored normalisation: pixels are divided by this number, e.g. 255.",
        minimum=1e-6,
        maximum=1e9,
        advanced=True,
    )
    activation: str = param(
        "none",
        "Foreign model: activation",
        "Only for a model whose output is not yet a probability.",
        choices=("none", "sigmoid", "softmax"),
        advanced=True,
    )


@dataclass(frozen=True)
class AssessConfig(Config):
    """Settings of `assessclassification`."""

    class_field: str = param(
        "",
        "Class field",
        "Field of the truth layer that names the class, as text or whole number. Not needed for a truth raster.",
        of_input="LABELS",
    )
    positive: str = param(
        "",
        "Class of interest",
        "Name or number of the class that POD, FAR, CSI and the best threshold are about. Empty: the last one (water).",
    )
    unlabelled: str = param(
        "ignored",
        "Unlabelled pixels are",
        "'ignored', or 'background': truth polygons are complete and everything else is the first class.",
        choices=("ignored", "background"),
    )
    threshold: Optional[float] = param(
        None, "Threshold", "For a probability raster. Empty: the one that the raster was made with, else 0.5.", minimum=0, maximum=1
    )
    classes: str = param(
        "",
        "Classes of the map",
        "Only if the raster names none: 'land=0, water=1' (for a probability raster 'land, water').",
        advanced=True,
    )
    buffer: float = param(
        0.0,
        "Buffer",
        "Truth lines and points are widened by this distance on each side.",
        unit="map units of the raster",
        minimum=0,
        advanced=True,
    )
    seed: int = param(0, "Seed", "Of the bootstrap that gives the intervals.", minimum=0, maximum=2**31 - 1, advanced=True)
