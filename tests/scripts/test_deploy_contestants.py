"""scripts/deploy_contestants.py: the float network that frozen ones are measured against."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')

from dynq_basicsr.imaging.patch_grid import TilingOptions
from dynq_basicsr.models.patchwise_model import to_image
from dynq_basicsr.report.one_image import load_model

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize('layout', ['contiguous', 'channels_last'])
def test_pytorch_gives_what_evaluation_gives(import_script, monkeypatch, layout):
    monkeypatch.chdir(ROOT)
    script = import_script('deploy_contestants')
    tiling = TilingOptions(patch_size=24, patch_step=24, patch_batch=2, patch_merge='split')
    contestant = script.Contestant(
        name='float', option_file=ROOT / 'options/quickstart_float.yml', layout=layout,
        run=script.RunOptions(threads=1, tiling=tiling),
    )  # fmt: skip
    image = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    found = script.pytorch(contestant)(image)
    model = load_model('options/quickstart_float.yml', patch_size=24, patch_step=24, patch_batch=2)
    model.feed_data({'lq': torch.from_numpy(image).permute(2, 0, 1)[None].float().div(255)})
    model.test()
    expected = to_image(model.output)[..., ::-1]
    assert found.shape == (160, 224, 3) and np.abs(found.astype(int) - expected).max() <= 1
    assert np.mean(found == expected) > 0.99  # sums of other layouts round otherwise
