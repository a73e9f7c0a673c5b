"""Small result files (CSV, JSON, HTML), written whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import math
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Union

from .errors import OutputError

_REMEDIES = {
    errno.ENOENT: "The folder doesn't exist: make it, or choose another one.",
    errno.ENOTDIR: "Part of the path is a file, not a folder: choose another folder.",
    errno.EISDIR: "There is a folder of that name: choose another file name.",
    errno.EACCES: "The folder or file is not writable: choose another one, or close the program that holds the file.",
    errno.EPERM: "The folder or file is not writable: choose another one.",
    errno.EROFS: "The disk is read-only: choose another folder.",
    errno.ENOSPC: "The disk is full: free some space, or choose another folder.",
    errno.EDQUOT: "Your quota of disk space is used up: free some space, or choose another folder.",
    errno.ENAMETOOLONG: "The file name is too long: choose a shorter one.",
}


def write_bytes(path: Union[str, os.PathLike], data: bytes) -> None:
    """Writes beside `path` and renames when complete: a file of that name is never half-written, an older one stays until then.

    Raises `OutputError` with what mends it.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name[:50]}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # network disks tell "full" no sooner
        os.replace(beside, path)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno, "Choose another folder.")
        raise OutputError(f"Can't write {path}: {error.strerror or error}.", remedy) from error
    finally:
        with contextlib.suppress(OSError):  # renamed, or never made: the error that matters is already on its way
            beside.unlink()


def write_csv(path: Union[str, os.PathLike], rows: Iterable[Mapping[str, Any]], columns: Iterable[str] = ()) -> None:
    """One line per mapping, the header from `columns`, which a table without lines has, too, and the keys in the order of appearance; NaN,
    infinity and None become empty cells.

    With a byte order mark, so that spreadsheets read names with accents right. Raises `OutputError`.
    """
    rows = list(rows)
    header = list(dict.fromkeys([*columns, *(key for row in rows for key in row)]))
    text = io.StringIO()
    writer = csv.DictWriter(text, header, restval="")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    write_bytes(path, text.getvalue().encode("utf-8-sig", "replace"))


def write_json(path: Union[str, os.PathLike], data: Any) -> None:
    """`data` as JSON of the strict kind: numpy numbers and arrays become plain ones, NaN and infinity null. Raises `OutputError`."""
    write_bytes(path, (json_text(data) + "\n").encode("utf-8", "replace"))


def json_text(data: Any) -> str:
    """`data` as indented, strict JSON."""
    return json.dumps(plain(data), indent=2, ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """`value` as JSON knows it: dict, list, str, bool, int, finite float, None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # numpy arrays and numbers, without importing numpy
        return plain(value.tolist())
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def _cell(value: Any) -> Any:
    value = plain(value)
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return "'" + value  # a class name from a stranger's file must not become a formula
    return value if not isinstance(value, (list, dict)) else json.dumps(value, ensure_ascii=False)
