"""Functions that BasicSR moved are where earlier versions had them."""

import numpy as np
from basicsr.utils import color_util, matlab_functions

from dynq_basicsr.compat import moved_functions


def test_they_are_the_same_and_what_is_there_stays(monkeypatch):
    for name in moved_functions.MOVED:
        monkeypatch.delattr(matlab_functions, name, raising=False)
    own = object()
    monkeypatch.setattr(matlab_functions, 'rgb2ycbcr', own, raising=False)
    moved_functions.cannot_import_name_rgb2ycbcr()
    assert matlab_functions.rgb2ycbcr is own
    assert matlab_functions.bgr2ycbcr is color_util.bgr2ycbcr
    assert matlab_functions.ycbcr2bgr(np.full((1, 1, 3), 0.5, np.float32)).shape == (1, 1, 3)
