"""Settings of `refinewater`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ..config import Config, param
from . import shared

MODES = ("slic_crf", "crf", "slic", "crf_slic")
UNITS = ("pixels", "map units", "segments per 2048 x 2048")
ENGINES = ("auto", "numba", "numpy", "pydensecrf")


@dataclass(frozen=True)
class RefineConfig(Config):
    """Settings of `refinewater`."""

    mode: str = param(
        "slic_crf",
        "Steps",
        "slic: each superpixel becomes one class. crf: a fully connected conditional random field pulls outlines onto the image's edges and removes specks. Or one after the other.",
        choices=MODES,
    )
    bands: str = param("", "Bands", "Bands of the image that take part: '1-4', 'B3,B8'. Empty: all. The near infrared helps most.")
    segment_size: float = param(
        0.0,
        "Segment size",
        "Side of a superpixel, in the unit below (or their number). 0: from the pixel size (7.5 m, but 12 to 15 px; 8 px from 8 m pixels on). It should be smaller than the smallest lake that matters.",
        minimum=0,
        maximum=1e6,
    )
    segment_unit: str = param(
        "pixels", "Unit of the segment size", "The published setting is 2800 segments per 2048 x 2048 px at 0.5 m.", choices=UNITS
    )
    sxy: float = param(
        0.0,
        "Reach of the outline kernel",
        "Standard deviation in space of the CRF's kernel over colour and place. 0: from the pixel size (20 m, but 20 to 40 px).",
        unit="px",
        minimum=0,
        maximum=1000,
    )
    srgb: float = param(
        0.0,
        "Colour difference",
        "Standard deviation in colour of the same kernel: pixels that differ by more hardly influence each other. Bands are scaled to 0..255. 0: 13, or twice the image's noise if that is more.",
        unit="of 255",
        minimum=0,
        maximum=1000,
    )
    threshold: Optional[float] = param(
        None,
        "Threshold",
        "Two classes: the class of interest is drawn from this probability on. Empty: the one that the raster was made with, else 0.5.",
        minimum=0,
        maximum=1,
    )
    iterations: int = param(
        10, "CRF iterations", "Rounds of the mean field. Fewer than 10 have not converged.", minimum=0, maximum=100, advanced=True
    )
    outline_weight: float = param(
        10.0, "Weight of the outline kernel", "Pull of pixels of like colour. 0: without.", minimum=0, maximum=1000, advanced=True
    )
    smooth_sxy: float = param(
        0.0,
        "Reach of the smoothness kernel",
        "Standard deviation of the CRF's kernel over place alone, which removes specks. 0: 3 px, or 1 px from 8 m pixels on.",
        unit="px",
        minimum=0,
        maximum=100,
        advanced=True,
    )
    smooth_weight: float = param(
        3.0, "Weight of the smoothness kernel", "Pull of pixels next to each other. 0: without.", minimum=0, maximum=1000, advanced=True
    )
    certainty: float = param(
        0.9,
        "Certainty of a class raster",
        "How sure its classes are taken to be: the larger, the less is changed. Not used with probabilities.",
        minimum=0.51,
        maximum=0.999,
        advanced=True,
    )
    limit: float = param(
        0.99,
        "Limit of the probabilities",
        "No probability counts as surer than this: networks are often too sure to be corrected.",
        minimum=0.6,
        maximum=0.99999,
        advanced=True,
    )
    compactness: float = param(
        60.0,
        "Compactness",
        "Of superpixels: colours (0..255) that differ by so much weigh as much as a segment size. Larger: squarer.",
        minimum=0.1,
        maximum=10000,
        advanced=True,
    )
    slic_iterations: int = param(10, "SLIC iterations", "Rounds of the clustering.", minimum=1, maximum=100, advanced=True)
    fusion: str = param(
        "mean",
        "Class of a superpixel",
        "'mean': from its mean probability. 'majority' (as published): that of most of its pixels; its probability is their share.",
        choices=("mean", "majority"),
        advanced=True,
    )
    stretch: bool = param(
        True,
        "Stretch the bands",
        "Each band's 1 % to 99 % range over the whole raster becomes 0..255. Otherwise pixel values are used as they are, which suits 8-bit imagery of good contrast.",
        advanced=True,
    )
    classes: str = param(
        "",
        "Classes of the map",
        "Only if the raster names none: 'land=0, water=1' (for a probability raster 'land, water').",
        advanced=True,
    )
    tile: int = param(
        0,
        "Tile size",
        "Side of the tiles that large rasters are worked on in. 0: as large as the memory setting allows.",
        unit="px",
        minimum=0,
        maximum=16384,
        advanced=True,
    )
    memory: float = param(1.3, "Memory", "What a tile may take.", unit="GB", minimum=0.1, maximum=1000, advanced=True)
    engine: str = param(
        "auto",
        "Engine",
        "'auto': numba's compiled loops if installed, else NumPy and SciPy, with the same result. 'pydensecrf': the well-known library for the CRF, if you have it.",
        choices=ENGINES,
        advanced=True,
    )
    compression: str = shared.compression()
    threads: int = shared.threads()
