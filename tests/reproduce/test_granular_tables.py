"""The rows of Granular-DQ's tables: the paper's figures and option files that our checks accept."""


import basicsr  # noqa: F401  (fills the registries)
import pytest
from basicsr.utils.registry import ARCH_REGISTRY, MODEL_REGISTRY

from dynq_basicsr import plugin
from dynq_basicsr.reproduce import granular_tables
from dynq_basicsr.reproduce import options as table_options

plugin.register()


@pytest.fixture
def tables():
    return granular_tables


def row_of(table, key):
    return next(row for row in table.rows if row.key == key)


def test_tables_have_the_papers_rows(tables):
    labels = {number: [row.label for row in table.rows[1:]] for number, table in tables.TABLES.items()}
    assert labels == {
        '1': ['PAMS', 'CADyQ', 'CABM', 'AdaBM', 'RefQSR', 'Granular-DQ'],
        '3': ['none', 'GBC', 'GBC + E2B', 'GBC + E2B + ATC'],
        '4': ['E2B 4/5/6', 'E2B 4/5/7', 'E2B 4/6/7', 'E2B 4/6/8', 'E2B 4/7/8', 'E2B 4/5/8'],
        's1': ['E2B 4/8', 'E2B 4/5/8', 'E2B 4/5/6/8', 'E2B 4/5/7/8'],
        's2': ['PAMS', 'CADyQ + PAMS', 'Granular-DQ + PAMS', 'Granular-DQ + QuantSR'],
    }
    assert [row.label for row in tables.TABLE1.rows if not row.ours] == ['CADyQ', 'CABM', 'AdaBM', 'RefQSR']
    assert all(table.rows[0] is tables.FLOAT and table.protocol is tables.PATCHES for table in tables.TABLES.values())


@pytest.mark.parametrize('number, key, network, dataset, expected', [
    ('1', 'float', 'HAT-S', 'Test4K', (29.56, 0.836, 32)), ('1', 'pams_w8a8', 'IDN', 'Test2K', (27.53, 0.775, 8)),
    ('1', 'cadyq', 'EDSR', 'Urban100', (25.94, 0.782, 6.09)),
    ('1', 'refqsr', 'SRResNet', 'Test4K', (28.91, 0.818, 5.07)),
    ('1', 'granular', 'SwinIR-light', 'Urban100', (26.42, 0.796, 4.79)),
    ('1', 'granular', 'SRResNet', 'Test2K', (27.55, 0.773, 4.01)),
    ('3', 'granular_fixed', 'EDSR', 'Urban100', (26.01, 0.783, 8)),
    ('3', 'granular_gbc_e2b', 'EDSR', 'Urban100', (26.02, 0.784, 5.51)),
    ('4', 'granular_e2b_467', 'EDSR', 'Set14', (28.55, 0.781, 5.79)),
    ('4', 'granular_e2b_478', 'EDSR', 'Urban100', (25.99, 0.783, 5.64)),
    ('s1', 'granular_e2b_48', 'EDSR', 'Set14', (28.57, 0.780, 6.57)),
    ('s2', 'granular_pams', 'IDN', 'Urban100', (25.62, 0.770, 4.73)),
    ('s2', 'granular', 'EDSR', 'Urban100', (26.01, 0.784, 4.97)),
])  # fmt: skip
def test_figures_of_the_paper(tables, number, key, network, dataset, expected):
    one = row_of(tables.TABLES[number], key).paper[network][dataset]
    assert (one.psnr, one.ssim, one.fab) == expected


def test_networks_of_the_paper(tables):
    own = {key: tables.TABLE1.network_for(backbone) for key, backbone in tables.BACKBONES.items()}
    assert own == {'srresnet': 'SRResNet', 'edsr': 'EDSR', 'idn': 'IDN', 'swinir_light': 'SwinIR-light',
                   'hat_s': 'HAT-S', 'edsr_small': 'EDSR'}  # fmt: skip
    assert tables.TABLE3.network_for(tables.BACKBONES['srresnet']) == 'EDSR'
    assert tables.TABLE_S2.network_for(tables.BACKBONES['idn']) == 'IDN'


def test_one_name_is_one_network(tables):
    seen = {}
    for table in tables.TABLES.values():
        for row in table.rows:
            if row.ours:
                recipe = row.base, dict(row.overrides)
                assert seen.setdefault(row.key, recipe) == recipe
    assert len(seen) == 3 + 3 + 5 + 3 + 1


def test_what_rows_change(tables, project):
    plan = table_options.Plan(project, tables.BACKBONES['srresnet'], ('Set5',), tables.PATCHES)

    def network(number, key):
        return plan.job(row_of(tables.TABLES[number], key)).train['network_g']

    whole = network('1', 'granular')
    pams = network('1', 'pams_w8a8')
    assert pams['policy'] == {'type': 'Fixed'} and pams['quantization'] == {
        'weight': {'bits': 8}, 'activation': {'bits': 8, 'quantizer': 'pams'}, 'rounding_gradient': 'identity'
    }  # fmt: skip
    assert network('3', 'granular_fixed') == whole | {'policy': {'type': 'Fixed'}}
    assert network('3', 'granular_gbc') == whole | {'policy': whole['policy'] | {'entropy_bits': None}}
    assert network('3', 'granular_gbc_e2b') == whole | {'policy': whole['policy'] | {'adaptive_thresholds': False}}
    assert network('4', 'granular_e2b_478') == whole | {'policy': whole['policy'] | {'entropy_bits': [4, 7, 8]}}
    assert network('s1', 'granular_e2b_4568')['policy'] == whole['policy'] | {
        'entropy_bits': [4, 5, 6, 8], 'entropy_quantiles': [0.4, 0.6, 0.9],
    }  # fmt: skip
    assert network('s2', 'granular_pams') == whole | {'quantization': pams['quantization']}


def test_files_of_the_rows_pass_our_checks_and_can_be_built(tables, project, monkeypatch):
    from basicsr.archs import build_network

    monkeypatch.setattr('os.path.exists', lambda path: True)  # data are the user's
    built = set()
    for key, backbone in tables.BACKBONES.items():
        for path in ('datasets/weights/IDN/IDN_x4.pth', 'dynq_basicsr/weights/edsr_small_x4.safetensors'):
            (project / path).parent.mkdir(parents=True, exist_ok=True)
            (project / path).write_bytes(b'')
        for quick in (None, tables.QUICK):
            plan = table_options.Plan(project, backbone, ('Set5',), tables.PATCHES, quick)
            if plan.float_network()[0]['type'] not in ARCH_REGISTRY:
                continue
            for row in {row.key: row for table in tables.TABLES.values() for row in table.rows}.values():
                if row.base and (key == 'edsr_small' or row.key == 'granular'):
                    options = plan.job(row).train | {'is_train': True}
                    options['path']['pretrain_network_g'] = None
                    options['datasets']['train']['phase'] = 'train'
                    MODEL_REGISTRY.get(options['model_type']).check_options(options)
                    if key == 'edsr_small':
                        build_network(options['network_g'])
                    built.add((key, row.key))
    assert len([key for key, _ in built if key == 'edsr_small']) == 14
