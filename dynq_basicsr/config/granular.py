"""The ``train`` section of ``GranularDQModel``: BasicSR's, and what quantization-aware training adds."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dynq_basicsr.config.training import Compile, Precision, TrainOptions
from dynq_basicsr.config.values import MOST_ITERATIONS, MOST_PATCHES, Rate, Switch, Text, Whole


class GranularOptions(TrainOptions):
    """How Granular-DQ trains: weights, quantization steps and the controller, from the loss alone."""

    adapt_iter: Annotated[Whole, Field(ge=0, le=MOST_ITERATIONS)] = Field(
        1000,
        description='Iterations in which thresholds follow the batches (ATC): the first epoch, which has 1000 '
        'iterations in the code family of the paper.',
    )
    entropy_patches: Annotated[Whole, Field(ge=2, le=MOST_PATCHES)] = Field(
        2000, description='Training patches that the distribution of entropies is taken from.'
    )
    calibration_patches: Annotated[Whole, Field(ge=1, le=MOST_PATCHES)] = Field(
        64, description='Training patches that the first ranges are taken from.'
    )
    freeze_batch_norm: Switch = Field(
        True, description='Keep statistics of batch normalization, which a trained float network wants.'
    )
    precision: Precision = Field(
        'float32',
        description='Of convolutions and linear layers in training; auto: bfloat16 where the hardware computes in it.',
    )
    compile: Compile = Field(
        'auto', description="Train through PyTorch's compiler; auto: on a GPU, where the run is long enough."
    )
    lr_range: Rate = Field(1e-3, description='Learning rate of ranges and steps, relative to each.')
    lr_gate: Rate | None = Field(None, description='Learning rate of the controller; null: that of the weights.')
    teacher: Text | None = Field(
        None,
        description='File of float weights of the same backbone, whose output the loss compares with; null: ground '
        'truth, as in the paper.',
    )
