"""The rows of AdaBM's tables: the paper's figures and option files that our checks accept."""

from pathlib import Path

import basicsr  # noqa: F401  (fills the registries)
import pytest
from basicsr.utils.registry import MODEL_REGISTRY

from dynq_basicsr import plugin
from dynq_basicsr.reproduce import adabm_tables
from dynq_basicsr.reproduce import options as table_options
from dynq_basicsr.reproduce import rows as table_rows

plugin.register()
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tables():
    return adabm_tables


def test_tables_have_the_papers_rows(tables):
    bits = [(row.label, row.bits, row.ours) for row in tables.TABLES['2'].rows]
    assert bits == [('float', '32/32', True), ('CADyQ', '8/6MP', False), ('CABM', '8/6MP', False),
                    ('AdaBM', '8/6MP', True), ('CADyQ', '4/4MP', False), ('CABM', '4/4MP', False),
                    ('AdaBM', '4/4MP', True)]  # fmt: skip
    methods = ['MinMax', 'Percentile', 'MinMax+FT', 'Percentile+FT', 'PTQ4SR', 'AdaBM']
    assert [row.label for row in tables.TABLES['3'].rows] == ['float', *methods, *methods]
    assert [row.label for row in tables.TABLES['4'].rows[1:]] == [
        'none', 'I2B + L2B + BaC', 'FT', 'I2B + FT', 'L2B + FT', 'BaC + FT', 'I2B + L2B + BaC + FT',
    ]  # fmt: skip
    assert [tables.TABLES[number].protocol.key for number in '234'] == ['patches96', 'whole', 'whole']


def test_figures_of_the_paper(tables):
    def figures(number, key, network, dataset):
        row = next(row for row in tables.TABLES[number].rows if row.key == key)
        one = row.paper[network][dataset]
        return one.psnr, one.ssim, one.fab

    assert figures('2', 'adabm_w4a4', 'SRResNet', 'Urban100') == (25.32, 0.757, 4.2)
    assert figures('2', 'adabm_w8a6', 'EDSR', 'Urban100') == (25.96, 0.782, 5.7)
    assert figures('3', 'float', 'RDN', 'Set14') == (28.67, 0.784, 32)
    assert figures('3', 'minmax_fq_w4a4', 'EDSR', 'Set5') == (26.83, 0.624, 4)
    assert figures('3', 'percentile_ft_fq_w6a6', 'RDN', 'BSD100') == (21.87, 0.677, 6)
    assert figures('3', 'adabm_fq_w6a6', 'EDSR', 'BSD100') == (27.47, 0.731, 5.4)
    assert figures('4', 'ablation_i2b_ft_fq_w4a4', 'EDSR', 'Urban100') == (23.80, 0.662, 4.1)
    assert figures('4', 'adabm_fq_w4a4', 'EDSR', 'Urban100') == (25.11, 0.736, 3.7)


def test_every_row_of_table_3_has_figures_of_both_networks(tables):
    sets = table_rows.SETS
    for row in tables.TABLES['3'].rows:
        assert {network: tuple(sets) for network, sets in row.paper.items()} == {
            'EDSR': sets, 'RDN': sets,
        }  # fmt: skip


def test_one_name_is_one_network(tables):
    seen = {}
    for table in tables.TABLES.values():
        for row in table.rows:
            recipe = row.base, dict(row.overrides)
            assert seen.setdefault(row.key, recipe) == recipe
    assert len(seen) == 1 + 4 + 2 + 12 + 6 + 7


@pytest.mark.parametrize('key, switches', [
    ('none', (False, False, False, False)), ('i2b_l2b_bac', (True, True, True, False)),
    ('ft', (False, False, False, True)), ('i2b_ft', (True, False, False, True)),
    ('l2b_ft', (False, True, False, True)), ('bac_ft', (False, False, True, True)),
])  # fmt: skip
def test_switches_of_the_ablation(tables, key, switches):
    row = next(row for row in tables.TABLES['4'].rows if row.key == f'ablation_{key}_fq_w4a4')
    changes = dict(row.overrides)
    fine_tunes = 'train.total_iter' not in changes
    assert fine_tunes or changes['train.total_iter'] == changes['train.calibration_iter']
    named = ('network_g.policy.image_to_bit', 'network_g.policy.layer_to_bit', 'train.bit_aware_clipping')
    assert (*(changes[name] for name in named), fine_tunes) == switches


def test_networks_of_the_paper(tables):
    expected = {
        'srresnet': ['SRResNet', 'EDSR', 'EDSR'], 'edsr': ['EDSR'] * 3, 'edsr_small': ['EDSR'] * 3,
        'rdn': ['EDSR', 'RDN', 'EDSR'],
    }  # fmt: skip
    for key, networks in expected.items():
        assert [tables.TABLES[number].network_for(tables.BACKBONES[key]) for number in '234'] == networks
        assert tables.PLUS.network_for(tables.BACKBONES[key]) is None


def test_each_ingredient_of_the_plus_recipe_is_left_out_once(tables):
    whole = next(row for row in tables.PLUS.rows if row.key == 'adabm_plus_w4a4')
    changes = [dict(row.overrides) for row in tables.PLUS.rows if 'plus without' in row.label]
    assert len(changes) == 4 and all(changes) and not whole.overrides
    assert len({key for one in changes for key in one}) == sum(map(len, changes))


def test_files_of_the_rows_pass_our_checks(tables, project, monkeypatch):
    monkeypatch.setattr('os.path.exists', lambda path: True)  # data and checkpoints are the user's
    backbone = tables.BACKBONES['srresnet']
    checked = 0
    for table in tables.TABLES.values():
        for quick in (None, tables.QUICK):
            plan = table_options.Plan(project, backbone, ('Set5',), table.protocol, quick)
            for row in table.rows:
                if row.base and (project / row.base).is_file():
                    options = plan.job(row).train | {'is_train': True}
                    options['path']['pretrain_network_g'] = __file__
                    options['datasets']['train']['phase'] = 'train'
                    MODEL_REGISTRY.get(options['model_type']).check_options(options)
                    checked += 1
    assert checked >= 4
