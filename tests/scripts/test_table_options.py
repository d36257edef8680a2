"""From rows to option files: base file, float network, overrides, quick recipe."""

import pytest
import yaml

from dynq_basicsr.errors import DynqError


@pytest.fixture
def rows(import_script):
    return import_script('table_rows')


@pytest.fixture
def plan(import_script, project):
    tables = import_script('adabm_tables')

    def build(backbone='srresnet', sets=('Set5', 'Urban100'), patch_size=96, **changes):
        return import_script('table_options').Plan(project, tables.BACKBONES[backbone], sets, patch_size, **changes)

    return build


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


def test_overrides_of_a_row(plan, rows, project):
    changes = {'network_g.policy.image_to_bit': False, 'network_g.quantization.scope': 'full', 'train.total_iter': 50}
    job = plan().job(row_of(rows, **changes))
    assert job.train['network_g']['policy']['image_to_bit'] is False
    assert job.train['network_g']['quantization'] == {
        **base_options(project)['network_g']['quantization'], 'scope': 'full',
    }  # fmt: skip
    assert job.train['train']['total_iter'] == 50 == job.train['train']['calibration_iter']


def test_an_override_through_a_value_is_refused(plan, rows):
    with pytest.raises(DynqError, match=r"^name.part: name is 'table_srresnet_adabm_w4a4', not a section.$"):
        plan().job(row_of(rows, **{'name.part': 1}))


def test_tests_are_the_generic_file_on_one_data_set(plan, rows, project):
    job = plan(patch_size=None).job(row_of(rows))
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


def test_a_recipe_touches_only_keys_that_are_there(plan, rows, project):
    base = base_options(project)
    del base['train']['clipping_norm'], base['train']['stage_iter']
    (project / 'options/short.yml').write_text(yaml.safe_dump(base))
    weights = project / 'dynq_basicsr/weights/edsr_small_x4.safetensors'
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b'')
    quick = {'train.stage_iter': 2, 'train.lr.weight': 0.1, 'nothing.there': 1}
    train = plan('edsr_small', quick_train=quick).job(row_of(rows, base='short')).train
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


def test_quick_shortens_fine_tuning_and_never_begins_one(plan, rows):
    quick = plan(quick_train={'train.total_iter': 60, 'train.calibration_iter': 10, 'train.stage_iter': 5})
    job = quick.job(row_of(rows))
    assert job.name == 'table_srresnet_adabm_w4a4_quick'
    assert [job.train['train'][key] for key in ('total_iter', 'calibration_iter', 'stage_iter')] == [60, 10, 5]
    calibration = quick.job(row_of(rows, **{'train.total_iter': 50, 'train.calibration_iter': 50}))
    assert calibration.name == 'table_srresnet_adabm_w4a4'  # nothing to shorten, so the network of the whole run
    assert calibration.train['train']['total_iter'] == calibration.train['train']['calibration_iter'] == 50
    same = plan(quick_train={'train.total_iter': 550}).job(row_of(rows))
    assert same.name == same.train['name'] == 'table_srresnet_adabm_w4a4'


def test_quick_takes_the_first_images(plan, rows, project):
    folder = project / 'datasets/benchmarks/Urban100/HR'
    folder.mkdir(parents=True)
    for index in (3, 1, 2):
        (folder / f'img{index}.png').write_bytes(b'')
    job = plan(quick_images={'Urban100': 2}).job(rows.Row('float', 'float', '32/32'))
    listed = job.tests['Urban100']['datasets']['test_1']['meta_info_file']
    assert (project / listed).read_text() == 'img1.png\nimg2.png\n'
    assert job.tests['Urban100']['name'] == 'table_srresnet_float_patches96_Urban100_2'
    assert 'meta_info_file' not in job.tests['Set5']['datasets']['test_1']
