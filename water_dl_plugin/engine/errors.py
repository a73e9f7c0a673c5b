"""Every error that Water DL raises on purpose: what went wrong, and what mends it."""


class WaterError(Exception):
    """Base of all errors. `message` says what is wrong, `remedy` what the user can do about it."""

    def __init__(self, message: str, remedy: str = ""):
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class ConfigError(WaterError):
    """A setting is of the wrong type, out of its limits or contradicts another one."""


class RasterError(WaterError):
    """A raster is missing, unreadable, or not a raster at all."""


class BandError(RasterError):
    """A band that was asked for is not there, or none was chosen."""


class GridMismatchError(RasterError):
    """Two rasters, or a raster and labels, do not lie over each other."""


class LabelError(WaterError):
    """Labels are missing, lie elsewhere, have no CRS, or no usable class."""


class ChipsError(WaterError):
    """A chips folder is empty, half-written, or made for another task."""


class ModelError(WaterError):
    """A model file is damaged, foreign in a way that can't be applied, or for other data."""


class OutputError(WaterError):
    """A result can't be written: folder missing or read-only, disk full."""


class PackageMissingError(WaterError):
    """A Python package is not installed."""


class TrainingError(WaterError):
    """Training can't go on, e.g. the loss is no longer a number."""


class Cancelled(WaterError):
    """The user pressed Cancel. Raised by the progress callable; never an error of the data."""

    def __init__(self, message: str = "Cancelled.", remedy: str = ""):
        super().__init__(message, remedy)
