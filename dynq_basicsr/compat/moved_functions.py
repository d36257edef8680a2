"""Functions that BasicSR moved, where packages written for earlier versions look for them."""

from __future__ import annotations

from basicsr.utils import color_util, matlab_functions

MOVED = ('rgb2ycbcr', 'bgr2ycbcr', 'ycbcr2rgb', 'ycbcr2bgr')


def cannot_import_name_rgb2ycbcr() -> None:
    """Let code for BasicSR 1.3 find the colour conversions, such as some versions of HAT's.

    Symptom: ``ImportError: cannot import name 'rgb2ycbcr' from 'basicsr.utils.matlab_functions'``.
    Cause: BasicSR 1.4 has them in ``basicsr.utils.color_util``.
    Cure: the same functions under their earlier names, where these are free.
    """
    for name in MOVED:
        if not hasattr(matlab_functions, name):
            setattr(matlab_functions, name, getattr(color_util, name))
