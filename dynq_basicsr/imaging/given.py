"""What Python programs hold as a picture, as an array of NumPy: arrays of other libraries, images of Pillow."""

from __future__ import annotations

import numpy as np

from dynq_basicsr.errors import DynqError, shown

_AS_ARRAYS = ('__array__', '__array_interface__')
_PLAIN = ('L', 'RGB', 'I;16', 'F')  # modes of Pillow whose values are those of grey or RGB


def is_like_an_array(value: object) -> bool:
    """Whether NumPy can make an array of a value, which holds one picture or several."""
    return isinstance(value, np.ndarray) or any(hasattr(type(value), name) for name in _AS_ARRAYS)


def as_array(image: object) -> np.ndarray:
    """A picture as NumPy has it.

    Args:
        image: An array, an image of Pillow of any mode, whose transparency is left out, or anything that says how it is
            an array.

    Raises:
        DynqError: If it is none; a tensor of PyTorch is none, since its axes are in another order.
    """
    if isinstance(image, np.ndarray):
        return image
    if hasattr(image, 'detach') and hasattr(image, 'permute'):
        raise DynqError(
            'an image must be an array or a file here, not a tensor; give tensor.permute(1, 2, 0).cpu().numpy() of one '
            'image (C, H, W), or call what was loaded from a checkpoint, which takes tensors.'
        )
    if not is_like_an_array(image):
        raise DynqError(f'an image must be an array or a file, not {shown(image)}.')
    mode, convert = getattr(image, 'mode', None), getattr(image, 'convert', None)
    if isinstance(mode, str) and callable(convert) and mode not in _PLAIN:
        image = convert('L' if mode in ('1', 'LA', 'La') else 'RGB')
    try:
        return np.asarray(image)
    except Exception as error:  # whatever a stranger's code raises
        raise DynqError(f'an image of the type {type(image).__name__} gives no array ({shown(str(error))}).') from error
