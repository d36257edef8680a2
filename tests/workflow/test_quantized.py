"""The object that a quantized network is, saved, loaded and exported."""

import math
import pickle
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from dynq_basicsr import quantize
from dynq_basicsr.archs.arch_options import build_backbone
from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.patch_grid import TilingOptions
from dynq_basicsr.workflow.quantized import Quantized
from dynq_basicsr.workflow.restore import restore


@pytest.fixture(scope='module')
def quantized(compact, photos):
    made = quantize(compact, photos, method='adabm', device='cpu')
    made.tiling = TilingOptions(24)
    return made


def test_tensors_and_arrays_give_the_same(quantized, photos):
    array = photos[0]
    tensor = torch.from_numpy(array.transpose(2, 0, 1).copy()).float() / 255
    result = quantized(tensor)
    assert result.shape == (3, 112, 120) and 0 <= result.min() <= result.max() <= 1
    assert torch.equal(quantized(tensor[None])[0], result)
    assert np.array_equal(quantized(array), np.rint(result.numpy() * 255).astype(np.uint8).transpose(1, 2, 0))


def test_tensors_of_bytes_and_images_of_pillow(quantized, photos):
    expected = quantized(photos[0])
    tensor = torch.from_numpy(photos[0].transpose(2, 0, 1).copy())
    for found in (quantized(tensor), quantized(tensor[None])[0]):
        assert found.dtype == torch.uint8 and np.array_equal(found.permute(1, 2, 0).numpy(), expected)
    assert np.array_equal(quantized(Image.fromarray(photos[0])), expected)
    with pytest.raises(DynqError, match='not a tensor; give'):
        quantized.upscale(tensor)


def test_networks_do_not_wait_for_each_other(quantized, compact, photos):
    other, attending = (quantize(compact, photos, method='minmax', device='cpu') for _ in range(2))
    assert quantized._alone is Quantized(quantized.network)._alone is not other._alone
    copied = pickle.loads(pickle.dumps(quantized))
    assert np.array_equal(copied(photos[1]), quantized(photos[1])) and copied._alone is not quantized._alone
    for one in (other, attending):
        one.network.attention = nn.MultiheadAttention(4, 2)
    assert other._alone is attending._alone


def test_a_grey_picture_comes_out_grey(quantized, photos):
    assert quantized.upscale(photos[0][..., 0]).shape == (112, 120)


def test_a_file(quantized, photos, tmp_path):
    cv2.imwrite(str(tmp_path / 'a.png'), photos[0][..., ::-1])
    assert np.array_equal(quantized.upscale(tmp_path / 'a.png'), quantized.upscale(photos[0]))


def test_bits_follow_the_patches(quantized, photos, tmp_path):
    usage = quantized.bit_map(photos[0], tmp_path / 'bits.png')
    assert len(usage.boxes) == 4
    assert cv2.imread(str(tmp_path / 'bits.png')) is not None
    assert usage.fab() == quantized.bits(photos[0]).fab()


def test_agreement_of_a_network_with_itself_is_perfect(compact, photos):
    made = quantize(compact, photos, bits=8, method='minmax', device='cpu')
    images = [torch.from_numpy(photos[0].transpose(2, 0, 1).copy())]
    psnr, fab = made.agreement(images)
    assert 25 < psnr < 70 and fab == 8
    made._run = lambda image, mode=None, run=made._run: run(image)
    assert made.agreement(images)[0] == math.inf


def test_types_stay(quantized, photos):
    array = photos[0]
    fine = quantized(array.astype(np.uint16) * 257)
    assert fine.dtype == np.uint16 and (fine % 257 != 0).any()
    floats = quantized(array / np.float32(255))
    assert floats.dtype == np.float32
    np.testing.assert_allclose(fine / 65535, floats, rtol=0, atol=0.51 / 65535)
    np.testing.assert_array_equal(np.rint(floats * 255), quantized(array))
    tensor = torch.from_numpy(array.transpose(2, 0, 1).copy()).float() / 255
    np.testing.assert_allclose(quantized(tensor).permute(1, 2, 0).numpy(), floats, rtol=0, atol=1e-7)


def test_colours_through_a_network_of_luma(photos, tmp_path):
    pytest.importorskip('onnxruntime')
    from dynq_basicsr.runtime.model import FrozenModel

    torch.manual_seed(0)
    net = build_backbone({'type': 'SRVGGNetCompact', 'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 8, 'num_conv': 3,
                          'upscale': 2})  # fmt: skip
    made = quantize(net, photos, method='minmax', device='cpu')
    found = made.upscale(photos[1])
    assert found.dtype == np.uint8 and found.shape == (112, 120, 3)
    assert made.bit_map(photos[1], tmp_path / 'bits.png').fab() == 4
    made.export(tmp_path / 'model')
    assert np.array_equal(FrozenModel(tmp_path / 'model', threads=1)(photos[1]), found)


@pytest.mark.parametrize(
    'image', [np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9, 3), np.int64), torch.zeros(1, 1, 9, 9)]
)
def test_what_does_not_fit_is_refused(image, quantized):
    with pytest.raises(DynqError, match='must be|channels'):
        quantized(image)


def test_threads_do_not_disturb_each_other(quantized, photos):
    expected = [quantized.upscale(photo) for photo in photos]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(expected * 3, pool.map(quantized.upscale, photos * 3), strict=True):
            assert np.array_equal(one, other)


@pytest.mark.parametrize('image', ['absent.png', '.', None, torch.rand(1, 3, 9, 9) * 255, torch.rand(0, 3, 9, 9)])
def test_what_is_no_image(quantized, image):
    with pytest.raises(DynqError):
        quantized(image)


def test_saved_and_loaded(quantized, photos, tmp_path):
    quantized.save(tmp_path / 'q.pth')
    loaded = restore(tmp_path / 'q.pth', device='cpu')
    loaded.tiling = quantized.tiling
    assert np.array_equal(loaded.upscale(photos[1]), quantized.upscale(photos[1]))


def test_a_module_is_needed_again(photos, tmp_path):
    torch.manual_seed(1)
    net = nn.Sequential(*build_backbone({'type': 'SRVGGNetCompact', 'num_feat': 8, 'num_conv': 3, 'upscale': 2}).body,
                        nn.PixelShuffle(2))  # fmt: skip
    made = quantize(net, photos, method='minmax', device='cpu')
    made.save(tmp_path / 'q.pth')
    with pytest.raises(DynqError, match='pass such a module'):
        restore(tmp_path / 'q.pth', device='cpu')
    loaded = restore(tmp_path / 'q.pth', model=net, device='cpu')
    assert np.array_equal(loaded.upscale(photos[1]), made.upscale(photos[1]))


def test_exported_graphs_give_the_same_picture(quantized, photos, tmp_path):
    pytest.importorskip('onnxruntime')
    from dynq_basicsr.runtime.model import FrozenModel

    quantized.export(tmp_path / 'model')
    frozen = FrozenModel(tmp_path / 'model', threads=1)
    assert frozen.scale == 2
    assert np.array_equal(frozen.upscale(photos[2]), quantized.upscale(photos[2]))
    assert frozen(photos[2][..., 0]).shape == (112, 120)
    with pytest.raises(DynqError, match='must be'):
        frozen(np.zeros((4, 4, 2), np.uint8))


@pytest.mark.parametrize('scale', [4, 2])
def test_real_esrgan_of_basicsr(scale, photos, tmp_path):
    """At x2 the image is unshuffled first, so the head sees twelve channels and sides must be even."""
    pytest.importorskip('onnxruntime')
    from dynq_basicsr.runtime.model import FrozenModel

    options = {'type': 'RRDBNet', 'num_in_ch': 3, 'num_out_ch': 3, 'scale': scale, 'num_feat': 8, 'num_block': 1,
               'num_grow_ch': 4}  # fmt: skip
    torch.manual_seed(0)
    torch.save({'params_ema': build_backbone(options).state_dict()}, tmp_path / f'RealESRGAN_x{scale}.pth')
    made = quantize(tmp_path / f'RealESRGAN_x{scale}.pth', photos, method='minmax', device='cpu')
    plan = made.network.plan
    assert made.network.scale == scale and plan.adaptive and 'conv_first' not in plan.quantized
    made.export(tmp_path / 'model')
    odd = photos[0][:41, :53]
    found = FrozenModel(tmp_path / 'model', threads=1)(odd)
    assert found.shape == (41 * scale, 53 * scale, 3)
    assert (found != made(odd)).mean() < 1e-3 and np.abs(found.astype(int) - made(odd)).max() <= 1
