"A whole run at the smallest size, and what happens when something is wrong or a run is killed"

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import papermill
import psutil
import pydicom
import pytest
import small
from PIL import Image

from ocf_study import cohort, inversion, ledger, manifest, patches, resampling, study
from ocf_study.frame import Film, Frame
from ocf_study.run import Run

ROOT = Path(__file__).resolve().parent.parent
COMMAND = str(Path(sys.executable).with_name('ocf-study'))


def ocf(*args, **kw):
    return subprocess.run(
        [COMMAND, *map(str, args)], capture_output=True, text=True, cwd=ROOT, **kw
    )


@pytest.fixture(scope='session')
def smoke():
    "The smoke run; nbdev_test reads it afterwards"
    done = ocf('run', '--profile', 'smoke', '--out', 'reports/smoke')
    assert done.returncode == 0, done.stderr
    return ROOT / 'reports' / 'smoke'


def test_every_table_and_figure_of_the_paper(smoke):
    assert {f'table{i}.csv' for i in range(1, 6)} <= {p.name for p in (smoke / 'tables').iterdir()}
    names = [
        'figure1',
        'figure2',
        'figure3',
        'figure4',
        'figure5a',
        'figure5b',
        *(f'figure6{c}' for c in 'abcdefghi'),
    ]
    figures = {p.name for p in (smoke / 'figures').iterdir()}
    assert {f'{n}.{kind}' for n in names for kind in ('svg', 'png')} <= figures


def test_figure_3_is_of_an_inverted_film_and_names_the_noise(smoke):
    (note,) = [
        a for a in study._artefacts(smoke) if (a['kind'], a['name']) == ('figure', 'figure3')
    ]
    assert ', which is inverted.' in note['caption'] and 'adds noise' in note['caption']
    c = cohort.load(smoke / 'work' / 'cohort')
    seen = patches.report(smoke / 'work' / 'patches.zarr').set_index('film_id')
    voted = seen.index[seen.votes_inverted > seen.votes / 2]
    of_training = c.bodies[(c.bodies.split == 'train') & c.bodies.used].film_id.isin(voted)
    assert of_training.any()


def test_figure_3_shows_the_negative_of_an_inverted_patch():
    six = np.array([[30, 40], [50, 38], [70, 40], [70, 60], [50, 62], [30, 60]], float)
    grey = np.random.default_rng(0).integers(0, 65535, (100, 100)).astype(np.uint16)
    panels = patches.steps(Film.of_stored(grey, six[None], Frame('left')), inverted=True, size=32)
    by_title = {title: image for title, image, _ in panels}
    for branch in ('', ' (training)'):
        np.testing.assert_array_equal(
            by_title[f'7 inverted{branch}'], 65535 - by_title[f'6 cut out{branch}']
        )
    assert (by_title['8 contrast, noise (training)'] != by_title['7 inverted (training)']).any()


def test_the_ratio_is_tried_without_a_test_person(smoke, tmp_path, monkeypatch):
    "Only films of training and validation people are there; a second call trains nothing"
    c = cohort.load(smoke / 'work' / 'cohort')
    shutil.copytree(smoke / 'work' / 'cohort', tmp_path / 'work' / 'cohort')
    (tmp_path / 'tables').mkdir()
    shutil.copy(smoke / 'tables' / 'certificate.csv', tmp_path / 'tables')
    wanted = c.bodies[c.bodies.split != 'test'].film_id
    for path in c.films[c.films.film_id.isin(wanted)].path:
        (tmp_path / 'work' / 'films' / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(smoke / 'work' / 'films' / path, tmp_path / 'work' / 'films' / path)
    given = dict(out=str(tmp_path), ratios=[1.0, 2.5], resamples=50)
    monkeypatch.setenv('OCF_RUN', '1')
    monkeypatch.setenv('OCF_STAGE', '91_ratio')
    trained = {}
    for turn in range(2):
        papermill.execute_notebook(
            str(study.stages()['91_ratio']),
            str(tmp_path / f'{turn}.ipynb'),
            given,
            kernel_name='python3',
            progress_bar=False,
            cwd=str(study.stages()['91_ratio'].parent),
        )
        places = sorted((tmp_path / 'work' / 'ratio').glob('*/last.safetensors'))
        trained[turn] = {p: p.stat().st_mtime_ns for p in places}
    assert len(trained[0]) == 4 and trained[0] == trained[1]
    table = pd.read_csv(tmp_path / 'tables' / 'ratio.csv')
    assert table.ratio.tolist() == [1, 2.5] and table.reached.tolist() == [1, 2.5]
    assert table.auc_pr.between(0, 1).all() and (table.sd_seeds > 0).all()
    assert table.difference.iloc[1] == 0
    people = Run(smoke).evaluated('validation').query('label == 1').person.nunique()
    assert people < resampling.LEAST_PEOPLE and table.low.isna().all(), 'few people, no interval'


def test_tables_and_figures_say_what_the_films_are(smoke):
    made = json.loads((smoke / 'provenance.json').read_text())['artefacts']
    of_people = {f for a in made if a['stage'] == '05_real_people' for f in a['files']}
    assert len(of_people) > 5
    for p in (smoke / 'tables').glob('*.csv'):
        table = pd.read_csv(p)
        if f'tables/{p.name}' in of_people:
            assert 'films' not in table, p.name
        else:
            assert (table.films == 'rendered').all(), p.name
    for a in made:
        assert a['rendered'] == (a['stage'] != '05_real_people')
        assert a['caption'] and (a['alt'] or a['kind'] == 'table')
    notes = [json.loads(p.read_text()) for p in (smoke / 'work' / 'artefacts').glob('*.json')]
    stages = {a['stage'] for a in made}
    other = {f for n in notes if n['stage'] not in stages for f in n['files']}  # run by hand
    assert {f for a in made for f in a['files']} | other == {
        f'{p.parent.name}/{p.name}'
        for folder in ('tables', 'figures')
        for p in (smoke / folder).iterdir()
    }, 'each file has its line, though a figure and a table may have one name'
    assert (
        'Rendered films. No figure on this page says anything about patients, but those of the '
        'section “Real people”.' in (smoke / 'index.html').read_text()
    )


def test_summary(smoke):
    s = json.loads((smoke / 'summary.json').read_text())
    for area in ('auc_roc', 'auc_pr'):
        assert (
            0
            <= s['test']['intervals'][area]['low']
            <= s['test'][area]
            <= s['test']['intervals'][area]['high']
            <= 1
        )
    assert set(s['counts']) >= {'train', 'validation', 'test'}
    seven = {'accuracy', 'sensitivity', 'specificity', 'ppv', 'npv', 'fdr', 'f1'}
    assert len(s['thresholds']) >= 2
    for t in s['thresholds'].values():
        assert seven <= set(t['measures'])
    for t in s['stages'].values():
        assert t['seconds'] > 0 and t['peak_mb'] > 50


def test_every_split_and_every_set_of_table_4_has_intervals(smoke):
    seven = {'accuracy', 'sensitivity', 'specificity', 'ppv', 'npv', 'fdr', 'f1'}

    def read(name):
        return pd.read_csv(
            smoke / 'tables' / f'{name}.csv',
            keep_default_na=False,
            na_values={'value': '', 'low': '', 'high': ''},
        )

    splits, table4, sets = (
        read('splits'),
        pd.read_csv(smoke / 'tables' / 'table4.csv'),
        read('table4_intervals'),
    )
    at = splits[splits.threshold != ''].groupby(['split', 'threshold']).measure.agg(set)
    assert (
        set(at.index)
        == {(s, t) for s in ('train', 'validation', 'test') for t in ('threshold 1', 'threshold 2')}
        and (at >= seven).all()
    )
    assert (
        list(sets.set.unique()) == ['validation', 'train', 'train_augmented']
        and (sets.groupby('set').measure.agg(set) >= seven).all()
    )
    bodies = cohort.load(smoke / 'work' / 'cohort').bodies
    fractured = bodies[(bodies.split == 'validation') & (bodies.label == 1)]
    few = fractured.subject_id.nunique() < resampling.LEAST_PEOPLE
    without = sets.low.isna() & sets.high.isna()
    assert (without == (few & (sets.set == 'validation'))).all()
    held = sets[~without]
    assert ((held.low <= held.value) & (held.value <= held.high)).mean() > 0.9
    for measure, heading, unit in (
        ('sensitivity', 'Sensitivity (%)', 100),
        ('accuracy', 'Accuracy (%)', 100),
        ('f1', 'F1 score', 1),
    ):
        assert (sets[sets.measure == measure].value * unit).tolist() == pytest.approx(
            table4[heading].tolist()
        )
    same = (
        splits[(splits.split == 'train') & (splits.threshold == 'threshold 2')]
        .set_index('measure')
        .low
    )
    assert same.equals(sets[sets.set == 'train'].set_index('measure').low)


def test_the_comparison_holds_what_the_run_holds(smoke):
    d = pd.read_csv(smoke / 'comparison.csv').set_index(['source', 'item', 'measure'])
    printed = manifest.published_numbers(('table5',)).set_index(['row', 'column']).value
    ranges = pd.read_csv(smoke / 'tables' / 'table5.csv').set_index('Hyper-parameter')
    for name, row in ranges.iterrows():
        for end, column in (('low', 'Lowest'), ('high', 'Highest')):
            r = d.loc['table5', name, end]
            assert (r.published, r.this_run, r.comparable) == (
                printed[name, end],
                row[column],
                'setting',
            )
    steps = pd.read_csv(smoke / 'figures' / 'figure2.csv').set_index('step').bodies
    text = d.loc['text'].droplevel('measure')
    found, discarded, graded, twice = text.this_run[
        ['bodies_found', 'bodies_discarded', 'bodies_graded', 'bodies_twice']
    ]
    assert (
        found == steps['annotated'] > graded == found - discarded
        and graded - twice == steps['included'] == text.this_run['bodies']
    )
    about = json.loads((smoke / 'provenance.json').read_text())['parameters']
    test = inversion.DETECTORS[about['10_preprocessing']['detector']]
    wanted = dict(
        errors_first=about['60_error_analysis']['first'],
        hysteresis_low=test.low,
        hysteresis_high=test.high,
        strip_height=test.strip,
        sobel_kernel=5,
        strip_width=1,
        auxiliary_networks=2,
        points_per_body=6,
        sq_classes=10,
        sq_fracture_classes=9,
        abstract_classes=2,
        square_area_factor=4,
    )
    assert (
        text.this_run[[*wanted]].to_dict() == wanted
        and (text.comparable[[*wanted]] == 'setting').all()
    )
    table4 = d.loc['table4']
    assert len(table4) == 21 and table4.this_run.notna().all()
    sets = pd.read_csv(smoke / 'tables' / 'table4_intervals.csv')
    limited = sets.groupby('set').low.apply(lambda low: low.notna().all())
    named = table4.index.get_level_values('item')
    assert set(named) == set(limited.index)
    assert (table4[['low', 'high']].notna().all(axis=1) == limited[named].to_numpy()).all()
    timed = text.loc['inference_per_patch']
    assert pd.notna(timed.this_run) or timed.why == 'not timed in this run (90_benchmarks)'


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [
            v
            for k, v in attrs
            if k in ('href', 'src') and v and not v.startswith(('#', 'http', 'data:'))
        ]


def test_the_page_links_what_is_there(smoke):
    links = Links()
    links.feed((smoke / 'index.html').read_text())
    assert len(links.found) > 40
    assert [link for link in links.found if not (smoke / link).exists()] == []


def test_executed_notebooks_are_clean_and_whole(smoke):
    for stage in study.stages():
        if stage >= '90':
            continue
        text = (smoke / 'notebooks' / f'{stage}.ipynb').read_text()
        nb = json.loads(text)
        assert not re.search(
            r"""(?<![\w.*}])/(home|root|tmp|Users|work)/""",
            re.sub(r'"image/[\w+]+": (\[[^]]*\]|"[^"]*")', '', text),
        ), stage
        assert all(
            c.get('execution_count')
            for c in nb['cells']
            if c['cell_type'] == 'code' and ''.join(c['source']).strip()
        ), stage
        assert [c for c in nb['cells'] if 'injected-parameters' in c['metadata'].get('tags', [])], (
            stage
        )


@pytest.mark.parametrize('stage', [s for s in study.stages() if s > '01'])
def test_what_was_drawn_is_looked_up_where_the_films_are(stage):
    "Rendered films may be given by --data, too: a run's own folder has none then, or others"
    text = ''.join(
        ''.join(c['source'])
        for c in json.loads(study.stages()[stage].read_text())['cells']
        if c['cell_type'] == 'code'
    )
    assert not re.search(r'work\b.{0,6}films', text)


@pytest.mark.parametrize(
    'stage', ['05_real_people', '50_evaluation', '60_error_analysis', '70_beyond', '80_comparison']
)
def test_a_page_with_intervals_says_which_to_quote(stage):
    cells = json.loads(study.stages()[stage].read_text())['cells']
    said = ' '.join(''.join(c['source']) for c in cells if c['cell_type'] == 'markdown')
    assert re.search(r'\*\*[^*]*\b[Qq]uote\b[^*]*\*\*', said)


def test_the_first_pages_say_which_interval_to_quote(smoke):
    for page in (smoke / 'index.html', ROOT / 'README.md'):
        assert 'quote' in page.read_text().lower(), page
    (tells,) = [a for a in study._artefacts(smoke) if a['name'] == 'intervals']
    assert 'quote person, score' in tells['caption']


def test_of_the_stages_from_90_on_the_named_one_alone_is_run():
    first = [s for s in study.stages() if s < '90']
    assert study._wanted('') == first and '91_ratio' in study.stages()
    assert study._wanted('91_ratio') == [*first, '91_ratio']
    assert study._wanted('90_benchmarks') == [*first, '90_benchmarks']
    assert study._wanted('20_search') == first[: first.index('20_search') + 1]


def test_nothing_is_run_twice(smoke):
    before = {p: p.stat().st_mtime_ns for p in (smoke / 'work' / 'stages').iterdir()}
    done = ocf('run', '--profile', 'smoke', '--out', smoke)
    assert done.returncode == 0 and done.stderr.count('unchanged') == len(before)
    assert {p: p.stat().st_mtime_ns for p in (smoke / 'work' / 'stages').iterdir()} == before


def test_killed_and_started_again_gives_the_same_tables(smoke, tmp_path):
    "The same seed in another folder, killed twice on the way and moved in between"
    run, command = tmp_path / 'run', [COMMAND, 'run', '--profile', 'smoke', '--out']
    for wait_for in ('work/films', 'work/model'):
        process = subprocess.Popen(
            [*command, str(run)], cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + 600
        while (
            not (run / wait_for).exists() and process.poll() is None and time.monotonic() < deadline
        ):
            time.sleep(0.1)
        time.sleep(2)
        assert process.poll() is None, f'ended before {wait_for} could be interrupted'
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        run = run.rename(tmp_path / f'killed in {wait_for[5:]}')
    done = subprocess.run([*command, str(run)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for stage in ('00_cohort', '05_real_people', '10_preprocessing'):
        assert re.search(rf'{stage} +unchanged', done.stderr), done.stderr
    measured = {'backends'}  # bfloat16 of a processor is not always the same bits
    tables = [p.name for p in sorted((smoke / 'tables').glob('*.csv')) if p.stem not in measured]

    def read(folder, name):
        return [
            line
            for line in (folder / 'tables' / name).read_text().splitlines()
            if not re.search('training_hours|inference_per_patch', line)
        ]  # times

    assert [n for n in tables if read(smoke, n) != read(run, n)] == []


def test_a_file_that_a_parameter_names_is_seen_to_change(tmp_path):
    values = study.settings('smoke', readings=['one.csv', 'absent.csv'])['60_error_analysis']
    (tmp_path / 'one.csv').write_text('a')
    before = study._named(tmp_path, values)
    (tmp_path / 'one.csv').write_text('b')
    assert len(before) == 1 and study._named(tmp_path, values) != before
    for end in ('index', 'data-00000-of-00001'):
        (tmp_path / f'slim.ckpt.{end}').write_text(end)
    assert (
        len(study._named(tmp_path, dict(checkpoint='slim.ckpt'))) == 2
        and study._named(tmp_path, study.settings('smoke')['20_search']) == []
    )


def named_in(run, names):
    "What of a run is shared, once it is sure that none of these names stands in it"
    shared = [p for p in run.rglob('*') if p.is_file() and 'work' not in p.relative_to(run).parts]
    found = {
        p.name: sorted(i for i in names if i in text or i in p.name)
        for p in shared
        for text in [p.read_text(errors='ignore')]
    }
    assert {n: who[:3] for n, who in found.items() if who} == {}
    return shared


def test_names_in_tables_are_not_shared(smoke, tmp_path):
    "Three plain tables, names that do not hold one another, a film that is damaged meanwhile"
    c = cohort.load(smoke / 'work' / 'cohort')
    folder, out = tmp_path / 'films', tmp_path / 'run'
    folder.mkdir()
    renamed = {
        k: {old: f'{k[0]}{7 * i + 10403:06d}q' for i, old in enumerate(values.unique())}
        for k, values in (
            ('subject_id', c.films.subject_id),
            ('film_id', c.films.film_id),
            ('body_id', c.bodies.body_id),
        )
    }
    films, bodies, subjects = (
        d.assign(**{k: d[k].map(v) for k, v in renamed.items() if k in d})
        for d in (c.films, c.bodies, c.subjects)
    )
    films['path'] = [f'scan{i:04d}.dcm' for i in range(len(films))]
    for old, new in zip(c.films.path, films.path, strict=True):
        shutil.copy(smoke / 'work' / 'films' / old, folder / new)
    for name, d in (
        ('films', films[['film_id', 'subject_id', 'visit', 'region', 'path', 'facing']]),
        ('bodies', bodies.drop(columns=['subject_id', 'label', 'split', 'used'])),
        ('subjects', subjects.drop(columns='split')),
    ):
        d.to_csv(folder / f'{name}.csv', index=False)
    flat = pydicom.dcmread(folder / films.path.iloc[-1])
    whole = flat.PixelData
    flat.PixelData = bytes(len(whole))
    flat.save_as(folder / films.path.iloc[-1])
    settings = ['run', '--profile', 'smoke', '--out', out, '--data', folder]
    settings += ['--set', 'hash_pixels=false', '--set', '10_preprocessing.inversion_films=8']
    settings += ['--set', 'max_failed=0']
    names = (
        {n for v in renamed.values() for n in v.values()}
        | set(films.path)
        | set(map(str, c.films.subject_id))
    )
    damaged = films.iloc[-1]
    done = ocf(*settings)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert damaged.path in done.stderr and 'every pixel has the same grey' in done.stderr
    grey = flat.PixelData
    flat.PixelData = whole
    flat.save_as(folder / damaged.path)
    done = ocf(*settings, '--until', '00_cohort')
    assert done.returncode == 0 and named_in(out, names), done.stderr
    flat.PixelData = grey  # while the study runs: the next stage meets it
    flat.save_as(folder / damaged.path)
    stage = '10_preprocessing'
    values = study.settings('smoke', **{f'{stage}.inversion_films': 8})[stage]
    study._execute(stage, study.stages()[stage], values, out.resolve(), lambda **_: None)
    assert f'{stage}.ipynb' in {p.name for p in named_in(out, names)}
    failed = pd.read_csv(out / 'work' / 'failed_films.csv')
    assert failed.film_id.tolist() == [damaged.film_id]
    assert 'every pixel has the same grey' in failed.reason[0]
    note = json.loads((out / 'work' / 'artefacts' / 'table-patches.json').read_text())
    assert note['caption'].endswith('were read, < 11 could not be used'), note['caption']
    done = ocf(*settings, '--until', '00_cohort')  # the film has changed: all is read again
    assert done.returncode == 1 and 'Traceback' not in done.stderr and named_in(out, names)
    assert damaged.path in (out / 'work' / 'problems.txt').read_text()


def test_real_people_are_not_named_and_not_shown(smoke, tmp_path):
    "The same films as if they were radiographs: nothing that says they are rendered, no truth"
    films = tmp_path / 'films'
    shutil.copytree(
        smoke / 'work' / 'films',
        films,
        ignore=shutil.ignore_patterns('rendered.json', 'truth', '.*'),
    )
    done = ocf('run', '--profile', 'smoke', '--out', tmp_path / 'run', '--data', films)
    assert done.returncode == 0, done.stderr
    people = set(pd.read_csv(films / 'subjects.csv').subject_id)
    shared = named_in(tmp_path / 'run', people)
    assert len(people) > 20 and len(shared) > 60
    assert not {'figure3.png', 'figure4.png', 'label_audit.png'} & {p.name for p in shared}, (
        'pixels of people'
    )
    for name in ('figure3', 'figure4'):
        kept = tmp_path / 'run' / 'work' / 'private' / f'{name}.png'
        with Image.open(kept) as picture, Image.open(smoke / f'figures/{name}.png') as shown:
            assert picture.format == 'PNG' and min(picture.size) > min(shown.size) / 3
            assert np.unique(picture.convert('L')).size > 100
        assert name not in {a['name'] for a in study._artefacts(tmp_path / 'run')}
    page = (tmp_path / 'run/notebooks/10_preprocessing.ipynb').read_text()
    assert page.count('It shows a real person, and is kept as work/private/') == 2
    assert 'image/png' not in page
    assert 'endered' not in (tmp_path / 'run' / 'index.html').read_text()


@pytest.mark.parametrize(
    'args, says',
    [
        (['run', '--profile', 'smok'], "Unknown profile 'smok'"),
        (['run', '--profile', 'smoke', '--set', 'sede=3'], 'Unknown parameter sede'),
        (['run', '--profile', 'smoke', '--set', 'seed=many'], 'Parameter seed'),
        (['run', '--profile', 'smoke', '--set', 'seed'], 'KEY=VALUE'),
        (['run', '--profile', 'smoke', '--until', '0'], "There is no notebook '0'"),
        (
            ['run', '--profile', 'smoke', '--until', '50_evaluate'],
            "There is no notebook '50_evaluate'",
        ),
        (['run', '--profile', 'smoke', '--data', 'nowhere'], 'There is no data folder'),
        (
            ['run', '--profile', 'smoke', '--set', 'checkpoint=nowhere.ckpt'],
            'There is no checkpoint',
        ),
        (['run', '--profile', 'paper'], 'reads films that you have'),
        (
            ['run', '--profile', 'smoke', '--out', 'README.md/run'],
            'README.md is a file, not a folder',
        ),
        (['check', 'nowhere'], 'There is no data folder nowhere'),
        (['weights', 'show', 'README.md'], 'README.md: '),
        (['weights', 'show', 'nowhere.pth'], 'no such file of weights'),
        (['weights', 'convert', 'README.md'], 'README.md: '),
        (['predict', 'README.md'], 'give --points'),
        (['predict', 'README.md', '--points', 'EMPTY'], 'empty.csv, line 1: file has no header'),
        (['predict', 'README.md', '--points', 'HEADER'], 'header.csv: holds no row'),
        (
            ['predict', 'README.md', '--points', 'HEADER', '--facing', 'up'],
            '--facing is left or right, not up',
        ),
        (
            ['predict', 'README.md', '--backend', 'caffe'],
            '--backend is keras, onnxruntime, openvino or openvino_bf16, not caffe',
        ),
    ],
)
def test_one_sentence_and_no_traceback(args, says, tmp_path):
    for name, text in (('EMPTY', ''), ('HEADER', 'level,x1,y1,x2,y2,x3,y3,x4,y4,x5,y5,x6,y6\n')):
        (tmp_path / f'{name.lower()}.csv').write_text(text)
    done = ocf(*(tmp_path / f'{a.lower()}.csv' if a in ('EMPTY', 'HEADER') else a for a in args))
    assert done.returncode == 1
    assert (
        says in done.stderr
        and 'Traceback' not in done.stderr
        and len(done.stderr.strip().splitlines()) == 1
    )


@pytest.mark.parametrize(
    'args, says',
    [
        (['nonsense'], "No such command 'nonsense'"),
        (['run', 'extra'], 'unexpected extra argument'),
        (['run', '--sett', 'seed=1'], 'No such option'),
        (['run', '--set'], "Option '--set' requires an argument"),
        (['check'], 'Missing argument'),
        (['predict', '.', '--pages', 'many'], "Invalid value for '--pages'"),
        (['weights', 'look'], "No such command 'look'"),
    ],
)
def test_a_wrong_option_is_told_with_the_way_to_help(args, says):
    done = ocf(*args)
    assert done.returncode == 2 and 'Traceback' not in done.stderr, done.stderr
    assert says in done.stderr.splitlines()[-1] and len(done.stderr.splitlines()) <= 5


def test_what_the_system_says_of_a_file_begins_with_the_file():
    done = ocf('run', '--profile', 'smoke', '--out', 'x' * 300)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert 'File name too long' in done.stderr and 'Errno' not in done.stderr


def test_a_checkpoint_is_named_from_where_the_command_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for part in ('index', 'data-00000-of-00001'):
        (tmp_path / f'model.ckpt.{part}').touch()
    seen = {}
    monkeypatch.setattr(study, '_stage', lambda stage, values, *_: seen.update({stage: values}))
    study.run('smoke', tmp_path / 'runs' / 'one', checkpoint='model.ckpt', until='30_training')
    assert [seen[s]['checkpoint'] for s in ('20_search', '30_training')] == ['../../model.ckpt'] * 2


def test_a_fresh_clone_has_no_network_to_predict_with(tmp_path):
    from ocf_study import phantom

    phantom.write_cohort(tmp_path / 'films', subjects=1, pixel_mm=0.8, workers=1)
    done = ocf('predict', tmp_path / 'films', '--run', tmp_path / 'run', '--out', tmp_path / 'out')
    assert (
        done.returncode == 1
        and 'run `make study` first' in done.stderr
        and len(done.stderr.strip().splitlines()) == 1
    )


def test_full_size_on_rendered_films_needs_a_gpu(tmp_path):
    if study.runtime.tensorflow().config.list_physical_devices('GPU'):
        pytest.skip('there is a GPU here')
    done = ocf('run', '--profile', 'paper-phantom', '--out', tmp_path / 'run')
    assert done.returncode == 1 and 'needs a GPU' in done.stderr and not (tmp_path / 'run').exists()


def test_debug_shows_the_traceback():
    done = ocf('run', '--profile', 'smok', '--debug')
    assert done.returncode != 0 and 'Traceback' in done.stderr


def test_a_failing_notebook_is_kept_and_named(tmp_path):
    done = ocf(
        'run',
        '--profile',
        'smoke',
        '--out',
        tmp_path / 'run',
        '--until',
        '00_cohort',
        '--set',
        '00_cohort.subjects=1',
    )
    assert (
        done.returncode == 1
        and re.search(r'00_cohort failed in cell \d+ of \d+', done.stderr)
        and 'Traceback' not in done.stderr
    )
    nb = json.loads((tmp_path / 'run' / 'notebooks' / '00_cohort.ipynb').read_text())
    assert any(o['output_type'] == 'error' for c in nb['cells'] for o in c.get('outputs', []))


def test_a_table_that_is_made_no_more_goes(tmp_path, monkeypatch):
    from rich.console import Console

    (tmp_path / 'work' / 'artefacts').mkdir(parents=True)
    (tmp_path / 'work' / 'stages').mkdir()
    (tmp_path / 'tables').mkdir()
    (tmp_path / 'notebooks').mkdir()

    def made(names, *_):
        for n in names:
            (tmp_path / 'tables' / f'{n}.csv').write_text('a')
            (tmp_path / 'work' / 'artefacts' / f'table-{n}.json').write_text(
                json.dumps(dict(name=n, stage='20_search', kind='table'))
            )
        return 1.0, 1.0

    console, checksums = Console(quiet=True), ledger.Checksums(tmp_path / 'checksums.json')
    for names in (('optimum', 'importance'), ('optimum',)):
        monkeypatch.setattr(study, '_execute', partial(made, names))
        with study._display(console) as bars:
            study._stage('20_search', {}, 'key', tmp_path, checksums, console, bars)
        assert {p.stem for p in (tmp_path / 'tables').iterdir()} == set(names)


def test_a_process_that_is_killed_is_one_sentence(tmp_path):
    code = (
        'import os, psutil, sys; os.write(sys.__stderr__.fileno(), b"last words"); '
        'psutil.Process().kill()'
    )
    import nbformat

    nb = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell('1'), nbformat.v4.new_code_cell(code)],
        metadata=dict(kernelspec=dict(name='python3', display_name='x', language='python')),
    )
    nbformat.write(nb, tmp_path / '00_cohort.ipynb')
    with pytest.raises(
        study.StudyError, match='00_cohort stopped in cell 2 of 2.*killed.*00_cohort.log'
    ) as e:
        study._execute(
            '00_cohort', tmp_path / '00_cohort.ipynb', dict(data=''), tmp_path, lambda **kw: None
        )
    assert (
        'Traceback' not in str(e.value)
        and 'last words' in (tmp_path / 'work' / 'running' / '00_cohort.log').read_text()
    )


def test_an_error_that_may_name_people_stays_in_work(tmp_path):
    import nbformat

    nb = nbformat.v4.new_notebook(metadata=dict(kernelspec=dict(name='python3', display_name='x')))
    nb.cells = [
        nbformat.v4.new_code_cell(
            '1/0',
            outputs=[
                nbformat.v4.new_output(
                    'error', ename='DataError', evalue='PO6001V1L: torn', traceback=['PO6001V1L']
                )
            ],
        )
    ]
    nbformat.write(nb, tmp_path / 'a.ipynb')
    study._cleaned(tmp_path / 'a.ipynb', tmp_path / 'shown.ipynb', tmp_path)
    assert (
        'PO6001' not in (tmp_path / 'shown.ipynb').read_text()
        and 'work/problems.txt' in (tmp_path / 'shown.ipynb').read_text()
    )
    assert 'PO6001V1L: torn' in (tmp_path / 'problems.txt').read_text()
    study._cleaned(tmp_path / 'a.ipynb', tmp_path / 'rendered.ipynb')
    assert 'PO6001V1L: torn' in (tmp_path / 'rendered.ipynb').read_text()


def test_who_waits_for_a_run_folder_is_told(tmp_path):
    from threading import Thread

    from filelock import FileLock
    from rich.console import Console

    console = Console(file=open(tmp_path / 'said', 'w'))
    first, entered = FileLock(tmp_path / '.lock'), []

    def second():
        with study._alone(FileLock(tmp_path / '.lock'), console):
            entered.append(True)

    with first:
        waiting = Thread(target=second)
        waiting.start()
        waiting.join(1)
        assert not entered
    waiting.join(20)
    console.file.close()
    assert entered and (tmp_path / 'said').read_text().startswith('Another run is at work')
    with study._alone(FileLock(tmp_path / '.lock'), console):
        pass  # nobody else: nothing to say


def test_a_snapshot_without_its_work_folder_is_left_alone(tmp_path, monkeypatch):
    "As the committed demo is in a fresh clone: no notebook puts a smaller run in its place"
    monkeypatch.delenv('OCF_RUN', raising=False)
    (tmp_path / 'provenance.json').write_text('{}')
    with pytest.raises(study.StudyError, match='without its folder work'):
        study.prepare('50_evaluation', tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ['provenance.json']


@pytest.mark.parametrize('key', ['out', 'profile', 'until', 'again'])
def test_options_are_no_parameters(key):
    done = ocf('run', '--profile', 'smoke', '--set', f'{key}=x')
    assert (
        done.returncode == 1
        and done.stderr.strip()
        == f'--set gives parameters of notebooks; {key} is an option of the command: --{key}.'
    )


def test_torn_notes_are_none(tmp_path):
    for folder in ('stages', 'artefacts'):
        (tmp_path / 'work' / folder).mkdir(parents=True)
        (tmp_path / 'work' / folder / '00_cohort.json').write_text('')
    assert ledger.notes(tmp_path) == {} and study._artefacts(tmp_path) == []


def _films(run):
    return len(list((run / 'work' / 'films').rglob('*.dcm')))


def test_signals_end_the_study_and_all_of_its_processes(tmp_path):
    "While two processes of a kernel render films: by each signal in turn, then to the end"
    run, temporary = tmp_path / 'run', tmp_path / 'temporary'
    temporary.mkdir()
    places = dict.fromkeys(('TMPDIR', 'JUPYTER_RUNTIME_DIR'), str(temporary))
    command = [COMMAND, 'run', '--profile', 'smoke', '--out', str(run), '--until', '00_cohort']
    settings = small.SETTINGS | {'00_cohort.workers': 2}
    command += [a for k, v in settings.items() for a in ('--set', f'{k}={v}')]
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process = subprocess.Popen(
            command,
            env=os.environ | places,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda signum=signum: signal.signal(signum, signal.SIG_DFL),
        )
        before, deadline = _films(run), time.monotonic() + 300
        while _films(run) < before + 2 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        below = psutil.Process(process.pid).children(recursive=True)
        assert len(below) >= 3, 'a kernel and its two processes'
        process.send_signal(signum)
        _, alive = psutil.wait_procs(below, timeout=5)
        said = process.communicate(timeout=10)[1]
        assert alive == [] and process.returncode == 128 + signum
        assert said.splitlines()[-1] == 'Stopped. The same command resumes the run from here.'
        assert 'Traceback' not in said and list(temporary.iterdir()) == []
        assert not (run / 'work' / 'running' / 'scratch').exists()
    done = subprocess.run(command, env=os.environ | places, capture_output=True, text=True)
    assert done.returncode == 0 and list(temporary.iterdir()) == [], done.stderr
    assert [str(p) for p in run.rglob('.*') if p.is_dir()] == []


@pytest.mark.parametrize(
    'data, out',
    [('films', 'films'), ('films', 'films/report'), ('run/work/films', 'run'), ('linked', 'films')],
)
def test_films_and_results_are_not_mixed(data, out, tmp_path):
    (tmp_path / 'films').mkdir()
    (tmp_path / 'run' / 'work' / 'films').mkdir(parents=True)
    (tmp_path / 'linked').symlink_to(tmp_path / 'films')
    before = sorted(tmp_path.rglob('*'))
    with pytest.raises(study.StudyError, match='one lies in the other.*--out'):
        study.run('smoke', tmp_path / out, data=tmp_path / data)
    assert sorted(tmp_path.rglob('*')) == before
