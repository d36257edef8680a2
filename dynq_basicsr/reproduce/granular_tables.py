"""The rows of Granular-DQ's tables (Wang et al., AAAI 2025) as data: how to make each, and the paper's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dynq_basicsr.reproduce.rows import SETS, Backbone, Figures, Protocol, Quick, Row, Table, figures

PATCHES = Protocol('options/test_granular_x4.yml', 96, 90)
PAPER_SETS = ('Urban100', 'Test2K', 'Test4K')
ALL_SETS = (*SETS, 'Test2K', 'Test4K')  # the last two once they are in the option file of PATCHES
QUICK = Quick(
    'with few iterations on small patches', ('Set5', 'Urban100'), {'Urban100': 20},
    {'datasets.train.gt_size': 96, 'datasets.train.batch_size_per_gpu': 8, 'train.entropy_patches': 500,
     'logger.print_freq': 20, 'logger.save_checkpoint_freq': 100},
    200,
)  # fmt: skip
DATA_REMEDY = (
    'put or link the photographs of BSDS500 there, then make it with `dynq data bicubic --hr '
    'datasets/train/BSDS500/train --out datasets/BSDS500_tiles_x4 --scale 4 --lmdb --tile 320`'
)
_BASE = 'options/granular_{backbone}.yml'


def _backbone(key: str, title: str, paper: str) -> Backbone:
    source = _BASE.format(backbone=key)
    remedy = f'put or link the weights there, or correct path.pretrain_network_g of {source}'
    return Backbone(key, title, source, None, remedy, (paper,))


BACKBONES = {
    key: _backbone(key, title, paper)
    for key, title, paper in (
        ('srresnet', 'SRResNet', 'SRResNet'),
        ('edsr', 'EDSR', 'EDSR'),
        ('idn', 'IDN', 'IDN'),
        ('swinir_light', 'SwinIR-light', 'SwinIR-light'),
        ('hat_s', 'HAT-S', 'HAT-S'),
        ('edsr_small', 'small EDSR', 'EDSR'),
    )
}

# Row -> network -> Urban100, Test2K, Test4K.
_TABLE1 = {
    'float': {
        'SRResNet': '26.11/.787 27.65/.776 29.04/.823',
        'EDSR': '26.03/.784 27.59/.773 28.80/.814',
        'IDN': '25.42/.763 27.48/.774 28.54/.806',
        'SwinIR-light': '26.46/.798 27.72/.779 29.14/.825',
        'HAT-S': '27.81/.833 28.07/.791 29.56/.836',
    },
    'PAMS': {
        'SRResNet': '26.01/.784@8 27.67/.781@8 28.77/.813@8',
        'EDSR': '26.01/.784@8 27.67/.781@8 28.77/.813@8',
        'IDN': '25.56/.768@8 27.53/.775@8 28.59/.807@8',
        'SwinIR-light': '26.31/.793@8 27.67/.776@8 29.08/.823@8',
        'HAT-S': '27.56/.827@8 28.00/.789@8 29.48/.834@8',
    },
    'CADyQ': {
        'SRResNet': '25.92/.781@5.73 27.64/.781@5.14 28.72/.812@5.02',
        'EDSR': '25.94/.782@6.09 27.67/.781@5.52 28.91/.818@5.37',
        'IDN': '25.65/.771@5.78 27.54/.776@5.16 28.61/.808@5.03',
        'SwinIR-light': '25.87/.779@5.15 27.54/.772@5.01 28.92/.819@5.01',
        'HAT-S': '26.98/.814@5.53 27.88/.784@5.41 29.32/.830@5.33',
    },
    'CABM': {
        'SRResNet': '25.86/.778@5.34 27.52/.771@5.17 28.91/.818@5.07',
        'EDSR': '25.95/.782@5.80 27.57/.772@5.65 28.96/.819@5.56',
        'IDN': '25.57/.768@4.28 27.42/.766@4.25 28.74/.813@4.23',
        'SwinIR-light': '25.88/.780@5.34 27.62/.774@4.92 29.02/.821@4.91',
        'HAT-S': '26.95/.813@5.49 27.87/.784@5.38 29.31/.829@5.30',
    },
    'AdaBM': {'SRResNet': '25.72/.773@5.60 27.55/.777@5.20 28.62/.809@5.10'},
    'RefQSR': {'SRResNet': '25.90/.778@4.00 27.52/.771@5.17 28.91/.818@5.07'},
    'Granular-DQ': {
        'SRResNet': '25.98/.783@4.00 27.55/.773@4.01 28.93/.820@4.01',
        'EDSR': '26.01/.784@4.97 27.58/.773@4.57 28.98/.820@4.41',
        'IDN': '25.68/.772@4.18 27.47/.767@4.29 28.83/.816@4.23',
        'SwinIR-light': '26.42/.796@4.79 27.67/.778@4.74 29.11/.824@4.76',
        'HAT-S': '27.66/.829@4.77 28.01/.789@4.80 29.49/.834@4.78',
    },
}
_FIXED = {'network_g.policy': {'type': 'Fixed'}}
_PAMS = {'network_g.quantization.activation.quantizer': 'pams', 'network_g.quantization.rounding_gradient': 'identity'}


def _paper(method: str) -> dict[str, dict[str, Figures]]:
    return {network: figures(text, sets=PAPER_SETS) for network, text in _TABLE1[method].items()}


def _edsr(text: str, sets: Sequence[str] = ('Urban100',)) -> dict[str, dict[str, Figures]]:
    return {'EDSR': figures(text, sets=tuple(sets))}


def _ours(key: str, label: str, overrides: Mapping[str, object], paper: Mapping, bits: str = '8/MP') -> Row:
    return Row(key, label, bits, _BASE, overrides, paper)


FLOAT = Row('float', 'float', '32/32', paper=_paper('float'))
PAMS = _ours('pams_w8a8', 'PAMS', _FIXED | _PAMS, _paper('PAMS'), '8/8')
GRANULAR = _ours('granular', 'Granular-DQ', {}, _paper('Granular-DQ'))
_TRAINING = 'The paper trains for 300,000 iterations on DIV2K, ours as their option file says, on BSDS500.'

TABLE1 = Table(
    'granular_table1',
    'Granular-DQ, Table 1: adaptive bit-widths, x4, in patches of 96 every 90 pixels',
    PATCHES,
    (
        FLOAT,
        PAMS,
        *(Row(method.lower(), method, '8/MP', paper=_paper(method), ours=False)
          for method in ('CADyQ', 'CABM', 'AdaBM', 'RefQSR')),
        GRANULAR,
    ),
    (
        _TRAINING,
        'The paper has Urban100, Test2K and Test4K; the last two are not among our data sets.',
        'Of the paper\'s figures, PAMS is the same for SRResNet and EDSR, RefQSR the same as CABM on Test2K and '
        'Test4K, and AdaBM that of AdaBM\'s paper, whose float SRResNet is another (25.86 dB on Urban100).',
    ),
)  # fmt: skip

TABLE3 = Table(
    'granular_table3',
    'Granular-DQ, Table 3: ablation, x4, in patches of 96 every 90 pixels',
    PATCHES,
    (
        FLOAT,
        _ours('granular_fixed', 'none', _FIXED, _edsr('26.01/.783@8'), '8/8'),
        _ours('granular_gbc', 'GBC', {'network_g.policy.entropy_bits': None}, _edsr('25.97/.782@5.86')),
        _ours('granular_gbc_e2b', 'GBC + E2B', {'network_g.policy.adaptive_thresholds': False},
              _edsr('26.02/.784@5.51')),
        _ours('granular', 'GBC + E2B + ATC', {}, _edsr('26.01/.784@4.97')),
    ),
    (
        'GBC: controller of the granularity; E2B: bits by entropy; ATC: thresholds that follow the batches. "none" has '
        'the same learned steps at 8 bits. The float row is that of the paper\'s Table 1.',
        _TRAINING,
    ),
)  # fmt: skip


def _named(bits: Sequence[int]) -> str:
    return '/'.join(map(str, bits))


def _candidates(bits: Sequence[int], text: str, quantiles: Sequence[float] = (0.5, 0.9)) -> Row:
    """Bits that entropy hands out; those of the paper are the network of the other tables."""
    changes: dict[str, object] = {}
    key, label = 'granular', f'E2B {_named(bits)}'
    if tuple(bits) != (4, 5, 8):
        key = f'granular_e2b_{"".join(map(str, bits))}'
        changes['network_g.policy.entropy_bits'] = list(bits)
    if tuple(quantiles) != (0.5, 0.9):
        changes['network_g.policy.entropy_quantiles'] = list(quantiles)
    return _ours(key, label, changes, _edsr(text, ('Set14', 'Urban100')))


_BEST = '28.58/.781@5.54 26.01/.784@4.97'
TABLE4 = Table(
    'granular_table4',
    'Granular-DQ, Table 4: bits that entropy chooses from, x4, in patches of 96 every 90 pixels',
    PATCHES,
    (
        FLOAT,
        _candidates((4, 5, 6), '28.52/.780@5.29 25.98/.783@4.85'),
        _candidates((4, 5, 7), '28.54/.780@5.50 25.99/.782@4.98'),
        _candidates((4, 6, 7), '28.55/.781@5.79 25.97/.783@5.22'),
        _candidates((4, 6, 8), '28.57/.781@5.64 26.01/.784@5.38'),
        _candidates((4, 7, 8), '28.55/.780@5.64 25.99/.783@5.64'),
        _candidates((4, 5, 8), _BEST),
    ),
    ('The controller chooses from 4/6/8 in all rows. The float row is that of the paper\'s Table 1.', _TRAINING),
)

TABLE_S1 = Table(
    'granular_tables1',
    'Granular-DQ, supplement, Table S1: thresholds of entropy, x4, in patches of 96 every 90 pixels',
    PATCHES,
    (
        FLOAT,
        _candidates((4, 8), '28.57/.780@6.57 25.97/.781@5.75', (0.5,)),
        _candidates((4, 5, 8), _BEST),
        _candidates((4, 5, 6, 8), '28.58/.779@6.07 25.93/.781@5.41', (0.4, 0.6, 0.9)),
        _candidates((4, 5, 7, 8), '28.54/.780@6.21 25.93/.782@5.61', (0.4, 0.6, 0.9)),
    ),
    (
        'Thresholds: the 0.5 quantile of the entropies for two candidates, 0.5 and 0.9 for three, 0.4, 0.6 and 0.9 for '
        'four. The float row is that of the paper\'s Table 1.',
        _TRAINING,
    ),
)

_S2 = {
    'CADyQ': {'EDSR': '25.94/.782@6.09', 'IDN': '25.65/.771@5.78'},
    'Granular-DQ': {'EDSR': '25.95/.782@5.69', 'IDN': '25.62/.770@4.73'},
}


def _paper_s2(method: str) -> dict[str, dict[str, Figures]]:
    return {network: figures(text, sets=('Urban100',)) for network, text in _S2[method].items()}


TABLE_S2 = Table(
    'granular_tables2',
    'Granular-DQ, supplement, Table S2: quantizers, x4, in patches of 96 every 90 pixels',
    PATCHES,
    (
        FLOAT,
        PAMS,
        Row('cadyq', 'CADyQ + PAMS', '8/MP', paper=_paper_s2('CADyQ'), ours=False),
        _ours('granular_pams', 'Granular-DQ + PAMS', _PAMS, _paper_s2('Granular-DQ')),
        _ours('granular', 'Granular-DQ + QuantSR', {},
              {network: _paper('Granular-DQ')[network] for network in ('EDSR', 'IDN')}),
    ),
    (
        'The paper\'s text claims 0.07 dB for Granular-DQ + PAMS over CADyQ + PAMS on EDSR; its table has 0.01 dB.',
        _TRAINING,
    ),
)  # fmt: skip

TABLES = {'1': TABLE1, '3': TABLE3, '4': TABLE4, 's1': TABLE_S1, 's2': TABLE_S2}
