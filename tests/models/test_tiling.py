"""Patches against the published grid, merged results against loops over pixels."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.tiling import TilingOptions, run_tiled, tile_boxes

SIZES = st.integers(1, 400)


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(SIZES, SIZES, st.integers(8, 128), st.floats(0.1, 1))
def test_boxes_cover_every_pixel_and_keep_their_sizes(height, width, size, share):
    step = max(1, int(size * share))
    boxes = tile_boxes(height, width, TilingOptions(size, step))
    covered = torch.zeros(height, width)
    for top, left, bottom, right in boxes:
        covered[top:bottom, left:right] += 1
        for length, side in ((height, bottom - top), (width, right - left)):
            assert side == length if length < size else size <= side <= size + step - 1
        assert 0 <= top < bottom <= height and 0 <= left < right <= width
    assert (covered >= 1).all() and len(set(boxes)) == len(boxes)
    if step == size:
        assert (covered == 1).all()


@pytest.mark.parametrize('length', [40, 95, 96, 97, 150, 191, 192, 193, 287, 288, 339, 512])
@pytest.mark.parametrize('step', [96, 90])
def test_boxes_are_those_of_the_published_code(length, step):
    """Starts are arange(0, max(h - 96, 0) + 1, step); the last patch extends to the border."""
    starts = list(range(0, max(length - 96, 0) + 1, step))
    expected = [(start, start + 96) for start in starts[:-1]] + [(starts[-1], length)]
    boxes = tile_boxes(length, 50, TilingOptions(96, step))
    assert [(top, bottom) for top, _, bottom, _ in boxes] == expected
    assert [(left, right) for _, left, _, right in tile_boxes(50, length, TilingOptions(96, step))] == expected


def test_rows_come_first():
    assert tile_boxes(30, 20, TilingOptions(10))[:3] == [(0, 0, 10, 10), (0, 10, 10, 20), (10, 0, 20, 10)]


def test_no_patch_size_means_the_whole_image():
    assert tile_boxes(300, 200, TilingOptions(None)) == [(0, 0, 300, 200)]


def network(patches, indices=()):
    """Twice the size; depends on the whole patch, so that every patch's result is its own."""
    mean = patches.mean(dim=(1, 2, 3), keepdim=True)
    return F.interpolate(patches, scale_factor=2, mode='bilinear') * 0.7 + 0.6 * mean - 0.1


def to_8_bits(x):
    return (x.clamp(0, 1) * 255).round() / 255


def image_of(height, width):
    # float64, so that no batch size can move a pixel across a rounding tie
    generator = torch.Generator().manual_seed(height * width)
    return torch.rand(1, 3, height, width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    'height, width, size, step', [(40, 33, 16, 16), (35, 50, 16, 12), (31, 16, 16, 15), (29, 30, 12, 5)]
)
@pytest.mark.parametrize('merge', ['average', 'split'])
def test_merged_results_equal_a_loop_over_pixels(height, width, size, step, merge):
    options, image = TilingOptions(size, step, patch_batch=3, patch_merge=merge), image_of(height, width)
    results = {}
    for top, left, bottom, right in tile_boxes(height, width, options):
        results[top, left, bottom, right] = to_8_bits(network(image[..., top:bottom, left:right]))[0]
    near = (size - step) // 2  # from here on, a split overlap belongs to the later patch

    def owner(position, starts):
        return max(start for start in starts if position >= start + (near if start else 0))

    expected = torch.zeros(3, 2 * height, 2 * width, dtype=image.dtype)
    for y in range(2 * height):
        for x in range(2 * width):
            over = [box for box in results if box[0] <= y // 2 < box[2] and box[1] <= x // 2 < box[3]]
            if merge == 'split':
                place = owner(y // 2, {box[0] for box in results}), owner(x // 2, {box[1] for box in results})
                over = [box for box in over if box[:2] == place]
                assert len(over) == 1
            pixels = [results[box][:, y - 2 * box[0], x - 2 * box[1]] for box in over]
            expected[:, y, x] = torch.stack(pixels).mean(dim=0)
    found = run_tiled(image, options, network)
    torch.testing.assert_close(found[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('size, height, width', [(None, 20, 30), (64, 20, 30), (20, 20, 39)])
def test_one_patch_is_the_network_itself(size, height, width):
    image, told = image_of(height, width), []
    found = run_tiled(image, TilingOptions(size), lambda patches, indices: told.append(indices) or network(patches))
    assert torch.equal(found, network(image)) and told == [[0]]


@pytest.mark.parametrize('merge', ['average', 'split'])
def test_a_network_of_single_pixels_does_not_notice_the_patches(merge):
    image = image_of(45, 52)
    options = TilingOptions(16, 11, patch_merge=merge)
    found = run_tiled(image, options, lambda x, indices: x.sqrt())
    torch.testing.assert_close(found, to_8_bits(image.sqrt()))


@pytest.mark.parametrize('batch', [1, 4, 7])
def test_batches_hold_patches_of_one_size_and_every_patch_once(batch):
    options, shapes, reports = TilingOptions(16, 16, patch_batch=batch), [], []

    def run(patches, indices):
        shapes.append(tuple(patches.shape))
        reports.append(indices)
        # they are of these patches, which hold what the image has there
        for patch, (top, left, bottom, right) in zip(patches, (boxes[index] for index in indices), strict=True):
            assert torch.equal(patch, image[0, :, top:bottom, left:right])
        return network(patches)

    image = image_of(57, 70)
    boxes = tile_boxes(57, 70, options)
    found = run_tiled(image, options, run)
    assert sorted(index for one in reports for index in one) == list(range(len(boxes)))
    for shape, indices in zip(shapes, reports, strict=True):
        sizes = {(boxes[i][2] - boxes[i][0], boxes[i][3] - boxes[i][1]) for i in indices}
        assert sizes == {shape[2:]} and len(indices) == shape[0] <= batch
    one_by_one = run_tiled(image_of(57, 70), TilingOptions(16, 16, patch_batch=1), network)
    torch.testing.assert_close(found, one_by_one)


def test_results_are_on_the_8_bit_grid_and_within_0_and_1():
    found = run_tiled(image_of(40, 40), TilingOptions(16), lambda x, indices: 3 * x - 1)
    assert found.min() == 0 and found.max() == 1
    torch.testing.assert_close(found * 255, (found * 255).round(), atol=1e-4, rtol=0)


class LargeTensors(TorchDispatchMode):
    """Remembers every block of memory of at least so many elements that an operation returned."""

    def __init__(self, least):
        super().__init__()
        self.least, self.blocks = least, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.numel() >= self.least:
            self.blocks.add(result.untyped_storage().data_ptr())
        return result


@pytest.mark.parametrize('step', [16, 12])
@pytest.mark.parametrize('merge', ['average', 'split'])
def test_nothing_of_the_images_size_is_made_but_the_result(step, merge):
    image = image_of(120, 150)
    with LargeTensors(2 * 120 * 2 * 150 // 4) as large:
        found = run_tiled(image, TilingOptions(16, step, 2, merge), network)
    assert large.blocks == {found.untyped_storage().data_ptr()}


def test_nan_stays_visible():
    assert run_tiled(image_of(40, 40), TilingOptions(16), lambda x, indices: x * float('nan')).isnan().all()


def test_options_from_a_val_section():
    options = TilingOptions.from_val({'save_img': True, 'patch_size': 64, 'patch_merge': 'split', 'metrics': {}})
    assert options == TilingOptions(64, None, 4, 'split') and options.step == 64
    assert TilingOptions.from_val({}) == TilingOptions(96, None, 4, 'average')


@pytest.mark.parametrize('options, named', [
    ({'patch_size': 0}, 'patch_size'),
    ({'patch_size': -96}, 'patch_size'),
    ({'patch_size': 96.0}, 'patch_size'),
    ({'patch_size': '96'}, 'patch_size'),
    ({'patch_size': True}, 'patch_size'),
    ({'patch_step': 0}, 'patch_step'),
    ({'patch_batch': 0}, 'patch_batch'),
    ({'patch_batch': None}, 'patch_batch'),
    ({'patch_merge': 'blend'}, 'patch_merge'),
    ({'patch_merge': None}, 'patch_merge'),
    ({'patch_size': 90, 'patch_step': 96}, 'patch_step: 96 leaves gaps between patches of 90'),
])  # fmt: skip
def test_impossible_options_are_named(options, named):
    with pytest.raises(DynqError, match=rf'val\.{named}'):
        TilingOptions.from_val(options)
