"""NIfTI files, one of them or a pair: true voxels, complete, and where the header says that they lie."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header

from mmccd_auto.core.errors import MMCCDError
from mmccd_auto.core.tuples import triple
from mmccd_auto.imaging.formats.nifti_geometry import nifti_geometry
from mmccd_auto.imaging.formats.readable import check_readable
from mmccd_auto.imaging.limits import check_geometry, check_promise, check_size
from mmccd_auto.imaging.volume import Geometry, Volume

_BLOCK_BYTES = 1 << 20
_LARGEST_OFFSET = 1 << 28
# What may follow the voxels; a file of gigabytes of zeros is not read to its end.
_LARGEST_REST = 1 << 26
_HEADERS = {348: Nifti1Header, 540: Nifti2Header}
_MAGIC = {b"n+1": False, b"n+2": False, b"ni1": True, b"ni2": True}
# By the standard's number of each.
_TYPES = dict(
    zip(
        (2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280),
        ("u1", "i2", "i4", "f4", "f8", "i1", "u2", "u4", "i8", "u8"),
        strict=True,
    )
)
_COMPLEX = "complex numbers (magnitude and phase in one): export the magnitude and give that"
_COLOUR = "several values per voxel (colour): give a scalar volume"
_REFUSED_TYPES = {
    1: "single bits: convert it to bytes",
    1536: "numbers of 128 bits: convert it to float32",
    **dict.fromkeys((32, 1792, 2048), _COMPLEX),
    **dict.fromkeys((128, 2304), _COLOUR),
}
_PAIRS = {".hdr": ".img", ".img": ".hdr"}


def is_nifti(path: str | Path) -> bool:
    """Check whether the name is one of a NIfTI file: .nii, .hdr or .img, compressed (.gz) or not."""
    return Path(path).name.lower().removesuffix(".gz").endswith((".nii", *_PAIRS))


@dataclass(frozen=True)
class _Contents:
    """What a header says.

    Attributes
    ----------
    header_file, voxel_file : the same one but for pairs
    size : voxels along x, y, z
    offset : first byte of the voxels in their file
    dtype : of the stored voxels, in the file's byte order
    slope, intercept : of the values
    geometry, warnings : see :func:`nifti_geometry`
    """

    header_file: Path
    voxel_file: Path
    size: tuple[int, int, int]
    offset: int
    dtype: np.dtype
    slope: float
    intercept: float
    geometry: Geometry
    warnings: tuple[str, ...]

    @property
    def length(self) -> int:
        """Bytes of all voxels."""
        return math.prod(self.size) * self.dtype.itemsize


def read_nifti(path: Path) -> Volume:
    """Read a NIfTI volume in the type that it is stored in; scaled values are float32, those of 64 bits float64.

    The file is read once, to its end, so that the checksum of a compressed file is verified. Memory is taken only for what
    the file can hold.

    Raises
    ------
    MMCCDError
        If the file can't be read, is incomplete or damaged, or holds no single volume of real numbers of a possible size.
    """
    contents = _contents(path)
    with _reading(contents.voxel_file) as stream:
        _skip(stream, contents.offset, contents.voxel_file)
        array = np.empty(contents.size[::-1], dtype=contents.dtype)
        _fill(stream, array, contents)
        _read_out(stream, contents.voxel_file)
    if not array.dtype.isnative:
        array = array.byteswap(inplace=True).view(array.dtype.newbyteorder("="))
    return Volume(_scaled(array, contents.slope, contents.intercept), contents.geometry, contents.warnings)


def read_nifti_geometry(path: Path) -> Geometry:
    """Read where a NIfTI volume lies, without its voxels. Raises as :func:`read_nifti` for all but the voxels."""
    return _contents(path).geometry


def is_complete(path: Path) -> bool:
    """Check whether a NIfTI file that was just written holds all bytes that its header promises."""
    try:
        contents = _contents(path)
        with _reading(contents.voxel_file) as stream:
            _skip(stream, contents.offset, contents.voxel_file)
            _skip(stream, contents.length, contents.voxel_file)
            _read_out(stream, contents.voxel_file)
    except MMCCDError:
        return False
    return True


def _contents(path: Path) -> _Contents:
    header_file, voxel_file = _files(path)
    header = _read_header(header_file, voxel_file)
    dtype = _dtype(header, header_file)
    size = _size(header, header_file)
    check_size(size, str(path))
    offset = float(header["vox_offset"])
    if not 0 <= offset <= _LARGEST_OFFSET or (header_file == voxel_file and offset < header.sizeof_hdr):
        raise MMCCDError(f"{header_file} has a damaged header (vox_offset is {offset:g}): copy or export it again.")
    geometry, warnings = nifti_geometry(header, size, str(path))
    check_geometry(geometry, str(path))
    slope, intercept = _scale(header, header_file)
    contents = _Contents(header_file, voxel_file, size, int(offset), dtype, slope, intercept, geometry, warnings)
    check_promise(contents.length, voxel_file.stat().st_size, str(voxel_file))
    return contents


def _files(path: Path) -> tuple[Path, Path]:
    """Return the file of the header and the file of the voxels, both of which can be opened."""
    check_readable(path)
    packed = ".gz" if path.name.lower().endswith(".gz") else ""
    stem = path.name[: len(path.name) - len(packed)]
    ending = stem[-4:]
    if ending.lower() not in _PAIRS:
        return path, path
    other = _PAIRS[ending.lower()]
    other = other.upper() if ending.isupper() else other
    places = [path.with_name(f"{stem[:-4]}{other}{more}") for more in dict.fromkeys((packed, "", ".gz"))]
    partner = next((place for place in places if place.exists()), None)
    if partner is None:
        raise MMCCDError(f"{path} is half of a pair, and {places[0].name} is not beside it: put it there.")
    check_readable(partner)
    return (path, partner) if ending.lower() == ".hdr" else (partner, path)


def _read_header(header_file: Path, voxel_file: Path) -> Nifti1Header:
    with _reading(header_file) as stream:
        start = stream.read(max(_HEADERS))
    for (length, kind), order in ((one, order) for one in _HEADERS.items() for order in "<>"):
        if len(start) >= length and struct.unpack_from(f"{order}i", start)[0] == length:
            header = kind(start[:length], endianness=order, check=False)
            break
    else:
        raise MMCCDError(f"{header_file} is not a NIfTI file, whatever its name says: copy or export it again.")
    pair = _MAGIC.get(header["magic"].item())
    if pair is None and header_file != voxel_file:
        raise MMCCDError(f"{header_file} is ANALYZE 7.5, which doesn't say which side is left: convert it to NIfTI.")
    if pair is None:
        raise MMCCDError(f"{header_file} is not a NIfTI file, whatever its name says (no magic): copy or export it again.")
    if pair != (header_file != voxel_file):
        where = "in another file (.hdr and .img)" if pair else "in one file (.nii)"
        raise MMCCDError(f"{header_file} says that header and voxels are {where}: give it the right ending, or convert it.")
    return header


def _size(header: Nifti1Header, path: Path) -> tuple[int, int, int]:
    dimensions = int(header["dim"][0])
    if not 1 <= dimensions <= 7:
        raise MMCCDError(f"{path} has a damaged header (dim[0] is {dimensions}): copy or export it again.")
    sizes = [int(edge) for edge in header["dim"][1 : dimensions + 1]]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) == 5 and sizes[3] == 1:
        raise MMCCDError(f"{path} holds several values per voxel (vectors): give a scalar volume.")
    if len(sizes) != 3:
        raise MMCCDError(f"{path} has {len(sizes)} dimensions: give one 3D volume per file.")
    return triple(sizes)


def _dtype(header: Nifti1Header, path: Path) -> np.dtype:
    code = int(header["datatype"])
    if code in _REFUSED_TYPES:
        raise MMCCDError(f"{path} holds {_REFUSED_TYPES[code]}.")
    if code not in _TYPES:
        raise MMCCDError(f"{path} has a damaged header (datatype is {code}): copy or export it again.")
    return np.dtype(_TYPES[code]).newbyteorder(header.endianness)


def _scale(header: Nifti1Header, path: Path) -> tuple[float, float]:
    """Compute the slope and intercept; a slope of 0 or NaN means none of either, by the standard and by nibabel."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not math.isfinite(slope):
        return 1.0, 0.0
    if not math.isfinite(intercept):
        raise MMCCDError(f"{path} has a damaged header (scl_inter is {intercept:g}): correct it or export it again.")
    return slope, intercept


def _scaled(array: np.ndarray, slope: float, intercept: float) -> np.ndarray:
    if (slope, intercept) == (1.0, 0.0):
        return array
    kind = np.float64 if array.dtype.kind == "f" and array.dtype.itemsize == 8 else np.float32
    values = np.empty(array.shape, dtype=kind)
    # Slice by slice: float64 of a whole volume is large.
    with np.errstate(over="ignore", invalid="ignore"):
        for number, plane in enumerate(array):
            values[number] = plane.astype(np.float64) * slope + intercept
    return values


@contextmanager
def _reading(path: Path) -> Iterator[BufferedIOBase]:
    """Yield the uncompressed file; what is wrong with it is raised by name."""
    try:
        with open(path, "rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if compressed else open(path, "rb") as stream:
            yield stream
    except EOFError as error:
        raise MMCCDError(f"{path} is truncated (its compressed data end too early): copy or export it again.") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise MMCCDError(f"{path} is damaged ({str(error).rstrip('.')}): copy or export it again.") from error
    except OSError as error:
        raise MMCCDError(f"{path} can't be opened ({error.strerror or error}): check its permissions.") from error


def _skip(stream: BufferedIOBase, length: int, path: Path) -> None:
    left = length
    while left:
        block = stream.read(min(left, _BLOCK_BYTES))
        if not block:
            raise MMCCDError(f"{path} is truncated ({left} bytes are missing): copy or export it again.")
        left -= len(block)


def _fill(stream: BufferedIOBase, array: np.ndarray, contents: _Contents) -> None:
    target = array.reshape(-1).view(np.uint8).data
    filled = 0
    while filled < len(target):
        count = stream.readinto(target[filled : filled + _BLOCK_BYTES])
        if not count:
            found, wanted = contents.offset + filled, contents.offset + contents.length
            raise MMCCDError(f"{contents.voxel_file} is truncated ({found} of {wanted} bytes): copy or export it again.")
        filled += count


def _read_out(stream: BufferedIOBase, path: Path) -> None:
    """Read on to the end, where a compressed file has its checksum."""
    rest = 0
    while block := stream.read(_BLOCK_BYTES):
        rest += len(block)
        if rest > _LARGEST_REST:
            raise MMCCDError(f"{path} holds far more than its header gives: its header is wrong; export it again.")
