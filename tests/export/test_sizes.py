"""Model folders are a fraction of the float file; the networks of the papers, in their own sizes."""

import pytest

pytest.importorskip('onnxruntime', reason='the extra deploy is not installed')

from dynq_basicsr.export.freeze import freeze  # noqa: E402
from dynq_basicsr.imaging.patch_grid import TilingOptions  # noqa: E402
from dynq_basicsr.workflow.tested import summary  # noqa: E402

# backbone, bytes of the float network's published file
NETWORKS = {
    'SRResNet': ({'type': 'SRResNetBN', 'upscale': 4}, 6_306_451),
    'IDN': ({'type': 'IDN', 'upscale': 4, 'luma': True}, 2_225_701),
    'IMDN': ({'type': 'IMDN', 'upscale': 4}, 2_879_112),
}


@pytest.mark.parametrize('name, qdq', [('SRResNet', True), ('IDN', True), ('IDN', False), ('IMDN', False)])
def test_four_bits_need_a_quarter_of_the_float_file(name, qdq, calibrated, tmp_path):
    backbone, published = NETWORKS[name]
    quantization = {'weight': {'bits': 4}, 'activation': {'bits': 4}, 'scope': 'full'}
    net = calibrated(backbone, quantization, {'type': 'AdaBM'})
    exported = freeze(net, tmp_path / 'model', TilingOptions(96), qdq=qdq)
    files = {path.name: path.stat().st_size for path in (tmp_path / 'model').iterdir()}
    assert files.pop('dynq.sha256') < 1000  # the list of what was written
    assert set(files) == {'network.onnx', 'manifest.json', *(('network.qdq.onnx', 'shared.onnx') if qdq else ())}
    assert len(exported.codes) == 3 and exported.size == sum(files.values())
    assert exported.float_size == pytest.approx(published, rel=0.02)
    assert exported.size <= (0.27 if qdq else 0.22) * published
    line = summary('FOLDER', exported).splitlines()[0]
    assert f'{exported.size / 1e6:.2f} MB' in line and f'({exported.float_size / 1e6:.2f} MB)' in line
