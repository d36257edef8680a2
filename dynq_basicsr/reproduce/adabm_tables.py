"""The rows of AdaBM's tables (Hong and Lee, CVPR 2024) as data: how to make each network, and the paper's figures."""

from __future__ import annotations

from collections.abc import Mapping

from dynq_basicsr.reproduce.rows import Backbone, Figures, Protocol, Quick, Row, Table, figures

# Of the rows that fine-tune for longer; 50 iterations calibrate.
QUICK = Quick(
    'with a shorter fine-tuning', ('Set5', 'Urban100'), {'Urban100': 20},
    {'train.total_iter': 200, 'train.stage_iter': 15},
)  # fmt: skip
TEST_FILE = 'options/test_quantized_x4.yml'
PATCHES, WHOLE = Protocol(TEST_FILE, 96), Protocol(TEST_FILE)

BACKBONES = {
    backbone.key: backbone
    for backbone in (
        Backbone(
            'srresnet', 'SRResNet', 'options/test_srresnet_x4.yml', ('datasets/weights/SRResNet/SRResNet_BN_x4.pth',),
            'put the weights there, a link will do', ('SRResNet', 'EDSR'),
        ),
        Backbone(
            'edsr_small', 'small EDSR', 'options/quickstart_float.yml',
            ('dynq_basicsr/weights/edsr_small_x4.safetensors',), 'install dynq_basicsr again', ('EDSR',),
            {'train.clipping_norm': 2},
        ),
        Backbone(
            'edsr', 'EDSR', 'options/test_edsr_x4.yml',
            ('datasets/weights/EDSR/edsr_baseline_x4.pth',
             'experiments/train_edsr_baseline_x4/models/net_g_latest.pth'),
            'train it with options/train_edsr_baseline_x4.yml', ('EDSR',), {'train.clipping_norm': 2},
        ),
        Backbone(
            'rdn', 'RDN', 'options/train_rdn_x4.yml',
            ('datasets/weights/RDN/rdn_x4.pth', 'experiments/train_rdn_x4/models/net_g_latest.pth'),
            'train it with options/train_rdn_x4.yml', ('RDN', 'EDSR'),
            {'train.clipping_norm': 2, 'datasets.train.patch_size': 72},
        ),
    )
}  # fmt: skip

WEIGHT, ACTIVATION = 'network_g.quantization.weight.bits', 'network_g.quantization.activation.bits'
FQ_ADABM = 'options/adabm_srresnet_x4_fq_w{0}a{0}.yml'


def _urban(**networks: str) -> dict[str, dict[str, Figures]]:
    return {network: figures(text, sets=('Urban100',)) for network, text in networks.items()}


TABLE2 = Table(
    'adabm_table2',
    'AdaBM, Table 2: adaptive bit-widths, x4, in patches of 96',
    PATCHES,
    (
        Row('float', 'float', '32/32', paper=_urban(SRResNet='25.86/.779', EDSR='26.04/.784')),
        Row('cadyq_w8a6', 'CADyQ', '8/6MP', paper=_urban(SRResNet='25.89/.779@6.4', EDSR='25.98/.784@6.6'),
            ours=False),
        Row('cabm_w8a6', 'CABM', '8/6MP', paper=_urban(SRResNet='25.79/.776@5.8', EDSR='25.90/.782@5.8'), ours=False),
        Row('adabm_w8a6', 'AdaBM', '8/6MP', 'options/adabm_srresnet_x4_w8a6.yml',
            paper=_urban(SRResNet='25.72/.773@5.6', EDSR='25.96/.782@5.7')),
        Row('cadyq_w4a4', 'CADyQ', '4/4MP', paper=_urban(SRResNet='25.39/.761@4.1', EDSR='25.12/.753@4.9'),
            ours=False),
        Row('cabm_w4a4', 'CABM', '4/4MP', paper=_urban(SRResNet='25.42/.764@3.8', EDSR='24.98/.746@4.4'), ours=False),
        Row('adabm_w4a4', 'AdaBM', '4/4MP', 'options/adabm_srresnet_x4_w4a4.yml',
            paper=_urban(SRResNet='25.32/.757@4.2', EDSR='25.49/.759@4.3')),
    ),
    ('The paper has Urban100, Test2K and Test4K; the last two are not among our data sets.',),
)  # fmt: skip

# Method -> bits -> network -> Set5, Set14, BSD100, Urban100.
_TABLE3 = {
    'MinMax': {
        6: {'EDSR': '31.56/.866 28.26/.760 27.29/.714 25.76/.760',
            'RDN': '30.59/.863 27.54/.752 26.65/.703 24.79/.733'},
        4: {'EDSR': '26.83/.624 25.04/.546 24.57/.503 23.12/.536',
            'RDN': '25.91/.632 24.22/.549 24.29/.530 22.24/.523'},
    },
    'Percentile': {
        6: {'EDSR': '24.30/.793 24.31/.728 24.68/.700 21.93/.696',
            'RDN': '18.87/.778 18.33/.667 19.88/.651 16.81/.632'},
        4: {'EDSR': '24.03/.776 23.95/.712 24.42/.687 21.62/.677',
            'RDN': '18.83/.771 18.28/.662 19.83/.646 16.77/.625'},
    },
    'MinMax+FT': {
        6: {'EDSR': '31.61/.870 28.31/.762 27.34/.718 25.81/.763',
            'RDN': '31.16/.873 27.92/.762 27.03/.716 25.23/.749'},
        4: {'EDSR': '28.97/.821 26.47/.721 26.24/.687 23.46/.674',
            'RDN': '28.50/.810 26.15/.703 26.00/.673 23.35/.673'},
    },
    'Percentile+FT': {
        6: {'EDSR': '27.23/.832 25.89/.747 25.82/.716 23.35/.723',
            'RDN': '21.32/.812 20.74/.702 21.87/.677 18.67/.670'},
        4: {'EDSR': '27.01/.819 25.71/.736 25.69/.707 23.18/.707',
            'RDN': '21.24/.798 20.68/.690 21.85/.668 18.64/.652'},
    },
    'PTQ4SR': {
        6: {'EDSR': '31.80/.884 28.34/.768 27.37/.722 25.79/.769',
            'RDN': '30.73/.877 27.60/.765 26.85/.720 25.08/.756'},
        4: {'EDSR': '30.51/.836 27.62/.735 26.88/.693 24.92/.721',
            'RDN': '28.32/.813 26.11/.709 25.82/.671 23.31/.668'},
    },
    'AdaBM': {
        6: {'EDSR': '31.92/.887@5.7 28.47/.777@5.6 27.47/.731@5.4 25.89/.778@5.7',
            'RDN': '31.56/.881@5.7 28.14/.769@5.6 27.20/.722@5.5 25.31/.755@5.7'},
        4: {'EDSR': '31.02/.860@3.8 27.87/.751@3.7 26.91/.700@3.5 25.11/.736@3.7',
            'RDN': '28.71/.808@3.8 26.30/.707@3.7 26.10/.672@3.6 23.38/.663@3.8'},
    },
}  # fmt: skip
_FLOAT3 = {'EDSR': '32.10/.894 28.58/.781 27.56/.736 26.04/.785', 'RDN': '32.24/.895 28.67/.784 27.63/.739 26.29/.793'}


def _row3(method: str, bits: int) -> Row:
    paper = {network: figures(text, bits) for network, text in _TABLE3[method][bits].items()}
    if method == 'AdaBM':
        return Row(f'adabm_fq_w{bits}a{bits}', method, f'{bits}/{bits}MP', FQ_ADABM.format(bits), paper=paper)
    stem = method.lower().replace('+', '_')
    base = f'options/{stem}_srresnet_x4_fq_w4a4.yml'
    overrides = {} if bits == 4 else {WEIGHT: bits, ACTIVATION: bits}
    return Row(f'{stem}_fq_w{bits}a{bits}', method, f'{bits}/{bits}', base, overrides, paper)


_FLOAT_ROW3 = Row('float', 'float', '32/32', paper={network: figures(text) for network, text in _FLOAT3.items()})
TABLE3 = Table(
    'adabm_table3',
    'AdaBM, Table 3: fully quantized, x4, whole images',
    WHOLE,
    (_FLOAT_ROW3, *(_row3(method, bits) for bits in (6, 4) for method in _TABLE3)),
)


def _row4(switches: str, paper: str) -> Row:
    on = switches.split()
    overrides: dict[str, object] = {
        'network_g.policy.image_to_bit': 'I2B' in on,
        'network_g.policy.layer_to_bit': 'L2B' in on,
        'train.bit_aware_clipping': 'BaC' in on,
    }
    if 'FT' not in on:
        overrides |= {'train.calibration_iter': 50, 'train.total_iter': 50}
    label = ' + '.join(on) or 'none'
    key = f'ablation_{"_".join(on).lower() or "none"}_fq_w4a4'
    sets = ('Set5', 'Urban100')
    return Row(key, label, '4/4', FQ_ADABM.format(4), overrides, {'EDSR': figures(paper, 4, sets)})


TABLE4 = Table(
    'adabm_table4',
    'AdaBM, Table 4: ablation at 4/4 bits, fully quantized, x4, whole images',
    WHOLE,
    (
        _FLOAT_ROW3,
        _row4('', '28.70/.734@4.0 24.27/.628@4.0'),
        _row4('I2B L2B BaC', '30.00/.825@4.2 24.78/.705@4.2'),
        _row4('FT', '29.02/.823@4.0 23.51/.677@4.0'),
        _row4('I2B FT', '29.18/.804@4.2 23.80/.662@4.1'),
        _row4('L2B FT', '30.47/.836@4.0 24.89/.714@4.0'),
        _row4('BaC FT', '30.68/.837@4.0 25.12/.724@4.0'),
        Row('adabm_fq_w4a4', 'I2B + L2B + BaC + FT', '4/4MP', FQ_ADABM.format(4),
            paper={'EDSR': figures(_TABLE3['AdaBM'][4]['EDSR'])}),
    ),
    ('I2B, L2B: image-to-bit and layer-to-bit map; BaC: bit-aware clipping; FT: fine-tuning. The float row is that of '
     'the paper\'s Table 3.',),
)  # fmt: skip

_PLUS = 'options/adabm_plus_srresnet_x4_w4a4.yml'
_LEFT_OUT: Mapping[str, Mapping[str, object]] = {
    'learned rounding': {'network_g.quantization.weight.rounding': 'nearest'},
    'gentle bit loss': {'train.loss.bit': 50, 'train.loss.bit_momentum': 0, 'train.loss.target_bits': 4.4},
    'small patches': {'train.patch_size': None},
    'fast activation ranges': {'train.lr.activation': 0.01},
}
PLUS = Table(
    'adabm_plus',
    'Beyond AdaBM: the plus recipe and its ingredients at 4/4 bits, x4, in patches of 96',
    PATCHES,
    (
        Row('float', 'float', '32/32'),
        Row('adabm_w4a4', 'AdaBM, stages in turn, 500 iterations', '4/4MP', 'options/adabm_srresnet_x4_w4a4.yml'),
        Row('adabm_fast_w4a4', 'fast: all together, 150 iterations', '4/4MP',
            'options/adabm_fast_srresnet_x4_w4a4.yml'),
        Row('adabm_plus_w4a4', 'plus', '4/4MP', _PLUS),
        *(Row(f'adabm_plus_without_{name.replace(" ", "_")}_w4a4', f'plus without {name}', '4/4MP', _PLUS, changes)
          for name, changes in _LEFT_OUT.items()),
        Row('adabm_plus_channel_w4a4', 'plus with a weight range a channel', '4/4MP', _PLUS,
            {'network_g.quantization.weight.granularity': 'channel'}),
    ),
)  # fmt: skip

TABLES = {'2': TABLE2, '3': TABLE3, '4': TABLE4, 'plus': PLUS}
