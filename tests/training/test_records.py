"""What a test run leaves behind."""

import csv
import json

from dynq_basicsr.training.records import TestRecords, add_to_curve


def read(folder):
    with open(folder / 'per_image.csv', newline='') as file:
        return json.loads((folder / 'metrics.json').read_text()), list(csv.DictReader(file))


def test_both_files_grow_data_set_by_data_set(tmp_path):
    records = TestRecords(tmp_path / 'results' / 'name')
    records.add('Set5', {'psnr': 31.5}, [{'image': 'baby', 'psnr': 33.0, 'seconds': 0.5},
                                         {'image': 'bird', 'psnr': 30.0, 'seconds': 0.25}])  # fmt: skip
    means, rows = read(records.folder)
    assert means == {'Set5': {'psnr': 31.5}}
    assert rows == [{'dataset': 'Set5', 'image': 'baby', 'psnr': '33.0', 'seconds': '0.5'},
                    {'dataset': 'Set5', 'image': 'bird', 'psnr': '30.0', 'seconds': '0.25'}]  # fmt: skip
    records.add('Set14', {'psnr': 27.5, 'fab': 4.1}, [{'image': 'a, "b"', 'psnr': 27.5, 'fab': 4.1, 'seconds': 1.0}])
    means, rows = read(records.folder)
    assert list(means) == ['Set5', 'Set14'] and means['Set14'] == {'psnr': 27.5, 'fab': 4.1}
    assert [row['image'] for row in rows] == ['baby', 'bird', 'a, "b"']
    assert rows[0]['fab'] == '' and rows[2]['fab'] == '4.1'


def test_a_data_set_that_is_tested_again_replaces_itself(tmp_path):
    records = TestRecords(tmp_path)
    for value in (1.0, 2.0):
        records.add('Set5', {'psnr': value}, [{'image': 'baby', 'psnr': value, 'seconds': 0.1}])
    means, rows = read(tmp_path)
    assert means == {'Set5': {'psnr': 2.0}} and [row['psnr'] for row in rows] == ['2.0']


def test_figures_keep_their_digits(tmp_path):
    records = TestRecords(tmp_path)
    records.add('Set5', {'psnr': 1 / 3}, [{'image': 'baby', 'psnr': 1 / 3, 'seconds': 0.1}])
    means, rows = read(tmp_path)
    assert means['Set5']['psnr'] == float(rows[0]['psnr']) == 1 / 3


def test_an_infinite_mean_is_text_in_json_and_csv(tmp_path):
    records = TestRecords(tmp_path)
    records.add('same', {'psnr': float('inf'), 'fab': 4.0}, [{'image': 'a', 'psnr': float('inf'), 'seconds': 0.1}])
    assert 'Infinity' not in (tmp_path / 'metrics.json').read_text()
    means, rows = read(tmp_path)
    assert means == {'same': {'psnr': 'inf', 'fab': 4.0}} and rows[0]['psnr'] == 'inf'
    assert float(means['same']['psnr']) == float('inf')


def test_a_curve_grows_validation_by_validation(tmp_path):
    file = tmp_path / 'curve.csv'
    add_to_curve(file, 100, 12.34567, 'Set5', {'psnr': 30.5, 'fab': 4.0})
    add_to_curve(file, 200, 20, 'Set5', {'psnr': 31.0, 'fab': 3.9})
    add_to_curve(file, 200, 20.5, 'Set5', {'psnr': 31.0, 'fab': 3.9})  # the last iteration once more
    with open(file, newline='') as stream:
        rows = list(csv.DictReader(stream))
    assert rows == [
        {'iteration': '100', 'seconds': '12.346', 'dataset': 'Set5', 'psnr': '30.5', 'fab': '4.0'},
        {'iteration': '200', 'seconds': '20.5', 'dataset': 'Set5', 'psnr': '31.0', 'fab': '3.9'},
    ]


def test_a_curve_keeps_columns_apart_when_metrics_change(tmp_path):
    file = tmp_path / 'curve.csv'
    add_to_curve(file, 100, 10, 'Set5', {'psnr': 30.5, 'fab': 4.0})
    add_to_curve(file, 200, 20, 'Set5', {'fab': 3.9, 'ssim': 0.9})
    with open(file, newline='') as stream:
        rows = list(csv.DictReader(stream))
    assert (rows[0]['psnr'], rows[0]['ssim']) == ('30.5', '')
    assert (rows[1]['psnr'], rows[1]['fab'], rows[1]['ssim']) == ('', '3.9', '0.9')
