"""Which entropies get which bits, what the chart shows, and what the command refuses."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest
import torch
import yaml

from dynq_basicsr import cli
from dynq_basicsr.archs.quantized_arch import QuantizedSR
from dynq_basicsr.policies.complexity import entropy
from dynq_basicsr.report import entropies
from dynq_basicsr.report.entropies import LEFT, SIZE, TOP, Thresholds, draw_entropies
from dynq_basicsr.report.layer_charts import bit_colours
from dynq_basicsr.report.one_image import as_batch

POLICY = {'type': 'GranularDQ', 'entropy_quantiles': [0.25, 0.75]}
NETWORK = {
    'type': 'QuantizedSR',
    'backbone': {'type': 'EDSR', 'num_in_ch': 3, 'num_out_ch': 3, 'num_feat': 8, 'num_block': 1, 'upscale': 2},
    'quantization': {'weight': {'bits': 8}, 'activation': {'bits': 8, 'quantizer': 'learned_step'}},
    'policy': POLICY,
}
COUNT = 6 + 4  # patches of 16 pixels of 48 x 32 and of 33 x 40


@pytest.fixture
def option_file(tmp_path):
    """An option file with a training and a test set of two images."""
    random = np.random.RandomState(0)
    for name, shape in (('a', (48, 32)), ('b', (33, 40))):
        image = (random.rand(*shape, 3) * np.linspace(10, 255, shape[1])[None, :, None]).astype(np.uint8)
        for folder, pixels in (('LR', image), ('HR', image.repeat(2, axis=0).repeat(2, axis=1))):
            (tmp_path / folder).mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / folder / f'{name}.png'), pixels)
    pair = {'name': 'photographs', 'type': 'PairedImageDataset', 'dataroot_gt': str(tmp_path / 'HR'),
            'dataroot_lq': str(tmp_path / 'LR'), 'io_backend': {'type': 'disk'}}  # fmt: skip
    options = {
        'scale': 2, 'num_gpu': 0, 'network_g': NETWORK, 'path': {'pretrain_network_g': None},
        'datasets': {'val': pair, 'train': pair | {'gt_size': 32, 'use_hflip': True, 'use_rot': True}},
        'val': {'patch_size': 16},
    }  # fmt: skip
    (tmp_path / 'options.yml').write_text(yaml.safe_dump(options))
    return tmp_path / 'options.yml'


@pytest.fixture
def checkpoint(tmp_path):
    """A network that knows its entropies."""
    net = QuantizedSR(**{key: value for key, value in NETWORK.items() if key != 'type'})
    net.calibrated = True
    net.policy.set_distribution(torch.linspace(1, 3, 1000))
    torch.save({'params': net.state_dict(), 'description': net.description}, tmp_path / 'net.pth')
    return tmp_path / 'net.pth'


def run(option_file, *more):
    out = option_file.parent / 'pictures' / 'entropies.png'
    return cli.main(['report', 'entropies', '-opt', str(option_file), '--out', str(out), *map(str, more)]), out


def test_a_threshold_belongs_to_the_fewer_bits_as_in_the_policy():
    thresholds = Thresholds((4, 5, 8), (2.0, 2.5), '')
    parts = thresholds.split(np.array([1.0, 2.0, 2.1, 2.5, 2.6, 9.0], np.float32))
    assert [part.tolist() for part in parts] == [[1.0, 2.0], pytest.approx([2.1, 2.5]), pytest.approx([2.6, 9.0])]


def test_the_chart_has_the_colours_of_the_bits_on_either_side_of_thresholds(tmp_path):
    values = np.linspace(1, 3, 6001)
    thresholds = Thresholds((4, 5, 8), (1.8, 2.6), 'made up')
    draw_entropies(values, thresholds, tmp_path / 'new' / 'chart.png', 'title', 'patches')
    row = cv2.imread(str(tmp_path / 'new' / 'chart.png'))[TOP + SIZE[1] - 100]
    low, high = 1 - 0.06, 3 + 0.06
    for bits, start, end in ((4, 1, 1.8), (5, 1.8, 2.6), (8, 2.6, 3)):
        colour = np.rint(255 * bit_colours(np.array(bits))[::-1])
        left, right = (LEFT + SIZE[0] * (value - low) / (high - low) for value in (start, end))
        assert (np.abs(row[int(left) + 20 : int(right) - 20] - colour) <= 1).all()


def test_labels_do_not_lie_over_each_other():
    assert entropies._label_rows([100, 300, 600]) == [0, 0, 0]
    assert entropies._label_rows([100, 120, 140, 300]) == [0, 1, 0, 0]


def test_without_a_checkpoint_thresholds_are_quantiles(option_file, capsys):
    code, out = run(option_file, '--set', 'val')
    assert code == 0 and out.is_file()
    shares = capsys.readouterr().out
    assert f'{COUNT} patches of the test, 4 bits 30.0 %, 5 bits 40.0 %, 8 bits 30.0 %' in shares


def test_command_loads_plugins(option_file, tmp_path, capsys):
    mine = tmp_path / 'mine.py'
    mine.write_text('raise ValueError("was read")')
    assert run(option_file, '--set', 'val', '--plugin', str(mine))[0] == 2
    assert 'mine.py' in (error := capsys.readouterr().err) and 'was read' in error


def test_patches_are_those_of_the_test(option_file):
    found, name, what = entropies.measure(option_file, 'val', 5)
    images = [as_batch(cv2.imread(str(option_file.parent / 'LR' / f'{one}.png'))) for one in 'ab']
    corner = entropy(images[1][..., 16:, 16:])  # the last patch extends to the border
    assert len(found) == COUNT and name == 'photographs' and found[-1] == pytest.approx(float(corner), abs=1e-5)


def test_a_training_set_is_drawn_from(option_file, capsys):
    assert run(option_file, '--patches', '12')[0] == 0
    assert '12 training patches' in capsys.readouterr().out


def test_thresholds_of_a_checkpoint(option_file, checkpoint):
    found = entropies.thresholds_of_checkpoint(option_file, checkpoint)
    assert found.bits == (4, 5, 8) and found.values == pytest.approx((1.5, 2.5), abs=1e-3)
    assert run(option_file, '--set', 'val', '--checkpoint', checkpoint)[0] == 0


@pytest.mark.parametrize('changes, arguments, message', [
    ({}, ['--set', 'vall'], "--set vall: .* has no such data set. Did you mean 'val'"),
    ({}, ['--patches', '1'], '--patches 1: give at least 2'),
    ({'datasets': None}, [], 'the section datasets is missing'),
    ({'network_g': NETWORK | {'policy': {'type': 'AdaBM'}}}, ['--set', 'val'], 'has no entropy thresholds'),
    ({'network_g': NETWORK | {'policy': POLICY | {'entropy_bits': None}}}, ['--set', 'val'], 'no entropy thresholds'),
])  # fmt: skip
def test_what_cannot_work_is_one_sentence(option_file, capsys, changes, arguments, message):
    options = yaml.safe_load(option_file.read_text()) | changes
    option_file.write_text(yaml.safe_dump(options))
    code, out = run(option_file, *arguments)
    error = capsys.readouterr().err
    assert code == 2 and error.count('\n') == 1 and not out.exists()
    assert re.search(message, error)
