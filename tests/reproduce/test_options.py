"""From rows to option files: base file, float network, overrides, quick recipe."""

from dataclasses import replace

import pytest
import yaml

from dynq_basicsr.errors import DynqError
from dynq_basicsr.reproduce import adabm_tables, granular_tables
from dynq_basicsr.reproduce import options as table_options
from dynq_basicsr.reproduce import rows as table_rows


@pytest.fixture
def rows():
    return table_rows


@pytest.fixture
def plan(project):
    tables, module = adabm_tables, table_options

    def build(backbone='srresnet', protocol=tables.PATCHES, **changes):
        backbone = tables.BACKBONES[backbone] if isinstance(backbone, str) else backbone
        return module.Plan(project, backbone, ('Set5', 'Urban100'), protocol, **changes)

    return build


@pytest.fixture
def quick(rows):
    return lambda **changes: rows.Quick('briefly', ('Set5',), **changes)


def row_of(rows, base='adabm_srresnet_x4_w4a4', **changes):
    return rows.Row('adabm_w4a4', 'AdaBM', '4/4MP', f'options/{base}.yml', changes)


def base_options(project, name='adabm_srresnet_x4_w4a4'):
    return yaml.safe_load((project / f'options/{name}.yml').read_text())


def test_training_is_the_base_file_without_validation(plan, rows, project):
    job = plan().job(row_of(rows))
    expected = base_options(project)
    del expected['val'], expected['datasets']['val']
    expected['name'] = 'table_srresnet_adabm_w4a4'
    assert job.train == expected and job.name == expected['name'] and job.title == 'AdaBM 4/4MP'


def test_a_data_set_that_the_test_file_does_not_name_is_looked_for_beside_the_others(plan, rows, project):
    plan = replace(plan(), sets=('Test2K',))
    with pytest.raises(DynqError, match='datasets/benchmarks/Test2K/HR: no such folder; `dynq data test2k4k`'):
        plan.job(row_of(rows))
    (project / 'datasets/benchmarks/Test2K/HR').mkdir(parents=True)
    data = plan.job(row_of(rows)).tests['Test2K']['datasets']['test_1']
    assert data['name'] == 'Test2K' and data['dataroot_lq'] == 'datasets/benchmarks/Test2K/LR_bicubic/X4'


def test_overrides_of_a_row(plan, rows, project):
    changes = {'network_g.policy.image_to_bit': False, 'network_g.quantization.scope': 'full', 'train.total_iter': 50}
    job = plan().job(row_of(rows, **changes))
    assert job.train['network_g']['policy']['image_to_bit'] is False
    assert job.train['network_g']['quantization'] == {
        **base_options(project)['network_g']['quantization'], 'scope': 'full',
    }  # fmt: skip
    assert job.train['train']['total_iter'] == 50 == job.train['train']['calibration_iter']


def test_an_override_through_a_value_is_refused(plan, rows):
    with pytest.raises(DynqError, match=r"^name.part: name is 'adabm_srresnet_x4_w4a4', not a section.$"):
        plan().job(row_of(rows, **{'name.part': 1}))


def test_tests_are_the_generic_file_on_one_data_set(plan, rows, project):
    job = plan(protocol=adabm_tables.WHOLE).job(row_of(rows))
    generic = base_options(project, 'test_quantized_x4')
    assert list(job.tests) == ['Set5', 'Urban100']
    test = job.tests['Urban100']
    assert test['network_g'] == {'type': 'QuantizedSR'}
    assert test['path']['pretrain_network_g'] == 'experiments/table_srresnet_adabm_w4a4/models/net_g_latest.pth'
    assert list(test['datasets'].values()) == [generic['datasets']['test_4']]
    assert test['val'] == {**generic['val'], 'patch_size': None, 'patch_step': None}
    assert test['name'] == 'table_srresnet_adabm_w4a4_whole_Urban100'
    assert plan().job(row_of(rows)).tests['Set5']['name'] == 'table_srresnet_adabm_w4a4_patches96_Set5'


def test_a_float_row_is_the_float_network(plan, rows, project):
    job = plan().job(rows.Row('float', 'float', '32/32'))
    assert job.train is None and job.name == 'table_srresnet_float'
    assert job.tests['Set5']['network_g'] == base_options(project, 'test_srresnet_x4')['network_g']
    assert job.tests['Set5']['path']['pretrain_network_g'] == 'datasets/weights/SRResNet/SRResNet_BN_x4.pth'


def test_another_backbone_takes_its_network_weights_and_recipe(plan, rows, project):
    weights = project / 'experiments/train_edsr_baseline_x4/models/net_g_latest.pth'
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b'')
    train = plan('edsr').job(row_of(rows)).train
    assert train['network_g']['backbone'] == base_options(project, 'test_edsr_x4')['network_g']
    assert train['path']['pretrain_network_g'] == 'experiments/train_edsr_baseline_x4/models/net_g_latest.pth'
    assert train['train']['clipping_norm'] == 2 and base_options(project)['train']['clipping_norm'] == 1


def test_a_recipe_touches_only_keys_that_are_there(plan, rows, project, quick):
    base = base_options(project)
    del base['train']['clipping_norm'], base['train']['stage_iter']
    (project / 'options/short.yml').write_text(yaml.safe_dump(base))
    weights = project / 'dynq_basicsr/weights/edsr_small_x4.safetensors'
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b'')
    changes = {'train.stage_iter': 2, 'train.lr.weight': 0.1, 'nothing.there': 1}
    train = plan('edsr_small', quick=quick(train=changes)).job(row_of(rows, base='short')).train
    assert not {'clipping_norm', 'stage_iter'} & train['train'].keys() and 'nothing' not in train
    assert train['train']['lr'] == {**base['train']['lr'], 'weight': 0.1}


def test_missing_weights_are_one_sentence(plan):
    with pytest.raises(DynqError) as caught:
        plan('edsr').float_network()
    assert str(caught.value) == (
        '--backbone edsr: no weights at datasets/weights/EDSR/edsr_baseline_x4.pth or '
        'experiments/train_edsr_baseline_x4/models/net_g_latest.pth; train it with '
        'options/train_edsr_baseline_x4.yml.'
    )


def test_missing_option_file_is_named(plan, rows):
    with pytest.raises(DynqError, match='nowhere.yml: no such option file'):
        plan().job(row_of(rows, base='nowhere'))


def test_quick_shortens_fine_tuning_and_never_begins_one(plan, rows, quick):
    changes = {'train.total_iter': 60, 'train.calibration_iter': 10, 'train.stage_iter': 5}
    short = plan(quick=quick(train=changes))
    job = short.job(row_of(rows))
    assert job.name == 'table_srresnet_adabm_w4a4_quick'
    assert [job.train['train'][key] for key in ('total_iter', 'calibration_iter', 'stage_iter')] == [60, 10, 5]
    calibration = short.job(row_of(rows, **{'train.total_iter': 50, 'train.calibration_iter': 50}))
    assert calibration.name == 'table_srresnet_adabm_w4a4'  # nothing to shorten, so the network of the whole run
    assert calibration.train['train']['total_iter'] == calibration.train['train']['calibration_iter'] == 50
    same = plan(quick=quick(train={'train.total_iter': 550})).job(row_of(rows))
    assert same.name == same.train['name'] == 'table_srresnet_adabm_w4a4'


def test_quick_takes_the_first_images(plan, rows, project, quick):
    folder = project / 'datasets/benchmarks/Urban100/HR'
    folder.mkdir(parents=True)
    for index in (3, 1, 2):
        (folder / f'img{index}.png').write_bytes(b'')
    job = plan(quick=quick(images={'Urban100': 2})).job(rows.Row('float', 'float', '32/32'))
    listed = job.tests['Urban100']['datasets']['test_1']['meta_info_file']
    assert (project / listed).read_text() == 'img1.png\nimg2.png\n'
    assert job.tests['Urban100']['name'] == 'table_srresnet_float_patches96_Urban100_2'
    assert 'meta_info_file' not in job.tests['Set5']['datasets']['test_1']


@pytest.fixture
def granular():
    """The tables of Granular-DQ, whose backbones have option files of their own."""
    return granular_tables


def test_the_base_file_can_be_that_of_the_backbone(plan, granular, project):
    job = plan(granular.BACKBONES['srresnet'], granular.PATCHES).job(granular.GRANULAR)
    expected = base_options(project, 'granular_srresnet')
    del expected['val'], expected['datasets']['val']
    assert job.train == expected | {'name': 'table_srresnet_granular'}
    test = job.tests['Set5']
    assert test['name'] == 'table_srresnet_granular_patches96step90_Set5'
    assert test['val'] == base_options(project, 'test_granular_x4')['val']
    assert (test['val']['patch_step'], test['val']['patch_merge']) == (90, 'split')


def test_without_float_weights_networks_are_trained_from_scratch(plan, granular):
    scratch = plan(granular.BACKBONES['edsr'], granular.PATCHES)
    assert scratch.float_network()[1] is None
    assert scratch.job(granular.GRANULAR).train['path']['pretrain_network_g'] is None
    with pytest.raises(DynqError, match=r'^EDSR has no float weights; name them in path.pretrain_network_g of'):
        scratch.job(granular.FLOAT)


def test_weights_that_an_option_file_names_must_be_there(plan, granular):
    with pytest.raises(DynqError, match='^--backbone idn: no weights at datasets/weights/IDN/IDN_x4.pth; put or'):
        plan(granular.BACKBONES['idn'], granular.PATCHES).job(granular.GRANULAR)


def test_a_schedule_keeps_its_shape(plan, granular, quick):
    backbone = granular.BACKBONES['srresnet']

    def train(**changes):
        return plan(backbone, granular.PATCHES, **changes).job(granular.GRANULAR).train

    shorter = train(iterations=1200)
    assert shorter['name'] == 'table_srresnet_granular_1200'
    assert (shorter['train']['total_iter'], shorter['train']['scheduler']['milestones']) == (1200, [1000])
    assert train(iterations=300000)['name'] == 'table_srresnet_granular'
    assert train(iterations=1)['train']['scheduler']['milestones'] == [1]
    small = quick(train={'datasets.train.gt_size': 96}, iterations=60)
    assert train(quick=small)['name'] == 'table_srresnet_granular_quick_60'
    assert train(quick=small)['train']['scheduler']['milestones'] == [50]
    assert train(quick=small, iterations=90)['name'] == 'table_srresnet_granular_quick_90'
    assert train(quick=small)['datasets']['train']['gt_size'] == 96


def test_averaged_weights_are_tested_where_training_averages(plan, granular):
    keys = {
        key: plan(granular.BACKBONES[key], granular.PATCHES).job(granular.GRANULAR).tests['Set5']['path']['param_key_g']
        for key in ('srresnet', 'swinir_light')
    }
    assert keys == {'srresnet': 'params', 'swinir_light': 'params_ema'}
