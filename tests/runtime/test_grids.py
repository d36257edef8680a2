"""Grids as a manifest holds them and as a graph takes them."""

import json

import numpy as np

from dynq_basicsr.runtime.grids import Grid, inputs_of


def grids(count: int) -> list[Grid]:
    """Grids of all sizes, some with a zero point at an end."""
    generator = np.random.default_rng(0)
    scales = np.exp(generator.uniform(-20, 5, count)).astype(np.float32)
    tops = generator.integers(1, 256, count)
    zero_points = [int(generator.choice([0, top, generator.integers(0, top + 1)])) for top in tops]
    return [Grid(*one) for one in zip(scales, zero_points, map(int, tops), strict=True)]


def test_a_manifest_holds_them_without_loss():
    for grid in grids(500):
        found = Grid.from_values('here', json.loads(json.dumps(grid.values())))
        assert found == grid and found.scale.dtype == np.float32


def test_inputs_are_scalars_of_the_types_that_graphs_want():
    found = inputs_of({'a': Grid(np.float32(0.5), 3, 15), 'b': Grid(np.float32(0.25), 0, 255)})
    assert {name: (value.item(), value.dtype.name, value.shape) for name, value in found.items()} == {
        'scale of a': (0.5, 'float32', ()), 'zero point of a': (3, 'uint8', ()), 'top of a': (15, 'uint8', ()),
        'ceiling of a': (6.0, 'float32', ()), 'scale of b': (0.25, 'float32', ()),
        'zero point of b': (0, 'uint8', ()), 'top of b': (255, 'uint8', ()), 'ceiling of b': (63.75, 'float32', ()),
    }  # fmt: skip


def test_clipping_values_before_they_are_rounded_gives_the_same_integers():
    generator = np.random.default_rng(1)
    for grid in grids(500):
        steps = np.concatenate([
            np.arange(-600, 600) / 2,  # the middle of each step, where a tie is, too
            generator.normal(0, 100, 500),
        ])  # fmt: skip
        x = np.float32(steps) * grid.scale
        x = np.concatenate([x, np.nextafter(x, np.float32(np.inf)), np.nextafter(x, -np.float32(np.inf))])
        wanted = np.clip(np.rint(x / grid.scale) + grid.zero_point, 0, grid.top)
        found = np.clip(np.rint(np.minimum(x, grid.ceiling) / grid.scale) + grid.zero_point, 0, 255)
        np.testing.assert_array_equal(found, wanted)
