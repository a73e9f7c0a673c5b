"""Starts pip in QGIS's own Python: which interpreter that is, and a run that can be watched and cancelled."""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from .engine.errors import OutputError, PackageMissingError
from .engine.progress import Progress

_HIDDEN = {"creationflags": 0x08000000} if sys.platform == "win32" else {}  # CREATE_NO_WINDOW: no black box pops up


def candidates(platform: str, prefixes, executables) -> list:
    """Where the interpreter behind an embedded Python may be, likeliest first.

    `prefixes` are sys.prefix and sys.base_prefix. `executables` come last and only by the name of a Python: inside QGIS they
    may be qgis-bin.exe, the application of a macOS bundle, or another Python that is first in PATH.
    """
    suffix = ".exe" if platform == "win32" else ""
    names = [f"python{sys.version_info[0]}.{sys.version_info[1]}{suffix}", f"python3{suffix}", f"python{suffix}"]
    folders = []
    for prefix in map(Path, prefixes):
        folders += [prefix, prefix / "Scripts"] if platform == "win32" else [prefix / "bin"]
        if platform == "darwin":
            folders += [p / "MacOS" / sub for p in (prefix, *prefix.parents) if p.name == "Contents" for sub in ("bin", "")]
    paths = [place / name for place in folders for name in names]
    paths += [Path(item) for item in executables if item and re.fullmatch(r"python[\d.]*(\.exe)?", Path(item).name.lower())]
    return list(dict.fromkeys(paths))


@lru_cache
def interpreter() -> Path:
    """The Python program whose packages this process imports. Raises `PackageMissingError`."""
    tried = candidates(sys.platform, (sys.prefix, sys.base_prefix), (getattr(sys, "_base_executable", ""), sys.executable))
    question = "import sys; print('%d.%d' % sys.version_info[:2])"
    for path in tried:
        if path.exists() and _ask([str(path), "-c", question]).strip() == "{}.{}".format(*sys.version_info[:2]):
            return path
    raise PackageMissingError("The Python program that belongs to this QGIS was not found.", f"Looked at: {', '.join(map(str, tried))}.")


@contextmanager
def _private_folder():
    """An empty folder that only this user may write to. Python is started there: `-m` and `-c` import from the current folder first."""
    place = tempfile.mkdtemp(prefix="water_dl_")
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)  # on Windows, a process just killed may still be in it


def _ask(command: list) -> str:
    try:
        with _private_folder() as empty:
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=empty, **_HIDDEN).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def run_pip(python: Path, arguments: list, progress: Progress, temporary: Path | None = None) -> list:
    """`pip ARGUMENTS` in `python`: what it says, line by line. The lines go to `progress`, which is called five times a second and may raise
    `Cancelled`: pip is then killed. `temporary` is where pip unpacks (a system's /tmp may be too small for torch).

    Raises `PackageMissingError` (no pip, pip too old, nothing that fits, no network), `OutputError` (disk full).
    """
    _check_pip(python)
    # These would lead the install elsewhere, or forbid it.
    own = {"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_CONSTRAINT", "PIP_REQUIRE_VIRTUALENV"}
    environment = {key: value for key, value in os.environ.items() if key not in own}
    environment.update(
        PIP_NO_INPUT="1",
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_PROGRESS_BAR="off",
        PIP_ROOT_USER_ACTION="ignore",
        PYTHONUTF8="1",
        PYTHONUNBUFFERED="1",
    )
    if temporary and sys.platform != "win32":  # Windows: paths would grow too long
        environment["TMPDIR"] = str(temporary)
    command = [str(python), "-m", "pip", "--no-color", *arguments]
    with _private_folder() as empty:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8", errors="replace",
            env=environment, cwd=empty, start_new_session=sys.platform != "win32", **_HIDDEN,
        )  # fmt: skip
        try:
            said = _listen(process, progress)
        finally:
            _kill(process)
    if process.returncode:
        raise _failure(said)
    return said


@lru_cache
def _check_pip(python: Path) -> None:
    answer = re.match(r"pip (\d+)\.(\d+)", _ask([str(python), "-m", "pip", "--version"]))
    if not answer or (int(answer.group(1)), int(answer.group(2))) < (22, 2):  # the first with --report
        raise PackageMissingError(
            f"{python} has {'a pip older than 22.2' if answer else 'no pip'}.",
            f"On Debian and Ubuntu: apt install python3-pip. Elsewhere: {python} -m ensurepip --user, then {python} -m pip install --user -U pip.",
        )


def _listen(process: subprocess.Popen, progress: Progress) -> list:
    """All lines of pip's, each told to `progress` as it comes. pip doesn't say how far it is: every line goes a part of the rest."""
    lines: queue.Queue = queue.Queue()

    def read():
        with process.stdout:
            for line in process.stdout:
                lines.put(line.rstrip())
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    said, fraction = [], 0.0
    while True:
        try:
            line = lines.get(timeout=0.2)
        except queue.Empty:
            progress(fraction, "")  # hears Cancel during a long download
            continue
        if line is None:
            process.wait()
            return said
        if line and "is ignored: it is neither a file nor a directory" not in line:
            said.append(line)
            fraction += (0.98 - fraction) * 0.04
            progress(fraction, line)


def _kill(process: subprocess.Popen) -> None:
    if process.poll() is None:
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)  # with whatever pip has started
        process.wait()


def _failure(said: list) -> Exception:
    text = "\n".join(said)
    last = "\n".join(said[-8:])
    if "No space left" in text or "Errno 28" in text:
        return OutputError(f"The disk is full:\n{last}\n", "Make room, then install again; nothing was changed.")
    if "ResolutionImpossible" in text or "No matching distribution" in text:
        remedy = f"There may be no build for Python {sys.version_info[0]}.{sys.version_info[1]} with QGIS's numpy yet; a newer QGIS, or an index URL, may help."
        return PackageMissingError(f"pip finds no packages that fit this QGIS:\n{last}\n", remedy)
    return PackageMissingError(
        f"pip failed:\n{last}\n", "Check the network, the proxy and the index URL, then install again; nothing was changed."
    )
