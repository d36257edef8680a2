"""Networks of one channel, with data sets of RGB images: as BasicSR's ``color: y`` would give them."""

import pytest
import torch
from basicsr.archs import build_network
from basicsr.data import build_dataset
from basicsr.models import build_model
from basicsr.utils.color_util import bgr2ycbcr

from dynq_basicsr.data.channels import as_channels


@pytest.fixture
def grey(tmp_path):
    """Give options a backbone of one channel, and its float checkpoint."""
    torch.manual_seed(3)
    backbone = {'type': 'MSRResNet', 'num_in_ch': 1, 'num_out_ch': 1, 'num_feat': 16, 'num_block': 2, 'upscale': 2}
    path = tmp_path / 'grey.pth'
    torch.save({'params': build_network(backbone).state_dict()}, path)

    def change(options):
        options['network_g']['backbone'] = dict(backbone)
        options['path']['pretrain_network_g'] = str(path)
        return options

    return change


def test_luma_is_basicsrs(batches):
    image = batches(1)[0]['lq']
    bgr = image[0].permute(1, 2, 0).flip(-1).numpy()
    found = as_channels(image, 1)
    torch.testing.assert_close(found[0, 0], torch.from_numpy(bgr2ycbcr(bgr, y_only=True)), rtol=0, atol=1e-6)
    assert as_channels(image, 3) is image and as_channels(found, 1) is found


def test_adabm_calibrates_and_evaluates(train_options, train, batches, loader, grey):
    model = train(grey(train_options()), batches(8))
    assert model.lq.shape[1] == 1 and model.network.calibrated
    model.validation(loader(), 8, None)
    assert 10 < model.metric_results['psnr'] < 50 and model.gt.shape[1] == model.output.shape[1] == 1


def test_granular_dq_trains_on_pairs(granular_options, train, pairs, grey):
    model = train(grey(granular_options()), pairs(4))
    assert model.lq.shape[1] == model.gt.shape[1] == 1 and model.network.calibrated
    assert model.network.policy.measured


def test_it_sees_what_a_data_set_with_color_y_gives(train_options, loader, grey):
    model = build_model(grey(train_options()))
    dataset = loader().dataset.opt
    plain, luma = build_dataset(dict(dataset))[0], build_dataset({**dataset, 'color': 'y'})[0]
    fed = []
    for sample in (plain, luma):
        model.feed_data({key: value[None] for key, value in sample.items() if isinstance(value, torch.Tensor)})
        fed.append((model.lq, model.gt))
    for one, other in zip(*fed, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
