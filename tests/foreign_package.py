"""A package beside ours that registers an architecture, a model and a data set, as HAT's does, then trains.

Arguments: option files, one after the other. Started with ``without`` in front, our plugin stays out: torchvision alone
is repaired, or BasicSR could not be imported everywhere.
"""

import sys

from dynq_basicsr import _autoload

arguments = sys.argv[1:]
if arguments[0] == 'without':
    _autoload.Finder.wrapped.pop('basicsr.version')
    arguments.pop(0)
_autoload.install(force=True)

from basicsr.archs.edsr_arch import EDSR  # noqa: E402
from basicsr.data.paired_image_dataset import PairedImageDataset  # noqa: E402
from basicsr.models.sr_model import SRModel  # noqa: E402
from basicsr.train import train_pipeline  # noqa: E402
from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY  # noqa: E402

if 'dynq_basicsr.plugin' in sys.modules:
    from basicsr.utils.matlab_functions import rgb2ycbcr  # noqa: F401


@ARCH_REGISTRY.register()
class HAT(EDSR):
    """Has the name of one of ours."""


@MODEL_REGISTRY.register()
class HATModel(SRModel):
    """Has a name of its own."""


@DATASET_REGISTRY.register()
class LRCalibrationDataset(PairedImageDataset):
    """Has the name of one of ours."""


for file in arguments:
    sys.argv = ['train.py', '-opt', file]
    train_pipeline('.')
print('plugin' if 'dynq_basicsr.plugin' in sys.modules else 'no plugin')
