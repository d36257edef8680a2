"""Option files and --force_yml: what is read, and the one sentence for what is not."""

from collections import OrderedDict

import pytest
import yaml

from dynq_basicsr.compat.option_skeleton import check_skeleton
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
