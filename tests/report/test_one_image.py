"""The bits that any image uses, with the network of any option file."""

from __future__ import annotations

import cv2
import pytest

from dynq_basicsr.errors import DynqError
from dynq_basicsr.report.one_image import bits_used, load_model, read_lr_image, read_options


def test_bits_of_each_patch_and_layer(option_file, image):
    usage = bits_used(load_model(option_file), read_lr_image(image))
    assert usage.boxes == [(0, 0, 16, 16), (0, 16, 16, 33), (16, 0, 40, 16), (16, 16, 40, 33)]
    assert list(usage.bits) == ['body.0.conv1', 'body.0.conv2', 'body.1.conv1', 'body.1.conv2']
    assert usage.patch_bits.tolist() == [5, 5, 5, 5] and usage.fab() == 5


def test_pixels_are_bgr(image):
    assert (read_lr_image(image) == cv2.imread(str(image))).all()


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, 'no such option file'),
        ('[1, 2]', "section 'network_g' is missing"),
        ('network_g: {type: EDSR}', "section 'path' is missing"),
        ('network_g: {type: EDSR}\npath: {}', 'pretrain_network_g is empty'),
        ('!!python/object/apply:os.getcwd []', 'refused'),
    ],
)
def test_bad_option_files_are_named(tmp_path, content, message):
    path = tmp_path / 'bad.yml'
    if content is not None:
        path.write_text(content)
    with pytest.raises(DynqError, match=message) as caught:
        load_model(path)
    assert 'bad.yml' in str(caught.value)


def test_missing_image_is_named(tmp_path):
    with pytest.raises(DynqError, match='no such image'):
        read_lr_image(tmp_path / 'nowhere.png')


def test_options_keep_numbers(tmp_path):
    (tmp_path / 'a.yml').write_text('network_g: {lr: 1e-4}\npath: {}\n')
    assert read_options(tmp_path / 'a.yml')['network_g']['lr'] == 1e-4
