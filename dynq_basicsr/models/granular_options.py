"""What Granular-DQ adds to BasicSR's ``train`` section, as typed, checked values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from dynq_basicsr.errors import DynqError, check_choice, check_number, check_switch
from dynq_basicsr.numerics.matmul import PRECISIONS
from dynq_basicsr.training.compiling import check_compile

_COUNTS = {'adapt_iter': 0, 'entropy_patches': 2, 'calibration_patches': 1}


@dataclass(frozen=True)
class GranularOptions:
    """Options beside BasicSR's own (``optim_g``, ``scheduler``, ``pixel_opt``, ``ema_decay``, ``total_iter``, ...).

    Attributes:
        adapt_iter: Iterations in which thresholds follow the batches (ATC): the first epoch, which has 1000 iterations
            in the code family of the paper.
        entropy_patches: Training patches that the distribution of entropies is taken from.
        calibration_patches: Training patches that the first ranges are taken from.
        freeze_batch_norm: Keep statistics of batch normalization as they are, which a trained float network wants.
        precision: Of convolutions and linear layers in training: float32, bfloat16, or auto (bfloat16 where the
            hardware computes in it).
        compile: Run the network through PyTorch's compiler in training: true, false, or ``auto``, on a GPU where the
            run is long enough to win back the minutes that it takes. Without a compiler, training says so and goes on.
        lr_range: Learning rate of ranges and steps, relative to each; ``optim_g.lr`` is that of the weights.
        lr_gate: Learning rate of the controller; None: that of the weights.
        teacher: File of float weights of the same backbone, those of ``params_ema`` where it has both; the losses then
            compare with its output instead of the ground truth. None: ground truth, as in the paper.
    """

    adapt_iter: int = 1000
    entropy_patches: int = 2000
    calibration_patches: int = 64
    freeze_batch_norm: bool = True
    precision: str = 'float32'
    compile: bool | str = 'auto'
    lr_range: float = 1e-3
    lr_gate: float | None = None
    teacher: str | None = None

    def __post_init__(self) -> None:
        for key, least in _COUNTS.items():
            check_number(f'train.{key}', getattr(self, key), least, whole=True)
        check_number('train.lr_range', self.lr_range, 0)
        if self.lr_gate is not None:
            check_number('train.lr_gate', self.lr_gate, 0)
        if self.teacher is not None and (not isinstance(self.teacher, str) or not self.teacher):
            raise DynqError(f'train.teacher: must be a file of float weights, or left out, not {self.teacher!r}.')
        check_choice('train.precision', self.precision, PRECISIONS)
        check_switch('train.freeze_batch_norm', self.freeze_batch_norm)
        check_compile(self.compile)

    @classmethod
    def names(cls) -> list[str]:
        """Keys of the ``train`` section."""
        return [item.name for item in fields(cls)]

    @classmethod
    def from_dict(cls, train: Mapping) -> GranularOptions:
        """Pick them out of the ``train`` section.

        Raises:
            DynqError: Names the key that holds an impossible value.
        """
        return cls(**{key: train[key] for key in cls.names() if key in train})
