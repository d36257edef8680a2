"""Files that ``torch.save`` makes: written with a checksum, and read only as they were written.

``torch.save`` writes a ZIP archive. A SHA-256 of all of it stands in the archive's comment, where any other reader,
BasicSR's among them, passes over it. Archives without one (BasicSR's, other people's) have a CRC-32 for each record.
Files older than PyTorch 1.6 have neither: a number that was damaged in there cannot be told from another.
"""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch

from dynq_basicsr.errors import DynqError

_MAGIC = b'dynq_basicsr sha256 '
_COMMENT_LENGTH = len(_MAGIC) + 64
_END, _END_LENGTH = b'PK\x05\x06', 22  # the archive's last record, which ends with the length of the comment
_AGAIN = 'copy it again or take another'


def to_bytes(content: Mapping) -> memoryview:
    """What ``torch.save`` would write of a mapping, with a checksum.

    Args:
        content: What ``torch.load(..., weights_only=True)`` can read.
    """
    stream = io.BytesIO()
    torch.save(content, stream)
    end = stream.getbuffer()[-_END_LENGTH:]
    assert end[:4] == _END and end[-2:] == b'\0\0', 'torch.save wrote no archive, or one with a comment'
    del end  # a stream with a view of it cannot grow
    digest = hashlib.sha256(stream.getbuffer()[:-2]).hexdigest()
    stream.seek(-2, io.SEEK_END)
    stream.write(_COMMENT_LENGTH.to_bytes(2, 'little') + _MAGIC + digest.encode())
    return stream.getbuffer()


def read_torch_file(path: str | Path) -> object:
    """Read what ``torch.save`` wrote onto the CPU, executing nothing that the file holds.

    Args:
        path: An existing file.

    Raises:
        DynqError: If it cannot be read, was changed since it was written, or holds more than tensors and plain values.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise DynqError(f'{path}: cannot be read ({error.strerror or error}); check its permissions.') from error
    if content[:2] == b'PK':
        _check_archive(path, content)
    try:
        with warnings.catch_warnings():  # about damaged pickles, which end in an error all the same
            warnings.simplefilter('ignore')
            return torch.load(io.BytesIO(content), map_location='cpu', weights_only=True)
    except Exception as error:  # a damaged pickle can end in any of them
        words = ' '.join(str(error).split())
        reason = 'it holds more than tensors' if not words or 'Weights only load failed' in words else words[:200]
        raise DynqError(
            f'{path}: not a readable checkpoint of plain tensors ({reason}); save its state dict anew.'
        ) from error


def _check_archive(path: str | Path, content: bytes) -> None:
    """See that an archive is as it was written, by our checksum or else by those of its records."""
    comment = content[-_COMMENT_LENGTH:]
    if comment.startswith(_MAGIC):
        checked, length = memoryview(content)[: -_COMMENT_LENGTH - 2], content[-_COMMENT_LENGTH - 2 : -_COMMENT_LENGTH]
        digest = hashlib.sha256(checked).hexdigest().encode()
        if comment != _MAGIC + digest or length != _COMMENT_LENGTH.to_bytes(2, 'little'):
            raise DynqError(f'{path}: was changed or damaged since it was saved (its checksum differs); {_AGAIN}.')
        return
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            records = archive.infolist()
            names = {record.filename for record in records}
            program = any(name.endswith('/constants.pkl') for name in names)
            packed = any(record.compress_type != zipfile.ZIP_STORED for record in records)
            claimed = sum(record.file_size for record in records)
            if (len(names) < len(records) or packed or claimed > len(content)) and not program:
                raise zipfile.BadZipFile('its records are not as torch.save writes them')
            damaged = None if program else archive.testzip()
    except Exception as error:  # of damaged headers: BadZipFile, struct.error, OverflowError, NotImplementedError, ...
        reason = ' '.join(str(error).split())[:200] or type(error).__name__
        raise DynqError(f'{path}: the file is damaged or cut off ({reason}); {_AGAIN}.') from error
    if program:
        raise DynqError(f'{path}: holds a TorchScript program, not a state dict; save the state_dict() of its network.')
    if damaged is not None:
        raise DynqError(f'{path}: the file is damaged (the checksum of its record {damaged[:80]!r} differs); {_AGAIN}.')
