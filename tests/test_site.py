"The site in a browser, and the notebook to explore a run in JupyterLab"

import html
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from urllib.parse import unquote, urljoin, urlparse

import ipywidgets
import numpy as np
import pandas as pd
import pytest

from ocf_study import explore, metrics, study

ROOT = Path(__file__).resolve().parent.parent
REAL_PEOPLE = study.REAL_PEOPLE
FLAGS = [
    '--headless',
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
]
KINDS = [
    'index.html',
    'pages/method.html',
    'pages/method/06_geometry.html',
    'pages/study/50_evaluation.html',
    'pages/results/paper.html',
    'pages/guides/explore.html',
    'pages/reference.html',
    'about/limitations.html',
]


class Page(HTMLParser):
    "What a page links to, shows, and calls its places"

    def __init__(self, path):
        super().__init__()
        self.links, self.images, self.ids, self.words, self.quiet = [], [], set(), [], 0
        self.feed(path.read_text(encoding='utf-8'))

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        self.ids |= {a[k] for k in ('id', 'name') if a.get(k)}
        if tag in ('a', 'link') and 'href' in a:
            self.links.append(a['href'])
        if tag == 'script' and 'src' in a:
            self.links.append(a['src'])
        if tag == 'img':
            self.images.append((a.get('src', ''), a.get('alt')))
        self.quiet += tag in ('script', 'style')

    def handle_endtag(self, tag):
        self.quiet -= tag in ('script', 'style')

    def handle_data(self, data):
        if not self.quiet:
            self.words.append(data)


@pytest.fixture(scope='session')
def built(tmp_path_factory):
    "A run's name -> its site and the pages of it, built once"
    done = {}

    def of(run):
        if not (ROOT / 'reports' / run / 'provenance.json').exists():
            pytest.skip(f'no {run} run to show: ocf-study run --profile {run}')
        if run not in done:
            out, start = tmp_path_factory.mktemp(run), time.monotonic()
            command = [
                'sphinx-build',
                '-W',
                '--keep-going',
                '-q',
                '-E',
                '-b',
                'html',
                '-d',
                out / 'doctrees',
                ROOT / 'docs',
                out / 'html',
            ]
            said = subprocess.run(
                command, capture_output=True, text=True, env=os.environ | {'OCF_SITE_RUN': run}
            )
            assert said.returncode == 0, said.stdout + said.stderr
            (out / 'seconds').write_text(str(time.monotonic() - start))
            done[run] = (
                out / 'html',
                {
                    str(p.relative_to(out / 'html')): Page(p)
                    for p in sorted((out / 'html').rglob('*.html'))
                    if '_static' not in p.parts
                },
            )
        return done[run]

    return of


@pytest.fixture(scope='session', params=['demo', 'smoke'])
def run(request):
    return request.param  # the committed one, and the one that today's code made


@pytest.fixture(scope='session')
def site(built, run):
    return built(run)[0]


@pytest.fixture(scope='session')
def pages(built, run):
    return built(run)[1]


@pytest.fixture(scope='session')
def shown(built):
    return built('demo')[1]  # in the browser


def test_every_part_is_there(site, pages):
    for chapter in (ROOT / 'nbs' / 'method').glob('[0-9]*.ipynb'):
        assert f'pages/method/{chapter.stem}.html' in pages
    for guide in (ROOT / 'nbs' / 'guides').glob('*.ipynb'):
        assert f'pages/guides/{guide.stem}.html' in pages
    assert {
        'search.html',
        'about/data.html',
        'about/changelog.html',
        'pages/citation.html',
        'pages/results/further.html',
        *KINDS,
    } <= set(pages)
    text = ' '.join(pages['pages/results/paper.html'].words)
    for item in (
        *(f'Figure {k}' for k in range(1, 5)),
        'Figure 5 A',
        'Figure 5 B',
        *(f'Figure 6 {k}' for k in 'ABCDEFGHI'),
        *(f'Table {k}' for k in range(1, 6)),
    ):
        assert item in text, item


def test_links_lead_somewhere(site, pages):
    broken = []
    for name, page in pages.items():
        for href in page.links + [src for src, _ in page.images]:
            if not href or urlparse(href).scheme:
                continue
            url = urlparse(urljoin(f'/{name}', href))
            target, anchor = unquote(url.path).lstrip('/'), unquote(url.fragment)
            if target.endswith('/') or not target:
                target += 'index.html'
            if not (site / target).is_file():
                broken.append((name, href))
            elif anchor and target in pages and anchor not in pages[target].ids:
                broken.append((name, href))
    assert broken == []


def test_nothing_is_fetched_from_elsewhere(pages):
    for name, page in pages.items():
        assert [s for s, _ in page.images if urlparse(s).scheme in ('http', 'https')] == [], name


def test_no_page_runs_a_script_of_its_data(site, pages):
    "A policy lets the site's own scripts run, by file or by hash, and none that stands in a body"
    for name in pages:
        text = (site / name).read_text(encoding='utf-8')
        policy = re.search(r'<head><meta [^>]*Content-Security-Policy" content="([^"]+)"', text)[1]
        scripts = re.search(r'script-src ([^;]+);', policy)[1]
        assert 'unsafe' not in scripts and '*' not in scripts, name
        assert not re.search(r'<[^>]*\son(click|load|error|change|submit)=', text), name


def test_every_figure_has_an_alternative_text(pages):
    for name, page in pages.items():
        alts = [(alt or '').strip() for _, alt in page.images]
        assert '' not in alts, name
        code = re.compile(r'[{}=]|\w\(|::|\bnp\.|\[[\d., ]+\]|```|\bdef \b')
        assert [a for a in alts if code.search(a)] == [], name
        assert [a for a, n in Counter(alts).items() if n > 1] == [], name


def test_no_machinery_shows(pages):
    for name, page in pages.items():
        text = ''.join(page.words)
        assert not re.search(
            r'PosixPath\(.\.|VBox\(children=|np\.float64\(\d|Alias for field number|'
            r'^study\.prepare\(|^out = "\."',
            text,
            re.M,
        ), name
        assert not re.search(r'^\s*#\|', text, re.M), name
        assert 'default_exp' not in text or name.endswith(('18_study.html', 'contributing.html')), (
            name
        )
        assert not re.search(r'\d+%\|[█▏▎▍▌▋▊▉ ]*\|', text), name
        assert not re.search(r'\w+Warning: ', text), name


def test_pages_of_rendered_films_say_so(run, pages):
    about = json.loads((ROOT / 'reports' / run / 'provenance.json').read_text())
    for name, page in pages.items():
        if name in ('pages/results/people.html', f'pages/study/{REAL_PEOPLE}.html'):
            continue  # these are about people
        if name.startswith(('pages/study/', 'pages/results/')) and about['about']['rendered']:
            text = ' '.join(' '.join(page.words).split())
            assert 'Rendered films' in text and 'says anything about patients' in text, name
            assert f'seed {about["seed"]}' in text, name


def test_results_lead_to_the_cells(run, site, pages):
    "Every table and figure has a link, and behind its anchor comes the cell that saves it"
    made = json.loads((ROOT / 'reports' / run / 'provenance.json').read_text())['artefacts']
    places = {
        f'../study/{a["stage"]}.html#{a["kind"]}-{a["name"]}'
        for a in made
        if (a['kind'], a['name']) != ('table', 'comparison')
        and (
            a['kind'] == 'figure'
            or len(pd.read_csv(ROOT / 'reports' / run / 'tables' / f'{a["name"]}.csv'))
        )
    }
    links = {
        h
        for page in pages
        if page.startswith('pages/results/')
        for h in pages[page].links
        if re.search(r'study/.*#(figure|table)-', h)
    }
    assert links == places and len(links) > 30
    for link in links:
        page, anchor = link.split('#')
        text = (site / 'pages' / page[3:]).read_text(encoding='utf-8')
        cell = re.search(rf'id="{anchor}".*?<div class="cell [^>]*>(.*?)</pre>', text, re.S)[1]
        assert re.search(r'figures\.save(_table)?\b', re.sub(r'<[^>]+>', '', cell)), link


def test_size_and_time(site, pages):
    assert float((site.parent / 'seconds').read_text()) < 300
    assert sum(p.stat().st_size for p in site.rglob('*') if p.is_file()) < 40e6
    first = pages['index.html']
    needed = {
        (site / unquote(urlparse(u).path)).resolve()
        for u in first.links + [src for src, _ in first.images]
        if not urlparse(u).scheme
    }
    assert (
        1e5
        < sum(
            p.stat().st_size
            for p in {*needed, site / 'index.html'}
            if p.is_file() and (p.suffix != '.html' or p.name == 'index.html')
        )
        < 1e6
    )  # without fonts: those are counted in the browser


# In the browser


@pytest.fixture(scope='session')
def browser():
    if not (
        path := shutil.which('chromium')
        or shutil.which('chromium-browser')
        or shutil.which('google-chrome')
    ):
        pytest.skip('no Chromium here: `make test` installs it where it may (apt-get, root)')
    playwright = pytest.importorskip('playwright.sync_api')
    with playwright.sync_playwright() as p:
        b = p.chromium.launch(executable_path=path, args=FLAGS)
        yield b
        b.close()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope='session')
def address(built):
    server = ThreadingHTTPServer(('127.0.0.1', 0), partial(Quiet, directory=str(built('demo')[0])))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


@pytest.fixture()
def tab(browser):
    context = browser.new_context(viewport=dict(width=400, height=800))
    page = context.new_page()
    page.faults, page.received = [], 0
    page.on('console', lambda m: page.faults.append(m.text) if m.type == 'error' else None)
    page.on('pageerror', lambda e: page.faults.append(str(e)))
    page.on(
        'requestfailed',
        lambda r: page.faults.append(r.url) if r.failure != 'net::ERR_ABORTED' else None,
    )  # a page that is left asks for nothing more
    yield page
    context.close()


def test_every_page_on_a_phone(address, shown, tab):
    wide = []
    for name in shown:
        tab.goto(
            f'{address}/{name}', wait_until='networkidle'
        )  # what a page asks for arrives before it is left
        if tab.evaluate('document.documentElement.scrollWidth') > 400:
            wide.append(name)
        missing = tab.evaluate(
            '[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)'
        )
        assert missing == [], name
    assert wide == [] and tab.faults == []


def test_first_page_is_light(address, tab):
    tab.goto(f'{address}/index.html', wait_until='networkidle')
    sizes = tab.evaluate(
        """Object.fromEntries(
            ["resource", "navigation"]
                .flatMap(kind => performance.getEntriesByType(kind))
                .map(entry => [entry.name, entry.decodedBodySize]))"""
    )
    assert 1e5 < sum(sizes.values()) < 1e6, sizes


def test_search(address, tab):
    tab.goto(f'{address}/search.html?q=odds+ratio')
    tab.wait_for_selector('#search-results li a')
    assert 'Error analysis' in tab.inner_text('#search-results')


def test_keyboard(address, browser):
    tab = browser.new_page(viewport=dict(width=1200, height=800))
    tab.goto(f'{address}/pages/method/06_geometry.html')
    tab.keyboard.press('Tab')  # to "skip to main content"
    tab.wait_for_function('document.activeElement.textContent.toLowerCase().includes("main")')
    tab.keyboard.press('Control+k')
    tab.wait_for_function('document.activeElement.tagName === "INPUT"')
    tab.keyboard.type('odds ratio')
    tab.keyboard.press('Enter')
    tab.wait_for_url('**/search.html?q=odds*')
    tab.goto(f'{address}/pages/results/paper.html')
    assert tab.evaluate('[...document.querySelectorAll(".wide")].every(b => b.tabIndex === 0)')
    tab.close()


# One word of each kind of code has its colour, too, and leaves a third of the elements
ONE_OF_A_KIND = """() => {
  const seen = new Set();
  for (const word of document.querySelectorAll('.highlight pre > span')) {
    const box = word.closest('div[class*=highlight-]').parentElement;
    const kind = word.className + ' in ' + box.className;
    if (seen.has(kind)) word.replaceWith(word.textContent); else seen.add(kind);
  }
}"""


@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_accessible(address, shown, browser, scheme):
    axe = pytest.importorskip('axe_playwright_python.sync_playwright').Axe()
    tab = browser.new_page(viewport=dict(width=1200, height=900), color_scheme=scheme)
    found = []
    for name in shown:
        tab.goto(f'{address}/{name}')
        assert tab.evaluate('document.documentElement.dataset.theme') == scheme
        tab.evaluate(ONE_OF_A_KIND)
        for v in axe.run(
            tab, options={'runOnly': ['wcag2a', 'wcag2aa'], 'resultTypes': ['violations']}
        ).response['violations']:
            if v['impact'] in ('serious', 'critical'):
                found += [(name, v['id'], n['target'], n['failureSummary']) for n in v['nodes'][:3]]
    tab.close()
    assert found == []


def _free():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


@contextmanager
def jupyterlab(folder):
    "JupyterLab on a folder -> its address; its kernels end with it"
    port, home = _free(), folder / 'home'
    env = os.environ | {
        k: str(home / k)
        for k in ('JUPYTER_CONFIG_DIR', 'JUPYTER_DATA_DIR', 'JUPYTER_RUNTIME_DIR', 'IPYTHONDIR')
    }
    settings = home / 'JUPYTER_CONFIG_DIR' / 'labconfig' / 'page_config.json'
    settings.parent.mkdir(parents=True)
    quiet = {'disabledExtensions': {'@jupyterlab/apputils-extension:announcements': True}}
    settings.write_text(json.dumps(quiet))
    options = [
        '--no-browser',
        '--allow-root',
        '--ip=127.0.0.1',
        f'--port={port}',
        '--ServerApp.port_retries=0',
        '--IdentityProvider.token=',
        f'--ServerApp.root_dir={folder}',
        '--LabApp.expose_app_in_browser=True',
    ]
    address = f'http://127.0.0.1:{port}'
    with (home / 'log').open('w') as log:
        lab = subprocess.Popen(
            [sys.executable, '-m', 'jupyterlab', *options], env=env, stdout=log, stderr=log
        )
        try:
            for _ in range(480):
                assert lab.poll() is None, (home / 'log').read_text()[-2000:]
                try:
                    urllib.request.urlopen(f'{address}/api', timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield address
        finally:
            lab.terminate()  # the server shuts its kernels down
            lab.wait(60)


# JupyterLab's own commands, each awaited: a click on a menu can be lost while the kernel connects
RUN_ALL = """async () => {
  const app = window.jupyterapp;
  await app.restored;
  const panel = app.shell.currentWidget;
  await panel.context.ready;
  await panel.sessionContext.ready;
  await panel.sessionContext.session.kernel.info;
  return await app.commands.execute('notebook:run-all-cells');
}"""
SAVE = 'async () => { await window.jupyterapp.shell.currentWidget.context.save(); }'
MEASURE = '.jupyter-widgets [data-measure=sensitivity]'


def _wait_for(tab, selector, text):
    tab.wait_for_function(
        '([s, t]) => [...document.querySelectorAll(s)].some(e => e.textContent.includes(t))',
        arg=[selector, text],
        timeout=120_000,
    )


def test_explore_in_jupyterlab(browser, tiny_run, tmp_path):
    "JupyterLab runs every cell; slider, buttons and picker change what is shown, in Python too"
    guide = tmp_path / 'nbs' / 'guides' / 'explore.ipynb'
    guide.parent.mkdir(parents=True)
    shutil.copy(ROOT / 'nbs' / 'guides' / 'explore.ipynb', guide)
    for name, finished in (('older', '2026-01-01'), ('newer', '2026-02-01')):
        run = tmp_path / 'reports' / name
        shutil.copytree(tiny_run, run)
        (run / 'provenance.json').write_text(json.dumps({'finished': finished}))
    before = sorted(p.relative_to(tmp_path) for p in (tmp_path / 'reports').glob('*'))
    run = explore.open_run(tmp_path / 'reports' / 'newer')
    bodies = run.scored[run.scored.split == 'test']
    sweep = explore.Sweep(bodies.label, bodies.probability)
    with jupyterlab(tmp_path) as address:
        tab = browser.new_page(viewport=dict(width=1200, height=1000))
        tab.set_default_timeout(120_000)
        tab.goto(f'{address}/lab/tree/nbs/guides/explore.ipynb', timeout=120_000)
        tab.wait_for_selector('.jp-Notebook .jp-CodeCell')
        tab.wait_for_function('window.jupyterapp?.shell.currentWidget?.sessionContext')
        assert tab.evaluate(RUN_ALL)
        tab.locator(MEASURE).first.wait_for(state='attached')
        _wait_for(tab, '.jp-OutputArea-output', 'Run newer')  # the newest finished one
        for button, threshold in run.thresholds.items():
            tab.locator('.jupyter-widgets button', has_text=button).first.click()
            now = sweep.at(threshold)
            _wait_for(tab, MEASURE, f'{100 * now["sensitivity"]:.1f} %')
            _wait_for(tab, '.jupyter-widgets caption', f'{now["fp"] + now["tp"]} of {len(bodies)}')
        handle = tab.locator('.jupyter-widgets .noUi-handle').first
        handle.focus()
        for key, sensitivity in (('Home', '0.0 %'), ('End', '100.0 %')):
            handle.press(key)
            _wait_for(tab, MEASURE, sensitivity)
        tab.locator('.jupyter-widgets select').first.select_option('older')
        _wait_for(tab, '.jp-OutputArea-output', 'Run older')  # the cell in Python, too
        tab.evaluate(SAVE)
        tab.close()
    code = [c for c in json.loads(guide.read_text())['cells'] if c['cell_type'] == 'code']
    assert all(c['execution_count'] for c in code)
    assert [o for c in code for o in c['outputs'] if o['output_type'] == 'error'] == []
    assert before == sorted(p.relative_to(tmp_path) for p in (tmp_path / 'reports').glob('*'))


def _opened(monkeypatch, label, probability):
    "A run of bodies alone, as the widgets open it"
    bodies = pd.DataFrame(dict(split='test', label=label, probability=probability))
    run = SimpleNamespace(scored=bodies, thresholds=metrics.paper_thresholds(bodies))
    monkeypatch.setattr(explore, '_open', lambda folder: run)
    return run, explore.threshold_slider(ipywidgets.Dropdown(options={'run': Path('run')}))


def test_buttons_are_exact_where_probabilities_lie_close_to_0_and_1(monkeypatch):
    "Thresholds as the demo has them, 0.99985 and 0.0089: no step of a slider rounds them"
    rng = np.random.default_rng(3)
    label = np.r_[np.ones(52, int), np.zeros(860, int)]
    logit = np.where(label, rng.normal(3, 4, 912), rng.normal(-8, 2.5, 912))
    run, panel = _opened(monkeypatch, label, 1 / (1 + np.exp(-logit)))
    slider, buttons, card = panel.children
    sweep = explore.Sweep(run.scored.label, run.scored.probability)
    for button, t in zip(buttons.children, run.thresholds.values(), strict=True):
        slider.value = 0
        button.click()
        assert card.value == explore.card(sweep.at(t.value))
        now = sweep.at(t.value)
        assert now['tp'] + now['fp'] == t.flags(run.scored.probability).sum() > 0
        assert metrics.written(t) in card.value and metrics.written(t) not in ('0', '1')
    assert 'top 0.75 %' in buttons.children[0].description


@pytest.mark.parametrize('name', sorted(p.name for p in (ROOT / 'reports').iterdir()))
def test_buttons_give_the_thresholds_of_the_table(name):
    folder = ROOT / 'reports' / name
    table = folder / 'tables' / 'thresholds.csv'
    if not table.exists() or not (folder / 'work' / 'predictions.parquet').exists():
        pytest.skip(f'{name} has not its work folder here')
    run = explore.open_run(folder)
    rows = pd.read_csv(table).query('set_on == "test"').set_index('threshold')
    panel = explore.threshold_slider(explore.run_picker(ROOT / 'reports', folder))
    bodies = run.scored[run.scored.split == 'test']
    sweep = explore.Sweep(bodies.label, bodies.probability)
    for button in panel.children[1].children:
        row = rows.loc[button.description.partition(':')[0]]
        button.click()
        now = sweep.at(row.value)
        assert panel.children[-1].value == explore.card(now)
        assert now['alert_rate'] == pytest.approx(row.alert_rate_test)


def test_a_step_of_the_slider_is_felt_as_one(monkeypatch):
    "From a moved slider to the new card, at the paper's number of test bodies"
    rng, n = np.random.default_rng(0), 15_200
    label = rng.random(n) < 0.0115
    probability = np.clip(rng.normal(0.1 + 0.6 * label, 0.15), 0, 1)
    _, panel = _opened(monkeypatch, label.astype(int), probability)
    slider, _, card = panel.children
    took, seen = [], set()
    for position in np.linspace(0, slider.max, 101).astype(int)[1:-1]:
        start = time.perf_counter()
        slider.value = int(position)
        took.append(time.perf_counter() - start)
        seen.add(card.value)
    print(
        f'{1000 * np.median(took):.2f} ms in the median, {1000 * max(took):.2f} ms at most '
        f'per step, {n:,} bodies'
    )
    assert (
        len(seen) > 90 and max(took) < 0.1
    )  # the slowest of 99 steps; half of 200 ms: the other half is the page's


def test_papermill_guide_shows_the_profiles():
    "The committed table of parameters is what the profiles pass today"
    shown = ''.join(
        ''.join(o['data'].get('text/html', ''))
        for c in json.loads((ROOT / 'nbs' / 'guides' / 'papermill.ipynb').read_text())['cells']
        for o in c.get('outputs', [])
        if 'data' in o
    )
    cells = [
        [
            html.unescape(re.sub(r'<[^>]+>', '', td)).strip()
            for td in re.findall(r'<td[^>]*>(.*?)</td>', row, re.S)
        ]
        for row in re.findall(r'<tr>(.*?)</tr>', shown, re.S)
    ]
    names = study.profiles()
    given = {p: study.settings(p) for p in names}
    assert [c for c in cells if len(c) == 1] == [[about] for about in names.values()]
    rows = [
        [stage, k, meaning, *(str(given[p][stage][k]) for p in names)]
        for stage, path in study.stages().items()
        for k, (_, meaning) in study.parameters(path).items()
        if k != 'out'
    ]
    assert [c for c in cells if len(c) > 1] == rows


def test_make_lab_opens_the_notebook():
    "The server's root is the repository, so that chapters and reports open, too"
    said = subprocess.run(
        ['make', '-n', '-o', '.venv/bin/.installed', 'lab'],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout
    assert f'--ServerApp.root_dir={ROOT} ' in said
    assert re.search(r'--LabApp.default_url=/lab/tree/(\S+)', said)[1] == 'nbs/guides/explore.ipynb'
    assert (ROOT / 'nbs' / 'guides' / 'explore.ipynb').exists()


def test_the_guide_makes_no_run_unasked(tmp_path):
    "Only nbdev_test, which may find no run, makes one before the guide's cells"
    cells = json.loads((ROOT / 'nbs' / 'guides' / 'explore.ipynb').read_text())['cells']
    makes = [''.join(c['source']) for c in cells if 'study.' in ''.join(c['source'])]
    assert all("if os.environ.get('IN_TEST')" in m for m in makes)
    with pytest.raises(FileNotFoundError, match='make study'):
        explore.run_picker(tmp_path)
