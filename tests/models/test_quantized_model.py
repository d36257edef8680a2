"""Evaluation: metrics, records, pictures, and what is refused."""

import csv
import json

import cv2
import numpy as np
import pytest
import torch
from basicsr.archs import build_network
from basicsr.metrics import calculate_psnr
from basicsr.models import build_model
from basicsr.utils import tensor2img

from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.patchwise_model import STRIP, to_image
from dynq_basicsr.training.calibration import Calibration

EDSR = {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 16, 'num_block': 2, 'upscale': 2}
SWINIR = {'type': 'SwinIR', 'upscale': 2, 'img_size': 16, 'window_size': 8, 'depths': [2], 'num_heads': [2],
          'embed_dim': 8, 'mlp_ratio': 2, 'upsampler': 'pixelshuffledirect', 'resi_connection': '1conv'}  # fmt: skip


def save_calibrated(path, batches, backbone=EDSR):
    torch.manual_seed(3)
    quantization = {'weight': {'bits': 4}, 'activation': {'bits': 4}}
    net = QuantizedSR(backbone, quantization, {'type': 'AdaBM'}).eval()
    calibration = Calibration(net)
    for batch in batches:
        calibration.observe(batch['lq'])
    calibration.finish()
    torch.save({'params': net.state_dict(), 'description': net.description}, path)
    return net


@pytest.fixture
def checkpoint(tmp_path, batches):
    """A calibrated checkpoint."""
    save_calibrated(tmp_path / 'quantized.pth', batches(3))
    return tmp_path / 'quantized.pth'


def read(options):
    root = options['path']['results_root']
    with open(f'{root}/per_image.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    with open(f'{root}/metrics.json') as file:
        return json.load(file), rows


@pytest.mark.parametrize('height', [1, STRIP, 2 * STRIP + 1])
@pytest.mark.parametrize('channels', [1, 3])
def test_pixels_are_those_of_basicsr(height, channels):
    image = 1.2 * torch.rand(1, channels, height, 5) - 0.1
    np.testing.assert_array_equal(to_image(image.clone()), tensor2img([image.clone()]))


def test_records_hold_every_image_and_their_means(checkpoint, test_options, loader):
    options = test_options(checkpoint)
    model = build_model(options)
    model.validation(loader(), 'tiny', None, False)
    means, rows = read(options)
    assert sorted(row['image'] for row in rows) == ['astronaut', 'chelsea', 'coffee']
    assert set(rows[0]) == {'dataset', 'image', 'psnr', 'fab', 'bitops', 'seconds'}
    assert {row['dataset'] for row in rows} == {'photographs'} and list(means) == ['photographs']
    for metric in ('psnr', 'fab', 'bitops'):
        values = [float(row[metric]) for row in rows]
        assert means['photographs'][metric] == pytest.approx(np.mean(values)) == model.metric_results[metric]
    assert all(2 <= float(row['fab']) <= 6 for row in rows)


@torch.no_grad()
def test_a_picture_is_what_the_network_gives_for_each_patch(
    checkpoint, test_options, loader, batches, photographs, tmp_path
):
    options = test_options(checkpoint, val={'save_img': True, 'patch_size': 40})
    build_model(options).validation(loader(), 'tiny', None, True)
    net = save_calibrated(tmp_path / 'again.pth', batches(3))
    low = cv2.imread(str(photographs / 'LR' / 'astronaut.png'))[..., ::-1].astype(np.float32) / 255
    lq = torch.from_numpy(low.transpose(2, 0, 1).copy()).unsqueeze(0).contiguous(memory_format=torch.channels_last)
    saved = cv2.imread(str(tmp_path / 'results' / 'visualization' / 'photographs' / 'astronaut_tiny_test.png'))
    assert saved.shape == (160, 208, 3)
    psnr = []
    for top, left, bottom, right in ((0, 0, 40, 40), (0, 40, 40, 104), (40, 0, 80, 40), (40, 40, 80, 104)):
        patch = net(lq[..., top:bottom, left:right])[0].clamp(0, 1).mul(255).round().permute(1, 2, 0).numpy()
        difference = saved[2 * top : 2 * bottom, 2 * left : 2 * right, ::-1].astype(int) - patch
        assert np.abs(difference).max() <= 1  # batches of one round otherwise
        psnr.append(np.mean(difference == 0))
    assert np.mean(psnr) > 0.99
    truth = cv2.imread(str(photographs / 'HR' / 'astronaut.png'))
    row = next(row for row in read(options)[1] if row['image'] == 'astronaut')
    assert float(row['psnr']) == pytest.approx(calculate_psnr(saved, truth, crop_border=2, test_y_channel=True))


def test_a_float_network_has_32_bits(float_checkpoint, test_options, loader):
    options = test_options(float_checkpoint, network_g=None)
    options['network_g'] = EDSR
    build_model(options).validation(loader(), 'tiny', None, False)
    assert read(options)[0]['photographs']['fab'] == 32


def test_switched_off_it_gives_the_numbers_of_the_float_network(float_checkpoint, test_options, loader):
    results = []
    for network in (EDSR, {'type': 'QuantizedSR', 'backbone': EDSR}):
        options = test_options(float_checkpoint, network_g=None)
        options['network_g'] = network
        model = build_model(options)
        model.validation(loader(), 'tiny', None, False)
        results.append(model.metric_results)
    assert results[0] == results[1]


@pytest.mark.parametrize('patch_size', [None, 48])
def test_images_without_ground_truth(checkpoint, test_options, loader, patch_size):
    options = test_options(checkpoint, val={'metrics': {'fab': {'type': 'calculate_fab'}}, 'patch_size': patch_size})
    del options['val']['metrics']['psnr'], options['val']['metrics']['bitops']
    build_model(options).validation(loader(paired=False), 'tiny', None, False)
    assert 2 <= read(options)[0]['photographs']['fab'] <= 6


def test_without_metrics_pictures_and_seconds_remain(checkpoint, test_options, loader, tmp_path):
    options = test_options(checkpoint, val={'metrics': None, 'suffix': 'mine'})
    build_model(options).validation(loader(paired=False), 'tiny', None, True)
    folder = tmp_path / 'results' / 'visualization' / 'photographs'
    assert sorted(one.name for one in folder.iterdir()) == ['astronaut_mine.png', 'chelsea_mine.png', 'coffee_mine.png']
    means, rows = read(options)
    assert means == {'photographs': {}} and set(rows[0]) == {'dataset', 'image', 'seconds'}


def test_several_data_sets_in_one_run(checkpoint, test_options, loader):
    options = test_options(checkpoint)
    model = build_model(options)
    for name in ('one', 'two'):
        model.validation(loader(name=name), 'tiny', None, False)
    means, rows = read(options)
    assert list(means) == ['one', 'two'] and means['one'] == means['two'] and len(rows) == 6


def test_bit_maps_lie_beside_the_results(checkpoint, test_options, loader, tmp_path):
    options = test_options(checkpoint, val={'bit_maps': True})
    build_model(options).validation(loader(), 'tiny', None, True)
    folder = tmp_path / 'results' / 'visualization' / 'photographs'
    for name in ('astronaut', 'chelsea', 'coffee'):
        assert cv2.imread(str(folder / f'{name}_tiny_test.png')).shape[2] == 3
        assert cv2.imread(str(folder / f'{name}_tiny_test_bits.png')) is not None


def test_overlapping_patches_cost_what_runs(checkpoint, test_options, loader):
    cost = []
    for step in (48, 24):
        model = build_model(test_options(checkpoint, val={'patch_step': step}))
        model.validation(loader(), 'tiny', None, False)
        cost.append(model.metric_results['bitops'])
    assert cost[1] > 1.3 * cost[0]


@torch.no_grad()
def test_a_transformer_takes_any_size(tmp_path, test_options, batches):
    save_calibrated(tmp_path / 'swinir.pth', batches(2), SWINIR)
    options = test_options(tmp_path / 'swinir.pth', network_g={'backbone': SWINIR}, val={'patch_size': 20})
    options['network_g']['backbone'] = SWINIR
    model = build_model(options)
    for height, width in ((20, 33), (5, 4), (41, 60)):
        model.feed_data({'lq': torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))})
        model.test()
        assert model.output.shape == (1, 3, 2 * height, 2 * width) and model.output.isfinite().all()
        assert model.usage.patch_bits.isfinite().all()


def test_testing_changes_nothing(checkpoint, test_options, loader):
    model = build_model(test_options(checkpoint))
    before = {key: value.clone() for key, value in model.network.state_dict().items()}
    for _ in range(2):
        model.validation(loader(), 'tiny', None, False)
    assert all(torch.equal(value, before[key]) for key, value in model.network.state_dict().items())
    assert model.network.holder.run is None


# -- refused ---------------------------------------------------------------------------------------------------------


def test_an_unknown_key_in_val(checkpoint, test_options):
    with pytest.raises(DynqError, match="val: unknown option 'patch_sizes'.*'patch_size'"):
        build_model(test_options(checkpoint, val={'patch_sizes': 96}))


def test_an_uncalibrated_network(float_checkpoint, test_options, loader):
    model = build_model(test_options(float_checkpoint))
    with pytest.raises(DynqError, match='never calibrated'):
        model.validation(loader(), 'tiny', None, False)


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_a_result_that_is_not_finite_names_the_image(tmp_path, test_options, loader, float_checkpoint, value):
    options = test_options(float_checkpoint, network_g=None)
    options['network_g'] = EDSR
    model = build_model(options)
    with torch.no_grad():
        model.network.conv_last.bias[0] = value
    with pytest.raises(DynqError, match=r'\.png: the result holds NaN or infinity'):
        model.validation(loader(), 'tiny', None, False)
    assert not (tmp_path / 'results' / 'metrics.json').exists()


def test_a_network_of_another_scale_than_the_data_set(tmp_path, test_options, loader):
    torch.save({'params': build_network({**EDSR, 'upscale': 4}).state_dict()}, tmp_path / 'x4.pth')
    options = test_options(tmp_path / 'x4.pth', network_g=None)
    options['network_g'] = {**EDSR, 'upscale': 4}
    with pytest.raises(DynqError, match=r'\.png: result and ground truth differ in size'):
        build_model(options).validation(loader(), 'tiny', None, False)


def test_a_checkpoint_that_is_missing(tmp_path, test_options):
    with pytest.raises(DynqError, match=r'no checkpoint at .*absent\.pth'):
        build_model(test_options(tmp_path / 'absent.pth'))


def test_several_gpus_in_one_process(checkpoint, test_options):
    with pytest.raises(DynqError, match='torchrun'):
        build_model(test_options(checkpoint, num_gpu=2))


def test_weights_that_are_not_finite_are_not_saved(checkpoint, test_options, tmp_path):
    model = build_model(test_options(checkpoint, path={'models': str(tmp_path)}))
    model.save_network(model.net_g, 'net_g', 7)
    whole = (tmp_path / 'net_g_7.pth').read_bytes()
    with torch.no_grad():
        model.network.policy.thresholds[0] = float('nan')
    with pytest.raises(DynqError, match=r'NaN or infinity in policy\.thresholds and is not saved'):
        model.save_network(model.net_g, 'net_g', 7)
    assert (tmp_path / 'net_g_7.pth').read_bytes() == whole


def test_a_metric_that_is_not_a_number_names_image_and_metric(tmp_path, test_options, loader, float_checkpoint):
    options = test_options(float_checkpoint, network_g=None)
    options['network_g'] = EDSR
    options['val']['metrics']['psnr']['crop_border'] = 1000
    with pytest.raises(DynqError, match=r'\.png: psnr is not a number'):
        build_model(options).validation(loader(), 'tiny', None, False)
    assert not (tmp_path / 'results' / 'metrics.json').exists()


def test_a_picture_that_cannot_be_written_is_named(tmp_path, test_options, loader, float_checkpoint, monkeypatch):
    def full(*args):
        raise OSError('Failed in writing images.')

    monkeypatch.setattr('dynq_basicsr.models.patchwise_model.write_image', full)
    options = test_options(float_checkpoint, network_g=None)
    options['network_g'] = EDSR
    with pytest.raises(DynqError, match=r'\.png: cannot be written'):
        build_model(options).validation(loader(), 'tiny', None, True)
