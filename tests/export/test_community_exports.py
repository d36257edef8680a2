"""Networks of the community, from checkpoint to graphs: what spandrel has in a form that needs help."""

import pytest
import torch

pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')
pytest.importorskip('spandrel', reason='spandrel (extra community) is not installed')
from spandrel.architectures.DITN import DITN  # noqa: E402
from spandrel.architectures.MoESR import MoESR  # noqa: E402
from spandrel.architectures.PLKSR import PLKSR, RealPLKSR  # noqa: E402
from spandrel.architectures.SPAN import SPAN  # noqa: E402

from dynq_basicsr.archs.quantized_arch import QuantizedSR  # noqa: E402
from dynq_basicsr.config.adabm import AdaBMOptions  # noqa: E402
from dynq_basicsr.export.freeze import freeze  # noqa: E402
from dynq_basicsr.models.tiling import TilingOptions  # noqa: E402
from dynq_basicsr.training.figures import TrainingFigures  # noqa: E402
from dynq_basicsr.training.post_training import PostTraining  # noqa: E402
from dynq_basicsr.workflow.recipes import choose_recipe, network_sections, train_section  # noqa: E402

NETWORKS = {
    'SPAN': lambda: SPAN(num_in_ch=3, num_out_ch=3, feature_channels=8, upscale=2),
    'PLKSR': lambda: PLKSR(dim=8, n_blocks=1, upscaling_factor=2, kernel_size=5, lk_type='RectSparsePLK'),
    'RealPLKSR': lambda: RealPLKSR(dim=8, n_blocks=1, upscaling_factor=2, kernel_size=5, dysample=True),
    'DITN': lambda: DITN(dim=8, ITL_blocks=1, SAL_blocks=1, upscale=2),
    'MoESR': lambda: MoESR(dim=8, n_blocks=1, n_block=1, upsample_dim=8, scale=2),
}


@pytest.mark.parametrize('kind', NETWORKS)
def test_calibrated_tuned_and_exported(kind, tmp_path, photo, as_batch):
    torch.manual_seed(0)
    torch.save({'params': NETWORKS[kind]().state_dict()}, tmp_path / 'net.pth')
    recipe = choose_recipe('adabm', None)
    net = QuantizedSR({'type': 'Spandrel', 'path': str(tmp_path / 'net.pth')}, **network_sections(recipe, 4, 4, 'body'))
    options = AdaBMOptions.from_dict(train_section(recipe, 2, 24))
    training = PostTraining(net, options, TrainingFigures())
    patches = torch.cat(as_batch(photo(24, 96)).split(24, dim=3))
    first = options.calibration_iter + 1
    for iteration in range(1, first + 1):
        training.set_rates(iteration)
        training.step(iteration, patches)
    exported = freeze(net, tmp_path / 'model', TilingOptions(24))
    assert len(exported.codes) == 3 and all(one.agreement.equal > 0.99 for one in exported.codes)
