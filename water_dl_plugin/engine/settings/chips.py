"""Settings of `exportchips`."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import Config, param


@dataclass(frozen=True)
class ChipsConfig(Config):
    """Settings of `exportchips`."""

    target: str = param(
        "classes",
        "Target",
        "What is to be learnt. 'classes': labels of classes on scenes. 'values': a fine elevation model from coarse ones; the fine one takes the "
        "place of the labels, and its grid is that of the chips.",
        choices=("classes", "values"),
    )
    class_field: str = param(
        "",
        "Class field",
        "Field of the label layer that names the class, as text or whole number. Leave empty if all labels are one class; then choose that unlabelled pixels are background.",
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
        "Tiles with a smaller share of labelled pixels (with values: of usable ones, where 20 is better) are left out.",
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
    resampling: str = param(
        "",
        "Resampling of further rasters",
        "Only with values: how each further raster comes onto the target's grid, separated by commas, e.g. 'bilinear, nearest'; nearest makes "
        "its numbers classes. Empty: nearest for rasters with named values or a colour table and for 8-bit bands of at most 32 different "
        "values, else bilinear. Elevation models are interpolated by cubic convolution. What is finer than the target is averaged.",
        advanced=True,
    )
    vertical: str = param(
        "constant",
        "Vertical offset",
        "Only with values: how each coarse elevation model is brought to the target's level before the two are compared, which takes away "
        "the difference between two geoids or datums: by a constant, by a tilted plane (large areas), or not at all.",
        choices=("constant", "plane", "none"),
        advanced=True,
    )
    level_water: bool = param(
        True,
        "Leave out level areas",
        "Only with values: squares of 5 x 5 pixels in which the target has one height are taken for water and not learnt from.",
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
