"""Prediction of ungraded films: the same numbers on every way in, nothing half written, no HTML."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pydicom
import pytest
from typer.testing import CliRunner

from ocf_study import (
    cohort,
    commands,
    genant,
    geometry,
    googlenet,
    manifest,
    patches,
    phantom,
    prediction,
    radiograph,
    runtime,
    training,
)
from ocf_study.run import Run


@pytest.fixture(scope='module')
def run(tiny_run):
    return tiny_run


@pytest.fixture
def new(run, tmp_path):
    """Two films of the run as a user's own folder: three plain tables, no grade."""
    people = cohort.load(run.path('cohort'))
    films = people.films.iloc[:2]
    folder = tmp_path / 'new'
    for path in films.path:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes((Path(people.about['root']) / path).read_bytes())
    films[['film_id', 'subject_id', 'visit', 'region', 'path', 'facing']].to_csv(
        folder / 'films.csv', index=False
    )
    bodies = people.bodies[people.bodies.film_id.isin(films.film_id)]
    bodies[['body_id', 'film_id', 'level', *cohort.XY]].to_csv(folder / 'bodies.csv', index=False)
    return folder


def test_every_back_end_says_the_same(run):
    model = run.network
    x, _ = patches.arrays(run.path('patches'), {'split': 'test'})
    table = prediction.compare(model, run.path('exported'), x[:20], seconds=0)
    exact = table[table.backend != 'openvino_bf16']
    assert (
        set(exact.backend) == {'keras', 'onnxruntime', 'openvino'} and exact.difference.max() < 1e-4
    )
    assert (table.ms_per_patch > 0).all()
    assert np.ptp(prediction.predictor(model, backend='keras')(x[:20])) > 0.01, (
        'back-ends that ignore the patch would agree too'
    )
    side = model.input.shape[1]
    rows = prediction.benchmark(model, run.path('exported'), x[:20], seconds=0, size=side + 16)
    assert [row['name'] for row in rows] == [
        'predict_ms_best',
        'predict_ratio_keras',
        'predict_ms_run',
    ]
    assert [f'of {side + 16} px' in row['unit'] for row in rows] == [True, True, False]
    assert len(prediction.benchmark(model, run.path('exported'), x[:20], seconds=0, size=side)) == 2


@pytest.mark.parametrize(
    'backend, off, y, note',
    [
        ('openvino', 0.01, None, 'probability off by 0.01, limit 1e-4'),
        ('openvino', 5e-5, None, ''),
        ('openvino_bf16', 0.01, None, 'areas not told'),
        ('openvino_bf16', 0.01, [0, 1] * 10, ''),
        ('openvino_bf16', 0.2, [0, 1] * 10, 'area off by 0.05, limit .001'),
    ],
)
def test_a_back_end_that_disagrees_is_never_the_best(backend, off, y, note, monkeypatch):
    """Made-up probabilities: the two highest of label 0 rise by `off`, past label 1 if large."""
    p = np.r_[np.linspace(0.1, 0.4, 10), np.linspace(0.5, 0.9, 10)].reshape(2, 10).T.ravel()
    wrong = p + off * ((p < 0.45) & (p > 0.35))
    monkeypatch.setattr(prediction, 'has_bfloat16', lambda: True)
    monkeypatch.setattr(
        prediction,
        'predictor',
        lambda model, folder, name: lambda x: (p if name == 'keras' else wrong)[: len(x)],
    )
    times = iter([9.0, 9.0, 1.0, 1.0])
    monkeypatch.setattr(prediction, '_milliseconds', lambda *a: next(times))
    table = prediction.compare(
        None,
        '',
        np.zeros((20, 8, 8, 1)),
        None if y is None else np.array(y),
        backends=('keras', backend),
    )
    assert table.note[table.backend == 'keras'].eq('').all() and all(
        note in n and bool(n) == bool(note) for n in table.note[table.backend == backend]
    )
    assert prediction.fastest(table).backend == ('keras' if note else backend)


def test_export_is_kept_for_the_same_weights_and_made_anew_for_others(tmp_path):
    a, b = (googlenet.build(size=32, seed=seed) for seed in (1, 2))
    file = prediction.export(a, tmp_path, ['openvino']) / 'network.xml'
    first = file.stat().st_mtime_ns
    prediction.export(a, tmp_path, ['openvino'])
    assert file.stat().st_mtime_ns == first
    x = runtime.rng(1, 'x').normal(size=(3, 32, 32, 1)).astype('float32')
    np.testing.assert_allclose(
        prediction.predictor(b, tmp_path, 'openvino')(x),
        prediction.predictor(b, backend='keras')(x),
        atol=1e-4,
    )
    assert (
        np.abs(
            prediction.predictor(a, backend='keras')(x)
            - prediction.predictor(b, backend='keras')(x)
        ).max()
        > 1e-3
    )


def test_a_process_that_is_killed_leaves_nothing_in_the_temporary_folder(tmp_path):
    "TensorFlow's AutoGraph writes a file for each function, which is removed at an orderly end"
    (tmp_path / 'temporary').mkdir()
    code = f"""
import os, signal
import numpy as np
from ocf_study import commands, googlenet, prediction, training
model = googlenet.without_aux(googlenet.build(size=32))
prediction.export(model, {str(tmp_path / 'export')!r}, ['openvino'])
x = np.random.default_rng(1).normal(size=(4, 32, 32, 1)).astype('float32')
prediction.predictor(model, backend='keras')(x)
training.predict(model, x)
trainer = training._Trainer(googlenet.build(size=32), training.Recipe(batch=4), ())
trainer.step(x, np.array([0, 1, 0, 1], 'float32'), 4.0)
trainer.logit(x)
print('done', flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, '-c', code],
        env=os.environ | dict(TMPDIR=str(tmp_path / 'temporary')),
        capture_output=True,
        text=True,
    )
    assert done.stdout == 'done\n' and done.returncode == -signal.SIGKILL, done.stderr
    assert list((tmp_path / 'temporary').iterdir()) == []
    files = {p.name for p in (tmp_path / 'export').iterdir() if p.name[0] != '.'}
    assert files == {'network.xml', 'network.bin', 'weights.json'}


def test_an_ensemble_is_exported_like_a_network_and_repeats_itself(tmp_path):
    members = [googlenet.build(size=32, seed=seed) for seed in (1, 2)]
    average = training.average(members)
    x = runtime.rng(4, 'x').normal(size=(20, 32, 32, 1)).astype('float32')
    predict = prediction.predictor(average, tmp_path, 'openvino')
    np.testing.assert_allclose(
        predict(x),
        np.mean([prediction.predictor(m, backend='keras')(x) for m in members], 0),
        atol=1e-4,
    )
    for _ in range(3):
        np.testing.assert_array_equal(predict(x), predict(x))


def test_averaging_down_is_the_one_of_training():
    x = runtime.rng(2, 'x').normal(size=(2, 8, 8, 1)).astype('float32')
    np.testing.assert_allclose(
        patches.averaged(x, 4), prediction.googlenet.tf.nn.avg_pool2d(x, 2, 2, 'VALID'), atol=1e-6
    )
    with pytest.raises(ValueError, match='8 px for a network of 3 px'):
        patches.averaged(x, 3)


def test_table_keeps_its_schema_and_covers_every_split(run):
    table = pd.read_parquet(run.path('predictions'))
    assert manifest.check(table, 'predictions') == []
    bodies = cohort.load(run.path('cohort')).bodies.set_index('body_id')
    assert (
        set(table.body_id) == set(bodies.index)
        and (table.split.to_numpy() == bodies.split.loc[table.body_id].to_numpy()).all()
    )


def test_a_folder_one_film_and_the_store_give_the_same_probabilities(run, new, tmp_path):
    stored = pd.read_parquet(run.path('predictions')).set_index('body_id').probability
    page = prediction.predict_cohort(new, run, tmp_path / 'out')
    scored = pd.read_csv(page.parent / 'predictions.csv')
    np.testing.assert_allclose(scored.probability, stored[scored.body_id], atol=1e-5)
    film = pd.read_csv(new / 'films.csv').iloc[0]
    bodies = pd.read_csv(new / 'bodies.csv').query('film_id == @film.film_id')
    bodies[['level', *cohort.XY]].to_csv(tmp_path / 'points.csv', index=False)
    one = pd.read_csv(
        prediction.predict_cohort(
            new / film.path, run, tmp_path / 'one', points=tmp_path / 'points.csv'
        ).parent
        / 'predictions.csv'
    )
    np.testing.assert_allclose(one.probability, stored[bodies.body_id], atol=1e-5)
    for t in run.thresholds.values():
        assert (scored[t.rule] == (scored.probability >= t.value)).all()


@pytest.mark.parametrize('backend', ['keras', 'onnxruntime', 'openvino'])
def test_the_command_scores_a_folder_on_the_back_end_asked_for(backend, run, new, tmp_path):
    stored = pd.read_parquet(run.path('predictions')).set_index('body_id').probability
    done = CliRunner().invoke(
        commands.app,
        [
            'predict',
            str(new),
            '--run',
            str(run),
            '--out',
            str(tmp_path / 'out'),
            '--backend',
            backend,
        ],
    )
    assert (
        done.exit_code == 0
        and done.stdout.startswith('Read ')
        and done.stdout.strip().endswith('index.html')
    ), done.output
    scored = pd.read_csv(tmp_path / 'out' / 'predictions.csv')
    assert (
        len(scored) == len(pd.read_csv(new / 'bodies.csv'))
        and (tmp_path / 'out' / 'index.html').exists()
    )
    np.testing.assert_allclose(scored.probability, stored[scored.body_id], atol=1e-4)


def test_the_command_scores_one_film_with_its_points(run, new, tmp_path):
    film = pd.read_csv(new / 'films.csv').iloc[0]
    bodies = pd.read_csv(new / 'bodies.csv').query('film_id == @film.film_id')
    bodies[['level', *cohort.XY]].to_csv(tmp_path / 'points.csv', index=False)
    done = CliRunner().invoke(
        commands.app,
        [
            'predict',
            str(new / film.path),
            '--points',
            str(tmp_path / 'points.csv'),
            '--facing',
            film.facing,
            '--run',
            str(run),
            '--out',
            str(tmp_path / 'out'),
        ],
    )
    assert (
        done.exit_code == 0
        and pd.read_csv(tmp_path / 'out' / 'predictions.csv').level.tolist()
        == bodies.level.tolist()
    ), done.output


def test_pages_load_nothing_from_elsewhere_and_draw_each_body(run, new, tmp_path):
    page = prediction.predict_cohort(new, run, tmp_path / 'out', pages=1)
    films = list((page.parent / 'films').glob('*.html'))
    assert (
        len(films) == 1
        and '://' not in page.read_text() + films[0].read_text()
        and 'script' not in films[0].read_text()
    )
    bodies = pd.read_csv(new / 'bodies.csv').query('film_id == @films[0].stem')
    assert (
        films[0].read_text().count('<polygon')
        == films[0].read_text().count('<figure ')
        == len(bodies)
    )
    shown = re.findall(r'<img src="([^"]+)"', films[0].read_text())
    assert len({(films[0].parent / src).resolve() for src in shown}) == len(bodies) and all(
        (films[0].parent / src).stat().st_size > 500 for src in shown
    )


def test_rendered_films_say_so_on_every_page(run, tmp_path):
    people = cohort.load(run.path('cohort'))
    people.bodies = people.bodies[people.bodies.film_id == people.films.film_id[0]]
    page = prediction.predict_cohort(people, run, tmp_path / 'out')
    for file in [page, *(page.parent / 'films').glob('*.html')]:
        assert 'scored here are rendered as well, not radiographs' in file.read_text()


def test_text_of_a_file_is_no_html(run, new, tmp_path, monkeypatch):
    monkeypatch.setattr(prediction, 'unusual', lambda *a: ['<script>alert(1)</script>'])
    page = prediction.predict_cohort(new, run, tmp_path / 'out')
    for file in [page, *(page.parent / 'films').glob('*.html')]:
        assert '<script>' not in file.read_text() and '&lt;script&gt;' in file.read_text()


def _damage(film):
    film.write_bytes(film.read_bytes()[:5000])  # the header is whole, the pixels are not


def _torn(monkeypatch, films):
    "Pixels that only decoding shows to be damaged"
    read = cohort.Cohort.read

    def damaged(self, film_id):
        if film_id in films:
            raise ValueError('a block of the picture cannot be decoded')
        return read(self, film_id)

    monkeypatch.setattr(cohort.Cohort, 'read', damaged)


@pytest.mark.parametrize('seen', ['in its header', 'in its pixels'])
def test_a_damaged_film_is_listed_and_the_rest_is_scored(seen, run, new, tmp_path, monkeypatch):
    films = pd.read_csv(new / 'films.csv')
    words = dict(warning=str)
    page = prediction.predict_cohort(new, run, tmp_path / 'whole')
    whole = pd.read_csv(page.with_name('predictions.csv'), dtype=words)
    if seen == 'in its header':
        _damage(new / films.path[1])
    else:
        _torn(monkeypatch, [films.film_id[1]])
    out = tmp_path / 'out'
    done = CliRunner().invoke(
        commands.app, ['predict', str(new), '--run', str(run), '--out', str(out)]
    )
    assert done.exit_code == 1 and films.film_id[1] in done.stderr, done.output
    assert 'Traceback' not in done.output and done.stdout.strip().endswith('index.html')
    scored = pd.read_csv(out / 'predictions.csv', dtype=words)
    pd.testing.assert_frame_equal(
        scored, whole[whole.film_id == films.film_id[0]].reset_index(drop=True)
    )
    page = (out / 'index.html').read_text()
    assert films.film_id[1] in page
    assert ('could not be read' in page) == (seen == 'in its pixels')
    assert not (out / 'films' / f'{films.film_id[1]}.html').exists()


def test_nothing_is_left_of_a_prediction_that_failed(run, new, tmp_path, monkeypatch):
    films = pd.read_csv(new / 'films.csv')
    _torn(monkeypatch, set(films.film_id))
    with pytest.raises(manifest.DataError) as error:
        prediction.predict_cohort(new, run, tmp_path / 'out')
    assert all(film in str(error.value) for film in films.film_id)
    assert [p.name for p in tmp_path.iterdir()] == ['new']
    (tmp_path / 'out').mkdir()
    with pytest.raises(FileExistsError):
        prediction.predict_cohort(new, run, tmp_path / 'out')


def test_scores_stand_beside_those_of_unfractured_bodies_and_beside_the_heights(run, new, tmp_path):
    page = prediction.predict_cohort(new, run, tmp_path / 'out')
    scored = pd.read_csv(page.parent / 'predictions.csv', keep_default_na=False)
    stored = pd.read_parquet(run.path('predictions'))
    below = stored[(stored.split == 'test') & (stored.label == 0)].probability.to_numpy()
    expected = [(below < p).mean() for p in scored.probability]
    np.testing.assert_allclose(scored.higher_than, expected, atol=1 / len(below))
    bodies = pd.read_csv(new / 'bodies.csv').set_index('body_id').loc[scored.body_id]
    posterior, middle, anterior = genant.heights(cohort.points(bodies)).T
    np.testing.assert_allclose(scored.anterior_posterior, anterior / posterior)
    np.testing.assert_allclose(scored.middle_posterior, middle / posterior)
    assert scored.grade_by_height.between(0, 3).all() and scored.inverted.dtype == bool
    text = (page.parent / 'films' / f'{scored.film_id[0]}.html').read_text()
    assert f'{scored.anterior_posterior[0]:.2f}' in text and 'by height: grade' in text
    assert f'of {len(below)} unfractured test bodies' in text


def test_the_first_sentence_says_what_the_network_has_seen(run, new, tmp_path):
    "The films scored are real as far as anybody knows; the network's were rendered"
    page = prediction.predict_cohort(new, run, tmp_path / 'out')
    for file in [page, *(page.parent / 'films').glob('*.html')]:
        text = file.read_text()
        body = re.sub(r'<[^>]+>', ' ', text[text.index('</h1>') :]).split()
        assert ' '.join(body).startswith(
            'The network of this page was trained on rendered films only.'
        )
        assert 'scored here are rendered' not in text


def test_a_film_is_drawn_as_it_is_stored(run, new, tmp_path):
    "And what is mirrored for the network is said to be"
    page = prediction.predict_cohort(new, run, tmp_path / 'out')
    film = pd.read_csv(new / 'films.csv').query('facing == "right"').iloc[0]
    six = cohort.points(pd.read_csv(new / 'bodies.csv').query('film_id == @film.film_id'))
    text = (page.parent / 'films' / f'{film.film_id}.html').read_text()
    drawn = cv2.imread(str(page.parent / 'films' / f'{film.film_id}.jpg'), cv2.IMREAD_GRAYSCALE)
    stored = radiograph.read(new / film.path, facing='left')  # nothing is mirrored
    scale = drawn.shape[0] / stored.shape[0]
    polygon = re.search(r'<polygon points="([^"]+)"', text)[1]
    shown = np.array([xy.split(',') for xy in polygon.split()], float)
    np.testing.assert_allclose(shown, six[0] * scale, atol=0.5)
    small = cv2.resize(stored, drawn.shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.corrcoef(small.ravel(), drawn.ravel())[0, 1] > 0.95
    assert 'mirrored, so that the subject looks left' in text


def test_all_wrong_cells_are_told_at_once(run, new, tmp_path):
    bodies = pd.read_csv(new / 'bodies.csv', dtype=str)
    bodies.loc[0, 'level'], bodies.loc[1, 'x1'], bodies.loc[2, 'film_id'] = 'L9', 'ten', 'nobody'
    bodies.to_csv(new / 'bodies.csv', index=False)
    with pytest.raises(manifest.DataError) as error:
        prediction.ungraded(new)
    assert all(
        s in str(error.value) for s in ("line 2, level = 'L9'", "line 3, x1 = 'ten'")
    ) and 'sq' not in str(error.value)


def test_lines_are_those_of_the_file_and_tables_may_be_parquet(run, new, tmp_path):
    text = (new / 'bodies.csv').read_text().splitlines()
    text[6] = ','.join([*text[6].split(',')[:2], 'L9', *text[6].split(',')[3:]])
    (new / 'bodies.csv').write_text('\n'.join([*text[:3], '', '', *text[3:]]))
    with pytest.raises(manifest.DataError, match="bodies.csv, line 9, level = 'L9'"):
        prediction.ungraded(new)
    points = [line.partition(',')[2].partition(',')[2] for line in text]
    (tmp_path / 'points.csv').write_text('\n'.join([*points[:3], '', '', *points[3:]]))
    with pytest.raises(manifest.DataError, match="points.csv, line 9, level = 'L9'"):
        prediction.one_film(new / pd.read_csv(new / 'films.csv').path[0], tmp_path / 'points.csv')
    (new / 'bodies.csv').write_text('\n'.join(text[:6]))
    whole = prediction.ungraded(new).bodies
    pd.read_csv(new / 'bodies.csv').to_parquet(new / 'bodies.parquet')
    (new / 'bodies.csv').unlink()
    pd.testing.assert_frame_equal(prediction.ungraded(new).bodies, whole)


def test_one_film_may_have_any_name_and_its_points_other_columns(run, new, tmp_path):
    film = pd.read_csv(new / 'films.csv').iloc[0]
    bodies = pd.read_csv(new / 'bodies.csv').query('film_id == @film.film_id')
    odd = tmp_path / 'scan 12:30 ü.dcm'
    odd.write_bytes((new / film.path).read_bytes())
    bodies.assign(region='T', sq=0, note='x').to_csv(tmp_path / 'points.csv', index=False)
    c = prediction.one_film(odd, tmp_path / 'points.csv')
    assert (
        c.bodies.level.tolist() == bodies.level.tolist()
        and c.bodies.sq.isna().all()
        and c.read(c.films.film_id[0]).ndim == 2
    )


def test_pictures_of_films_and_of_bodies_do_not_meet(run, new, tmp_path):
    films, bodies = pd.read_csv(new / 'films.csv'), pd.read_csv(new / 'bodies.csv')
    number = dict(zip(films.film_id, '12', strict=True))
    films.assign(film_id=films.film_id.map(number)).to_csv(new / 'films.csv', index=False)
    bodies.assign(film_id=bodies.film_id.map(number), body_id=np.arange(1, len(bodies) + 1)).to_csv(
        new / 'bodies.csv', index=False
    )
    page = prediction.predict_cohort(new, run, tmp_path / 'out')
    assert len(list(page.parent.rglob('*.jpg'))) == len(films) + len(bodies)


def test_an_empty_file_of_points_is_one_sentence(run, new, tmp_path):
    (tmp_path / 'points.csv').write_text(','.join(['level', *cohort.XY]) + '\n')
    with pytest.raises(manifest.DataError, match='points.csv: holds no row'):
        prediction.one_film(new / pd.read_csv(new / 'films.csv').path[0], tmp_path / 'points.csv')


def test_a_torn_export_is_made_again(run, tmp_path):
    model = run.network
    x = np.zeros((1, *model.input.shape[1:]), np.float32)
    whole = prediction.predictor(model, tmp_path)(x)
    (tmp_path / 'network.bin').write_bytes(b'')
    assert prediction.predictor(model, tmp_path)(x) == pytest.approx(whole)


def test_points_outside_the_film_are_told(run, new):
    bodies = pd.read_csv(new / 'bodies.csv')
    bodies.loc[0, 'x3'] = 9999
    bodies.to_csv(new / 'bodies.csv', index=False)
    with pytest.raises(manifest.DataError, match='outside the film'):
        prediction.ungraded(new)


def test_a_graded_folder_is_read_with_its_grades(run, new):
    bodies = pd.read_csv(new / 'bodies.csv').assign(sq=3)
    bodies.to_csv(new / 'bodies.csv', index=False)
    pd.read_csv(new / 'films.csv')[['subject_id', 'visit']].drop_duplicates().to_csv(
        new / 'subjects.csv', index=False
    )
    assert (prediction.ungraded(new).bodies.sq == 3).all()
    bodies.assign(sq=np.where(np.arange(len(bodies)) > 0, bodies.sq.astype(float), np.nan)).to_csv(
        new / 'bodies.csv', index=False
    )
    half = prediction.ungraded(new)
    assert len(half.bodies) == len(bodies) and half.bodies.sq.isna().all(), 'a body is lost'
    assert 'bodies without a grade: 1; the grades of the others' in ' '.join(half.about['told'])


def test_black_and_white_films_warn_and_grey_ones_do_not():
    films = pd.DataFrame(
        {
            'grey level': np.linspace(11000, 47000, 200),
            'contrast (grey levels)': np.linspace(2500, 11000, 200),
        }
    )
    known = prediction.domain(films, ['L1'])
    found = [
        bool(prediction.unusual({'grey level': g, 'contrast (grey levels)': 5000.0}, ['L1'], known))
        for g in (0.0, 2000.0, 30000.0, 60000.0, 65535.0)
    ]
    assert found == [True, True, False, True, True]


def test_another_kind_of_film_is_told_at_the_stated_rate():
    "One held-out film of a hundred is told, whose bodies come from where the others do"
    rng = np.random.default_rng(0)
    training, scale = rng.normal(size=(1200, 64)), np.ones(64)

    def films(n, shift=0.0):
        bodies = rng.normal(size=(n, 5, 64)) + 0.5 * rng.normal(size=(n, 1, 64)) + shift
        apart = [np.median(prediction.remoteness(b, training, scale)) for b in bodies]
        return np.array(apart)

    limit = np.quantile(films(400), prediction.FAR, method='higher')
    assert 0 < (films(1000) > limit).mean() < 0.03
    assert (films(100, 1.5) > limit).mean() > 0.9


def test_a_film_of_another_kind_is_told_on_its_page(run, new, tmp_path):
    own = Run(shutil.copytree(run.folder, tmp_path / 'run'))
    kept = prediction.keep_features(own)
    assert kept['training'].shape[1] == len(kept['scale']) == 1024 and kept['films'] >= 1
    films = pd.read_csv(new / 'films.csv')
    path = new / films.path[0]
    ds = pydicom.dcmread(path)
    noise = np.random.default_rng(0).integers(0, 60000, ds.pixel_array.shape, np.uint16)
    ds.PixelData = noise.tobytes()
    ds.save_as(path)
    page = prediction.predict_cohort(new, own.folder, tmp_path / 'out')
    told = pd.read_csv(page.parent / 'films.csv').set_index('film_id').warning.fillna('')
    words = 'its bodies look like no training body to the network'
    assert words in told[films.film_id[0]] and words in page.read_text()
    before = prediction.predict_cohort(new, run, tmp_path / 'before')  # of a run without features
    assert words not in before.read_text()


def test_a_level_that_stands_twice_is_refused(run, new, tmp_path):
    film = pd.read_csv(new / 'films.csv').iloc[0]
    bodies = pd.read_csv(new / 'bodies.csv')
    own = bodies.query('film_id == @film.film_id').reset_index(drop=True)
    own.loc[1, 'level'] = own.level[0]
    own[['level', *cohort.XY]].to_csv(tmp_path / 'points.csv', index=False)
    with pytest.raises(manifest.DataError, match='points.csv, line 3, level = .*stands twice'):
        prediction.one_film(new / film.path, tmp_path / 'points.csv')
    own.to_csv(new / 'bodies.csv', index=False)
    with pytest.raises(manifest.DataError, match='bodies.csv, line 3, level = .*stands twice'):
        prediction.ungraded(new)


def test_the_side_that_a_film_faces_is_passed_through(run, new, tmp_path):
    film = pd.read_csv(new / 'films.csv').iloc[0]
    bodies = pd.read_csv(new / 'bodies.csv').query('film_id == @film.film_id')
    bodies[['level', *cohort.XY]].to_csv(tmp_path / 'points.csv', index=False)
    other = {'left': 'right', 'right': 'left'}[film.facing]

    def read(facing):
        return prediction.films_to_score(new / film.path, tmp_path / 'points.csv', facing)

    assert read(film.facing).films.facing.tolist() == [film.facing]
    with pytest.raises(manifest.DataError):
        read(other)  # the points then run the wrong way round


def test_unusual_films_are_named(run):
    known = prediction.domain_of(run)
    films = prediction.describe_films(run, 'train')
    usual = [not prediction.unusual(f, ['L1'], known) for f in films.to_dict('records')]
    assert np.mean(usual) > 0.9
    facts = films.iloc[usual.index(True)].to_dict()
    for quantity in facts:
        low, high = known['limits'][quantity]
        for value in (low - 0.001, high * 1.001):
            (said,) = prediction.unusual(facts | {quantity: value}, ['L1'], known)
            assert said.startswith(quantity)
    assert prediction.unusual(facts, ['L1', 'L5'], known) == ['level L5 was not in training']


def test_description_follows_what_the_network_sees():
    rng = runtime.rng(3, 'film')
    smooth = cv2.GaussianBlur(rng.normal(20000, 20000, (200, 160)), (0, 0), 4)
    film = (smooth + rng.normal(0, 300, (200, 160))).clip(0, 65535).astype('uint16')
    points = np.array([[[100, 60], [80, 61], [60, 60], [60, 90], [80, 89], [100, 90]]], float)

    def facts(picture, six):
        return prediction.describe(geometry.extract_patches(picture, six))

    whole, half = facts(film, points), facts((film // 2).astype('uint16'), points)
    level, contrast, share, grain = whole
    for quantity, ratio in ((level, 2), (contrast, 2), (share, 1), (grain, 1)):
        assert whole[quantity] == pytest.approx(half[quantity] * ratio, rel=0.01)
    padded = facts(np.pad(film, ((40, 9), (70, 30))), points + [70, 40])
    assert padded == pytest.approx(whole)
    for scale in (0.5, 2, 3):
        copy = cv2.resize(film, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        assert facts(copy, (points + 0.5) * scale - 0.5) == pytest.approx(whole, rel=0.15)
    squared = ((film / 65535) ** 2 * 65535).astype('uint16')
    bent = facts(squared, points)
    assert bent[level] < 0.5 * whole[level] and bent[share] > 1.6 * whole[share]


def test_another_size_is_usual_and_another_grey_curve_is_not(tmp_path):
    phantom.write_cohort(tmp_path / 'films', subjects=12, pixel_mm=0.8, workers=1, seed=5)
    c = cohort.read(tmp_path / 'films')
    bodies = {film: cohort.points(rows) for film, rows in c.bodies.groupby('film_id')}

    def facts(change=lambda picture: picture, scale=1):
        found = {}
        for film, points in bodies.items():
            picture = c.read(film)  # all face right, and are mirrored
            points = (geometry.mirror(points, picture.shape[1]) + 0.5) * scale - 0.5
            found[film] = prediction.describe(geometry.extract_patches(change(picture), points))
        return pd.DataFrame(found).T

    plain = facts()
    known = prediction.domain(plain, ['L1'])

    def share(films):
        said = [bool(prediction.unusual(f, ['L1'], known)) for f in films.to_dict('records')]
        return np.mean(said)

    def sized(scale):
        return lambda p: cv2.resize(p, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)

    assert share(plain) < 0.1
    for scale in (0.5, 0.75, 2):
        assert share(facts(sized(scale), scale)) < 0.15
    assert share(facts(lambda p: ((p / 65535) ** 2 * 65535).astype('uint16'))) > 0.7


def test_an_export_that_was_changed_is_made_anew(tmp_path):
    "Of zeros, of the same size, it would say the same of every body"
    from ocf_study import googlenet

    model = googlenet.build(size=32, aux=False)
    weights = prediction.export(model, tmp_path, ['openvino']) / 'network.bin'
    content = weights.read_bytes()
    weights.write_bytes(bytes(len(content)))
    assert prediction.export(model, tmp_path, ['openvino']) == tmp_path
    assert any(weights.read_bytes()) and len(weights.read_bytes()) == len(content)
    (tmp_path / 'weights.json').write_text('{"onn')
    prediction.export(model, tmp_path, ['openvino'])


@pytest.mark.parametrize(
    'name', ['work/model/best.keras', 'work/predictions.parquet', 'work/patches.zarr/zarr.json']
)
@pytest.mark.parametrize('damage', ['gone', 'changed'])
def test_nothing_is_predicted_with_files_that_a_run_did_not_leave(name, damage, run, new, tmp_path):
    from ocf_study import ledger

    copy = tmp_path / 'run'
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns('films', 'export'))
    checksums = ledger.Checksums(copy / 'work' / 'checksums.json')
    ledger.write(copy, '40_prediction', {}, checksums, key='a')
    content = (copy / name).read_bytes()
    (copy / name).unlink()
    if damage == 'changed':
        (copy / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises((ValueError, FileNotFoundError)) as e:
        prediction.predict_cohort(new, copy, tmp_path / 'out', backend='keras')
    word = 'has changed' if damage == 'changed' else 'is gone|no trained network'
    assert re.search(f'{word}', str(e.value)) and not (tmp_path / 'out').exists()
