"""Features that wait in a temporary file until all of them are known: so that a layer is begun only when nothing can fail any more."""

from __future__ import annotations

import json
import struct
import tempfile
from collections.abc import Iterator

from ..errors import OutputError

_HEAD = struct.Struct("<QI")  # bytes of the geometry, of the values


class Spool:
    """A list of (WKB, values by name) on disk. The file is gone with the object."""

    def __init__(self):
        self._count = 0
        try:
            self._file = tempfile.TemporaryFile(prefix="waterdl")  # noqa: SIM115
        except OSError as error:
            raise OutputError(f"There is no room for temporary files: {error}.", "Free some space on the disk.") from error

    def add(self, wkb: bytes, values: dict) -> None:
        text = json.dumps(values).encode()
        try:
            self._file.write(_HEAD.pack(len(wkb), len(text)) + wkb + text)
        except OSError as error:
            raise OutputError(f"The temporary file can't be written: {error}.", "Free some space on the disk.") from error
        self._count += 1

    def __del__(self):
        if hasattr(self, "_file"):
            self._file.close()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[bytes, dict]]:
        self._file.seek(0)
        for _ in range(self._count):
            size, length = _HEAD.unpack(self._file.read(_HEAD.size))
            yield self._file.read(size), json.loads(self._file.read(length))
