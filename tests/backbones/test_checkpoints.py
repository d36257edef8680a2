"""Every parameter of a checkpoint is accounted for, and nothing in a file is executed."""

import argparse
import os
import random

import pytest
import torch
from safetensors.torch import save_file

from dynq_basicsr.backbones.checkpoints import load_weights, read_checkpoint
from dynq_basicsr.errors import DynqError


def equal(net, weights):
    return all(torch.equal(net.state_dict()[key], value) for key, value in weights.items())


@pytest.mark.parametrize('wrap', [
    lambda s: s,
    lambda s: {'params': s},
    lambda s: {'params_ema': s},
    lambda s: {'state_dict': s, 'epoch': 3},
    lambda s: {'model': s, 'optimizer': {'lr': 0.1}},
    lambda s: {'params-ema': s},
    lambda s: {'model_state_dict': s, 'epoch': 1},
    lambda s: {'generator': s, 'discriminator': {'w': torch.ones(1)}},
    lambda s: {'state_dict': {'net_g': s}},
    lambda s: {f'_orig_mod.{key}': value for key, value in s.items()},
    lambda s: {f'module._orig_mod.{key}': value for key, value in s.items()},
    lambda s: {f'_orig_mod.module.module.{key}': value for key, value in s.items()},
    lambda s: {key.replace('body.', 'body._orig_mod.'): value for key, value in s.items()},
    lambda s: {f'netG.net.{key}': value for key, value in s.items()},
    lambda s: {f'module.{key}': value for key, value in s.items()},
    lambda s: {'params': {f'module.{key}': value for key, value in s.items()}},
    lambda s: {key: value.half().float() for key, value in s.items()},
])  # fmt: skip
def test_sections_and_prefixes(tmp_path, edsr, weights, wrap):
    weights = {key: value.half().float() for key, value in weights.items()}
    torch.save(wrap(weights), tmp_path / 'net.pth')
    net = edsr()
    load_weights(net, tmp_path / 'net.pth')
    assert equal(net, weights)


@pytest.mark.parametrize('param_key, first', [('params', 1.0), ('params_ema', 2.0), (None, 2.0), ('absent', 2.0)])
def test_the_section_asked_for_comes_first(tmp_path, param_key, first):
    torch.save({'params': {'w': torch.tensor([1.0])}, 'params_ema': {'w': torch.tensor([2.0])}}, tmp_path / 'net.pth')
    state, description = read_checkpoint(tmp_path / 'net.pth', param_key)
    assert state['w'].item() == first and description == {}


@pytest.mark.parametrize('prefix', ['', 'module.'])
def test_safetensors(tmp_path, edsr, weights, prefix):
    save_file({prefix + key: value for key, value in weights.items()}, tmp_path / 'net.safetensors')
    net = edsr()
    load_weights(net, tmp_path / 'net.safetensors')
    assert equal(net, weights)


def test_files_of_the_old_format(tmp_path, edsr, weights):
    torch.save(weights, tmp_path / 'net.pth', _use_new_zipfile_serialization=False)
    net = edsr()
    load_weights(net, str(tmp_path / 'net.pth'))
    assert equal(net, weights)


# -- checkpoints that do not fit -------------------------------------------------------------------------------------


@pytest.mark.parametrize('damage, named', [
    (lambda s: s.pop('body.0.conv1.weight'), r'1 missing \(body\.0\.conv1\.weight\)'),
    (lambda s: s.update(extra=torch.ones(1)), r'1 left over \(extra\)'),
    (lambda s: s.update(conv_last=s.pop('conv_last.weight')),
     r'1 missing \(conv_last\.weight\); 1 left over \(conv_last\)'),
    (lambda s: s.update({'conv_first.weight': torch.zeros(16, 1, 3, 3)}),
     r'1 of another shape \(conv_first\.weight is \(16, 1, 3, 3\), not \(16, 3, 3, 3\)\)'),
    (lambda s: s.update({'conv_first.bias': torch.zeros(16, dtype=torch.int32)}),
     r'1 of another type \(conv_first\.bias holds integers, not floats\)'),
    (lambda s: s.update({'conv_first.bias': torch.zeros(16, dtype=torch.bool)}), 'holds truth values, not floats'),
])  # fmt: skip
@pytest.mark.parametrize('quantized', [False, True])
def test_a_mismatch_names_its_keys_and_changes_nothing(
    tmp_path, edsr, quantized_edsr, weights, damage, named, quantized
):
    damage(weights)
    torch.save({'params': weights}, tmp_path / 'net.pth')
    net = quantized_edsr() if quantized else edsr()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    with pytest.raises(DynqError, match=named) as caught:
        load_weights(net, tmp_path / 'net.pth')
    assert str(tmp_path / 'net.pth') in str(caught.value) and '\n' not in str(caught.value)
    assert equal(net, before)


def test_long_lists_of_keys_are_cut(tmp_path, edsr, weights):
    torch.save({f'foreign_{key}': value for key, value in weights.items()}, tmp_path / 'net.pth')
    with pytest.raises(DynqError, match=r'\d+ missing \(conv_first\.weight, .*, \.\.\.\)') as caught:
        load_weights(edsr(), tmp_path / 'net.pth')
    assert len(str(caught.value)) < 700


def test_another_scale_is_refused(tmp_path, edsr, weights):
    torch.save(weights, tmp_path / 'net.pth')
    with pytest.raises(DynqError, match='left over'):
        load_weights(edsr(upscale=2), tmp_path / 'net.pth')


@pytest.mark.parametrize(
    'content', [{}, {'params': {}}, {'epoch': 3}, [torch.ones(1)], torch.ones(3), {'params': {'a': 1}}, 7]
)
def test_a_file_without_a_state_dict(tmp_path, edsr, content):
    torch.save(content, tmp_path / 'net.pth')
    with pytest.raises(DynqError, match='holds no state dict'):
        load_weights(edsr(), tmp_path / 'net.pth')


def test_what_is_there_instead_of_a_state_dict_is_told(tmp_path, edsr):
    torch.save({'epoch': 3, 'optimizer': {'lr': 1}}, tmp_path / 'net.pth')
    with pytest.raises(DynqError, match=r"neither under 'params' nor by itself; its keys are 'epoch', 'optimizer'\."):
        load_weights(edsr(), tmp_path / 'net.pth')


def test_names_that_are_no_text(tmp_path, edsr, weights):
    torch.save({**weights, 7: torch.ones(1)}, tmp_path / 'net.pth')
    with pytest.raises(DynqError, match='holds a tensor under 7, which is no name'):
        load_weights(edsr(), tmp_path / 'net.pth')


def test_a_torchscript_program(tmp_path, edsr):
    torch.jit.save(torch.jit.trace(edsr(), torch.rand(1, 3, 8, 8)), tmp_path / 'net.pt')
    with pytest.raises(DynqError, match=r'net\.pt: holds a TorchScript program, not a state dict'):
        load_weights(edsr(), tmp_path / 'net.pt')


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_values_that_are_not_finite(tmp_path, edsr, weights, suffix, value):
    weights['conv_last.bias'][1] = value
    path = tmp_path / f'net{suffix}'
    (save_file if suffix == '.safetensors' else torch.save)(weights, path)
    with pytest.raises(DynqError, match=r'conv_last\.bias holds NaN or infinity'):
        load_weights(edsr(), path)


def test_buffers_that_count_may_be_missing_but_statistics_may_not(tmp_path):
    from dynq_basicsr.archs.srresnet_bn_arch import SRResNetBN

    def build():
        return SRResNetBN(num_feat=4, num_block=1)

    state = build().state_dict()
    torch.save({key: value for key, value in state.items() if 'num_batches' not in key}, tmp_path / 'net.pth')
    load_weights(build(), tmp_path / 'net.pth')
    torch.save({key: value for key, value in state.items() if 'running_var' not in key}, tmp_path / 'net.pth')
    with pytest.raises(DynqError, match='3 missing .*running_var'):
        load_weights(build(), tmp_path / 'net.pth')


# -- files that are no checkpoints -----------------------------------------------------------------------------------


def test_a_missing_file(edsr, tmp_path):
    for path in (tmp_path / 'absent.pth', tmp_path):
        with pytest.raises(DynqError, match=r'no such checkpoint; check path\.pretrain_network_g'):
            load_weights(edsr(), path)


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
@pytest.mark.parametrize('content', [
    b'', b'\x00', b'<!DOCTYPE html><html>404</html>', b'version https://git-lfs.github.com/spec/v1\noid sha256:00\n',
    bytes(1000), b'\x80\x02}q\x00.', b'\x89PNG\r\n\x1a\n' + bytes(50), b'\xff' * 64,
])  # fmt: skip
def test_files_of_another_kind(tmp_path, edsr, content, suffix):
    path = tmp_path / f'net{suffix}'
    path.write_bytes(content)
    with pytest.raises(DynqError, match=r'net\.(pth|safetensors): '):
        load_weights(edsr(), path)


@pytest.mark.parametrize('kind', ['zip', 'old', 'safetensors'])
def test_truncated_and_garbled_files(tmp_path, edsr, weights, kind):
    whole = tmp_path / ('net.safetensors' if kind == 'safetensors' else 'net.pth')
    if kind == 'safetensors':
        save_file(weights, whole)
    else:
        torch.save(weights, whole, _use_new_zipfile_serialization=kind == 'zip')
    content = whole.read_bytes()
    random.seed(0)
    garbled = bytearray(content)
    for position in random.sample(range(1500), 200):  # the pickle or the header, for a garbled number is a number still
        garbled[position] = random.randrange(256)
    for broken in (content[:7], content[: len(content) // 3], content[:-1000], bytes(garbled)):
        whole.write_bytes(broken)
        with pytest.raises(DynqError):
            load_weights(edsr(), whole)


class Harmful:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('place', ['top', 'inside'])
def test_nothing_in_a_file_is_executed(tmp_path, edsr, weights, zipped, place):
    harm = Harmful(tmp_path / 'executed')
    content = harm if place == 'top' else {'params': weights, 'more': harm}
    torch.save(content, tmp_path / 'net.pth', _use_new_zipfile_serialization=zipped)
    with pytest.raises(DynqError, match='not a readable checkpoint of plain tensors') as caught:
        load_weights(edsr(), tmp_path / 'net.pth')
    assert not (tmp_path / 'executed').exists() and '\n' not in str(caught.value)


def test_other_peoples_classes_are_refused(tmp_path, edsr, weights):
    torch.save({'params': weights, 'args': argparse.Namespace(lr=1)}, tmp_path / 'net.pth')
    with pytest.raises(DynqError, match='plain tensors'):
        load_weights(edsr(), tmp_path / 'net.pth')
