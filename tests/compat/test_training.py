"""Optimizers by name."""

import pytest
import torch
from basicsr.models.base_model import BaseModel

from dynq_basicsr.errors import DynqError


def build(kind: str, **options) -> torch.optim.Optimizer:
    return BaseModel.get_optimizer(None, kind, [{'params': [torch.nn.Parameter(torch.zeros(1))]}], lr=0.1, **options)


@pytest.mark.parametrize('kind, options', [('Adam', {'betas': [0.9, 0.99]}), ('AdamW', {}), ('SGD', {'momentum': 0.9})])
def test_any_optimizer_of_torch(kind, options):
    optimizer = build(kind, **options)
    assert type(optimizer) is getattr(torch.optim, kind) and optimizer.param_groups[0]['lr'] == 0.1


@pytest.mark.parametrize('kind, options, expected', [
    ('AdmW', {}, "'AdmW' is none of torch.optim.*'AdamW'"),
    ('Optimizer', {}, "'Optimizer'"),
    ('lr_scheduler', {}, "'lr_scheduler'"),
    ('SGD', {'momentom': 0.9}, 'SGD: .*momentom'),
    ('SGD', {'momentum': -1}, 'SGD: Invalid momentum'),
])
def test_mistakes(kind, options, expected):
    with pytest.raises(DynqError, match=expected):
        build(kind, **options)
