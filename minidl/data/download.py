"""Finding the files of a data set on this machine, or fetching them, checked and whole."""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from minidl.errors import DataError, FileFormatError, ParameterError

__all__ = ["RemoteFile", "find_or_fetch"]

BLOCK = 1 << 18
SECONDS = 30.0


@dataclass(frozen=True)
class RemoteFile:
    """A file that can be downloaded: its name, address, and the SHA-256 of its content."""

    name: str
    url: str
    sha256: str


def cache_folder() -> Path:
    """Return where downloads are kept: what the system calls the user's cache, and in it ``minidl``."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "minidl"


def places(name: str, folder: str | os.PathLike[str] | None) -> Iterator[Path]:
    """Yield the folders in which a data set is looked for, in order.

    A folder that was given is the only one. Else those that MINIDL_DATA lists, the user's cache, and where systems install
    data sets; in each of them a folder with the data set's name comes before the folder itself.
    """
    if folder is not None:
        bases = [Path(folder)]
    else:
        listed = [Path(part) for part in os.environ.get("MINIDL_DATA", "").split(os.pathsep) if part]
        shared = {Path(prefix) / "share" / "datasets": None for prefix in (sys.prefix, "/usr/local", "/usr")}
        bases = [*listed, cache_folder(), *shared]
    for base in bases:
        yield base / name
        yield base


def find_or_fetch(
    name: str, files: Sequence[RemoteFile], folder: str | os.PathLike[str] | None = None, download: bool = True
) -> list[Path]:
    """Return the paths of a data set's files, all from one folder; download those missing if that is allowed.

    Parameters
    ----------
    name : str
        Of the data set, and of its folder.
    files : sequence of RemoteFile
        A file that is stored without the ``.gz`` of its name is found too.
    folder : path, optional
        Look here only, and download to here.
    download : bool
        Whether to fetch what is not found.

    Raises
    ------
    DataError
        If files are missing and may not, or cannot, be downloaded: says where to put which files.
    FileFormatError
        If what came is not what was published.
    """
    for place in places(name, folder):
        found = [_in(place, file.name) for file in files]
        if all(found):
            return [path for path in found if path is not None]
    target = Path(folder) if folder is not None else cache_folder() / name
    advice = (
        f"put {', '.join(file.name for file in files)} (from {files[0].url.rpartition('/')[0]}) into {target}, or into a "
        f"folder {name} in one that the environment variable MINIDL_DATA names"
    )
    if not download:
        raise DataError(f"{name}: the files are not on this machine, and download=False; {advice}")
    try:
        return [_in(target, file.name) or fetch(file, target) for file in files]
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise DataError(f"{name}: the download failed ({error}); try again, or {advice}") from error


def _in(folder: Path, name: str) -> Path | None:
    candidates = [folder / name, folder / name.removesuffix(".gz")]
    return next((path for path in candidates if path.is_file()), None)


def fetch(file: RemoteFile, folder: Path, schemes: tuple[str, ...] = ("https",)) -> Path:
    """Download a file, going on where an earlier attempt stopped; it gets its name only when its SHA-256 is right."""
    if file.url.partition(":")[0] not in schemes:
        raise ParameterError(f"downloads go over {' or '.join(schemes)}, not {file.url}")
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{file.name}.part"
    _complete(file.url, partial)
    found = _sha256(partial)
    if found != file.sha256:
        partial.unlink()
        raise FileFormatError(
            f"{file.url}: what came has the SHA-256 {found}, expected {file.sha256}; it was thrown away. If it fails again, the "
            "file at that address has been changed"
        )
    path = folder / file.name
    partial.replace(path)
    return path


def _complete(url: str, partial: Path) -> None:
    """Append to the partial file what is missing of it."""
    from tqdm import tqdm  # here, because importing it takes as long as all of minidl.data

    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # nothing is left to fetch
            return
        raise
    with response:
        resumed = response.status == 206
        length = response.headers.get("Content-Length")
        total = int(length) + (have if resumed else 0) if length else None
        with (
            partial.open("ab" if resumed else "wb") as out,
            tqdm(
                total=total, initial=have if resumed else 0, unit="B", unit_scale=True, desc=partial.stem, disable=None
            ) as bar,
        ):
            while block := response.read(BLOCK):
                out.write(block)
                bar.update(len(block))
    if total is not None and partial.stat().st_size < total:
        raise ConnectionError(f"the connection ended after {partial.stat().st_size} of {total} bytes")


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
