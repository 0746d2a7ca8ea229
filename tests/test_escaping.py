"Text of somebody's tables is text wherever the package writes it: in pages, in drawings and in CSV"

import ast
import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small

from ocf_study import (
    cohort,
    disclosure,
    escaping,
    figures,
    manifest,
    phantom,
    prediction,
    study,
)

# harmless: a page that runs either of them changes its title
SCRIPT = '<script>document.title = "ran"</script><img src=x onerror="document.title = \'ran\'">'
FORMULA = '=HYPERLINK("x")'
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='module')
def browser():
    path = shutil.which('chromium') or shutil.which('google-chrome')
    if not path:
        pytest.skip('no Chromium here')
    playwright = pytest.importorskip('playwright.sync_api')
    with playwright.sync_playwright() as p:
        b = p.chromium.launch(
            executable_path=path, args=['--headless', '--no-sandbox', '--disable-gpu']
        )
        yield b
        b.close()


@pytest.fixture(scope='module')
def marked(tmp_path_factory):
    "A cohort with a marker in every field of free text"
    folder = tmp_path_factory.mktemp('marked') / 'films'
    phantom.write_cohort(folder, subjects=14, pixel_mm=1.0, prevalence=0.3, workers=1, seed=5)
    c = cohort.read(str(folder))
    (folder / 'annotations.csv').unlink()  # three tables in its place
    people, films = c.subjects, c.films
    odd = np.arange(len(people)) % 2 == 0
    for column in ('site', 'race_ethnicity', f'remark {SCRIPT}'):
        people[column] = np.where(odd, f'{column} {SCRIPT}', FORMULA)
    people['person'] = people.subject_id + f' {SCRIPT}'
    for i in (0, 1):
        name = f'{i} <img src=x onerror=alert(1)>.dcm'
        (folder / films.path[i]).rename(folder / name)
        films.loc[i, 'path'] = name
    people.to_csv(folder / 'subjects.csv', index=False)
    columns = ['film_id', 'subject_id', 'visit', 'region', 'path', 'facing']
    films[columns].to_csv(folder / 'films.csv', index=False)
    c.bodies[['body_id', 'film_id', 'level', 'sq', *cohort.XY]].to_csv(
        folder / 'bodies.csv', index=False
    )
    return folder


def _filled(sheet):
    "A reader's sheet, read by somebody with an odd name"
    df = escaping.read_csv(sheet, dtype=str, keep_default_na=False)
    df[[*manifest.CONFOUNDERS]] = (
        np.random.default_rng(int(sheet.stem[-1])).random((len(df), 15)) < 0.3
    )
    df.assign(reader=f'{sheet.stem} {SCRIPT}', note=SCRIPT).to_csv(sheet, index=False)
    return str(sheet)


@pytest.fixture(scope='module')
def run(marked, tmp_path_factory):
    "The whole study on it, its error analysis with two readers' sheets"
    out = tmp_path_factory.mktemp('run') / 'run'
    settings = small.SETTINGS | dict(data=str(marked), fractions=[0.4, 0.3, 0.3])
    settings['hash_pixels'] = False
    study.run('smoke', out, until='60_error_analysis', **settings)
    sheets = [_filled(p) for p in sorted((out / 'work' / 'readings').glob('reader*.csv'))]
    assert len(sheets) == 2
    return study.run('smoke', out, readings=sheets, **settings)


def _is_quiet(browser, page, shown):
    "Nothing of the data is an element of a page or runs in it, and it can be read there"
    tab = browser.new_page()
    tab.goto(page.as_uri(), wait_until='load')
    assert tab.title() != 'ran'
    assert tab.evaluate('document.querySelectorAll("script, [onerror]").length') == 0
    # and if an escape had been forgotten: the policy of the page stops the script
    tab.evaluate('html => document.body.insertAdjacentHTML("beforeend", html)', SCRIPT)
    tab.wait_for_timeout(100)
    assert tab.title() != 'ran'
    pictures = '[...document.images].filter(i => i.complete && !i.naturalWidth && i.alt).length'
    assert tab.evaluate(pictures) == 0, 'the policy lets pictures through'
    assert (SCRIPT in tab.evaluate('document.body.textContent')) == shown
    tab.close()


def test_every_page_of_a_run_shows_markup_as_text(run, browser):
    pages, with_markup = sorted(run.rglob('*.html')), set()
    for page in pages:
        shown = 'document.title = ' in page.read_text(encoding='utf-8')
        _is_quiet(browser, page, shown)
        with_markup |= {page.stem} if shown else set()
    assert {p.stem for p in pages} == {'index', *(s for s in study.stages() if s < '90')}
    assert with_markup >= {'index', '00_cohort', '60_error_analysis'}


def test_every_page_has_a_policy(run):
    pages = list(run.rglob('*.html'))
    assert len(pages) > 10
    for page in pages:
        text = page.read_text(encoding='utf-8')
        policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
        assert policy.startswith('default-src &#39;none&#39;') and 'script' not in policy


def test_tables_hold_no_formula_and_are_read_back(run):
    found = 0
    for path in run.rglob('*.csv'):
        if 'films' in path.parts or 'cohort' in path.parts:
            continue
        raw = pd.read_csv(path, dtype=str, keep_default_na=False)
        cells = [*raw.columns, *raw.to_numpy().ravel()]
        assert [c for c in cells if escaping.neutral(c) != c and not c.startswith("'")] == [], path
        found += sum(c == f"'{FORMULA}" for c in cells)
    assert found
    table = escaping.read_csv(run / 'tables' / 'table1.csv', dtype=str, keep_default_na=False)
    assert FORMULA in {c.strip() for c in table.to_numpy().ravel()}


def test_negative_numbers_stay_numbers(tmp_path):
    table = pd.DataFrame(
        {'change': [-0.5, 2e-7], 'words': ['-0.5 (-1.0 to 0.1)', '- '], 'n': [-3, 4]}
    )
    escaping.write_csv(table, tmp_path / 't.csv')
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / 't.csv'), table)


def test_tables_in_notebooks_are_escaped(tmp_path):
    table = pd.DataFrame({f'name {SCRIPT}': [SCRIPT, FORMULA], 'value': [-0.5, 1.0]})
    shown = figures.save_table(
        table, 't', tmp_path, caption=f'Caption {SCRIPT}', rests_on=disclosure.NOBODY
    ).to_html()
    assert '<script' not in shown and '<img' not in shown and shown.count('&lt;script') == 3


def test_every_styled_table_goes_through_one_helper():
    "pandas writes cells of a `Styler` into the page as they are"
    own, found = next((ROOT / 'nbs' / 'method').glob('*_escaping.ipynb')), []
    for path in sorted((ROOT / 'nbs').rglob('*.ipynb')):
        if path == own or '.ipynb_checkpoints' in path.parts:
            continue
        for cell in json.loads(path.read_text())['cells']:
            source = ''.join(cell['source']) if cell['cell_type'] == 'code' else ''
            lines = [s for s in source.splitlines() if not s.lstrip().startswith(('%', '!'))]
            found += [
                f'{path.name}: {ast.unparse(node)[:80]}'
                for node in ast.walk(ast.parse('\n'.join(lines)))
                if isinstance(node, ast.Attribute)
                and (node.attr == 'Styler' or node.attr == 'style' and not _is_module(node.value))
            ]
    assert found == []
    source = json.loads(own.read_text())['cells']
    assert sum('.style' in ''.join(c['source']) for c in source) == 1, 'the helper is found'


def _is_module(node):
    return isinstance(node, ast.Name) and node.id in ('figures', 'plt', 'mpl', 'sns')


def test_pages_of_predictions_show_markup_as_text(marked, tiny_run, browser, tmp_path):
    films = pd.read_csv(marked / 'films.csv').iloc[:2]
    new = tmp_path / 'new'
    shutil.copytree(marked, new, ignore=shutil.ignore_patterns('truth', '.*'))
    films.to_csv(new / 'films.csv', index=False)
    bodies = pd.read_csv(marked / 'bodies.csv')
    bodies[bodies.film_id.isin(films.film_id)].to_csv(new / 'bodies.csv', index=False)
    people = cohort.read(str(new))
    people.about |= dict(data=f'Films of {SCRIPT}.', told=[f'a warning {SCRIPT}'])
    page = prediction.predict_cohort(people, tiny_run, tmp_path / 'out')
    _is_quiet(browser, page, True)
    _is_quiet(browser, next((tmp_path / 'out' / 'films').glob('*.html')), False)


def test_markup_in_the_sources_of_the_site_is_text():
    sys.path.insert(0, str(ROOT / 'docs'))
    import nbpages

    about = dict(profile=SCRIPT, seed=1, about=dict(data=SCRIPT, rendered=False))
    table = nbpages.table(pd.DataFrame({SCRIPT: [SCRIPT]}), SCRIPT)
    for text in ('\n'.join(nbpages.banner(about)), '\n'.join(table)):
        assert '<script' not in text and '<img' not in text


def test_the_policy_of_the_site_lets_its_own_scripts_run_alone(browser, tmp_path):
    sys.path.insert(0, str(ROOT / 'docs'))
    import nbpages

    own = 'document.documentElement.dataset.own = "ran"'
    body = f'<p>{SCRIPT}</p>'
    page = tmp_path / 'page.html'
    html = f'<html><head><script>{own}</script></head><body>{body}</body></html>'
    page.write_text(nbpages.guarded(html, nbpages.inline_scripts(body)))
    tab = browser.new_page()
    tab.goto(page.as_uri())
    assert tab.evaluate('document.documentElement.dataset.own') == 'ran'
    assert tab.title() != 'ran'
    tab.close()
