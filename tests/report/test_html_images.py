"""Images within an HTML file: the best encoding that there is room for."""

import base64

import cv2
import numpy as np
import pytest

from dynq_basicsr.report.html_images import LOSSLESS, amplified_difference, embed, embed_alike

NOISE = np.random.RandomState(0).randint(0, 256, (64, 48, 3), np.uint8)


def pixels(uri):
    head, content = uri.split(',')
    assert head in ('data:image/png;base64', 'data:image/webp;base64')
    return cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_small_images_lose_nothing():
    assert (pixels(embed(NOISE)) == NOISE).all()
    uris, words = embed_alike({'a': NOISE, 'b': NOISE[::-1]}, 1e6)
    assert words == LOSSLESS and (pixels(uris['b']) == NOISE[::-1]).all()


@pytest.mark.parametrize('room', [14000, 9000, 5000])
def test_what_is_larger_than_the_room_loses_a_little(room):
    uris, words = embed_alike({'a': NOISE, 'b': NOISE[::-1]}, room)
    assert list(uris) == ['a', 'b'] and sum(map(len, uris.values())) <= room
    assert words.startswith('WebP of quality') and (pixels(uris['a']) != NOISE).any()


def test_without_any_room_the_smallest_is_taken():
    uris, words = embed_alike({'a': NOISE}, 10)
    assert words == 'WebP of quality 30' and pixels(uris['a']).shape == NOISE.shape


def test_difference_is_amplified_and_clipped():
    first, second = np.full((1, 3, 3), 100, np.uint8), np.full((1, 3, 3), 100, np.uint8)
    second[0, 1], second[0, 2] = 97, 255
    assert amplified_difference(first, second)[0, :, 0].tolist() == [0, 24, 255]
