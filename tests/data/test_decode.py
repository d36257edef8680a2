"""decode_rgb8: BasicSR's values for good images, a sentence with the name for all others."""

import io

import cv2
import numpy as np
import pytest
from basicsr.utils import imfrombytes
from PIL import Image

from dynq_basicsr.data.decode import decode_rgb8
from dynq_basicsr.errors import DynqError


def pil_bytes(pixels, kind, mode=None, **options):
    image = Image.fromarray(pixels)
    stream = io.BytesIO()
    (image.convert(mode) if mode else image).save(stream, kind, **options)
    return stream.getvalue()


def with_alpha(photo):
    ramp = np.linspace(0, 255, photo.shape[1]).astype(np.uint8)
    return np.dstack([photo, np.broadcast_to(ramp, photo.shape[:2])])


def with_exif(photo, orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return pil_bytes(photo, kind, exif=exif)


GOOD = {
    'png': lambda photo: pil_bytes(photo, 'PNG'),
    'palette png': lambda photo: pil_bytes(photo, 'PNG', 'P'),
    'grey png': lambda photo: pil_bytes(photo, 'PNG', 'L'),
    '1-bit png': lambda photo: pil_bytes(photo, 'PNG', '1'),
    'jpeg': lambda photo: pil_bytes(photo, 'JPEG', quality=90),
    'progressive jpeg': lambda photo: pil_bytes(photo, 'JPEG', progressive=True),
    'jpeg with restart markers': lambda photo: pil_bytes(photo, 'JPEG', restart_marker_rows=1),
    'jpeg with a tail': lambda photo: pil_bytes(photo, 'JPEG') + b'made by a phone',
    'grey jpeg': lambda photo: pil_bytes(photo, 'JPEG', 'L'),
    'turned jpeg': lambda photo: with_exif(photo, 6, 'JPEG'),
    'turned png': lambda photo: with_exif(photo, 6, 'PNG'),
    'bmp': lambda photo: pil_bytes(photo, 'BMP'),
    'tiff': lambda photo: pil_bytes(photo, 'TIFF'),
    'grey tiff': lambda photo: pil_bytes(photo, 'TIFF', 'L'),
    'webp': lambda photo: pil_bytes(photo, 'WEBP'),
    'lossless webp': lambda photo: pil_bytes(photo, 'WEBP', lossless=True),
}
DAMAGED = {
    'empty': lambda photo: b'',
    'text': lambda photo: b'<html>404 not found</html>',
    'zeros': lambda photo: bytes(1000),
    'png header alone': lambda photo: pil_bytes(photo, 'PNG')[:20],
    'png half': lambda photo: pil_bytes(photo, 'PNG')[:-20000],
    'png without end': lambda photo: pil_bytes(photo, 'PNG')[:-5],
    'png damaged inside': lambda photo: pil_bytes(photo, 'PNG')[:5000] + bytes(400) + pil_bytes(photo, 'PNG')[5400:],
    'jpeg header alone': lambda photo: pil_bytes(photo, 'JPEG')[:30],
    'jpeg half': lambda photo: pil_bytes(photo, 'JPEG')[:-3000],
    'jpeg without end': lambda photo: pil_bytes(photo, 'JPEG')[:-2],
    'jpeg half, filled with zeros': lambda photo: pil_bytes(photo, 'JPEG')[:-3000] + bytes(3000),
    'bmp half': lambda photo: pil_bytes(photo, 'BMP')[:-20000],
    'tiff half': lambda photo: pil_bytes(photo, 'TIFF')[:-20000],
    'webp half': lambda photo: pil_bytes(photo, 'WEBP')[:-3000],
}
FOREIGN = {
    'alpha png': (lambda photo: pil_bytes(with_alpha(photo), 'PNG'), 'alpha channel'),
    'grey alpha png': (lambda photo: pil_bytes(photo, 'PNG', 'LA'), 'alpha channel'),
    'transparent palette': (lambda photo: pil_bytes(photo, 'PNG', 'P', transparency=0), 'alpha channel'),
    'alpha webp': (lambda photo: pil_bytes(with_alpha(photo), 'WEBP'), 'alpha channel'),
    'alpha tiff': (lambda photo: pil_bytes(with_alpha(photo), 'TIFF'), 'alpha channel'),
    '16-bit png': (lambda photo: cv2.imencode('.png', photo.astype(np.uint16) * 257)[1].tobytes(), '16 bits'),
    '16-bit grey png': (lambda photo: cv2.imencode('.png', photo[..., 0].astype(np.uint16))[1].tobytes(), '16 bits'),
    '16-bit tiff': (lambda photo: cv2.imencode('.tif', photo.astype(np.uint16) * 257)[1].tobytes(), '16 bits'),
    'cmyk jpeg': (lambda photo: pil_bytes(photo, 'JPEG', 'CMYK'), '4 colour channels'),
}


@pytest.mark.parametrize('kind', GOOD)
def test_good_images_have_basicsr_s_values(kind, photos):
    content = GOOD[kind](photos['coffee'])
    image = decode_rgb8(content, 'coffee', allow_grey=True)
    assert image.dtype == np.uint8 and image.flags['C_CONTIGUOUS']
    np.testing.assert_array_equal(image, imfrombytes(content)[..., ::-1])


def test_order_is_rgb_and_lossless(photos):
    np.testing.assert_array_equal(decode_rgb8(GOOD['png'](photos['coffee']), 'x', allow_grey=False), photos['coffee'])


@pytest.mark.parametrize('suffix', ['png', 'jpeg'])
def test_exif_orientation_is_applied(suffix, photos):
    photo = photos['coffee']
    turned = decode_rgb8(GOOD[f'turned {suffix}'](photo), 'x', allow_grey=False)
    assert turned.shape == (photo.shape[1], photo.shape[0], 3)


@pytest.mark.parametrize('kind', DAMAGED)
def test_damaged_images_are_named(kind, photos):
    with pytest.raises(DynqError, match=r'^set/coffee\.png: the image is (empty|damaged).*remove it\.$'):
        decode_rgb8(DAMAGED[kind](photos['coffee']), 'set/coffee.png', allow_grey=True)


@pytest.mark.parametrize('kind', FOREIGN)
def test_images_that_would_be_converted_silently_are_refused(kind, photos):
    make, problem = FOREIGN[kind]
    with pytest.raises(DynqError, match=rf'^coffee: the image .*{problem}.*; convert it to 8-bit RGB or remove it\.$'):
        decode_rgb8(make(photos['coffee']), 'coffee', allow_grey=True)


@pytest.mark.parametrize('kind', [kind for kind in GOOD if kind.startswith(('grey', '1-bit'))])
def test_grey_is_refused_where_it_is_not_allowed(kind, photos):
    content = GOOD[kind](photos['coffee'])
    with pytest.raises(DynqError, match='coffee: the image is greyscale; convert it to 8-bit RGB'):
        decode_rgb8(content, 'coffee', allow_grey=False)
    image = decode_rgb8(content, 'coffee', allow_grey=True)
    assert (image == image[..., :1]).all()


@pytest.mark.parametrize('suffix', ['.png', '.jpg'])
@pytest.mark.parametrize('length', range(0, 700, 7))
def test_no_prefix_of_a_file_escapes(suffix, length, photos):
    content = cv2.imencode(suffix, photos['coffee'][:24, :24])[1].tobytes()
    assert len(content) > 700
    with pytest.raises(DynqError, match='^x: '):
        decode_rgb8(content[:length], 'x', allow_grey=True)


def test_a_thumbnail_does_not_hide_that_the_rest_is_missing(photos, monkeypatch):
    thumbnail = cv2.imencode('.jpg', photos['coffee'][::8, ::8])[1].tobytes()
    content = cv2.imencode('.jpg', photos['coffee'])[1].tobytes()
    segment = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    whole = content[:2] + segment + content[2:]
    np.testing.assert_array_equal(decode_rgb8(whole, 'x', True), decode_rgb8(content, 'x', True))
    # OpenCV 4 returns the part that it could decode; what it does must not matter.
    monkeypatch.setattr(cv2, 'imdecode', lambda *_: np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(DynqError, match='cut off'):
        decode_rgb8(whole[:-2000], 'x', True)
