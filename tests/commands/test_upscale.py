"""``dynq upscale`` as a user meets it: names, formats, bad input, restarts."""

import argparse
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms

from dynq_basicsr import cli
from dynq_basicsr.commands import upscale as command
from dynq_basicsr.imaging import image_files
from dynq_basicsr.imaging.patch_grid import TilingOptions
from dynq_basicsr.imaging.pictures import read_picture
from dynq_basicsr.runtime import upscale_files
from dynq_basicsr.runtime.model import FrozenModel
from dynq_basicsr.runtime.router import Router, RunOptions


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1])


def load(path):
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.fixture
def run(model, tmp_path, capsys):
    """``run(*arguments)``: exit code, stdout and stderr of the command, with its model and output given."""

    def call(*arguments, output=tmp_path / 'out', folder=model.folder):
        options = ('--model', folder, '--output', output, '--threads', 1)
        code = cli.main(['upscale', *(str(argument) for argument in (*arguments, *options))])
        captured = capsys.readouterr()
        assert 'Traceback' not in captured.err
        return code, captured.out, captured.err

    return call


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def test_a_folder_becomes_a_folder(run, model, photo, tmp_path):
    images = {name: photo(30, 80, seed=seed) for seed, name in enumerate(('b.png', 'a.bmp', 'Grüße 写真.png'))}
    for name, image in images.items():
        save(tmp_path / 'in' / name, image)
    (tmp_path / 'in' / 'notes.txt').write_text('no image')
    save(tmp_path / 'in' / 'below' / 'c.png', images['b.png'])
    code, out, err = run(tmp_path / 'in')
    assert (code, err) == (0, '')
    assert files_below(tmp_path / 'out') == ['Grüße 写真_x2.png', 'a_x2.png', 'b_x2.png']
    router = Router(model.folder)
    for name, image in images.items():
        expected = router.upscale(np.ascontiguousarray(image[..., ::-1]))
        found = load(tmp_path / 'out' / f'{name.split(".")[0]}_x2.png')
        np.testing.assert_array_equal(found[..., ::-1], expected)
    lines = out.splitlines()
    assert len(lines) == 4 and lines[-1].startswith('3 upscaled (') and lines[-1].endswith(' images a second)')
    assert '80x30 -> 160x60, high: 1, low: 1, mid: 1' in lines[0]


def test_folders_below_on_request(run, photo, tmp_path):
    save(tmp_path / 'in' / 'a.png', photo(9, 9))
    save(tmp_path / 'in' / 'below' / 'a.jpg', photo(9, 9))
    save(tmp_path / 'in' / '.hidden' / 'b.png', photo(9, 9))
    for _ in range(2):  # the second time, results lie below the inputs
        assert run(tmp_path / 'in', '--recursive', output=tmp_path / 'in' / 'out')[0] == 0
    assert files_below(tmp_path / 'in' / 'out') == ['a_x2.png', 'below/a_x2.png']


@pytest.mark.parametrize(
    'file_format, suffix, expected',
    [
        ('same', None, ['a_x2.JPG', 'b_x2.png']),
        ('jpg', '', ['a.jpg', 'b.jpg']),
        ('webp', '-up', ['a-up.webp', 'b-up.webp']),
    ],
)  # fmt: skip
def test_names_and_formats(run, photo, tmp_path, file_format, suffix, expected):
    save(tmp_path / 'a.JPG', photo(30, 30))
    save(tmp_path / 'b.png', photo(30, 30))
    options = [] if suffix is None else [f'--suffix={suffix}']
    assert run(tmp_path / 'a.JPG', tmp_path / 'b.png', '--format', file_format, *options)[0] == 0
    assert files_below(tmp_path / 'out') == expected
    assert all(load(tmp_path / 'out' / name).shape == (60, 60, 3) for name in expected)


def test_webp_is_without_loss(run, photo, tmp_path):
    save(tmp_path / 'a.png', photo(30, 30))
    run(tmp_path / 'a.png', '--format', 'webp')
    run(tmp_path / 'a.png')
    np.testing.assert_array_equal(load(tmp_path / 'out/a_x2.webp'), load(tmp_path / 'out/a_x2.png'))


def test_finished_files_are_left_out(run, photo, tmp_path):
    for name in ('a', 'b'):
        save(tmp_path / f'in/{name}.png', photo(20, 20))
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/a_x2.png').write_bytes(b'there already')
    code, out, _ = run(tmp_path / 'in')
    assert code == 0 and out.splitlines()[-1] == '1 upscaled, 1 already there'
    assert (tmp_path / 'out/a_x2.png').read_bytes() == b'there already'
    assert run(tmp_path / 'in', '--overwrite')[1].splitlines()[-1].startswith('2 upscaled (')
    assert load(tmp_path / 'out/a_x2.png').shape == (40, 40, 3)


def test_corrupt_files_are_reported_and_left_out(run, photo, tmp_path):
    save(tmp_path / 'in/a.png', photo(20, 20))
    save(tmp_path / 'in/z.png', photo(20, 20))
    content = (tmp_path / 'in/a.png').read_bytes()
    (tmp_path / 'in/cut.png').write_bytes(content[: len(content) // 2])
    (tmp_path / 'in/empty.jpg').write_bytes(b'')
    (tmp_path / 'in/text.webp').write_text('no image')
    code, out, err = run(tmp_path / 'in')
    assert code == 1 and out.splitlines()[-1].startswith('2 upscaled, 3 failed (')
    assert files_below(tmp_path / 'out') == ['a_x2.png', 'z_x2.png']
    for line, name in zip(err.splitlines(), ('cut.png', 'empty.jpg', 'text.webp'), strict=True):
        assert line.startswith('dynq_basicsr: error: ') and f'{name}: the image is' in line


def test_transparency_is_enlarged_by_itself(run, photo, tmp_path):
    image = np.dstack([photo(30, 30), np.full((30, 30), 255, np.uint8)])
    image[:15, :, 3] = 0
    save(tmp_path / 'a.png', image)
    save(tmp_path / 'b.png', np.ascontiguousarray(image[..., :3]))
    assert run(tmp_path / 'a.png', tmp_path / 'b.png')[0] == 0
    found, opaque = load(tmp_path / 'out/a_x2.png'), load(tmp_path / 'out/b_x2.png')
    np.testing.assert_array_equal(found[..., :3], opaque)
    assert (found[:26, :, 3] == 0).all() and (found[34:, :, 3] == 255).all()
    code, _, err = run(tmp_path / 'a.png', '--format', 'jpg')
    assert code == 1 and 'JPEG holds no transparency; take --format png' in err


def test_grey_stays_grey(run, model, photo, tmp_path):
    grey = photo(30, 50)[..., 0]
    save(tmp_path / 'grey.png', grey)
    save(tmp_path / 'grey.jpg', grey)
    assert run(tmp_path / 'grey.png')[0] == run(tmp_path / 'grey.jpg', '--suffix=_j')[0] == 0
    found = load(tmp_path / 'out/grey_x2.png')
    expected = Router(model.folder).upscale(np.dstack([grey] * 3)) @ np.float32([0.299, 0.587, 0.114])
    np.testing.assert_array_equal(found, np.rint(expected))
    assert load(tmp_path / 'out/grey_j.png').shape == (60, 100)


def test_a_network_of_one_channel(run, make_model, photo, tmp_path):
    model = make_model(channels=1)
    save(tmp_path / 'grey.png', photo(30, 50)[..., 0])
    save(tmp_path / 'colour.png', photo(30, 50))
    assert run(tmp_path / 'colour.png', tmp_path / 'grey.png', folder=model.folder)[0] == 0
    expected = Router(model.folder).upscale(photo(30, 50)[..., :1])[..., 0]
    np.testing.assert_array_equal(load(tmp_path / 'out/grey_x2.png'), expected)
    expected = FrozenModel(model.folder).upscale(np.ascontiguousarray(photo(30, 50)[..., ::-1]))
    np.testing.assert_array_equal(load(tmp_path / 'out/colour_x2.png')[..., ::-1], expected)


def test_sixteen_bits_stay_where_the_format_has_them(run, photo, tmp_path):
    save(tmp_path / 'a.png', photo(20, 20).astype(np.uint16) * 257)
    assert run(tmp_path / 'a.png')[0] == run(tmp_path / 'a.png', '--format', 'jpg')[0] == 0
    assert load(tmp_path / 'out/a_x2.png').dtype == np.uint16 and load(tmp_path / 'out/a_x2.jpg').dtype == np.uint8
    save(tmp_path / 'f.tiff', photo(20, 20).astype(np.float32))
    code, _, err = run(tmp_path / 'f.tiff')
    assert code == 1 and 'f.tiff: the image has 32 bits per channel; convert it to 8 or 16' in err


@pytest.mark.parametrize('source, channels', [('a.jpg', 3), ('a.png', 4), ('a.webp', 4), ('a.tiff', 4)])
@pytest.mark.parametrize('ending', ['png', 'webp', 'same'])
def test_pictures_keep_what_they_carry(run, photo, tmp_path, source, channels, ending):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    exif, pixels = Image.Exif(), np.dstack([photo(20, 30), np.full((20, 30), 99, np.uint8)])[..., :channels]
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Artist] = 8, 'somebody'
    if source == 'a.webp':
        exif[ExifTags.Base.XResolution] = exif[ExifTags.Base.YResolution] = 300.0
    options = {} if source == 'a.webp' else {'dpi': (300, 300)}
    Image.fromarray(pixels).save(tmp_path / source, exif=exif.tobytes(), icc_profile=profile, **options)
    assert run(tmp_path / source, '--format', ending)[0] == 0
    target = tmp_path / 'out' / f'a_x2.{ending}' if ending != 'same' else tmp_path / 'out' / source.replace('.', '_x2.')
    result = read_picture(target)
    assert result.colour.shape == (60, 40, 3) and (result.alpha is None) == (channels == 3)
    assert result.metadata.icc == profile and result.metadata.dpi == pytest.approx((300, 300), rel=1e-3)
    with Image.open(target) as image:
        assert image.getexif()[ExifTags.Base.Artist] == 'somebody' and ExifTags.Base.Orientation not in image.getexif()


@pytest.mark.parametrize('channels', [1, 3])
def test_large_results_are_written_in_rows(run, make_model, photo, tmp_path, monkeypatch, channels):
    folder = make_model(channels=channels).folder
    pictures = {'colour': photo(140, 90), 'grey': photo(140, 90)[..., 0], 'deep': photo(70, 90).astype(np.uint16) * 257,
                'alpha': np.dstack([photo(140, 90), photo(140, 90, seed=5)[..., 0]])}  # fmt: skip
    for name, pixels in pictures.items():
        save(tmp_path / f'in/{name}.png', pixels)
    assert run(tmp_path / 'in', folder=folder)[0] == 0
    monkeypatch.setattr(image_files, 'LARGE', 0)
    monkeypatch.setattr(upscale_files, 'write_picture', None)
    assert run(tmp_path / 'in', folder=folder, output=tmp_path / 'rows')[0] == 0
    for name in pictures:
        whole, rows = (load(tmp_path / place / f'{name}_x2.png') for place in ('out', 'rows'))
        np.testing.assert_array_equal(rows, whole, strict=True)


def test_what_a_format_cannot_keep_is_said(run, photo, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    profile = profile[:16] + b'GRAY' + profile[20:]
    save(tmp_path / 'b.bmp', photo(20, 20))
    Image.fromarray(photo(20, 20)[..., 0]).save(tmp_path / 'a.png', icc_profile=profile)
    _, out, _ = run(tmp_path / 'a.png', tmp_path / 'b.bmp', '--format', 'webp')
    first, second, _ = out.splitlines()
    assert first.endswith('; its colour profile is left out') and second.endswith(' s')


def test_animations_are_refused_and_other_formats_counted(run, photo, tmp_path):
    frames = [Image.fromarray(photo(20, 20, seed=seed)) for seed in (1, 2)]
    (tmp_path / 'in').mkdir()
    frames[0].save(tmp_path / 'in/film.webp', save_all=True, append_images=frames[1:])
    for name in ('a.gif', 'b.ppm', 'c.png'):
        frames[0].save(tmp_path / 'in' / name)
    code, out, err = run(tmp_path / 'in')
    skipped, refused = err.splitlines()
    assert code == 1 and out.splitlines()[-1] == '1 upscaled, 1 failed'
    assert skipped.startswith('1 .gif, 1 .ppm skipped; of folders, .png, .jpg')
    assert 'film.webp: holds 2 frames or pages' in refused
    assert run(tmp_path / 'in/a.gif', tmp_path / 'in/b.ppm')[0] == 0


def test_sizes_have_a_limit(run, photo, tmp_path):
    save(tmp_path / 'a.png', photo(20, 20))
    code, _, err = run(tmp_path / 'a.png', '--max-pixels', 1599)
    assert code == 1 and '20 x 20 pixels would become 40 x 40, more than --max-pixels 1599; raise it' in err
    assert run(tmp_path / 'a.png', '--max-pixels', 1600)[0] == 0
    save(tmp_path / 'long.png', photo(1, 9000))
    code, _, err = run(tmp_path / 'long.png', '--format', 'webp')
    assert code == 1 and 'webp holds sides of 16383 pixels, not 18000 x 2; take --format png' in err


def test_targets_that_are_empty_or_folders(run, photo, tmp_path):
    for name in 'ab':
        save(tmp_path / f'in/{name}.png', photo(9, 9))
    (tmp_path / 'out/a_x2.png').mkdir(parents=True)
    (tmp_path / 'out/b_x2.png').touch()
    code, out, err = run(tmp_path / 'in')
    assert code == 1 and out.splitlines()[-1] == '1 upscaled, 1 failed' and load(tmp_path / 'out/b_x2.png') is not None
    assert 'a_x2.png: is a folder, where the result is to be; remove it' in err and len(err.splitlines()) == 1


def test_shards_share_the_files(run, photo, tmp_path):
    for name in 'edcba':
        save(tmp_path / f'in/{name}.png', photo(9, 9))
    assert run(tmp_path / 'in', '--shard', '2/2')[1].splitlines()[-1].startswith('2 upscaled')
    assert files_below(tmp_path / 'out') == ['b_x2.png', 'd_x2.png']
    files = [tmp_path / f'in/{name}.png' for name in 'cedab']  # the order of the command line decides nothing
    assert run(*files, '--shard', '2/2')[1].splitlines()[-1] == '2 already there'
    assert run(tmp_path / 'in', '--shard', '1/2')[1].splitlines()[-1].startswith('3 upscaled')
    assert run(tmp_path / 'in', '--shard', '7/7')[1] == 'nothing to do\n'


@pytest.mark.parametrize('encoding', ['utf-8:strict', 'cp1252:strict', 'ascii:strict'])
def test_names_that_no_encoding_holds(model, photo, tmp_path, repository, encoding):
    for name in (b'caf\xe9.png', '名.png'.encode()):
        save(tmp_path / 'in' / os.fsdecode(name), photo(9, 9))
    (tmp_path / 'in' / os.fsdecode(b'cut\xe9.png')).write_bytes(b'no image')
    done = subprocess.run(
        [sys.executable, '-m', 'dynq_basicsr.upscale', str(tmp_path / 'in'), '--model', str(model.folder), '--output',
         str(tmp_path / 'out')],
        capture_output=True, cwd=repository, env=os.environ | {'PYTHONIOENCODING': encoding},
    )  # fmt: skip
    assert done.returncode == 1 and b'2 upscaled, 1 failed' in done.stdout and b'Traceback' not in done.stderr
    assert sorted(map(os.fsencode, os.listdir(tmp_path / 'out'))) == [b'caf\xe9_x2.png', '名_x2.png'.encode()]


def test_grid_and_tier_are_passed_on(run, model, photo, tmp_path):
    save(tmp_path / 'a.png', photo(50, 90))
    options = ['--patch', 20, '--overlap', 6, '--feather', 5, '--batch', 2, '--flat-tier', 'bicubic',
               '--flat-threshold', 12]  # fmt: skip
    code, out, _ = run(tmp_path / 'a.png', *options)
    assert code == 0 and 'bicubic: ' in out
    tiling = Router(model.folder).tiling.__class__(20, 14)
    router = Router(model.folder, RunOptions(tiling=tiling, feather=5, batch=1, flat_threshold=12))
    expected = router.upscale(np.ascontiguousarray(photo(50, 90)[..., ::-1]))
    np.testing.assert_array_equal(load(tmp_path / 'out/a_x2.png')[..., ::-1], expected)


@pytest.mark.parametrize(
    'options, expected',
    [
        ([], (24, 20, 'average')), (['--patch', 30], (30, 26, 'average')), (['--patch', 2], (2, 1, 'average')),
        (['--overlap', 0], (24, 24, 'average')), (['--step', 7, '--merge', 'split'], (24, 7, 'split')),
        (['--patch', 0], (None, None, 'average')), (['--feather', 8], (24, 16, 'average')),
    ],
)  # fmt: skip
def test_what_is_not_given_is_as_the_manifest_says(options, expected):
    default, parser = TilingOptions(24, 20), argparse.ArgumentParser()
    command.add_arguments(parser)
    given = parser.parse_args(['x', '--model', 'm', '--output', 'o', *map(str, options)])
    tiling = command.choose_tiling(given, default)
    assert (tiling.patch_size, tiling.patch_step, tiling.patch_merge) == expected


@pytest.mark.parametrize(
    'options, message',
    [
        (['--step', 25], '--step 25: patches of 24 pixels need steps of 1 to 24'),
        (['--overlap', 24], '--overlap 24: patches of 24'),
        (['--feather', 30], '--feather 30: patches of 24'),
        (['--patch', 0, '--overlap', 3], 'the whole image is one patch'),
        (['--overlap', 4, '--feather', 5], '--feather 5: patches of 24 every 20 pixels overlap by 4'),
        (['--flat-threshold', 3], 'give --flat-tier bicubic, too'),
        (['--flat-tier', 'bicubic'], 'give the --flat-threshold'),
        (['--flat-tier', 'bicubic', '--flat-threshold', 'nan'], 'give the --flat-threshold'),
        (['--suffix', 'a/b'], 'give a part of a name'),
        (['--runtime', 'openvino'], 'OpenVINO: not installed; run `pip install openvino`'),
    ],
)
def test_options_that_do_not_fit(run, photo, tmp_path, options, message, monkeypatch):
    monkeypatch.setitem(sys.modules, 'openvino', None)
    save(tmp_path / 'a.png', photo(20, 20))
    code, _, err = run(tmp_path / 'a.png', *options)
    assert code == 2 and message in err and len(err.splitlines()) == 1 and not (tmp_path / 'out').exists()


@pytest.mark.parametrize('option', [
    '--patch=-1', '--batch=0', '--threads=0', '--patch=x', '--format=gif', '--shard=0/2', '--shard=3/2', '--shard=x',
    '--max-pixels=0',
])  # fmt: skip
def test_values_that_argparse_refuses(run, tmp_path, option):
    with pytest.raises(SystemExit, match='2'):
        run(tmp_path, option)


def test_inputs_that_cannot_be(run, photo, tmp_path):
    save(tmp_path / 'in/a.png', photo(9, 9))
    save(tmp_path / 'in/a.jpg', photo(9, 9))
    (tmp_path / 'none/below').mkdir(parents=True)
    for arguments, message in (
        ([tmp_path / 'nothing.png'], 'nothing.png: no such file or folder'),
        ([tmp_path / 'none'], 'holds no images'),
        ([tmp_path / 'in'], 'would be the result of both'),
    ):
        code, _, err = run(*arguments)
        assert code == 2 and message in err and len(err.splitlines()) == 1
    code, _, err = run(tmp_path / 'in', output=tmp_path / 'in')
    assert code == 2 and 'give another folder as --output' in err
    code, _, err = run(tmp_path / 'in/a.png', '--suffix=', output=tmp_path / 'in')
    assert code == 2 and 'the result would replace it' in err
    assert files_below(tmp_path / 'in') == ['a.jpg', 'a.png']


def test_output_that_cannot_be_written(run, photo, tmp_path):
    save(tmp_path / 'a.png', photo(9, 9))
    (tmp_path / 'file').write_text('')
    code, _, err = run(tmp_path / 'a.png', output=tmp_path / 'file')
    assert code == 2 and 'cannot be written to (File exists); give another folder' in err


def test_a_full_disk_ends_the_run(run, photo, tmp_path, monkeypatch):
    for name in ('a', 'b'):
        save(tmp_path / f'in/{name}.png', photo(9, 9))

    def full(source, target):
        raise OSError(28, 'No space left on device', str(source))

    monkeypatch.setattr(os, 'replace', full)
    code, _, err = run(tmp_path / 'in')
    assert code == 2 and 'No space left on device); make room' in err and len(err.splitlines()) == 1
    assert files_below(tmp_path / 'out') == []


def test_a_wrong_graph_ends_the_run(run, model, photo, tmp_path):
    for name in ('a', 'b'):
        save(tmp_path / f'in/{name}.png', photo(9, 9))
    model.write(scale=3)
    code, _, err = run(tmp_path / 'in')
    assert code == 2 and 'the manifest says scale 3' in err and len(err.splitlines()) == 1


def test_without_onnxruntime_the_command_says_what_to_install(run, photo, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    save(tmp_path / 'a.png', photo(9, 9))
    code, _, err = run(tmp_path / 'a.png')
    assert code == 2 and 'ONNX Runtime: not installed; run `pip install "onnxruntime>=1.23"`' in err


@pytest.mark.parametrize('moment', ['read_picture', 'upscale_picture', 'write_picture'])
def test_an_interrupted_run_leaves_nothing_half_written(run, photo, tmp_path, monkeypatch, moment):
    for name in ('a', 'b'):
        save(tmp_path / f'in/{name}.png', photo(20, 20))
    once, calls = getattr(upscale_files, moment), []

    def interrupted(*arguments):
        calls.append(moment)
        if len(calls) == 2:
            if moment == 'write_picture':

                def stop(source, target):
                    raise KeyboardInterrupt

                monkeypatch.setattr(os, 'replace', stop)
                return once(*arguments)
            raise KeyboardInterrupt
        return once(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(upscale_files, moment, interrupted)
        patch.setattr(os, 'replace', os.replace)
        code, _, err = run(tmp_path / 'in')
    monkeypatch.undo()
    assert code == 130 and 'interrupted; the same command goes on' in err
    assert files_below(tmp_path / 'out') == ['a_x2.png']
    assert run(tmp_path / 'in')[1].splitlines()[-1] == '1 upscaled, 1 already there'


def test_a_process_of_its_own_needs_neither_torch_nor_basicsr(model, photo, tmp_path, repository):
    save(tmp_path / 'a.png', photo(30, 30))
    code = ('import runpy, sys\n'
            'sys.modules["torch"] = sys.modules["basicsr"] = None\n'
            'runpy.run_module("dynq_basicsr.upscale", run_name="__main__")')  # fmt: skip
    done = subprocess.run(
        [sys.executable, '-c', code, str(tmp_path / 'a.png'), '--model', str(model.folder), '--output',
         str(tmp_path / 'out')],
        capture_output=True, text=True, cwd=repository,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert files_below(tmp_path / 'out') == ['a_x2.png'] and done.stderr == ''
