"""``dynq quantize``: two arguments and a folder."""

import re
import shutil

import cv2
import numpy as np
import pytest
import torch
from filelock import FileLock
from skimage import data

from dynq_basicsr import plugin
from dynq_basicsr.archs.arch_options import build_backbone
from dynq_basicsr.cli import main
from dynq_basicsr.commands.quantize import read_arch
from dynq_basicsr.errors import DynqError
from dynq_basicsr.training.post_training import PostTraining
from dynq_basicsr.workflow.recipes import METHODS

plugin.register()
pytest.importorskip('onnxruntime')

COMPACT = {'type': 'SRVGGNetCompact', 'num_feat': 8, 'num_conv': 4, 'upscale': 2}


@pytest.fixture(scope='module')
def inputs(tmp_path_factory):
    """A checkpoint and a folder of six photographs."""
    root = tmp_path_factory.mktemp('inputs')
    torch.manual_seed(0)
    torch.save({'params': build_backbone(COMPACT).state_dict()}, root / 'compact.pth')
    (root / 'photos').mkdir()
    for index in range(6):
        cv2.imwrite(str(root / f'photos/{index}.jpg'), data.astronaut()[64 * index : 64 * index + 60, 190:262, ::-1])
    return root


@pytest.fixture
def short(monkeypatch):
    """Recipes whose fine-tuning takes two iterations."""
    for recipes in METHODS.values():
        for recipe in recipes.values():
            monkeypatch.setitem(recipe, 'tuning', min(recipe['tuning'], 2))


@pytest.fixture
def quantize(inputs, tmp_path, short):
    def run(*more, model='compact.pth', images='photos'):
        return main(['quantize', str(inputs / model), str(inputs / images), '-o', str(tmp_path / 'model'),
                     '--device', 'cpu', *more])  # fmt: skip

    return run


def test_two_commands_from_a_checkpoint_to_upscaled_pictures(quantize, inputs, tmp_path, capfd):
    assert quantize() == 0
    told = capfd.readouterr().out
    assert 'SRVGGNetCompact' in told
    row = re.search(r'adabm W4A4 +([\d.]+) MB +([\d.]+) +([\d.]+) dB +(\d+)', told)
    graphs = sum(path.stat().st_size for path in (tmp_path / 'model').glob('a?.onnx'))
    assert float(row[1]) == pytest.approx(graphs / 1e6, abs=0.005)
    assert 2 <= float(row[2]) <= 8
    assert 'Calibrated with 5 pictures' in told and 'on 1 picture left out' in told
    files = {path.name for path in (tmp_path / 'model').iterdir()}
    assert {'manifest.json', 'quantized.pth', 'options.yml', 'bits.png'} <= files
    assert cv2.imread(str(tmp_path / 'model/bits.png')) is not None
    line = ['upscale', '--model', str(tmp_path / 'model'), str(inputs / 'photos'), '--output', str(tmp_path / 'out')]
    assert main(line) == 0
    assert cv2.imread(str(tmp_path / 'out/0_x2.png')).shape == (120, 144, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ['model', 'out']


def test_the_checkpoint_in_the_folder_is_the_network_of_its_graphs(quantize, inputs, tmp_path):
    assert quantize('--method', 'minmax', '--bits', '6', '--scope', 'full') == 0
    from dynq_basicsr import api

    photo = cv2.imread(str(inputs / 'photos/0.jpg'))[..., ::-1]
    folder, checkpoint = api.load(tmp_path / 'model'), api.load(tmp_path / 'model/quantized.pth', device='cpu')
    assert np.array_equal(folder.upscale(photo), checkpoint.upscale(photo))
    assert main(['export', str(tmp_path / 'model/quantized.pth'), '-o', str(tmp_path / 'again'), '--patch', '96']) == 0
    assert np.array_equal(api.load(tmp_path / 'again').upscale(photo), folder.upscale(photo))


def test_without_graphs(quantize, tmp_path):
    assert quantize('--no-export') == 0
    assert sorted(path.name for path in (tmp_path / 'model').iterdir()) == ['bits.png', 'options.yml', 'quantized.pth']
    assert quantize('--no-export', '--bits', '5') == 0


@pytest.mark.parametrize(
    ('more', 'told'),
    [
        (['--bits', '9'], 'bits'),
        (['--bits', '1'], 'bits'),
        (['--method', 'adabn'], "Did you mean 'adabm'"),
        (['--recipe', 'slow'], 'adabm has fast'),
        (['--calibration', '0'], 'from 1 to'),
        (['--arch', 'SRVGGNetCompakt'], "Did you mean 'SRVGGNetCompact'"),
        (['--arch', 'SRVGGNetCompact', 'num_feat:8'], 'key=value'),
        (['--device', 'strange'], 'is not usable here'),
    ],
)
def test_mistakes_cost_a_sentence_and_leave_nothing(more, told, quantize, tmp_path, capfd):
    assert quantize(*more) == 2
    error = capfd.readouterr().err
    assert told in error and 'Traceback' not in error
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_left_alone(quantize, tmp_path, capfd):
    (tmp_path / 'model').mkdir()
    (tmp_path / 'model/diary.txt').write_text('mine')
    assert quantize() == 2
    assert 'holds files, but no model' in capfd.readouterr().err
    assert [path.name for path in (tmp_path / 'model').iterdir()] == ['diary.txt']


def test_two_commands_on_one_folder(quantize, tmp_path, capfd):
    with FileLock(tmp_path / '.model.lock'):
        assert quantize() == 2
    assert 'another command is at work on it' in capfd.readouterr().err


@pytest.mark.parametrize('after, told', [(1, 'begins again'), (100, 'goes on from there')])
def test_an_interruption_says_what_is_true(quantize, tmp_path, capfd, monkeypatch, after, told):
    step = PostTraining.step

    def interrupted(self, iteration, *rest):
        if iteration > min(after, self.recipe.total_iter - 1):
            raise KeyboardInterrupt
        return step(self, iteration, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(PostTraining, 'step', interrupted)
        assert quantize('--no-export') == 130
    assert told in capfd.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == (['.model.work'] if after > 1 else [])
    assert quantize('--no-export') == 0
    assert [path.name for path in tmp_path.iterdir()] == ['model']


def test_what_cannot_be_exported_is_quantized_all_the_same(quantize, tmp_path, capfd, monkeypatch):
    def refuse(*arguments, **options):
        raise DynqError('no graph can be made.')

    monkeypatch.setattr('dynq_basicsr.deploy.freeze.freeze', refuse)
    assert quantize() == 2
    assert 'no graph can be made. The network is quantized' in capfd.readouterr().err
    assert (tmp_path / 'model/quantized.pth').is_file()


def test_pictures_that_do_not_serve_are_named(quantize, inputs, tmp_path, capfd):
    folder = tmp_path / 'mixed'
    shutil.copytree(inputs / 'photos', folder)
    (folder / 'broken.png').write_bytes(b'no picture')
    (folder / 'sub.png').mkdir()
    cv2.imwrite(str(folder / 'thumbnail.jpg'), np.zeros((20, 17, 3), np.uint8))
    assert quantize('--no-export', images=folder) == 0
    told = capfd.readouterr().out
    assert 'Pictures: 1 could not be read' in told and '1 smaller than 48 pixels left out' in told


def test_a_quantized_checkpoint_is_refused(quantize, inputs, tmp_path, capfd):
    assert quantize('--no-export') == 0
    line = ['quantize', str(tmp_path / 'model/quantized.pth'), str(inputs / 'photos'), '-o', str(tmp_path / 'twice')]
    assert main(line) == 2
    assert 'is quantized already' in capfd.readouterr().err


def test_an_architecture_on_the_command_line():
    assert read_arch(['EDSR', 'num_feat=8', 'rgb_mean=[0, 0, 0]', 'res_scale=0.1']) == {
        'type': 'EDSR', 'num_feat': 8, 'rgb_mean': [0, 0, 0], 'res_scale': 0.1}  # fmt: skip
    assert read_arch(None) is None
    with pytest.raises(DynqError, match='key=value'):
        read_arch(['EDSR', 'num_feat'])
    with pytest.raises(DynqError, match='leave type out'):
        read_arch(['EDSR', 'type=RDN'])
