"""BasicSR's ``train`` section: what is known passes, what is not is named."""

import pytest

from dynq_basicsr.config.training import TrainOptions
from dynq_basicsr.errors import DynqError


def section(**changes):
    train = {
        'total_iter': 10, 'warmup_iter': -1, 'ema_decay': 0.999,
        'optim_g': {'type': 'AdamW', 'lr': 1e-4, 'weight_decay': 0, 'betas': [0.9, 0.99]},
        'scheduler': {'type': 'MultiStepLR', 'milestones': [5], 'gamma': 0.5},
        'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
    }  # fmt: skip
    return {key: value for key, value in (train | changes).items() if value != 'left out'}


def cosine(**changes):
    return {'type': 'CosineAnnealingRestartLR', 'eta_min': 1e-6, **changes}


@pytest.mark.parametrize('changes', [
    {}, {'total_iter': 1e1}, {'scheduler': {'type': 'MultiStepLR', 'milestones': [5e0]}},
    {'scheduler': cosine(periods=[4, 6], restart_weights=[1, 0.5])}, {'ema_decay': 'left out'}, {'warmup_iter': 100},
    {'scheduler': {'type': 'CosineAnnealingRestartLR', 'periods': [10], 'eta_min': 1e-6}},
    {'pixel_opt': None, 'perceptual_opt': {'type': 'PerceptualLoss', 'layer_weights': {'conv5_4': 1}}},
])  # fmt: skip
def test_what_is_known_passes(changes):
    TrainOptions.from_dict(section(**changes))


@pytest.mark.parametrize('changes, named', [
    ({'ema_dekay': 0.9}, "train: unknown option 'ema_dekay'.*'ema_decay'"),
    ({'total_iter': 'left out'}, 'train.total_iter: missing; give a whole number from 1 to 1000000000'),
    ({'ema_decay': 2}, 'train.ema_decay: must be a number from 0 to 1'),
    ({'warmup_iter': 0.5}, 'train.warmup_iter'),
    ({'optim_g': 'left out'}, 'train.optim_g: missing; give a mapping'),
    ({'optim_g': {'type': 'Adam'}}, 'train.optim_g.lr: missing; give a number >= 0'),
    ({'optim_g': {'type': 'Adam', 'lr': '1e-4'}}, 'train.optim_g.lr: must be a number'),
    ({'scheduler': {'type': 'MultiStep'}}, "train.scheduler.type: must be one of .*'MultiStep'.*'MultiStepLR'"),
    ({'scheduler': {'type': 'MultiStepLR', 'milestone': [1]}}, "train.scheduler: .*'milestone'.*'milestones'"),
    ({'pixel_opt': None}, 'train.pixel_opt: missing'),
    ({'pixel_opt': {'type': 'L1Loss', 'loss_weight': -1}},
     'train.pixel_opt.loss_weight: must be a number >= 0, not -1'),
    ({'pixel_opt': {'type': 'L1Loss', 'loss_weight': 'x'}}, "train.pixel_opt.loss_weight: .*, not 'x'"),
    ({'pixel_opt': {'type': 'L1Loss', 'reduction': 'median'}},
     "pixel_opt.reduction: must be one of mean, sum, not 'median'"),
    ({'scheduler': 'MultiStepLR'}, "train.scheduler: must be a mapping of options, not 'MultiStepLR'"),
    ({'scheduler': None}, 'train.scheduler: must be a mapping of options, not None'),
    ({'scheduler': {'type': 'MultiStepLR', 'milestones': [0.5]}},
     'train.scheduler.milestones: must be a list, each a whole'),
    ({'scheduler': {'type': 'MultiStepLR', 'milestones': [1], 'restarts': [0, 5]}},
     'restart_weights: give one for each of'),
    ({'scheduler': cosine(periods=[9])}, r'train\.scheduler\.periods: together 9 iterations, fewer than the 10'),
    ({'scheduler': cosine(periods=[0])},
     r'train\.scheduler\.periods: must be a list of at least 1, each a whole number from 1 to 1000000000'),
    ({'scheduler': cosine(periods=[])}, r'train\.scheduler\.periods: must be a list of at least 1'),
    ({'scheduler': cosine(periods='abc')}, r"train\.scheduler\.periods: .*, not 'abc'"),
    ({'scheduler': cosine(periods=[5, 5])}, r'restart_weights: give one for each of the 2 periods'),
])  # fmt: skip
def test_what_is_not_known_is_named(changes, named):
    with pytest.raises(DynqError, match=named):
        TrainOptions.from_dict(section(**changes))
