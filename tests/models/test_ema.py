"""The averaged network: parameters averaged, buffers copied, saved, validated."""

import torch
from basicsr.models import build_model

SRRESNET = {'type': 'SRResNetBN', 'num_feat': 8, 'num_block': 1, 'upscale': 2}
TRAIN = {
    'total_iter': 4, 'ema_decay': 0.75, 'optim_g': {'type': 'AdamW', 'lr': 0.01},
    'scheduler': {'type': 'MultiStepLR', 'milestones': [3], 'gamma': 0.5}, 'pixel_opt': {'type': 'L1Loss'},
}  # fmt: skip


def build(train_options):
    options = train_options(model_type='QuantizedModel', path={'pretrain_network_g': None})
    options['network_g'], options['train'] = dict(SRRESNET), TRAIN
    return build_model(options)


def paired(batches, count):
    return [{**batch, 'gt': torch.rand(2, 3, 64, 64)} for batch in batches(count)]


def test_parameters_are_averaged_and_buffers_copied(train_options, train, batches):
    model = build(train_options)
    before = {name: value.clone() for name, value in model.net_g_ema.named_parameters()}
    train(model, paired(batches, 1))
    own = dict(model.network.named_parameters())
    for name, value in model.net_g_ema.named_parameters():
        torch.testing.assert_close(value, 0.75 * before[name] + 0.25 * own[name])
    buffers = dict(model.network.named_buffers())
    assert any('running_mean' in name and value.abs().sum() > 0 for name, value in buffers.items())
    assert all(torch.equal(value, buffers[name]) for name, value in model.net_g_ema.named_buffers())


def test_it_is_validated_and_saved_as_params_ema(train_options, test_options, train, batches, loader):
    model = train(build(train_options), paired(batches, 4))
    model.validation(loader(), 4, None, False)
    model.save(-1, -1)
    path = model.opt['path']['models'] + '/net_g_latest.pth'
    results = []
    for key in ('params_ema', 'params'):
        options = test_options(path, path={'param_key_g': key})
        options['network_g'] = dict(SRRESNET)
        tester = build_model(options)
        tester.validation(loader(), 'test', None, False)
        results.append(tester.metric_results['psnr'])
    assert results[0] == model.metric_results['psnr'] != results[1]
