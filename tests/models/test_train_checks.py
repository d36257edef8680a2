"""BasicSR's ``train`` section: what is known passes, what is not is named."""

import pytest

from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.train_checks import check_train


def section(**changes):
    train = {
        'total_iter': 10, 'warmup_iter': -1, 'ema_decay': 0.999,
        'optim_g': {'type': 'AdamW', 'lr': 1e-4, 'weight_decay': 0, 'betas': [0.9, 0.99]},
        'scheduler': {'type': 'MultiStepLR', 'milestones': [5], 'gamma': 0.5},
        'pixel_opt': {'type': 'L1Loss', 'loss_weight': 1.0, 'reduction': 'mean'},
    }  # fmt: skip
    return {key: value for key, value in (train | changes).items() if value != 'left out'}


@pytest.mark.parametrize('changes', [
    {}, {'ema_decay': 'left out'}, {'warmup_iter': 100},
    {'scheduler': {'type': 'CosineAnnealingRestartLR', 'periods': [10], 'eta_min': 1e-6}},
    {'pixel_opt': None, 'perceptual_opt': {'type': 'PerceptualLoss', 'layer_weights': {'conv5_4': 1}}},
])  # fmt: skip
def test_what_is_known_passes(changes):
    check_train(section(**changes))


@pytest.mark.parametrize('changes, named', [
    ({'ema_dekay': 0.9}, "train: unknown option 'ema_dekay'.*'ema_decay'"),
    ({'total_iter': 'left out'}, 'train.total_iter: must be a whole number >= 1'),
    ({'ema_decay': 2}, 'train.ema_decay: must be a number from 0 to 1'),
    ({'warmup_iter': 0.5}, 'train.warmup_iter'),
    ({'optim_g': 'left out'}, 'train.optim_g.type: None is not known'),
    ({'optim_g': {'type': 'Adm', 'lr': 1}}, "train.optim_g.type: 'Adm' is not known.*'Adam'"),
    ({'optim_g': {'type': 'Adam', 'lr': 1, 'beta': 1}}, "train.optim_g: unknown option 'beta'.*'betas'"),
    ({'optim_g': {'type': 'Adam', 'lr': '1e-4'}}, 'train.optim_g.lr: must be a number'),
    ({'scheduler': {'type': 'MultiStep'}}, "train.scheduler.type: 'MultiStep'.*'MultiStepLR'"),
    ({'scheduler': {'type': 'MultiStepLR', 'milestone': [1]}}, "train.scheduler: .*'milestone'.*'milestones'"),
    ({'pixel_opt': None}, 'train.pixel_opt: missing'),
    ({'pixel_opt': {'type': 'L2Loss'}}, "train.pixel_opt.type: 'L2Loss'.*'L1Loss'"),
    ({'pixel_opt': {'type': 'L1Loss', 'loss_wait': 1}}, "train.pixel_opt: .*'loss_wait'.*'loss_weight'"),
])  # fmt: skip
def test_what_is_not_known_is_named(changes, named):
    with pytest.raises(DynqError, match=named):
        check_train(section(**changes))


def test_a_model_may_add_keys_of_its_own():
    check_train(section(gamma=1), [*section(), 'gamma'])
