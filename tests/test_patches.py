"The patch store is the same for any number of workers and after any kill, and complete"

import inspect
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import warnings
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from ocf_study import augmentation, geometry, inversion, patches, phantom, radiograph, runtime
from ocf_study.cohort import Cohort
from ocf_study.cohort import read as read_cohort
from ocf_study.frame import Film, Frame
from ocf_study.manifest import DataError
from ocf_study.settings import settings as settings_of

SIZE, LEVELS = 32, ['T12', 'L1', 'L2', 'L3', 'L4']


def film(rng, shape, inverted):
    "Bright bodies with brighter rims on a film that faces right, and their points"
    grey = cv2.GaussianBlur(rng.normal(0, 1, shape).astype(np.float32), (0, 0), 6)
    grey = 12000 + 6000 * (grey - grey.min()) / np.ptp(grey)
    points = []
    for k in range(len(LEVELS)):
        x, y, w, h = (
            shape[1] / 2,
            shape[0] * (k + 1) / (len(LEVELS) + 1),
            shape[1] * 0.12,
            shape[0] * 0.055,
        )
        p = np.array(
            [[x - w, y - h], [x, y - h], [x + w, y - h], [x + w, y + h], [x, y + h], [x - w, y + h]]
        ) + rng.normal(0, 1, (6, 2))
        cv2.fillPoly(grey, [np.rint(p).astype(np.int32)], 38000.0)
        cv2.polylines(grey, [np.rint(p).astype(np.int32)], True, 60000.0, 3)
        points.append(p)
    grey = np.clip(grey + rng.normal(0, 300, shape), 0, 65535).astype(np.uint16)
    return 65535 - grey if inverted else grey, np.array(points)


def people(root, n=12, facing='right', flip_vertical=False):
    rng, films, bodies = np.random.default_rng(5), [], []
    for i in range(n):
        subject, region = f'PO{i // 2:04d}', 'LT'[i % 2]
        name = f'{subject}V1{region}'
        grey, points = film(rng, (420, 260), i % 4 == 3)
        seen = Film.of_stored(grey, points, Frame('right'))
        grey, points = replace(seen, frame=Frame(facing, flip_vertical)).stored()
        Image.fromarray(np.ascontiguousarray(grey)).save(root / f'{name}.png')
        films.append(
            dict(
                film_id=name,
                subject_id=subject,
                visit=1,
                region=region,
                path=f'{name}.png',
                width=260,
                height=420,
                source='film',
                facing=facing,
                flip_vertical=flip_vertical,
            )
        )
        for level, p in zip(LEVELS, points, strict=True):
            label = int(rng.random() < 0.3)
            bodies.append(
                dict(
                    body_id=f'{name}-{level}',
                    film_id=name,
                    subject_id=subject,
                    visit=1,
                    region=region,
                    level=level,
                    sq=3.0 * label,
                    label=label,
                    split=['train', 'train', 'validation', 'test'][(i // 2) % 4],
                    used=True,
                    **{f'{axis}{k + 1}': p[k, j] for k in range(6) for j, axis in enumerate('xy')},
                )
            )
    bodies = pd.DataFrame(bodies)
    bodies['used'] = (
        (bodies.split != 'train') | (bodies.label == 1) | (np.arange(len(bodies)) % 3 == 0)
    )
    return Cohort(
        pd.DataFrame(),
        pd.DataFrame(films),
        bodies,
        pd.DataFrame(),
        dict(root=str(root), rendered=True),
    )


@pytest.fixture(scope='module')
def cohort(tmp_path_factory):
    return people(tmp_path_factory.mktemp('films'))


@pytest.fixture(scope='module')
def small():
    "Shards of 16 patches, so that a small study has several"
    with pytest.MonkeyPatch.context() as m:
        m.setattr(patches, 'SHARD', 16)
        yield


@pytest.fixture(scope='module')
def store(cohort, small, tmp_path_factory):
    path = tmp_path_factory.mktemp('store') / 'patches.zarr'
    patches.build(cohort, path, size=SIZE)
    return path


def contents(store):
    ds = patches.open(store)
    return {n: ds[n].values for n in ['pixels', *ds.coords]}


def assert_same(a, b):
    a, b = contents(a), contents(b)
    assert set(a) == set(b)
    for n in a:
        np.testing.assert_array_equal(a[n], b[n], err_msg=n)


def test_every_wanted_patch_is_there_once(cohort, store):
    table, bodies = patches.table(store), cohort.bodies.set_index('body_id')
    wanted = bodies[bodies.used | (bodies.split != 'train')]
    originals, copies = table[table.kind == 'original'], table[table.kind == 'augmented']
    assert sorted(originals.body_id) == sorted(wanted.index)
    assert set(copies.body_id) == set(wanted.index[wanted.split == 'train'])
    assert copies.groupby('body_id')['copy'].apply(list).map(lambda c: c == [1, 2, 3, 4]).all()
    for column in ('film_id', 'subject_id', 'split', 'label', 'level'):
        assert (table[column].to_numpy() == bodies[column].loc[table.body_id].to_numpy()).all()
    assert originals[patches.DRAWS[:-1]].isna().all(axis=None) and copies[
        patches.DRAWS
    ].notna().all(axis=None)
    assert contents(store)['pixels'].dtype == np.uint16 and contents(store)['pixels'].shape == (
        len(table),
        SIZE,
        SIZE,
    )


def test_draws_are_those_of_the_patch(cohort, store):
    table = patches.table(store, dict(kind='augmented'))
    drawn = augmentation.draws(table.body_id.unique(), 4, 7).set_index(['body_id', 'copy'])
    pd.testing.assert_frame_equal(
        table.set_index(['body_id', 'copy'])[patches.DRAWS].sort_index(),
        drawn.sort_index()[patches.DRAWS],
        check_index_type=False,
        check_column_type=False,
    )


def test_published_patches_are_drawn_by_the_published_laws(cohort, tmp_path):
    patches.build(cohort, tmp_path / 'published.zarr', size=SIZE, variant='published', copies=15)
    drawn = (
        patches.table(tmp_path / 'published.zarr', dict(kind='augmented'))
        .set_index(['body_id', 'copy'])[patches.DRAWS]
        .sort_index()
    )
    for variant in ('published', 'paper'):
        law = (
            augmentation.draws(drawn.index.unique('body_id'), 15, 7, variant)
            .set_index(['body_id', 'copy'])[patches.DRAWS]
            .sort_index()
        )
        assert np.allclose(drawn, law) == (variant == 'published')
    assert (
        augmentation.RANGES['paper'].noise_sd[1]
        < drawn.noise_sd.max()
        <= augmentation.RANGES['published'].noise_sd[1]
    )


def test_the_published_test_votes_on_the_films_own_pixels(cohort):
    "The patch is resized for the network alone"
    rng = np.random.default_rng(7)
    for inverted in (False, True):
        grey, points = film(rng, (1400, 900), inverted)
        votes = patches.film_patches(grey, points, size=224, detector='published')[3]
        crops = geometry.extract_crops(grey, points)
        assert votes.tolist() == [inversion.is_inverted(c, 'published') for c in crops]
    said = patches.detections(cohort, detectors=('published',), size=SIZE, variant='published')
    for body in said.groupby('film_id').head(1).itertuples():
        row = cohort.bodies[cohort.bodies.body_id == body.body_id]
        grey = cohort.read(body.film_id)
        points = row[[f'{a}{i}' for i in range(1, 7) for a in 'xy']].to_numpy(float)
        points = geometry.mirror(points.reshape(1, 6, 2), grey.shape[1])
        [crop] = geometry.extract_crops(grey, points, 'published')
        assert body.evidence == pytest.approx(inversion.evidence(crop, 'published'), abs=1e-9)


@pytest.mark.parametrize('dark', [False, True])
@pytest.mark.parametrize('tag', ['MONOCHROME1', 'MONOCHROME2'])
def test_the_tag_is_obeyed_before_the_inversion_test_or_left_to_it(
    tag, dark, tmp_path, monkeypatch
):
    "A tag that is right or wrong (`dark`: bone is dark after reading); the patches are the same"
    grey, points = film(np.random.default_rng(3), (420, 260), dark)
    monkeypatch.setattr(phantom, 'WHITE_IS_ZERO', float(tag == 'MONOCHROME1'))
    row = dict(film_id='PO0001V1L', subject_id='PO0001', visit=1, region='L', path='one.dcm')
    row |= dict(width=260, height=420, source='film', facing='right', photometric=tag)
    phantom.write_dicom(tmp_path / 'one.dcm', grey, pd.Series(row), phantom.Settings())
    bodies = pd.DataFrame(
        [
            dict(row, body_id=level, level=level, sq=0.0, label=0, split='test', used=True)
            | {f'{a}{k + 1}': p[k, j] for k in range(6) for j, a in enumerate('xy')}
            for level, p in zip(LEVELS, points, strict=True)
        ]
    )
    about = dict(root=str(tmp_path), rendered=True)
    c = Cohort(pd.DataFrame(), pd.DataFrame([row]), bodies, pd.DataFrame(), about)
    votes, pixels = {}, {}
    for obey in (True, False):
        store = tmp_path / f'{obey}.zarr'
        (report,) = patches.build(c, store, size=112, obey_tag=obey).itertuples()
        votes[obey], pixels[obey] = report.votes_inverted, patches.open(store)['pixels'].values
        said = patches.detections(c, size=112, detectors=('later',), obey_tag=obey)
        assert ((said.evidence < 0).sum() == report.votes_inverted) and report.votes == len(LEVELS)
    turned = tag == 'MONOCHROME1'
    assert votes == {True: len(LEVELS) * dark, False: len(LEVELS) * (dark ^ turned)}
    assert np.abs(pixels[True].astype(int) - pixels[False]).max() <= 1


def test_the_inversion_test_is_the_inversion_chapters_choice():
    for function in (patches.film_patches, patches.build):
        assert inspect.signature(function).parameters['detector'].default == inversion.DEFAULT


def test_patches_of_a_film_are_in_the_order_of_body_and_copy(cohort, store):
    table = patches.table(store)
    place = (
        cohort.bodies.body_id.reset_index().set_index('body_id')['index'][table.body_id].to_numpy()
    )
    assert (np.diff(place * 100 + table['copy']) > 0).all()
    film = next(
        f
        for f in patches._plan(
            cohort,
            dict(
                seed=7,
                size=SIZE,
                copies=4,
                detector=inversion.DEFAULT,
                variant='paper',
                tie='random',
            ),
        )
        if f.augmented.any()
    )
    rows, pixels, _ = patches._make(film)
    seen = film.read()
    grey, points = seen.picture, seen.points
    for (_, row), patch in zip(rows.iterrows(), pixels, strict=True):
        draw = None if row.kind == 'original' else row.to_frame().T
        mine = geometry.extract_patches(
            grey, points[film.body_ids == row.body_id], SIZE, draws=draw
        )[0]
        mine = 65535 - mine if row.inverted else mine
        assert (patch == (mine if draw is None else augmentation.photometric(mine, row))).all()


def test_the_films_vote_is_one(store):
    table = patches.table(store)
    assert (table.groupby('film_id').inverted.nunique() == 1).all()
    inverted = table.groupby('film_id').inverted.first()
    assert inverted.any() and not inverted.all()


@pytest.mark.parametrize('frame', [Frame('left'), Frame('left', True), Frame('right', True)])
def test_however_a_film_is_stored_its_patches_are_the_same(cohort, store, tmp_path, frame):
    turned = people(tmp_path, facing=frame.facing, flip_vertical=frame.flip_vertical)
    patches.build(turned, tmp_path / 'turned.zarr', size=SIZE)
    assert_same(store, tmp_path / 'turned.zarr')


def test_a_rendered_film_is_mirrored_once_and_no_bit_of_its_patches_moves(tmp_path):
    phantom.write_cohort(tmp_path / 'films', subjects=1, seed=5, workers=1, pixel_mm=0.6)
    c = read_cohort(tmp_path / 'films')
    for film_id in c.films.film_id:
        bodies = c.bodies[c.bodies.film_id == film_id]
        six = bodies[[f'{a}{i}' for i in range(1, 7) for a in 'xy']].to_numpy()
        grey = radiograph.read(c.path(film_id), 'left')[:, ::-1].copy()
        by_hand = geometry.mirror(six.reshape(-1, 6, 2), grey.shape[1])
        film = c.film(film_id)
        for a, b in zip(
            patches.film_patches(film.picture, film.points),
            patches.film_patches(grey, by_hand),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)


def test_a_mark_leaves_the_patches_of_a_film_of_12_bits_as_they_are(tmp_path):
    grey, points = film(np.random.default_rng(3), (420, 260), False)
    grey >>= 4
    cut = {}
    for name, level in (('plain', 0), ('marked', 65535)):
        grey[:6, :6] = level
        Image.fromarray(grey).save(tmp_path / f'{name}.png')
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', radiograph.FilmWarning)
            seen = radiograph.framed(tmp_path / f'{name}.png', points, Frame('right'))
        cut[name] = patches.film_patches(seen.picture, seen.points, size=SIZE)[0]
    np.testing.assert_array_equal(cut['plain'], cut['marked'])
    assert cut['plain'].max() > 40000


@pytest.mark.parametrize('workers', [1, 2, 4])
def test_any_number_of_processes_gives_the_same(cohort, store, tmp_path, workers):
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=workers,
        threads_per_worker=1,
        processes=True,
        dashboard_address=':0',
        silence_logs=50,
    ) as cluster:
        patches.build(
            cohort, tmp_path / 'more.zarr', size=SIZE, scheduler=cluster.scheduler_address
        )
    assert_same(store, tmp_path / 'more.zarr')


def test_workers_that_run_elsewhere_find_films_that_are_named_from_here(
    cohort, store, tmp_path, monkeypatch
):
    with runtime.client(workers=2) as client:
        monkeypatch.chdir(cohort.about['root'])
        here = replace(cohort, about=cohort.about | dict(root='.'))
        patches.build(here, tmp_path / 'more.zarr', size=SIZE, scheduler=client.scheduler.address)
        assert len(patches.detections(here, size=SIZE, scheduler=client.scheduler.address))
    assert_same(store, tmp_path / 'more.zarr')


def test_two_processes_give_the_same_though_one_is_killed_at_work(
    cohort, store, tmp_path, monkeypatch
):
    killed = {}
    with runtime.client(workers=2) as client:
        pids = client.run(os.getpid)
        add = patches._Writer.add

        def add_and_kill(self, *args):
            if not killed:
                at_work = {address: keys for address, keys in client.processing().items() if keys}
                address = next(iter(at_work))
                os.kill(pids[address], signal.SIGSTOP)
                time.sleep(0.3)  # what it has said already arrives
                killed[address] = client.processing()[address]
                os.kill(pids[address], signal.SIGKILL)
            add(self, *args)

        monkeypatch.setattr(patches._Writer, 'add', add_and_kill)
        report = patches.build(
            cohort, tmp_path / 'two.zarr', size=SIZE, scheduler=client.scheduler.address
        )
    assert all(killed.values()) and killed, 'the killed worker had films in hand'
    assert (report.reason == '').all()
    assert_same(store, tmp_path / 'two.zarr')


def test_a_killed_build_goes_on_and_reads_no_finished_film_again(
    cohort, store, tmp_path, monkeypatch
):
    pd.to_pickle(cohort, tmp_path / 'cohort')  # written and read by this test alone
    given, out = str(tmp_path / 'cohort'), str(tmp_path / 'cut.zarr')
    script = textwrap.dedent(f"""
        import os, signal
        import pandas as pd
        from ocf_study import patches
        patches.SHARD = 16
        write = patches._Journal.write
        def last_words(self, name, value):
            if name == '000002': os.kill(os.getpid(), signal.SIGKILL)
            write(self, name, value)
        patches._Journal.write = last_words
        patches.build(pd.read_pickle({given!r}), {out!r}, size={SIZE})""")
    ended = subprocess.run([sys.executable, '-c', script], capture_output=True, cwd=tmp_path)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    with pytest.raises(FileNotFoundError, match='stopped'):
        patches.open(tmp_path / 'cut.zarr')
    journal = patches._Journal(tmp_path / 'cut.zarr')
    finished = [line['film_id'] for shard in journal.shards() for line in shard['films']]
    assert len(list(journal.shards())) == 2 and finished
    read, seen = patches.radiograph.read, []
    monkeypatch.setattr(
        patches.radiograph,
        'read',
        lambda path, *more: seen.append(Path(path).stem) or read(path, *more),
    )
    report = patches.build(cohort, tmp_path / 'cut.zarr', size=SIZE)
    assert (
        seen
        and not set(seen) & set(finished)
        and sorted([*seen, *finished]) == list(report.film_id)
    )
    assert (
        (report.reason == '').all()
        and list(report.film_id) == sorted(report.film_id)
        and report.film_id.is_unique
    )
    assert_same(store, tmp_path / 'cut.zarr')
    assert not Path(f'{tmp_path}/cut.zarr.journal').exists()


class Stop(Exception):
    pass


@pytest.mark.parametrize('damage', ['changed', 'removed'])
def test_a_damaged_shard_is_made_again(cohort, store, tmp_path, monkeypatch, damage):
    write = patches._Journal.write

    def stop(self, name, value):
        write(self, name, value)
        if name == '000002':
            raise Stop

    with monkeypatch.context() as m, pytest.raises(Stop):
        m.setattr(patches._Journal, 'write', stop)
        patches.build(cohort, tmp_path / 'a.zarr', size=SIZE)
    shard = tmp_path / 'a.zarr/pixels/c/1/0/0'
    if damage == 'removed':
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes()[:-1] + b'?')
    assert len(list(patches._Journal(tmp_path / 'a.zarr').shards())) == 1
    patches.build(cohort, tmp_path / 'a.zarr', size=SIZE)
    assert_same(store, tmp_path / 'a.zarr')
    assert patches.verify(tmp_path / 'a.zarr') == []


def test_verify_finds_the_shard(cohort, tmp_path, small):
    patches.build(cohort, tmp_path / 'a.zarr', size=SIZE)
    shard = tmp_path / 'a.zarr/pixels/c/2/0/0'
    shard.write_bytes(shard.read_bytes()[:-1] + b'?')
    assert patches.verify(tmp_path / 'a.zarr') == [2]


@pytest.mark.parametrize(
    'damaged, alone',
    [
        (['pixels/c/1/0/0'], True),
        (['pixels/c/0/0/0', 'pixels/c/2/0/0'], True),
        (['label/c/0'], False),
        (['zarr.json'], False),
        (['shards/zarr.json'], False),
    ],
)
@pytest.mark.parametrize('damage', ['gone', 'cut', 'changed'])
def test_a_damaged_store_is_mended_by_the_same_call(
    cohort, store, tmp_path, monkeypatch, damaged, alone, damage
):
    "A few shards come from the films that reach into them; tables hold the labels of the whole"
    one, anew, finish = tmp_path / 'one.zarr', [], patches._finish
    shutil.copytree(store, one)
    for name in damaged:
        content = (one / name).read_bytes()
        (one / name).unlink()
        half = len(content) // 2
        if damage != 'gone':
            rest = b'' if damage == 'cut' else b'?' + content[half + 1 :]
            (one / name).write_bytes(content[:half] + rest)
    monkeypatch.setattr(patches, '_finish', lambda *a: anew.append(1) or finish(*a))
    patches.build(cohort, one, size=SIZE)
    assert_same(store, one)
    assert patches.verify(one) == [] and bool(anew) != alone


def test_a_film_exported_again_with_its_size_and_time_is_another(tmp_path):
    path = tmp_path / 'film.png'
    path.write_bytes(b'a film')
    before, (a, m) = patches._file(path), (os.stat(path).st_atime_ns, os.stat(path).st_mtime_ns)
    path.write_bytes(b'a copy')
    os.utime(path, ns=(a, m))
    assert patches._file(path) != before


def test_a_whole_store_is_not_built_again(cohort, store):
    before = {p: p.stat().st_mtime_ns for p in store.rglob('*') if p.is_file()}
    patches.build(cohort, store, size=SIZE)
    assert before == {p: p.stat().st_mtime_ns for p in store.rglob('*') if p.is_file()}


def test_choices_are_not_mixed(cohort, store, tmp_path):
    moved = replace(cohort, bodies=cohort.bodies.assign(x1=cohort.bodies.x1 + 1))
    for wrong, key in (
        (dict(seed=8), 'seed'),
        (dict(copies=3), 'copies'),
        (dict(detector='published'), 'detector'),
    ):
        with pytest.raises(DataError, match=key):
            patches.build(cohort, store, **dict(size=SIZE) | wrong)
    with pytest.raises(DataError, match='bodies'):
        patches.build(moved, store, size=SIZE)
    one = tmp_path / 'one.zarr'
    patches.build(cohort, one, size=SIZE, seed=8)
    patches.build(cohort, one, size=SIZE, overwrite=True)
    assert_same(store, one)


def test_a_removal_that_is_killed_leaves_no_store_that_says_it_is_whole(
    cohort, store, tmp_path, monkeypatch
):
    one = tmp_path / 'one.zarr'
    patches.build(cohort, one, size=SIZE)
    system = type(patches._Journal(one).fs)
    rm = system.rm

    def cut(self, path, **kw):
        if path != str(one):
            return rm(self, path, **kw)
        (one / 'pixels/c/1/0/0').unlink()
        raise Stop

    with monkeypatch.context() as m, pytest.raises(Stop):
        m.setattr(system, 'rm', cut)
        patches.build(cohort, one, size=SIZE, seed=8, overwrite=True)
    patches.build(cohort, one, size=SIZE)
    assert_same(store, one)


def test_failing_films_are_listed_and_the_rest_goes_on(cohort, tmp_path):
    films = cohort.films.copy()
    films.loc[3, 'path'] = 'gone.png'
    bodies = cohort.bodies.copy()
    flat = bodies.index[bodies.film_id == films.film_id[6]][0]
    bodies.loc[flat, ['x3', 'y3']] = bodies.loc[flat, ['x1', 'y1']].to_numpy()
    broken = replace(cohort, films=films, bodies=bodies)
    report = patches.build(broken, tmp_path / 'a.zarr', size=SIZE, max_failed=0.2).set_index(
        'film_id'
    )
    reasons = report.reason[report.reason != '']
    assert list(reasons.index) == [films.film_id[3], films.film_id[6]]
    assert 'no such film' in reasons.iloc[0] and bodies.body_id[flat] in reasons.iloc[1]
    assert set(patches.table(tmp_path / 'a.zarr').film_id) == set(report.index) - set(reasons.index)
    with pytest.raises(DataError) as e:
        patches.build(broken, tmp_path / 'b.zarr', size=SIZE, max_failed=0.1)
    assert 'no such film' in str(e.value) and 'stopped: 2 of 12 films failed' in str(e.value)


def test_a_film_put_right_is_read_again(cohort, tmp_path):
    import shutil

    root = shutil.copytree(cohort.about['root'], tmp_path / 'films')
    mine = replace(cohort, about=cohort.about | dict(root=str(root)))
    film = root / mine.films.path[3]
    whole = film.read_bytes()
    film.write_bytes(whole[:200])
    report = patches.build(mine, tmp_path / 'a.zarr', size=SIZE, max_failed=0.2)
    assert list(report.film_id[report.reason != '']) == [mine.films.film_id[3]]
    before = patches.identity(tmp_path / 'a.zarr')
    film.write_bytes(whole)
    with pytest.raises(DataError, match='files'):
        patches.build(mine, tmp_path / 'a.zarr', size=SIZE)
    report = patches.build(mine, tmp_path / 'a.zarr', size=SIZE, overwrite=True)
    assert (report.reason == '').all() and patches.identity(tmp_path / 'a.zarr') != before
    os.utime(film, (1, 1))
    patches.build(mine, tmp_path / 'b.zarr', size=SIZE)
    assert patches.identity(tmp_path / 'a.zarr') == patches.identity(tmp_path / 'b.zarr'), (
        'the same pixels are the same patches, however old their files'
    )


def test_a_film_alone_and_a_tie():
    grey, points = film(np.random.default_rng(1), (420, 260), False)
    grey, points = np.ascontiguousarray(grey[:, ::-1]), geometry.mirror(points, 260)
    whole = patches.film_patches(grey, points, size=SIZE)
    k = np.flatnonzero(whole[3] == whole[2])[0]  # one that votes as its film does
    alone = patches.film_patches(grey, points[k : k + 1], size=SIZE)
    np.testing.assert_array_equal(alone[0][0], whole[0][k])
    half = grey.copy()
    half[210:] = 65535 - half[210:]
    pair = points[[0, 4]]
    originals, _, inverted, votes = patches.film_patches(half, pair, size=SIZE, tie='own')
    assert votes.sum() == 1 and (inverted == votes).all()
    drawn = {
        bool(patches.film_patches(half, pair, size=SIZE, film_id=str(k))[2][0]) for k in range(12)
    }
    assert drawn == {True, False}
    again = [patches.film_patches(half, pair, size=SIZE, film_id='x', seed=3)[2] for _ in range(2)]
    assert (again[0] == again[1]).all() and again[0].all() == again[0].any()


def test_few_films_are_under_way_at_a_time():
    waiting, most = [0], [0]

    class Lazy(Future):
        def result(self):
            waiting[0] -= 1
            return super().result()

    class Client:
        def submit(self, work, item, pure):
            waiting[0] += 1
            most[0] = max(most[0], waiting[0])
            future = Lazy()
            future.set_result(work(item))
            return future

    assert [f for f, _ in patches._in_order(Client(), lambda x: x, range(100), 7)] == list(
        range(100)
    )
    assert most[0] == 7 and waiting[0] == 0


def test_any_file_system(cohort, store):
    patches.build(cohort, 'memory://run/patches.zarr', size=SIZE)
    assert_same(store, 'memory://run/patches.zarr')


@pytest.mark.parametrize('cache_mb', [4000, 0])
def test_the_data_set_gives_each_patch_once_an_epoch(store, monkeypatch, cache_mb):
    monkeypatch.setattr(patches, 'POOL', 40)
    x, y = patches.arrays(store)

    def key(a):
        return [row.tobytes() for row in a]

    label = dict(zip(key(x), y, strict=True))

    def epoch(**more):
        batches = [
            (a.numpy(), b.numpy())
            for a, b in patches.dataset(store, batch=12, cache_mb=cache_mb, **more)
        ]
        assert all(len(a) == 12 for a, _ in batches[:-1])
        return key(np.concatenate([a for a, _ in batches])), np.concatenate([b for _, b in batches])

    plain = epoch()
    assert plain[0] == key(x) and (plain[1] == y).all()
    first, again, second = (
        epoch(shuffle_seed=1),
        epoch(shuffle_seed=1),
        epoch(shuffle_seed=1, epoch=1),
    )
    assert first[0] == again[0] and first[0] != second[0] and first[0] != epoch(shuffle_seed=2)[0]
    for keys, labels in (first, second):
        assert sorted(keys) == sorted(plain[0])
        assert [label[k] for k in keys] == list(labels)
    both = patches.dataset(store, batch=12, cache_mb=cache_mb, shuffle_seed=1)
    assert [key(np.concatenate([a.numpy() for a, _ in both])) for _ in range(2)] == [
        first[0],
        second[0],
    ]
    assert len(patches.dataset(store, batch=12, drop_remainder=True)) == len(x) // 12


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.uint16, (2, 6, 5), elements=st.integers(0, 6000)),
    st.integers(1, 9),
    st.integers(0, 5000),
)
def test_z_score_knows_no_brightness_or_contrast(grey, gain, offset):
    z = patches.standardise(grey)
    assert z.dtype == np.float32 and np.isfinite(z).all()
    for patch, of in zip(z, grey, strict=True):
        assert abs(patch.mean()) < 1e-3 and (
            abs(patch.std() - 1) < 1e-3 or (np.ptp(of) == 0 and (patch == 0).all())
        )
    np.testing.assert_allclose(patches.standardise(grey * gain + offset), z, atol=2e-3)


def test_steps_end_in_the_patch_of_the_store(cohort, store):
    row = patches.table(store, dict(split='test')).iloc[0]
    body = cohort.bodies[cohort.bodies.body_id == row.body_id]
    points = body[[f'{a}{i}' for i in range(1, 7) for a in 'xy']].to_numpy().reshape(1, 6, 2)
    film = Film.of_stored(
        np.asarray(Image.open(Path(cohort.about['root']) / f'{row.film_id}.png')), points
    )
    panels = dict(
        (title, image) for title, image, _ in patches.steps(film, inverted=row.inverted, size=SIZE)
    )
    mine = patches.standardise(contents(store)['pixels'][row.name])
    np.testing.assert_allclose(
        panels['9 z-score'], mine, atol=0.02
    )  # the film's depth is full in the test films


@pytest.mark.parametrize('profile', ['demo', 'paper', 'paper-phantom'])
def test_profiles_measure_at_the_stated_size(profile):
    given = settings_of(profile)['90_benchmarks']
    assert (given['film_height'], given['film_width'], given['scaling_films'][-1]) == (
        3520,
        1760,
        2000,
    )


@pytest.mark.parametrize(
    'module',
    ['frame', 'radiograph', 'geometry', 'inversion', 'augmentation', 'patches', 'runtime'],
)
def test_a_store_knows_the_code_that_made_it(monkeypatch, module):
    read, code = Path.read_bytes, patches._code.__wrapped__
    before = code()
    monkeypatch.setattr(
        Path, 'read_bytes', lambda self: read(self) + b'#' * (self.name == f'{module}.py')
    )
    assert code() != before


@pytest.mark.parametrize('package', ['cv2', 'pydicom'])
def test_a_store_knows_the_packages_that_made_it(monkeypatch, package):
    before = patches._code.__wrapped__()
    monkeypatch.setattr(f'{package}.__version__', '0')
    assert patches._code.__wrapped__() != before


def test_the_shown_copy_is_the_stored_one(cohort, store):
    table = patches.table(store)
    row = table[table['copy'] == 1].iloc[0]
    body = cohort.bodies[cohort.bodies.body_id == row.body_id]
    points = body[[f'{a}{i}' for i in range(1, 7) for a in 'xy']].to_numpy().reshape(1, 6, 2)
    film = Film.of_stored(
        np.asarray(Image.open(Path(cohort.about['root']) / f'{row.film_id}.png')), points
    )
    panels = dict(
        (title, image)
        for title, image, _ in patches.steps(
            film, inverted=row.inverted, size=SIZE, body_id=row.body_id
        )
    )
    np.testing.assert_allclose(
        panels['9 z-score (training)'],
        patches.standardise(contents(store)['pixels'][row.name]),
        atol=0.02,
    )


def test_a_large_choice_is_not_held(store, monkeypatch):
    held = []
    monkeypatch.setattr(
        patches, '_held', lambda *args: held.append(args) or np.zeros((1, SIZE, SIZE), np.uint16)
    )
    assert inspect.signature(patches.dataset).parameters['cache_mb'].default <= 1000
    patches.dataset(store, cache_mb=1e-4)
    assert not held
    patches.dataset(store)
    assert held
