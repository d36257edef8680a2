"""``dynq quantize``: two arguments and a folder."""

import os
import re
import shlex
import shutil
import time

import cv2
import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock
from skimage import data

import dynq_basicsr
from dynq_basicsr import plugin
from dynq_basicsr.archs.arch_options import build_backbone
from dynq_basicsr.cli import main
from dynq_basicsr.commands.quantize import read_arch
from dynq_basicsr.errors import DynqError
from dynq_basicsr.plugins import load_plugins
from dynq_basicsr.training.post_training import PostTraining
from dynq_basicsr.workflow.quantized import Quantized
from dynq_basicsr.workflow.recipes import METHODS

plugin.register()
pytest.importorskip('onnxruntime')

from dynq_basicsr.export import freeze  # noqa: E402

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
    graphs = sum(path.stat().st_size for path in map((tmp_path / 'model').joinpath, ('network.onnx', 'manifest.json')))
    assert float(row[1]) == pytest.approx(graphs / 1e6, abs=0.005)
    assert 2 <= float(row[2]) <= 8
    told_why = 'Larger, as the graph and the numbers of each choice of bits take more than its few weights save.'
    assert told_why in told
    assert 'Calibrated with 5 pictures' in told and 'on 1 picture left out' in told
    files = {path.name for path in (tmp_path / 'model').iterdir()}
    assert {'manifest.json', 'quantized.pth', 'options.yml', 'bits.png', 'report.html'} <= files
    assert f'To look at: {tmp_path / "model/report.html"}' in told
    page = (tmp_path / 'model/report.html').read_text(encoding='utf-8')
    assert 'Pictures were left out of calibration.' in page and 'the quantized one in ONNX Runtime.' in page
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


def test_seconds_are_all_of_them(quantize, monkeypatch, capfd):
    """Those before an interruption, and those of the export, too."""
    export, now = Quantized.export, time.perf_counter
    skipped = []

    def slow(*words, **options):
        skipped.append(1000)
        return export(*words, **options)

    monkeypatch.setattr(Quantized, 'export', slow)
    monkeypatch.setattr('dynq_basicsr.commands.quantize.time.perf_counter', lambda: now() + sum(skipped))
    assert quantize('--method', 'minmax') == 0
    assert 1000 < int(re.search(r'minmax W4A4.* (\d+)\n', capfd.readouterr().out)[1]) < 1100


def test_without_graphs(quantize, tmp_path):
    assert quantize('--no-export') == 0
    files = sorted(path.name for path in (tmp_path / 'model').iterdir())
    assert files == ['bits.png', 'dynq.sha256', 'options.yml', 'pictures.txt', 'quantized.pth', 'report.html']
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
        (['--arch', 'SRVGGNetCompact', 'num_feat=1e'], "--arch.num_feat: must be a number, as 64, not '1e'"),
        (['--arch', 'EDSR', 'num_in_ch=3', 'num_out_ch=3', 'rgb_mean=5'], '--arch: EDSR refuses its options'),
        (['--arch', 'SRVGGNetCompact', 'num_feat=9'], 'does not fit SRVGGNetCompact'),
        (['--arch', 'SRVGGNetCompact', 'num_feat=9'], 'Compare --arch with the checkpoint.'),
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
    assert 'holds diary.txt, but is no model folder' in capfd.readouterr().err
    assert [path.name for path in (tmp_path / 'model').iterdir()] == ['diary.txt']


def test_what_a_training_left_in_the_folder_stays(quantize, tmp_path, capfd):
    assert quantize('--no-export') == 0
    (tmp_path / 'model/experiments').mkdir()
    (tmp_path / 'model/experiments/weeks.pth').write_text('of work')
    assert quantize() == 2
    assert 'holds experiments, which was not written with the model' in capfd.readouterr().err
    assert main(['export', str(tmp_path / 'model/quantized.pth'), '-o', str(tmp_path / 'model')]) == 2
    assert (tmp_path / 'model/experiments/weeks.pth').read_text() == 'of work'


def test_a_link_as_the_folder(quantize, tmp_path):
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'model').symlink_to(tmp_path / 'disk', target_is_directory=True)
    assert quantize('--no-export') == quantize('--no-export', '--bits', '5') == 0
    assert (tmp_path / 'model').is_symlink() and (tmp_path / 'disk/quantized.pth').is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ['disk', 'model']


@pytest.mark.parametrize('what', ['agreement', 'bit_map', 'export'])
def test_calibration_is_lost_to_nothing_before_the_folder_is_there(what, quantize, tmp_path, monkeypatch, capfd):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Quantized, what, interrupted)
        assert quantize('--method', 'minmax') == 130
    told = capfd.readouterr().err
    assert told.endswith('dynq_basicsr: interrupted; the same command goes on from there.\n')
    assert [path.name for path in tmp_path.iterdir()] == ['.model.work']
    monkeypatch.setattr(PostTraining, 'step', None)
    assert quantize('--method', 'minmax') == 0
    assert [path.name for path in tmp_path.iterdir()] == ['model']


def test_the_network_is_traced_once(quantize, monkeypatch):
    seen = []
    monkeypatch.setattr(freeze, 'trace_network', lambda *a, trace=freeze.trace_network: seen.append(a) or trace(*a))
    assert quantize('--method', 'minmax') == 0
    assert len(seen) == 1


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
    told = f'dynq_basicsr: interrupted; the same command {told}.\n'
    assert capfd.readouterr().err.endswith(told)
    assert [path.name for path in tmp_path.iterdir()] == (['.model.work'] if after > 1 else [])
    assert quantize('--no-export') == 0
    assert [path.name for path in tmp_path.iterdir()] == ['model']


def test_what_no_graph_stands_for_is_told_before_calibration(quantize, inputs, tmp_path, capfd, caplog):
    spandrel = pytest.importorskip('spandrel.architectures.SAFMN', reason='the extra community is not installed')
    torch.manual_seed(0)
    torch.save({'params': spandrel.SAFMN(dim=8, n_blocks=1, upscaling_factor=2).state_dict()}, inputs / 'safmn.pth')
    assert quantize(model='safmn.pth') == 0
    told, reason = capfd.readouterr().out, 'SAFMN: PyTorch cannot write it as ONNX'
    assert f'There will be a checkpoint, but no model folder for the runtime without PyTorch: {reason}' in caplog.text
    assert f'No model folder: {reason}' in told and re.search(r'adabm W4A4 +[\d.]+ MB', told)
    assert f'Next: dynq upscale -m {tmp_path / "model"} ' in told
    files = {path.name for path in (tmp_path / 'model').iterdir()}
    assert 'quantized.pth' in files and not any(name.endswith(('.onnx', 'manifest.json')) for name in files)
    image = torch.rand(1, 3, 20, 28)
    assert dynq_basicsr.load(tmp_path / 'model/quantized.pth', device='cpu')(image).shape == (1, 3, 40, 56)


def test_what_cannot_be_exported_is_quantized_all_the_same(quantize, tmp_path, capfd, monkeypatch):
    def refuse(*arguments, **options):
        raise DynqError('no graph can be made.')

    monkeypatch.setattr('dynq_basicsr.export.freeze.freeze', refuse)
    assert quantize() == 2
    assert 'no graph can be made. The network is quantized' in capfd.readouterr().err
    assert (tmp_path / 'model/quantized.pth').is_file() and [path.name for path in tmp_path.iterdir()] == ['model']


def test_pictures_that_do_not_serve_are_named(quantize, inputs, tmp_path, capfd):
    folder = tmp_path / 'mixed'
    shutil.copytree(inputs / 'photos', folder)
    (folder / 'broken.png').write_bytes(b'no picture')
    (folder / 'sub.png').mkdir()
    cv2.imwrite(str(folder / 'thumbnail.jpg'), np.zeros((20, 17, 3), np.uint8))
    assert quantize('--no-export', images=folder) == 0
    told = capfd.readouterr().out
    assert 'Pictures: 1 could not be read' in told and '1 smaller than 48 pixels left out' in told


def test_a_path_that_no_option_file_can_hold_is_refused_at_once(quantize, tmp_path, capfd):
    folder = tmp_path / os.fsdecode(b'caf\xe9')
    try:
        folder.mkdir()
    except OSError:
        pytest.skip('the file system takes UTF-8 alone')
    assert quantize('-o', str(folder / 'model')) == 2
    assert 'is not UTF-8' in capfd.readouterr().err
    assert not list(folder.iterdir())


def test_the_current_directory_may_become_the_model(quantize, tmp_path, monkeypatch):
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    assert quantize('--no-export', '-o', '.') == 0
    assert yaml.safe_load((tmp_path / 'here/options.yml').read_text())['name'] == 'here'


ARCHS = """
from basicsr.utils.registry import ARCH_REGISTRY
from torch import nn


@ARCH_REGISTRY.register()
class Mine(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, 12, 3, padding=1))
        self.tail = nn.PixelShuffle(2)

    def forward(self, x):
        return {'sr': self.tail(self.body(self.head(x / 255))) * 255, 'mean': x.mean()}
"""


def test_the_option_file_makes_the_same_network_from_any_directory(inputs, tmp_path, short, monkeypatch, capfd):
    (tmp_path / 'mine').mkdir()
    (tmp_path / 'mine/archs_of_mine.py').write_text(ARCHS)
    (tmp_path / 'elsewhere').mkdir()
    monkeypatch.chdir(tmp_path / 'mine')
    load_plugins(['archs_of_mine.py'])
    torch.manual_seed(0)
    torch.save(build_backbone({'type': 'Mine', 'width': 6}).state_dict(), 'mine.pth')
    shutil.copytree(inputs / 'photos', 'photos')
    cv2.imwrite('深い (2).png', data.astronaut()[:70, :80, 0].astype(np.uint16) * 257)
    line = ['quantize', 'mine.pth', 'photos', '深い (2).png', '-o', '../model', '--no-export', '--plugin',
            'archs_of_mine.py', '--value-range', '255', '--seed', '5', '--device', 'cpu', '--arch', 'Mine',
            'width=6']  # fmt: skip
    assert main(line) == 0
    listed = (tmp_path / 'model/pictures.txt').read_text(encoding='utf-8').splitlines()
    everything = {str(path) for path in (tmp_path / 'mine').rglob('*') if path.suffix in ('.jpg', '.png')}
    assert len(listed) == len(set(listed)) == 6 and set(listed) < everything
    monkeypatch.chdir(tmp_path / 'elsewhere')
    assert main(['train', '-opt', '../model/options.yml']) == 0
    trained = torch.load('experiments/model/models/net_g_latest.pth', weights_only=True)
    quantized = torch.load('../model/quantized.pth', weights_only=True)
    assert trained['description'] == quantized['description']
    assert trained['params'].keys() == quantized['params'].keys()
    assert all(torch.equal(value, quantized['params'][name]) for name, value in trained['params'].items())


def test_without_graphs_the_checkpoint_upscales(quantize, inputs, tmp_path, capfd):
    """The same pictures, pixel by pixel, from the graphs, from the folder without graphs, and from its checkpoint."""
    model = tmp_path / 'model'
    photo = str(inputs / 'photos/0.jpg')
    assert quantize() == 0
    assert main(['upscale', '-m', str(model), photo, '-o', str(tmp_path / 'graphs')]) == 0
    assert quantize('--no-export') == 0 and not (model / 'manifest.json').exists()
    told = capfd.readouterr().out
    assert f'Next: dynq upscale -m {model} PICTURES' in told
    for name, path in (('folder', model), ('file', model / 'quantized.pth')):
        assert main(['upscale', '-m', str(path), photo, '-o', str(tmp_path / name)]) == 0
        assert re.search(r'72x60 -> 144x120, \d\.\d\d bits: 1, ', capfd.readouterr().out)
        found, wanted = (cv2.imread(str(tmp_path / one / '0_x2.png')) for one in (name, 'graphs'))
        assert (found == wanted).mean() > 0.999
    line = ['upscale', '-m', str(model), photo, '-o', str(tmp_path / 'none')]
    assert main([*line, '--threads', '1', '--flat-tier', 'bicubic']) == 2
    assert '--threads, --flat-tier: for model folders alone; `dynq export' in capfd.readouterr().err
    assert quantize() == 0 and main([*line, '--plugin', 'mine.py']) == 2
    assert f'--device, --plugin: they are for checkpoints; {model} is a model folder.' in capfd.readouterr().err


def test_a_quantized_checkpoint_is_refused(quantize, inputs, tmp_path, capfd):
    assert quantize('--no-export') == 0
    line = ['quantize', str(tmp_path / 'model/quantized.pth'), str(inputs / 'photos'), '-o', str(tmp_path / 'twice')]
    assert main(line) == 2
    assert 'is quantized already' in capfd.readouterr().err


@pytest.mark.parametrize(
    ('model', 'told'),
    [
        ('photos/0.jpg', '0.jpg: is a picture; the float checkpoint comes first'),
        ('photos', 'photos: is a folder, not the float checkpoint; name a checkpoint in it'),
    ],
)
def test_what_is_no_checkpoint_at_all(model, told, quantize, tmp_path, capfd):
    assert quantize(model=model) == 2
    assert told in capfd.readouterr().err


def test_a_model_folder_is_no_float_checkpoint(quantize, tmp_path, capfd):
    assert quantize('--no-export') == 0
    assert quantize('-o', str(tmp_path / 'twice'), model=tmp_path / 'model') == 2
    assert 'it holds quantized.pth, which is quantized already' in capfd.readouterr().err


def test_the_next_command_can_be_copied(quantize, tmp_path, capfd):
    assert quantize('--no-export', '-o', str(tmp_path / 'my model')) == 0
    words = shlex.split(capfd.readouterr().out.splitlines()[-1].removeprefix('Next: '))
    assert words == ['dynq', 'upscale', '-m', str(tmp_path / 'my model'), 'PICTURES', '-o', 'RESULTS']


def test_an_architecture_on_the_command_line():
    assert read_arch(['EDSR', 'num_feat=8', 'rgb_mean=[0, 0, 0]', 'res_scale=0.1']) == {
        'type': 'EDSR', 'num_feat': 8, 'rgb_mean': [0, 0, 0], 'res_scale': 0.1}  # fmt: skip
    assert read_arch(None) is None
    with pytest.raises(DynqError, match='key=value'):
        read_arch(['EDSR', 'num_feat'])
    with pytest.raises(DynqError, match='leave type out'):
        read_arch(['EDSR', 'type=RDN'])
