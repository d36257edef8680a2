"""Pictures of every kind decode to the pixels that were written, and to those of a second library."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from dynq_basicsr.errors import DynqError
from dynq_basicsr.imaging.pictures import decode_picture
from tests.fuzz.mutations import cut, damaged

HEIGHT, WIDTH = 21, 34


def noise(channels: int, kind: str = 'uint8') -> np.ndarray:
    most = np.iinfo(kind).max
    return np.random.default_rng(channels).integers(0, most, (HEIGHT, WIDTH, channels), kind, endpoint=True)


def by_pillow(pixels: np.ndarray | Image.Image, kind: str, orientation: int | None = None, **options) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    if orientation is not None:
        options['exif'] = Image.Exif()
        options['exif'][0x0112] = orientation
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def by_tifffile(pixels: np.ndarray, **options) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def png(pixels: np.ndarray, bits: int, colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of any kind, by hand."""

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    lines = pixels.reshape(len(pixels), -1)
    if bits < 8:
        bytes_of = [np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - bits :].ravel()).tobytes() for row in lines]
    else:
        bytes_of = [row.astype(f'>u{bits // 8}').tobytes() for row in lines]
    header = struct.pack('>IIBBBBB', pixels.shape[1], pixels.shape[0], bits, colour, 0, 0, 0)
    content = [chunk(b'IHDR', header), *(chunk(*one) for one in chunks)]
    content += [chunk(b'IDAT', zlib.compress(b''.join(b'\0' + row for row in bytes_of))), chunk(b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(content)


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """By NumPy alone."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    down, across = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(orientation, (1, 1))
    return pixels[::down, ::across]


def check(content: bytes, colour: np.ndarray, alpha: np.ndarray | None = None) -> None:
    picture = decode_picture(content, 'a')
    np.testing.assert_array_equal(picture.colour, colour if colour.ndim == 3 else colour[..., None], strict=True)
    assert (picture.alpha is None) == (alpha is None)
    if alpha is not None:
        np.testing.assert_array_equal(picture.alpha[..., 0], alpha, strict=True)


@pytest.mark.parametrize('kind', ['PNG', 'WEBP', 'TIFF'])
@pytest.mark.parametrize('channels', [3, 4])
@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation_is_applied_with_transparency_and_without(kind, channels, orientation):
    pixels = noise(channels)
    options = {'lossless': True, 'exact': True} if kind == 'WEBP' else {}
    content = by_pillow(pixels, kind, orientation, **options)
    upright = turned(pixels, orientation)
    check(content, upright[..., :3], upright[..., 3] if channels == 4 else None)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_orientation_of_sixteen_bits(orientation):
    pixels = noise(4, 'uint16')
    upright = turned(pixels, orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    check(png(pixels, 16, 6, (b'eXIf', exif.tobytes()[6:])), upright[..., :3], upright[..., 3])
    tags = [(274, 'H', 1, orientation, True)]
    check(by_tifffile(pixels, photometric='rgb', extrasamples=['unassalpha'], extratags=tags), upright[..., :3],
          upright[..., 3])  # fmt: skip
    check(by_tifffile(pixels[..., 0], photometric='minisblack', extratags=tags), upright[..., 0])


@pytest.mark.parametrize('mode', ['RGB', 'L', 'CMYK'])
def test_orientation_of_jpeg(mode):
    smooth = Image.fromarray(cv2.resize(noise(3), (64, 48), interpolation=cv2.INTER_CUBIC)).convert(mode)
    for orientation in range(1, 9):
        content = by_pillow(smooth, 'JPEG', orientation, quality=95)
        with Image.open(io.BytesIO(content)) as image:
            expected = np.asarray(ImageOps.exif_transpose(image).convert('L' if mode == 'L' else 'RGB'))
        found = decode_picture(content, 'a').colour
        assert found.shape[:2] == expected.shape[:2]
        assert np.abs(found - expected.reshape(found.shape).astype(float)).max() <= 2  # decoders' inverse cosines


@pytest.mark.parametrize('kind', ['uint8', 'uint16'])
def test_transparency_of_tiff(kind):
    pixels, white = noise(4, kind), np.iinfo(kind).max
    colour, alpha = pixels[..., :3], pixels[..., 3]
    straight = by_tifffile(pixels, photometric='rgb', extrasamples=['unassalpha'])
    check(straight, colour, alpha)
    alpha = np.maximum(alpha, white // 3)
    multiplied = np.rint(colour * (alpha[..., None] / white)).astype(kind)
    found = decode_picture(
        by_tifffile(np.dstack([multiplied, alpha]), photometric='rgb', extrasamples=['assocalpha']), 'a'
    )
    np.testing.assert_array_equal(found.alpha[..., 0], alpha)
    assert np.abs(found.colour.astype(float) - colour).max() <= 3  # what a third of the levels cannot tell
    check(by_tifffile(pixels, photometric='rgb', extrasamples=['unspecified']), colour)


def test_grey_with_transparency():
    for pixels in (noise(2), noise(2, 'uint16')):
        check(png(pixels, 8 * pixels.itemsize, 4), pixels[..., 0], pixels[..., 1])
    check(by_pillow(Image.fromarray(noise(2), 'LA'), 'TIFF'), noise(2)[..., 0], noise(2)[..., 1])


@pytest.mark.parametrize('bits', [1, 2, 4, 8, 16])
def test_a_grey_that_stands_for_transparency(bits):
    kind, most = ('uint16' if bits == 16 else 'uint8'), (1 << bits) - 1
    values = noise(1, kind) & most
    key, white = int(values[3, 4, 0]), np.iinfo(kind).max
    expected = np.where(values == key, 0, white).astype(kind)[..., 0]
    check(png(values, bits, 0, (b'tRNS', struct.pack('>H', key))), values * (white // most), expected)


@pytest.mark.parametrize('bits', [8, 16])
def test_a_colour_that_stands_for_transparency(bits):
    pixels = noise(3, f'uint{bits}')
    key = pixels[3, 4].tolist()
    expected = np.where((pixels == pixels[3, 4]).all(-1), 0, np.iinfo(pixels.dtype).max).astype(pixels.dtype)
    check(png(pixels, bits, 2, (b'tRNS', struct.pack('>HHH', *key))), pixels, expected)


@pytest.mark.parametrize('kind', ['PNG', 'GIF'])
def test_palettes(kind):
    indices = noise(1)[..., 0] % 4
    colours = np.array([[255, 0, 0], [0, 255, 0], [10, 20, 30], [9, 9, 9]], np.uint8)
    image = Image.frombytes('P', (WIDTH, HEIGHT), indices.tobytes())
    image.putpalette(colours.tobytes())
    check(by_pillow(image, kind), colours[indices])
    expected = np.where(indices == 1, 0, 255).astype(np.uint8)
    found = decode_picture(by_pillow(image, kind, transparency=1), 'a')
    np.testing.assert_array_equal(found.alpha[..., 0], expected)
    np.testing.assert_array_equal(found.colour[expected > 0], colours[indices][expected > 0])


def test_inks_become_colours():
    inks = noise(4)
    expected = (255 - inks[..., :3].astype(float)) * (255 - inks[..., 3:].astype(float)) / 255
    for content in (by_tifffile(inks, photometric='separated'), by_pillow(Image.fromarray(inks, 'CMYK'), 'TIFF')):
        picture = decode_picture(content, 'a')
        assert picture.alpha is None and np.abs(picture.colour - expected).max() <= 1
    content = by_pillow(Image.new('CMYK', (64, 48), (0, 255, 255, 0)), 'JPEG', quality=95)
    assert np.abs(decode_picture(content, 'a').colour.astype(int) - (255, 0, 0)).max() <= 3


def ink_profile() -> bytes:
    """A profile of inks of which the first is grey, L* 50, where no other is, and any other black."""
    lab = [(255, 128, 128)] + [(0, 128, 128)] * 15  # the last ink varies fastest
    lab[8] = (128, 128, 128)
    line = bytes(range(256))
    table = b'mft1' + bytes(4) + bytes([4, 3, 2, 0]) + struct.pack('>9i', *(65536 * (i % 4 == 0) for i in range(9)))
    table += 4 * line + bytes(value for one in lab for value in one) + 3 * line
    text = b'text' + bytes(4) + b'none\0'
    white = b'XYZ ' + bytes(4) + struct.pack('>3i', 63190, 65536, 54061)
    tags, place, data = b'', 132 + 12 * 3, b''
    for name, content in ((b'cprt', text), (b'wtpt', white), (b'A2B0', table)):
        content += bytes(-len(content) % 4)
        tags += name + struct.pack('>II', place + len(data), len(content))
        data += content
    kinds = b'lcms\x02\x40\0\0prtrCMYKLab ' + bytes(12) + b'acsp'
    header = struct.pack('>I', place + len(data)) + kinds
    header += bytes(28) + struct.pack('>3i', 63190, 65536, 54061)
    return header.ljust(128, b'\0') + struct.pack('>I', 3) + tags + data


@pytest.mark.parametrize('kind', ['TIFF', 'JPEG'])
def test_inks_become_colours_as_their_profile_says(kind):
    content = by_pillow(Image.new('CMYK', (64, 48), (255, 0, 0, 0)), kind, icc_profile=ink_profile())
    picture = decode_picture(content, 'a')
    assert np.abs(picture.colour.astype(int) - 119).max() <= 4  # L* 50 in sRGB; without the profile 0, 255, 255
    assert picture.metadata.icc is None


def test_a_profile_that_is_none_of_inks_is_not_applied():
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile('sRGB')).tobytes()
    plain = by_pillow(Image.fromarray(noise(4), 'CMYK'), 'TIFF')
    found = decode_picture(by_pillow(Image.fromarray(noise(4), 'CMYK'), 'TIFF', icc_profile=srgb), 'a')
    np.testing.assert_array_equal(found.colour, decode_picture(plain, 'a').colour)
    assert found.metadata.icc is None


@pytest.mark.parametrize('bits', [8, 16])
def test_white_is_zero(bits):
    pixels = noise(1, f'uint{bits}')[..., 0]
    check(by_tifffile(pixels, photometric='miniswhite'), np.iinfo(pixels.dtype).max - pixels)


@pytest.mark.parametrize('ending, channels, kind', [
    *((ending, channels, kind) for ending in ('.png', '.tiff') for channels in (1, 3, 4)
      for kind in ('uint8', 'uint16')),
    *(('.webp', channels, 'uint8') for channels in (1, 3, 4)), ('.bmp', 1, 'uint8'), ('.bmp', 3, 'uint8'),
])  # fmt: skip
def test_opencv_s_files_and_decoding_agree(ending, channels, kind):
    pixels = noise(channels, kind)
    stored = pixels if channels == 1 else cv2.cvtColor(pixels, {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}[channels])
    options = (cv2.IMWRITE_WEBP_QUALITY, 101) if ending == '.webp' else ()
    content = cv2.imencode(ending, stored, options)[1].tobytes()
    picture = decode_picture(content, 'a')
    if ending == '.webp' and channels == 1:
        pixels = pixels.repeat(3, axis=2)
    seen = np.ones((HEIGHT, WIDTH), bool)
    if channels == 4:
        np.testing.assert_array_equal(picture.alpha, pixels[..., 3:])
        seen = pixels[..., 3] > 0  # OpenCV's WebP forgets the colour of what is not seen
    np.testing.assert_array_equal(picture.colour[seen], pixels[seen][:, :3])


@pytest.mark.parametrize('kind', ['PNG', 'WEBP', 'GIF', 'TIFF'])
def test_several_frames_are_refused(kind):
    frames = [Image.fromarray(noise(channels)[..., 0]) for channels in (1, 2, 3)]
    content = by_pillow(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(DynqError, match='^film: holds 3 frames or pages, of which one alone .* with ffmpeg'):
        decode_picture(content, 'film')


def test_previews_are_no_pages():
    pixels, stream = noise(3), io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(pixels, photometric='rgb')
        writer.write(pixels[::2, ::2], photometric='rgb', subfiletype=1)
    check(stream.getvalue(), pixels)
    with tifffile.TiffWriter(stream := io.BytesIO()) as writer:
        writer.write(pixels[::2, ::2], photometric='rgb', subfiletype=1)
        writer.write(pixels, photometric='rgb')
    with pytest.raises(DynqError, match='^a: holds 2 frames or pages'):
        decode_picture(stream.getvalue(), 'a')
    frames = [Image.fromarray(cv2.resize(noise(3), (64, 48))) for _ in range(2)]
    several = by_pillow(frames[0], 'MPO', save_all=True, append_images=frames[1:])
    assert decode_picture(several, 'a').colour.shape == (48, 64, 3)


@pytest.mark.parametrize('scale, most, fits', [(1, HEIGHT * WIDTH, True), (2, 4 * HEIGHT * WIDTH - 1, False)])
def test_a_size_has_a_limit_that_is_named(scale, most, fits):
    content = by_pillow(noise(3), 'PNG')
    if fits:
        assert decode_picture(content, 'a', most, scale).colour.shape == (HEIGHT, WIDTH, 3)
        return
    with pytest.raises(DynqError, match=f'a: 34 x 21 pixels would become 68 x 42, more than --max-pixels {most}; '):
        decode_picture(content, 'a', most, scale)


def test_a_header_of_a_giant_is_not_decoded():
    content = png(np.zeros((2, 2, 1), np.uint8), 1, 0)
    header = struct.pack('>IIBBBBB', 33000, 33000, 1, 0, 0, 0, 0)
    content = content[:16] + header + struct.pack('>I', zlib.crc32(b'IHDR' + header)) + content[33:]
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(DynqError, match='33000 x 33000 pixels would become 132000 x 132000, more than --max-pixels'):
        decode_picture(content, 'a', 10**9, 4)
    with pytest.raises(DynqError, match='33000 x 33000 pixels are more than can be decoded; cut'):
        decode_picture(content, 'a')
    assert Image.MAX_IMAGE_PIXELS == limit


@pytest.mark.parametrize('pixels, options', [
    (noise(3, 'uint16').transpose(2, 0, 1).copy(), {'photometric': 'rgb', 'planarconfig': 'separate'}),
    (noise(2, 'uint16'), {'photometric': 'minisblack', 'extrasamples': ['unassalpha'], 'planarconfig': 'contig'}),
    (noise(1, 'uint16')[..., 0].astype(np.int16), {'photometric': 'minisblack'}),
])  # fmt: skip
def test_kinds_of_tiff_that_nobody_decodes_rightly_are_refused(pixels, options):
    with pytest.raises(DynqError, match='^a: TIFF is known here with .*; convert it to PNG.$'):
        decode_picture(by_tifffile(pixels, **options), 'a')


CONTENTS = {
    'png': lambda: by_pillow(noise(4), 'PNG'),
    'deep png': lambda: png(noise(3, 'uint16'), 16, 2),
    'tiff': lambda: by_tifffile(noise(4), photometric='rgb', compression='zlib', extrasamples=['unassalpha']),
    'deep tiff': lambda: by_tifffile(noise(3, 'uint16'), photometric='rgb', compression='zlib'),
    'webp': lambda: by_pillow(noise(4), 'WEBP', lossless=True),
    'bmp': lambda: by_pillow(noise(3), 'BMP'),
    'jpeg': lambda: by_pillow(noise(3), 'JPEG'),
    'inks in jpeg': lambda: by_pillow(Image.fromarray(noise(4), 'CMYK'), 'JPEG'),
    'gif': lambda: by_pillow(noise(1)[..., 0], 'GIF'),
    'ppm': lambda: by_pillow(noise(3), 'PPM'),
}


def test_colours_that_are_not_known_are_named():
    with pytest.raises(DynqError, match=r'^a: its colours are of an unknown kind \(LAB\); convert it to RGB.$'):
        decode_picture(by_tifffile(noise(3), photometric='cielab'), 'a')
    with pytest.raises(DynqError, match='^a: the image has 32 bits per channel; convert it to 8 or 16.$'):
        decode_picture(by_tifffile(noise(3).astype(np.float32), photometric='rgb'), 'a')


@pytest.mark.parametrize('kind', CONTENTS)
def test_what_is_cut_off_is_refused(kind):
    whole = CONTENTS[kind]()
    expected = decode_picture(whole, 'a').colour
    for case in damaged(whole, range(60), (cut,)):
        try:
            found = decode_picture(case, 'set/a')
        except DynqError as error:
            assert str(error).startswith('set/a: ') and len(str(error)) < 200
        else:
            np.testing.assert_array_equal(found.colour, expected)


@pytest.mark.parametrize('kind', CONTENTS)
def test_any_damage_ends_in_a_sentence_or_a_picture(kind):
    for case in damaged(CONTENTS[kind](), range(150)):
        try:
            assert decode_picture(case, 'set/a', 10**8).colour.dtype in (np.uint8, np.uint16)
        except DynqError as error:
            assert str(error).startswith('set/a: ') and len(str(error)) < 250
