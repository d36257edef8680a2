"""Damaged checkpoints: a sentence, or the same numbers."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from random import Random

import pytest
import torch
from safetensors.torch import save

from dynq_basicsr.backbones.checkpoints import read_checkpoint
from dynq_basicsr.backbones.torch_files import read_torch_file, to_bytes
from dynq_basicsr.errors import DynqError
from tests.fuzz.mutations import BYTES, altered, damaged, flip_bit, zero_block

DESCRIPTION = {
    'backbone': {'type': 'EDSR', 'num_in_ch': 3, 'num_block': 16, 'img_range': 255.0, 'rgb_mean': [0.4488, 0.4371]},
    'quantization': {'weight': {'bits': 4}, 'exclude': ['a', 'b']}, 'policy': {'type': 'Fixed'},
}  # fmt: skip


@pytest.fixture(scope='module')
def state():
    """A small state dict of floats, integers and truth values."""
    torch.manual_seed(0)
    return {
        'conv.weight': torch.randn(4, 3, 3, 3), 'conv.bias': torch.randn(4), 'half': torch.randn(9).half(),
        'norm.num_batches_tracked': torch.tensor(7), '_extra_state': torch.tensor(True),
    }  # fmt: skip


def by_torch(content, **options) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


def same(found, state) -> bool:
    return found.keys() == state.keys() and all(
        found[key].dtype == value.dtype and torch.equal(found[key], value) for key, value in state.items()
    )


@pytest.mark.parametrize('ours', [True, False], ids=['ours', "BasicSR's"])
def test_no_damage_of_an_archive_passes(tmp_path, state, ours):
    content = {'params': state, 'description': DESCRIPTION}
    whole, path = bytes(to_bytes(content)) if ours else by_torch(content), tmp_path / 'net.pth'
    refused = 0
    for case in damaged(whole, range(1600), (*BYTES, flip_bit, zero_block)):
        path.write_bytes(case)
        try:
            found, description = read_checkpoint(path)
        except DynqError as error:
            refused += 1
            assert str(path) in str(error) and '\n' not in str(error) and len(str(error)) < 600
        else:
            assert same(found, state) and description == DESCRIPTION
    # what passes lies between the records of an archive, where nothing is read; ours has a checksum over that, too
    assert refused > (1560 if ours else 1300)


def test_each_flip_in_our_file_is_found(tmp_path, state):
    whole, path = bytes(to_bytes({'iter': 3, 'params': state})), tmp_path / '3.state'
    comment = whole.rfind(b'dynq_basicsr')
    for place in range(0, comment, 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        with pytest.raises(DynqError, match=r'3\.state: '):
            read_torch_file(path)


@pytest.mark.parametrize('make', [partial(by_torch, _use_new_zipfile_serialization=False), save], ids=['old', 'safe'])
def test_files_without_checksums_end_in_a_sentence_or_finite_numbers(tmp_path, state, make):
    plain = {key: value for key, value in state.items() if not key.startswith('_')}
    whole, path = make(plain), tmp_path / ('net.safetensors' if make is save else 'net.pth')
    for case in damaged(whole, range(800)):
        path.write_bytes(case)
        try:
            found, _ = read_checkpoint(path)
        except DynqError as error:
            assert '\n' not in str(error) and len(str(error)) < 600
        else:
            assert all(value.float().isfinite().all() for value in found.values())


def test_descriptions_are_plain_and_small(tmp_path, state):
    path, refused = tmp_path / 'net.pth', 0
    for seed in range(600):
        case = altered(DESCRIPTION, seed)
        path.write_bytes(to_bytes({'params': state, 'description': case}))
        try:
            _, description = read_checkpoint(path)
        except DynqError as error:
            refused += 1
            assert str(path) in str(error) and len(str(error)) < 600
        else:
            assert description == case or not isinstance(case, dict)
    assert 50 < refused < 550


ALTERATIONS: dict[str, Callable] = {
    'sparse': lambda value: value.to_sparse(),
    'csr': lambda value: value.flatten(1).to_sparse_csr(),
    'meta': lambda value: value.to('meta'),
    'quantized': lambda value: torch.quantize_per_tensor(value, 0.1, 0, torch.qint8),
    'complex': lambda value: value.to(torch.complex64),
    'float8': lambda value: value.to(torch.float8_e4m3fn),
    'NaN': lambda value: value.index_fill(0, torch.tensor(1), float('nan')),
    'infinity': lambda value: value.index_fill(0, torch.tensor(1), float('-inf')),
    'above float32': lambda value: value.double() * 1e60,
    'claims 40 GB': lambda value: torch.zeros(1).expand(10_000_000_000),
}


@pytest.mark.parametrize('kind', ALTERATIONS)
def test_tensors_that_no_network_is_loaded_from(tmp_path, state, kind):
    for key in ('conv.weight', 'conv.bias'):
        value = state[key] if key != 'conv.bias' or kind != 'csr' else state['conv.weight']
        path = tmp_path / 'net.pth'
        path.write_bytes(by_torch({'params': {**state, key: ALTERATIONS[kind](value)}}))
        with pytest.raises(DynqError, match=r'net\.pth: '):
            read_checkpoint(path)


def test_mutations_are_the_same_for_the_same_seed():
    content = Random(0).randbytes(500)
    assert list(damaged(content, range(40))) == list(damaged(content, range(40)))
    assert str(altered(DESCRIPTION, 3)) == str(altered(DESCRIPTION, 3)) != str(DESCRIPTION)
