"""Option files and --force_yml: what is read, and the one sentence for what is not."""

import sys
from collections import OrderedDict

import pytest
import yaml
from basicsr.utils import options

from dynq_basicsr import plugin
from dynq_basicsr.compat.option_skeleton import check_skeleton, leave_out_nulls
from dynq_basicsr.compat.options import override
from dynq_basicsr.compat.safe_yaml import OptionDumper, OptionLoader, parse_value
from dynq_basicsr.errors import DynqError


@pytest.mark.parametrize('text, expected', [
    ('1e-4', 1e-4), ('1E3', 1e3), ('-2.5e4', -2.5e4), ('.5e1', 5.0), ('!!float 1e-4', 1e-4), ('1.0e-4', 1e-4),
    ('3', 3), ('0.5', 0.5), ('1e', '1e'), ('e4', 'e4'), ('x2e4', 'x2e4'), ('none', None), ('~', None), ('', None),
    ('true', True), ('[1, 2e0, a]', [1, 2.0, 'a']), ('{a: 1e2}', {'a': 100.0}), ('!!float1e-3', 1e-3),
    ('a=b:c', 'a=b:c'),
])
def test_values(text, expected):
    value = parse_value(text)
    assert value == expected and type(value) is type(expected) or isinstance(value, OrderedDict)


def test_order_anchors_and_merge_keys():
    text = 'z: &base {b: 1, a: 2}\ny: {<<: *base, c: 3}\n'
    read = yaml.load(text, Loader=OptionLoader)
    assert list(read) == ['z', 'y'] and list(read['z']) == ['b', 'a'] and read['y'] == {'b': 1, 'a': 2, 'c': 3}
    assert yaml.load(yaml.dump(read, Dumper=OptionDumper), Loader=OptionLoader) == read


def test_plain_yaml_is_untouched():
    assert yaml.safe_load('1e-4') == '1e-4'


@pytest.mark.parametrize('text, expected', [
    ('a: [1, 2', 'line 2'),
    ('a: !!python/name:os.system', 'tag !!python/name:os.system is refused'),
    ('a: 1\nb: !!python/object/new:dict {}', r'line 2: the tag !!python/object/new:dict is refused'),
    ('a: !mine 1', "tag '!mine'"),
    ('a: !!float x', 'cannot be read as YAML'),
])
def test_refusals_are_one_sentence(text, expected):
    with pytest.raises(DynqError, match=expected) as caught:
        yaml.load(text + '\n', Loader=OptionLoader)
    assert '\n' not in str(caught.value)


def test_override_makes_sections_and_replaces_values():
    opt = OrderedDict(train=OrderedDict(lr=1), val=None)
    override(opt, 'train:lr=2e-4')
    override(opt, 'val:metrics:psnr:crop_border = 4')
    assert opt == {'train': {'lr': 2e-4}, 'val': {'metrics': {'psnr': {'crop_border': 4}}}}


@pytest.mark.parametrize('entry', ['train', 'train:=1', '=1', 'name:deeper=1', 'train:lr=[1', 'a=!!python/name:os.x'])
def test_override_names_what_is_wrong(entry):
    with pytest.raises(DynqError) as caught:
        override({'name': 'x', 'train': {}}, entry)
    assert repr(entry) in str(caught.value)


@pytest.mark.parametrize('text, expected', [
    ('a: 1\nb: 2\na: 3\n', "line 3: the key 'a' stands in line 1 already"),
    ('x: {a: 1, b: {c: 1, c: 2}}\n', "the key 'c' stands in line 1 already"),
    ('a: 1\n"a": 2\n', "line 2: the key 'a' stands in line 1"),
    ('1: x\n', "the key '1' is no text; put quotes around it"),
    ('a: {on: 1}\n', "the key 'on' is no text"),
    ('? [a]\n: 1\n', 'is no text'),
    ('a: &a [*a]\n', 'this value holds itself'),
    ('a: &a {b: *a}\n', 'this value holds itself'),
    ('a: 0x' + 'f' * 5000, 'cannot be read as YAML'),
    ('[' * 50_000, 'line 1'),
])
def test_what_would_be_lost_or_hang_is_refused(text, expected):
    with pytest.raises(DynqError, match=expected) as caught:
        yaml.load(text, Loader=OptionLoader)
    assert '\n' not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.parametrize('link', [
    'a{0}: &a{0} [*a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}, *a{1}]\n', 'a{0}: &a{0} {{x: *a{1}, y: *a{1}, z: *a{1}}}\n',
    'a{0}: &a{0} {{<<: [*a{1}, *a{1}], k{0}: 1}}\n',
])
def test_aliases_do_not_explode(link):
    text = 'a0: &a0 {k: 1}\n' + ''.join(link.format(depth, depth - 1) for depth in range(1, 60))
    with pytest.raises(DynqError, match='comes to more than 100000 values'):
        yaml.load(text, Loader=OptionLoader)
    with pytest.raises(DynqError, match='comes to more than 100000 values'):
        yaml.load('a: &a ' + 'x' * 10**6 + '\nb: [' + '*a, ' * 50 + ']', Loader=OptionLoader)


def test_an_explicit_key_overrides_a_merged_one():
    text = 'a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, y: 3}\nd: {<<: [*b, *a], z: 4}\n'
    read = yaml.load(text, Loader=OptionLoader)
    assert read['c'] == {'x': 2, 'y': 3} and read['d'] == {'x': 2, 'y': 1, 'z': 4}


def test_null_sections_are_left_out():
    opt = {'datasets': {'test_1': {'name': 'x'}, 'test_2': {'name': 'y'}}, 'val': {'save_img': False}, 'train': None}
    for entry in ('datasets:test_2=~', 'val=none'):
        override(opt, entry)
    leave_out_nulls(opt)
    assert opt == {'datasets': {'test_1': {'name': 'x'}}, 'train': None}


def whole() -> dict:
    return {'name': 'x', 'model_type': 'SRModel', 'num_gpu': 0, 'datasets': {'train': {'name': 'd'}}, 'path': {},
            'train': {'total_iter': 1}, 'logger': {'print_freq': 1, 'save_checkpoint_freq': 1}}


def test_whole_skeleton_passes():
    check_skeleton('x.yml', whole(), is_train=True)
    check_skeleton('x.yml', {**whole(), 'num_gpu': 'auto', 'val': {'save_img': False}}, is_train=False)


@pytest.mark.parametrize('change, expected', [
    ({'datasets': None}, "'datasets:train' is missing"),
    ({'datasets': {'train': None}}, "'datasets:train' must be a section"),
    ({'path': None}, "'path' must be a section"),
    ({'train': {}}, "'train:total_iter' is missing"),
    ({'val': {'save_img': True}}, "'val:val_freq' is missing"),
    ({'name': 5}, "'name' must be text"),
    ({'num_gpu': -1}, "'num_gpu' must be"),
    ({'num_gpu': True}, "'num_gpu' must be"),
    ({'num_gpu': 1.0}, "'num_gpu' must be"),
    ({'manual_seed': 'x'}, "'manual_seed' must be a whole number from 0 to 2147483647, not 'x'"),
    ({'manual_seed': -1}, "'manual_seed'"),
    ({'model_type': None}, "'model_type' must be text"),
    ({'val': [1]}, "'val:val_freq' is missing"),
    ({'datasets': {'train': {'dataroot_gt': 5}}}, "'datasets:train:dataroot_gt' must be text; put quotes around 5"),
    ({'path': {'pretrain_network_g': ['x']}}, "'path:pretrain_network_g' must be text"),
    ({'path': {'resume_state': 5}}, "'path:resume_state' must be text"),
])
def test_skeleton_names_what_is_wrong(change, expected):
    with pytest.raises(DynqError, match=expected):
        check_skeleton('x.yml', {**whole(), **change}, is_train=True)


@pytest.mark.parametrize('key', ['name', 'model_type', 'num_gpu', 'datasets', 'path', 'train', 'logger'])
def test_skeleton_names_what_is_missing(key):
    opt = whole()
    del opt[key]
    with pytest.raises(DynqError, match=f"'{key}(:\\w+)?' is missing; training needs it"):
        check_skeleton('x.yml', opt, is_train=True)


def test_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    with pytest.raises(DynqError, match='torch sees no CUDA device; write `num_gpu: 0`'):
        check_skeleton('x.yml', {**whole(), 'num_gpu': 2}, is_train=True)


@pytest.mark.parametrize('model', ['SRModel', 'QuantizedModel'])
def test_a_key_that_stands_twice_is_refused_in_runs_of_ours_alone(model, tmp_path, monkeypatch):
    plugin.register()
    monkeypatch.setattr('dynq_basicsr.compat.options.CHECKS', [])
    file = tmp_path / 'options.yml'
    file.write_text(
        f'name: run\nmodel_type: {model}\nnum_gpu: 0\nmanual_seed: 0\ndatasets: {{train: {{name: d}}}}\n'
        'path: {resume_state: ~}\ntrain: {total_iter: 10, total_iter: 20}\n'
        'logger: {print_freq: 1, save_checkpoint_freq: 1}\n'
    )
    monkeypatch.setattr(sys, 'argv', ['train.py', '-opt', str(file)])
    if model == 'SRModel':
        assert options.parse_options(str(tmp_path))[0]['train'] == {'total_iter': 20}
    else:
        with pytest.raises(DynqError, match="line 7: the key 'total_iter' stands in line 7 already"):
            options.parse_options(str(tmp_path))
