"""BasicSR's training, as torchrun starts it; rank 1 is killed in its third iteration."""

import os
import signal
import sys

from dynq_basicsr import cli
from dynq_basicsr.models.quantized_model import QuantizedModel

iterate = QuantizedModel.iterate


def iterate_or_die(model: QuantizedModel, current_iter: int) -> None:
    if current_iter == 3 and model.opt['rank'] == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    iterate(model, current_iter)


QuantizedModel.iterate = iterate_or_die
sys.exit(cli.main(['train', *sys.argv[1:]]))
