"""What ``python -m dynq_basicsr.export`` refuses: one sentence, exit code 2, and nothing written."""

import re

import pytest
import torch
import yaml

pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')

from dynq_basicsr.archs.quantized_arch import QuantizedSR  # noqa: E402
from dynq_basicsr.cli import main  # noqa: E402
from dynq_basicsr.doctor import parts  # noqa: E402
from dynq_basicsr.errors import DynqError  # noqa: E402
from dynq_basicsr.export.freeze import freeze  # noqa: E402
from dynq_basicsr.models.tiling import TilingOptions  # noqa: E402
from dynq_basicsr.policies.base import BitPolicy  # noqa: E402

EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2}
W4A4 = {'weight': {'bits': 4}, 'activation': {'bits': 4}}


@pytest.fixture
def refuse(tmp_path, capfd):
    """``refuse(net, ...)``: export a network; the one line that the command says."""

    def run(net, out=tmp_path / 'model', **options):
        described = {'description': net.description} if isinstance(net, QuantizedSR) else {}
        torch.save({'params': net.state_dict(), **described}, tmp_path / 'net.pth')
        content = {'network_g': {'type': 'QuantizedSR'}, 'path': {}, 'num_gpu': 0, **options}
        (tmp_path / 'test.yml').write_text(yaml.safe_dump(content))
        capfd.readouterr()
        arguments = ['-opt', tmp_path / 'test.yml', '--checkpoint', tmp_path / 'net.pth', '--out', out]
        assert main(['export', *map(str, arguments)]) == 2
        lines = capfd.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith('dynq_basicsr: error: ') and not (tmp_path / 'model').exists()
        return lines[0]

    return run


@pytest.fixture
def edsr(calibrated):
    return calibrated(EDSR, W4A4)


@pytest.mark.parametrize('part', ['weight', 'activation'])
def test_literal_grids(refuse, calibrated, part):
    net = calibrated(EDSR, W4A4 | {part: {'bits': 4, 'grid': 'literal'}})
    assert f'body.0.conv1: quantization.{part}.grid is literal' in refuse(net)


def test_networks_that_are_not_calibrated(refuse, edsr):
    edsr.calibrated = False
    assert 'never calibrated; train it before it is exported' in refuse(edsr)


def test_float_networks(refuse):
    assert 'The network is float (quantization is off)' in refuse(QuantizedSR(EDSR))
    bare = QuantizedSR(EDSR).backbone
    assert 'network_g is EDSR, but only a QuantizedSR can be exported' in refuse(bare, network_g=EDSR)


def test_checkpoints_of_another_network(refuse, edsr, tmp_path):
    wider = {'type': 'QuantizedSR', 'backbone': EDSR | {'num_feat': 16}, 'quantization': W4A4}
    assert 'net.pth' in refuse(edsr, network_g=wider)
    (tmp_path / 'net.pth').write_text('no checkpoint')
    assert main(['export', '-opt', str(tmp_path / 'test.yml'), '--checkpoint', str(tmp_path / 'net.pth'),
                        '--out', str(tmp_path / 'model')]) == 2  # fmt: skip


def test_another_scale(refuse, edsr):
    assert 'scale: the option file says 4, but the network enlarges by 2' in refuse(edsr, scale=4)


def test_folders_that_hold_something_else(refuse, edsr, tmp_path):
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'a.png').write_bytes(b'a photo')
    assert 'photos: holds a.png, but is no model folder that may be replaced' in refuse(edsr, tmp_path / 'photos')
    assert (tmp_path / 'photos' / 'a.png').read_bytes() == b'a photo'
    assert 'a.png: is a file; name a folder' in refuse(edsr, tmp_path / 'photos' / 'a.png')


def test_folders_that_cannot_be_made(refuse, edsr, tmp_path):
    (tmp_path / 'file').touch()
    assert 'check the path' in refuse(edsr, tmp_path / 'file' / 'below' / 'model')


@pytest.mark.parametrize('missing', ['onnx', 'onnxruntime'])
def test_without_the_extra(refuse, edsr, monkeypatch, missing):
    monkeypatch.setattr(parts, 'find_spec', lambda name: None if name == missing else object())
    assert re.search(f'not installed; run `pip install "?{missing}', refuse(edsr))


def test_padding_that_is_not_zeros(edsr, tmp_path):
    edsr.backbone.body[0].conv2.padding_mode = 'reflect'
    with pytest.raises(DynqError, match=r'body\.0\.conv2: its padding \(reflect\) is not zeros'):
        freeze(edsr, tmp_path / 'model', TilingOptions(24))
    assert not (tmp_path / 'model').exists()


def test_policies_that_do_not_tell_their_assignments(edsr, tmp_path):
    edsr.policy.__class__ = type('Moody', (BitPolicy,), {})
    for ask in (edsr.policy.bit_configs, lambda: freeze(edsr, tmp_path / 'model', TilingOptions(24))):
        with pytest.raises(DynqError, match='Moody does not tell which bit assignments'):
            ask()
    with pytest.raises(DynqError, match='Moody tells no runtime how it chooses'):
        edsr.policy.runtime_spec()
    assert not (tmp_path / 'model').exists()


def test_granular_policies_without_entropies(calibrated):
    net = calibrated(EDSR, W4A4 | {'activation': {'bits': 8}}, {'type': 'GranularDQ'})
    net.policy.entropies.fill_(float('nan'))
    with pytest.raises(DynqError, match='distribution of entropies was never measured; train'):
        net.policy.bit_configs()


def test_networks_that_depend_on_the_size_in_python(edsr, tmp_path):
    forward = edsr.backbone.forward
    edsr.backbone.forward = lambda x: forward(x) * (1 + int(x.shape[2]) % 7)
    with pytest.raises(DynqError, match='EDSR: its ONNX graph does not give the numbers of the network'):
        freeze(edsr, tmp_path / 'model', TilingOptions(24))
    assert not (tmp_path / 'model').exists()


def test_networks_that_onnx_cannot_hold(edsr, tmp_path):
    forward = edsr.backbone.forward
    edsr.backbone.forward = lambda x: torch.special.bessel_j0(forward(x))
    with pytest.raises(DynqError, match='EDSR: PyTorch cannot write it as ONNX'):
        freeze(edsr, tmp_path / 'model', TilingOptions(24))
