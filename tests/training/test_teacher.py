"""The teacher: the float network's answers, and what remembering them changes."""

import pytest
import torch

from dynq_basicsr.errors import DynqError
from dynq_basicsr.models.adabm_model import AdaBMModel
from dynq_basicsr.quantization.run import Mode
from dynq_basicsr.training.teacher import Teacher


def asking(net, calls):
    """What a teacher runs; notes how many images it is given."""

    def run(images):
        calls.append(len(images))
        return net(images, mode=Mode.FLOAT, details=True)

    return run


@pytest.mark.parametrize('remember', [False, True])
def test_answers_are_the_float_networks(network, remember):
    teacher = Teacher(asking(network, []), remember)
    images = torch.rand(3, 3, 12, 16)
    for order in ([0, 1], [2, 0], [1, 2], [1, 0]):  # the last two are known by then
        output, features = teacher(images[order], [str(index) for index in order])
        torch.testing.assert_close(output, network.backbone(images[order]))
        assert not output.requires_grad and not any(one.requires_grad for one in features)
        assert [one.shape for one in features] == [(2, 8, 12, 16)] * 2
        with torch.no_grad():
            first = network.backbone.body[0](network.backbone.conv_first(_shifted(network, images[order])))
            expected = [first, network.backbone.body[1](first)]
        for ours, theirs in zip(features, expected, strict=True):
            torch.testing.assert_close(ours, theirs)


def _shifted(network, images):
    """What EDSR gives its first layer."""
    return (images - network.backbone.mean) * network.backbone.img_range


@pytest.mark.parametrize('remember, runs', [(False, 4), (True, 2)])
def test_the_network_runs_once_an_image_where_answers_are_remembered(network, remember, runs):
    calls = []
    teacher = Teacher(asking(network, calls), remember)
    images = torch.rand(3, 3, 12, 16)
    for order in ([0, 1], [2, 0], [1, 2], [1, 0]):
        teacher(images[order], [str(index) for index in order])
    assert len(calls) == runs


@pytest.fixture
def data(photographs):
    return {
        'name': 'lr', 'type': 'LRCalibrationDataset', 'dataroot_lq': str(photographs / 'LR'), 'batch_size_per_gpu': 2,
        'num_worker_per_gpu': 0,
    }  # fmt: skip


def test_remembering_gives_the_same_network(train_options, train, batches, data):
    crops = batches(2)
    for index, batch in enumerate(crops):
        batch['lq_path'] = [f'{index}.0', f'{index}.1']
    results = []
    for remember in (False, True):
        options = train_options(
            train={'stages': ['joint'], 'cache_teacher': remember}, datasets={'train': {**data, 'fixed_crops': True}}
        )
        model = train(options, crops * 4)
        results.append({name: value.clone() for name, value in model.network.state_dict().items()})
    for name, value in results[0].items():
        torch.testing.assert_close(results[1][name], value, rtol=1e-4, atol=1e-5)


def test_remembering_wants_crops_that_stay(train_options, data):
    options = train_options(train={'cache_teacher': True}, datasets={'train': data})
    with pytest.raises(DynqError, match=r'train\.cache_teacher: .* set datasets\.train\.fixed_crops: true'):
        AdaBMModel.check_options(options)
