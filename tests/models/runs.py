"""What a run leaves behind, to be compared."""

import torch


def content(experiment, iteration):
    found = {
        name: torch.load(experiment / name, weights_only=True)
        for name in (f'models/net_g_{iteration}.pth', f'training_states/{iteration}.state')
    }
    found[f'training_states/{iteration}.state'].pop('worked', None)  # seconds
    return found


def assert_equal(one, other, where=''):
    assert type(one) is type(other), where
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_equal(one[key], other[key], f'{where}/{key}')
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_equal(*pair, f'{where}/{number}')
    else:
        assert torch.equal(one, other) if isinstance(one, torch.Tensor) else one == other, where
