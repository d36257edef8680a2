"""Our figures beside the paper's: differences, and honesty about networks that differ."""

import csv
from dataclasses import replace

import pytest

from dynq_basicsr.reproduce import adabm_tables
from dynq_basicsr.reproduce import rows as table_rows
from dynq_basicsr.reproduce import runner as table_runner
from dynq_basicsr.reproduce import writer as table_writer


@pytest.fixture
def parts():
    """The modules, a table of three rows, and outcomes of two."""
    rows, writer = table_rows, table_writer
    paper = {
        'float': {'EDSR': {'Set5': rows.Figures(32.10, 0.894, 32)}, 'RDN': {'Set5': rows.Figures(32.24, 0.895, 32)}},
        'cabm': {'EDSR': {'Set5': rows.Figures(31.50, 0.880, 4.4)}},
        'adabm': {'EDSR': {'Set5': rows.Figures(31.02, 0.860, 3.8)}},
    }
    for name in ('cabm', 'adabm'):
        paper[name]['RDN'] = {'Set5': rows.Figures(31.40, 0.870, 4)}
    table = rows.Table('t', 'A table', rows.Protocol('x.yml'), (
        rows.Row('float', 'float', '32/32', paper=paper['float']),
        rows.Row('cabm', 'CABM', '4/4MP', paper=paper['cabm'], ours=False),
        rows.Row('adabm', 'AdaBM', '4/4MP', paper=paper['adabm']),
    ), ('A note.',))  # fmt: skip
    outcome = table_runner.Outcome({
        'float': {'Set5': {'psnr': 32.01, 'ssim': 0.8912, 'fab': 32.0}},
        'adabm': {'Set5': {'psnr': 31.25, 'ssim': 0.8701, 'fab': 3.91}},
    })  # fmt: skip
    return writer, table, outcome


@pytest.fixture
def backbones():
    return adabm_tables.BACKBONES


def test_differences_are_taken_from_each_float_network(parts, backbones):
    writer, table, outcome = parts
    lines = writer.compare(table, backbones['srresnet'], ['Set5'], outcome)
    assert [line['network'] for line in lines] == ['float', 'CABM', 'AdaBM'] and set(lines[0]) == set(writer.FIELDS)
    adabm = lines[2]
    assert adabm['psnr_from_float'] == pytest.approx(31.25 - 32.01)
    assert adabm['paper_psnr_from_float'] == pytest.approx(31.02 - 32.10)
    assert adabm['psnr_difference'] == pytest.approx(31.25 - 31.02)
    assert adabm['psnr_from_float_difference'] == pytest.approx((31.25 - 32.01) - (31.02 - 32.10))
    assert (adabm['fab'], adabm['paper_fab'], adabm['ssim'], adabm['paper_ssim']) == (3.91, 3.8, 0.8701, 0.860)


def test_a_row_of_the_paper_alone_has_no_figures_of_ours(parts, backbones):
    writer, table, outcome = parts
    line = writer.compare(table, backbones['edsr'], ['Set5'], outcome)[1]
    assert line['psnr'] is None and line['psnr_difference'] is None
    assert line['paper_psnr'] == 31.50 and line['paper_psnr_from_float'] == pytest.approx(-0.6)


def test_a_row_that_the_paper_has_for_another_network_only_is_left_out(parts, backbones):
    writer, table, outcome = parts
    rows = table_rows
    other = rows.Row('refqsr', 'RefQSR', '4/4MP', paper={'RDN': {}}, ours=False)
    longer = replace(table, rows=(*table.rows, other))
    assert longer.networks == table.networks
    for key, labels in (('edsr', []), ('rdn', ['RefQSR'])):
        lines = writer.compare(longer, backbones[key], ['Set5'], outcome)
        assert [line['network'] for line in lines] == ['float', 'CABM', 'AdaBM', *labels]


def test_bits_of_the_paper_have_its_decimals(parts, backbones):
    writer, table, outcome = parts
    line = writer.compare(table, backbones['edsr'], ['Set5'], outcome)[2]
    for fab, shown in ((3.8, '3.8'), (4.97, '4.97'), (4, '4.0'), (32, '32.0'), (5.3, '5.3')):
        assert writer._cells(line | {'paper_fab': fab})[6] == shown


@pytest.mark.parametrize('key, network, differs', [
    ('edsr', 'EDSR', False), ('srresnet', 'EDSR', True), ('edsr_small', 'EDSR', True), ('rdn', 'RDN', False),
])  # fmt: skip
def test_the_table_says_where_networks_differ(parts, backbones, key, network, differs):
    writer, table, outcome = parts
    lines = writer.compare(table, backbones[key], ['Set5'], outcome)
    text = writer.markdown(table, backbones[key], lines, outcome, [])
    assert f'Ours: {backbones[key].title}; the paper: {network}.' in text
    assert ('The networks differ' in text) == differs
    assert lines[0]['paper_psnr'] == {'EDSR': 32.10, 'RDN': 32.24}[network]


def test_a_table_of_our_own_has_no_columns_of_a_paper(parts, backbones):
    writer, table, outcome = parts
    rows = table_rows
    own_rows = rows.Row('float', 'float', '32/32'), rows.Row('adabm', 'plus', '4/4MP')
    own = rows.Table('t', 'Our table', rows.Protocol('x.yml'), own_rows)
    lines = writer.compare(own, backbones['srresnet'], ['Set5'], outcome)
    text = writer.markdown(own, backbones['srresnet'], lines, outcome, [])
    assert 'paper' not in text and 'Ours: SRResNet. PSNR in dB on Y.' in text
    cells = [[cell.strip() for cell in line.split('|')[1:-1]] for line in text.splitlines() if line.startswith('|')]
    assert tuple(cells[0]) == writer.OURS and cells[3] == ['plus', '4/4MP', '3.91', '31.25', '-0.76', '0.8701']


def test_markdown_shows_every_figure(parts, backbones):
    writer, table, outcome = parts
    outcome.failures['adabm'] = 'it broke.'
    lines = writer.compare(table, backbones['edsr'], ['Set5', 'Set14'], outcome)
    text = writer.markdown(table, backbones['edsr'], lines, outcome, ['Another note.'])
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in text.splitlines() if line.startswith('|')]
    assert tuple(rows[0]) == writer.COLUMNS
    assert rows[4] == ['AdaBM', '4/4MP', '3.91', '31.25', '-0.76', '0.8701', '3.8', '31.02', '-1.08', '0.860', '+0.23',
                       '+0.32']  # fmt: skip
    assert rows[9] == ['AdaBM', '4/4MP', *['-'] * 10]  # nothing is known of Set14
    assert text.index('## Set5') < text.index('## Set14')
    for sentence in ('- A note.', '- Another note.', '- AdaBM 4/4MP failed: it broke.'):
        assert sentence in text


def test_files_are_written_whole(parts, backbones, tmp_path):
    writer, table, outcome = parts
    lines = writer.compare(table, backbones['edsr'], ['Set5'], outcome)
    writer.write_files(tmp_path / 'tables' / 't.x', 'text\n', writer.FIELDS, lines)
    assert sorted(path.name for path in (tmp_path / 'tables').iterdir()) == ['t.x.csv', 't.x.md']
    assert (tmp_path / 'tables/t.x.md').read_text() == 'text\n'
    with open(tmp_path / 'tables/t.x.csv', newline='') as file:
        read = list(csv.DictReader(file))
    assert read[2]['psnr_from_float'] == '-0.76' and read[1]['psnr'] == '' and read[2]['paper_psnr'] == '31.02'
