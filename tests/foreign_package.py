"""A package beside ours that registers an architecture, a model and a data set, as HAT's does, then trains.

Arguments: one for each process, ``FOLDER=FILE,FILE``: where it works and which option files it trains, one after the
other. In a folder called ``without`` our plugin stays out: torchvision alone is repaired, or BasicSR could not be
imported everywhere. The processes are forked, because PyTorch takes seconds to start.
"""

import os
import sys
import traceback

from dynq_basicsr import _autoload

_autoload.install(force=True)

import torch  # noqa: E402, F401
import torchvision  # noqa: E402, F401


def train(files: list[str]) -> None:
    from basicsr.archs.edsr_arch import EDSR
    from basicsr.data.paired_image_dataset import PairedImageDataset
    from basicsr.models.sr_model import SRModel
    from basicsr.train import train_pipeline
    from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY

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

    for file in files:
        sys.argv = ['train.py', '-opt', file]
        train_pipeline('.')
    print('plugin' if 'dynq_basicsr.plugin' in sys.modules else 'no plugin')


def work_in(folder: str, files: list[str]) -> int:
    for name, stream in (('stdout', 1), ('stderr', 2)):
        os.dup2(os.open(os.path.join(folder, name), os.O_WRONLY | os.O_CREAT), stream)
    os.chdir(folder)
    if os.path.basename(folder) == 'without':
        _autoload.Finder.wrapped.pop('basicsr.version')
    try:
        train(files)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


for argument in sys.argv[1:]:
    folder, _, files = argument.partition('=')
    child = os.fork()
    if not child:
        os._exit(work_in(folder, files.split(',')))
    if os.waitpid(child, 0)[1]:
        with open(os.path.join(folder, 'stderr')) as file:
            sys.exit(file.read())
