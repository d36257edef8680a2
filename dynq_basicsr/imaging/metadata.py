"""What a picture file says besides its pixels, and results keep: colour profile, resolution, EXIF."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field

from PIL import Image
from PIL.ExifTags import IFD, Base

# What describes a picture whatever its pixels and file: all else of the main directory tells how they are coded.
_DESCRIBING = (
    Base.ImageDescription, Base.Make, Base.Model, Base.Software, Base.DateTime, Base.Artist, Base.HostComputer,
    Base.Rating, Base.RatingPercent, Base.Copyright,
)  # fmt: skip
_SIZES = (Base.ExifImageWidth, Base.ExifImageHeight)
_INCH, _CENTIMETRE = 2, 3
_MOST_DPI = 1e6
_DAMAGED = 'its EXIF is damaged and left out'


@dataclass(frozen=True)
class Metadata:
    """What results keep.

    Attributes:
        icc: The colour profile (ICC).
        dpi: Pixels an inch, across and down; of the result as of the source.
        exif: As ``Image.Exif.tobytes`` gives it, without orientation, sizes, resolution and thumbnail; or empty.
        notes: What could not be kept, for the reader.
    """

    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    exif: bytes = b''
    notes: tuple[str, ...] = field(default=())

    def profile_for(self, channels: int) -> bytes | None:
        """The profile, where it is one of grey for one channel, of RGB for three."""
        fits = self.icc is not None and self.icc[16:20] == (b'GRAY' if channels == 1 else b'RGB ')
        return self.icc if fits else None

    def exif_with_resolution(self) -> bytes:
        """EXIF for formats that have no other place for the resolution; empty where there is neither."""
        if self.dpi is None:
            return self.exif
        exif = load_exif(self.exif)
        for tag, value in zip((Base.XResolution, Base.YResolution), self.dpi, strict=True):
            exif[tag] = value
        exif[Base.ResolutionUnit] = _INCH
        return exif.tobytes()


def read_metadata(image: Image.Image) -> Metadata:
    """What a picture's file says; damage there costs a note, not the picture.

    Args:
        image: As opened.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            exif = image.getexif()
            notes = (_DAMAGED,) if image.info.get('exif') and not len(exif) else ()
            kept, dpi = _kept(exif), _dpi(image.info.get('dpi')) or _exif_dpi(exif)
        except Exception:  # whatever damaged directories make of their reader
            kept, dpi, notes = b'', _dpi(image.info.get('dpi')), (_DAMAGED,)
    return Metadata(image.info.get('icc_profile') or None, dpi, kept, notes)


def read_orientation(image: Image.Image) -> int:
    """How EXIF says that pixels are to be turned, 1 to 8; 1 where it says nothing, or is damaged."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            value = int(image.getexif().get(Base.Orientation, 1))
        except Exception:  # as above
            return 1
    return value if 1 <= value <= 8 else 1


def load_exif(content: bytes) -> Image.Exif:
    """The EXIF of ``Metadata``, to be written once more."""
    exif = Image.Exif()
    if content:
        exif.load(content)
    for tag in _DESCRIBING:
        if tag in exif:
            exif[tag] = _writable(exif[tag])
    return exif


def _kept(exif: Image.Exif) -> bytes:
    kept = Image.Exif()
    for tag in _DESCRIBING:
        if tag in exif:
            kept[tag] = _writable(exif[tag])
    for directory in (IFD.Exif, IFD.GPSInfo):
        tags = {tag: value for tag, value in exif.get_ifd(directory).items() if tag not in _SIZES}
        if tags.pop(IFD.Interop, None) is not None:
            tags[IFD.Interop] = exif.get_ifd(IFD.Interop)
        if tags:
            kept[directory] = tags
    return kept.tobytes() if len(kept) else b''


def _writable(value: object) -> object:
    """Text as bytes: Pillow reads it as Latin-1 and writes ASCII, but bytes as they are."""
    return value.encode('latin-1', 'replace') if isinstance(value, str) else value


def _exif_dpi(exif: Image.Exif) -> tuple[float, float] | None:
    found = _dpi((exif.get(Base.XResolution), exif.get(Base.YResolution)))
    unit = exif.get(Base.ResolutionUnit, _INCH)
    if found is None or unit not in (_INCH, _CENTIMETRE):
        return None
    factor = 2.54 if unit == _CENTIMETRE else 1.0
    return found[0] * factor, found[1] * factor


def _dpi(values: object) -> tuple[float, float] | None:
    try:
        across, down = (float(value) for value in values)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (across, down) if all(math.isfinite(one) and 0 < one < _MOST_DPI for one in (across, down)) else None
