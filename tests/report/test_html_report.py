"""The HTML report in a real browser: the slider moves, the overlay toggles, nothing is complained about."""

import html.parser
import re
import shutil

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from dynq_basicsr.archs.arch_options import build_backbone
from dynq_basicsr.cli import main

BACKBONE = {'type': 'SRVGGNetCompact', 'num_feat': 8, 'num_conv': 4, 'upscale': 2}
NAMES = ('face <b>"&', 'suit')  # which are text, not HTML


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    """A report of two pictures, one of which has ground truth."""
    from dynq_basicsr import api

    root = tmp_path_factory.mktemp('report')
    (root / 'lr').mkdir()
    (root / 'hr').mkdir()
    for top, name in zip((0, 250), NAMES, strict=True):
        photo = np.ascontiguousarray(data.astronaut()[top : top + 160, 150:310, ::-1])
        cv2.imwrite(str(root / f'lr/{name}x2.png'), cv2.resize(photo, (80, 80), interpolation=cv2.INTER_AREA))
    cv2.imwrite(str(root / f'hr/{NAMES[1]}.png'), photo)
    torch.manual_seed(0)
    torch.save({'params': build_backbone(BACKBONE).state_dict()}, root / 'float.pth')
    api.quantize(root / 'float.pth', root / 'lr', method='minmax', device='cpu').save(root / 'quantized.pth')
    line = ['report', str(root), str(root / 'lr'), '--gt', str(root / 'hr'), '-o', str(root / 'report.html')]
    assert main(line) == 0
    return root / 'report.html'


class Outline(html.parser.HTMLParser):
    """Elements of a page as (name, attributes); void ones aside, that each is closed."""

    VOID = ('meta', 'link', 'img', 'input', 'br')

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_whole_and_asks_nothing_of_a_network(page):
    text = page.read_text(encoding='utf-8')
    outline = Outline(text)
    assert not outline.open and page.stat().st_size < 10e6
    for _, attributes in outline.elements:
        for key in ('src', 'href'):
            assert attributes.get(key, '#').startswith(('#', 'data:'))
    assert not re.search(r'https?://', text) and '<b>' not in text and '$' not in text.replace('${', '')


def test_everything_has_a_name(page):
    elements = Outline(page.read_text(encoding='utf-8')).elements
    assert all(attributes['alt'] for tag, attributes in elements if tag == 'img')
    assert all(attributes['aria-label'] for tag, attributes in elements if tag == 'svg')
    tags = [tag for tag, _ in elements]
    assert {'header', 'main', 'nav', 'footer', 'h1'} <= set(tags) and tags.count('h1') == 1
    identities = [attributes['id'] for _, attributes in elements if 'id' in attributes]
    assert len(identities) == len(set(identities))
    for _, attributes in elements:
        if 'aria-labelledby' in attributes:
            assert attributes['aria-labelledby'] in identities
        if attributes.get('href', '').startswith('#'):
            assert attributes['href'][1:] in identities


def test_figures_of_the_page(page):
    text = re.sub(r'<[^>]+>', ' ', page.read_text(encoding='utf-8'))
    assert 'SRVGGNetCompact ×2, W4A4' in text and 'There is ground truth of 1 of 2.' in text
    assert re.search(r'quantized +[\d.]+ dB +[\d.]+ dB +4\.00 +[\d.]+ T +[\d.]+ MB +[\d.]+', text)
    assert 'Pictures were named for this report.' in text


@pytest.mark.parametrize('more, told', [
    (['-o', 'report.png'], 'report.png: the report is one file; name it report.html'),
    (['-o', 'a.html', '--count', '0'], '--count: must be a whole number from 1 to 24'),
    (['-o', 'a.html', '--patch', '-1'], '--patch: must be a whole number'),
    (['absent.png', '-o', 'a.html'], 'absent.png: no such file or folder'),
    (['-o', 'a.html'], 'names no pictures that are there'),
])  # fmt: skip
def test_mistakes_cost_a_sentence(page, more, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(['report', str(page.parent), *more]) == 2
    assert told in capsys.readouterr().err and not list(tmp_path.iterdir())


@pytest.fixture(scope='module')
def browser(tmp_path_factory):
    """Chromium without a window, as selenium drives it."""
    webdriver = pytest.importorskip('selenium.webdriver', reason='selenium is not installed (extra dev)')
    chromium = shutil.which('chromium') or shutil.which('google-chrome')
    driver = shutil.which('chromedriver')
    if not chromium or not driver:
        pytest.skip('there is no Chromium, or no chromedriver (Debian: apt-get install chromium chromium-driver)')
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ('--headless', '--no-sandbox', '--disable-gpu', '--disable-background-networking',
                 '--disable-component-update', '--disable-sync', '--force-prefers-reduced-motion',
                 '--window-size=1000,900', f'--user-data-dir={tmp_path_factory.mktemp("profile")}'):  # fmt: skip
        options.add_argument(flag)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    driver = webdriver.Chrome(options, Service(driver))
    yield driver
    driver.quit()


@pytest.fixture
def shown(browser, page):
    """The page, as it opens; at the end, the browser has nothing to complain about."""
    browser.get(page.as_uri())
    yield browser
    assert browser.get_log('browser') == []


def one(browser, selector):
    return browser.find_element('css selector', f'#picture-2 {selector}')


def sides(browser):
    """What is on the left, and on the right, by the images that are visible."""
    found = {}
    for image in browser.find_elements('css selector', '#picture-2 .frame img'):
        side = image.get_attribute('data-side')
        assert (image.value_of_css_property('visibility') == 'visible') == bool(side)
        if side:
            found[side] = image.get_attribute('data-way'), image.value_of_css_property('clip-path')
    return found


def test_all_images_decode(shown):
    script = 'return [...document.images].map(one => one.decode ? one.naturalWidth : 0)'
    widths = shown.execute_script(script)
    assert len(widths) >= 2 * 3 + 1 and min(widths) > 0


def test_the_slider_moves_by_keys(shown):
    from selenium.webdriver.common.keys import Keys

    assert sides(shown)['left'][0] == 'bicubic' and sides(shown)['right'] == ('quantized', 'inset(0px 0px 0px 50%)')
    slider = one(shown, 'input[type=range]')
    slider.send_keys(Keys.ARROW_RIGHT * 10)
    assert slider.get_attribute('aria-valuetext') == '60 % bicubic, 40 % quantized'
    assert sides(shown)['right'][1] == 'inset(0px 0px 0px 60%)'
    slider.send_keys(Keys.HOME)
    assert sides(shown)['right'][1] in ('inset(0px)', 'inset(0px 0px 0px 0%)')
    frame, divider = one(shown, '.frame').rect, one(shown, '.divider').rect
    assert divider['x'] == pytest.approx(frame['x'], abs=2)


def test_the_slider_follows_the_pointer(shown):
    from selenium.webdriver import ActionChains

    frame = one(shown, '.frame')
    quarter = round(frame.rect['width'] / 4)
    ActionChains(shown).move_to_element(frame).click_and_hold().move_by_offset(quarter, 0).release().perform()
    assert int(one(shown, 'input[type=range]').get_attribute('value')) == pytest.approx(75, abs=1)
    ActionChains(shown).move_by_offset(-quarter, 0).perform()  # without a button
    assert int(one(shown, 'input[type=range]').get_attribute('value')) == pytest.approx(75, abs=1)


def test_each_side_shows_what_is_chosen(shown):
    from selenium.webdriver.support.select import Select

    left, right = (Select(one(shown, f'select[name={side}]')) for side in ('left', 'right'))
    assert [choice.text for choice in left.options] == ['bicubic', 'float', 'quantized', 'ground truth']
    left.select_by_visible_text('float')
    right.select_by_visible_text('ground truth')
    assert {side: way for side, (way, _) in sides(shown).items()} == {'left': 'float', 'right': 'ground truth'}
    assert one(shown, '.tag.left').text == 'float' and one(shown, '.tag.right').text == 'ground truth'
    left.select_by_visible_text('ground truth')
    assert sides(shown) == {'both': ('ground truth', 'none')}


def test_the_overlay_toggles(shown):
    from selenium.webdriver.common.keys import Keys

    overlay, box = one(shown, '.bits'), one(shown, 'input[type=checkbox]')
    assert not overlay.is_displayed()
    box.send_keys(Keys.SPACE)
    assert overlay.is_displayed() and overlay.rect['width'] == pytest.approx(one(shown, '.frame').rect['width'], abs=1)
    box.click()
    assert not overlay.is_displayed()


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_colours_have_contrast(shown, scheme):
    feature = {'name': 'prefers-color-scheme', 'value': scheme}
    shown.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': [feature]})

    def luminance(colour):
        values = np.array([int(one) for one in re.findall(r'\d+', colour)[:3]]) / 255
        return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722)

    paper = luminance(shown.find_element('css selector', 'body').value_of_css_property('background-color'))
    assert (paper > 0.8) == (scheme == 'light')
    for selector in ('h1', '.facts', 'nav a', 'td', 'thead th', 'figcaption'):
        ink = luminance(shown.find_element('css selector', selector).value_of_css_property('color'))
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) >= 4.5, selector


@pytest.mark.parametrize('width', [320, 768, 1600])
def test_the_page_is_never_wider_than_the_window(shown, width):
    size = {'width': width, 'height': 800, 'deviceScaleFactor': 1, 'mobile': False}
    shown.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)
    try:
        script = 'const page = document.documentElement; return page.scrollWidth - page.clientWidth'
        assert shown.execute_script(script) == 0
    finally:
        shown.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})


def test_nothing_comes_from_elsewhere(shown):
    entries = shown.execute_script("return performance.getEntriesByType('resource').map(one => one.name)")
    assert all(name.startswith('data:') for name in entries)
