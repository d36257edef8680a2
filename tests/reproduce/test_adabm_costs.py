"""Table 5: sizes and BitOPs of EDSR x4 against the formulas, times from records."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from dynq_basicsr.report.one_image import read_options
from dynq_basicsr.reproduce import adabm_costs, adabm_tables
from dynq_basicsr.reproduce import records as table_records

ROOT = Path(__file__).resolve().parents[2]
# MACs of an input pixel: head, 32 layers of the blocks, the one behind them, two of the upsampler, tail.
HEAD, BODY, AFTER, UP, TAIL = 1728, 32 * 36864, 36864, 147456 + 589824, 27648
# Additions of biases and ReLUs of an input pixel.
ELEMENTWISE = 64 * (1 + 32 + 16 + 1) + 256 * (1 + 4) + 3 * 16


@pytest.fixture
def costs():
    module = adabm_costs
    module.prepare()
    return module


@pytest.fixture
def network():
    return dict(read_options(ROOT / 'options/test_edsr_x4.yml')['network_g'])


def test_float_network(costs, network):
    size, hd, urban = costs.network_costs(network, 32, 32, False, None)
    assert size == 1517.571 and urban is None
    operations = 2 * (HEAD + BODY + AFTER + UP + TAIL) + ELEMENTWISE
    assert hd == pytest.approx(operations * 1024 * 480 * 270 / 1e12, rel=1e-9) and round(hd, 1) == 527.0


def test_four_bit_weights(costs, network):
    size, _, urban = costs.network_costs(network, 4, 4.3, False, 1000)
    assert size == pytest.approx((1517571 - BODY * 28 / 32 + 4 * 32) / 1e3, abs=0.1) and round(size, 1) == 485.5
    floating = 2 * (HEAD + AFTER + UP + TAIL) + ELEMENTWISE
    assert urban == pytest.approx((2 * BODY * 4 * 4.3 + floating * 1024) * 1000 / 1e12, rel=1e-9)


@pytest.mark.parametrize('mean_bits, bitops', [(6, 9.2), (5.7, 9.0)])
def test_fully_quantized(costs, network, mean_bits, bitops):
    size, _, urban = costs.network_costs(network, 6, mean_bits, True, 48394.6)
    assert round(size, 1) == 305.5
    quantized = (BODY + AFTER) * 6 * mean_bits + (HEAD + UP + TAIL) * 64
    assert urban == pytest.approx((2 * quantized + ELEMENTWISE * 1024) * 48394.6 / 1e12, rel=1e-9)
    assert round(urban, 1) == bitops


def test_mean_pixels(costs, tmp_path):
    for index, shape in enumerate(((10, 20), (30, 20))):
        cv2.imwrite(str(tmp_path / f'{index}.png'), np.zeros((*shape, 3), np.uint8))
    assert costs.mean_pixels(tmp_path) == 400 and costs.mean_pixels(tmp_path / 'absent') is None


def test_times_come_from_records(costs, project):
    backbone = adabm_tables.BACKBONES['srresnet']
    folder = project / 'experiments/tables/table_srresnet_adabm_w4a4'
    folder.mkdir(parents=True)
    table_records.Record(folder / 'row.json', seconds={'calibration': 40.0, 'weight': 300.5}).write()
    assert costs.seconds_of(project, backbone, 'adabm_w4a4') == 340.5
    assert costs.seconds_of(project, backbone, 'ptq4sr_fq_w6a6') is None
    assert costs.seconds_of(project, backbone, '') is None


def test_table(costs):
    line = {'method': 'AdaBM', 'fully_quantized': False, 'weight_bits': 4, 'activation_bits': 4.3, 'size_k': 485.51,
            'paper_size_k': 485.5, 'bitops_1080p_t': 219.06, 'bitops_urban100_t': None, 'paper_bitops_t': 81.6,
            'seconds': 741.4, 'paper_time': '71 s', 'note': 'a note'}  # fmt: skip
    assert set(line) == set(costs.FIELDS)
    text = costs.markdown([line], adabm_tables.BACKBONES['srresnet'])
    cells = [cell.strip() for cell in text.splitlines()[4].split('|')[1:-1]]
    assert cells == ['AdaBM', 'no', '4/4.3', '485.5K', '485.5K', '219.1T', '-', '81.6T', '741 s', '71 s', 'a note']
