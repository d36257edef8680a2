"""Tables say what metrics.json says."""

from __future__ import annotations

import pytest

from dynq_basicsr import cli
from dynq_basicsr.errors import DynqError
from dynq_basicsr.report.tables import format_column, format_table, metrics_table, read_metrics
from dynq_basicsr.training.records import TestRecords

FLOAT = {'Set5': {'psnr': 32.0131, 'ssim': 0.89312}, 'Set14': {'psnr': 28.5346, 'ssim': 0.78124}}
ADABM = {'Set5': {'psnr': 31.5914, 'ssim': 0.88441, 'fab': 4.2}}


@pytest.fixture
def runs(tmp_path):
    for name, figures in (('float', FLOAT), ('adabm', ADABM)):
        records = TestRecords(tmp_path / name)
        for dataset, means in figures.items():
            records.add(dataset, means, [{'image': 'a', **means, 'seconds': 0.1}])
    return tmp_path


def test_cells_are_the_numbers_of_the_files(runs):
    headers, rows = metrics_table({'float': runs / 'float', 'W4A4': runs / 'adabm' / 'metrics.json'})
    assert headers == ['run', 'Set5 psnr', 'Set5 ssim', 'Set5 fab', 'Set14 psnr', 'Set14 ssim']
    assert rows == [
        ['float', '32.01', '0.8931', '-', '28.53', '0.7812'],
        ['W4A4', '31.59', '0.8844', '4.20', '-', '-'],
    ]


def test_records_are_read_back(runs):
    assert read_metrics(runs / 'float') == FLOAT


def test_columns():
    assert format_column([0.5, None, 1]) == ['0.5000', '-', '1.0000']
    assert format_column([94.61, 3.0], 'T') == ['94.61T', '3.00T']
    assert format_column([None]) == ['-']


def test_plain_and_markdown():
    table = (['run', 'psnr'], [['float', '32.01'], ['b', '9.00']])
    assert format_table(*table).splitlines() == [
        'run     psnr',
        '─────  ─────',
        'float  32.01',
        'b       9.00',
    ]
    assert format_table(*table, 'markdown').splitlines() == [
        '| run   |  psnr |',
        '| ----- | ----: |',
        '| float | 32.01 |',
        '| b     |  9.00 |',
    ]
    with pytest.raises(DynqError, match='plain, markdown'):
        format_table(*table, 'html')


def test_command(runs, capsys):
    assert cli.main(['report', 'tables', str(runs / 'float'), f'4 bits={runs / "adabm"}', '--markdown']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split('|')[1].strip() for line in lines] == ['run', '-----' + '-', 'float', '4 bits']


@pytest.mark.parametrize('content', [None, '{', '[1]', '{"Set5": {"psnr": "high"}}', '{"Set5": 3}'])
def test_a_bad_file_is_named(tmp_path, capsys, content):
    if content is not None:
        (tmp_path / 'metrics.json').write_text(content)
    assert cli.main(['report', 'tables', str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / 'metrics.json') in error and error.count('\n') == 1
