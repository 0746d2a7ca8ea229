"The cohort: bad input, and what must hold for any partition, certificate and masked table"

import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ocf_study import (
    cohort,
    description,
    disclosure,
    genant,
    geometry,
    manifest,
    nhanes,
    overlay,
    placement,
    radiograph,
    runtime,
)
from ocf_study.manifest import DataError

SIX_X, SIX_Y = ([f'XQQM{c}{i}' for i in range(1, 7)] for c in 'XY')


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    return cohort.write_example(tmp_path_factory.mktemp('data') / 'mros', subjects=20)


@pytest.fixture
def root(source, tmp_path):
    return shutil.copytree(source, tmp_path / 'mros')


@pytest.fixture(scope='module')
def c(source):
    return cohort.read_mros(source)


def rows(root):
    return pd.read_csv(root / 'annotations.csv', dtype=str, keep_default_na=False)


def write(root, a):
    a.to_csv(root / 'annotations.csv', index=False)


def problems(root, read=cohort.read_mros):
    with pytest.raises(DataError) as e:
        read(root)
    return e.value.problems


# --- reading MrOS ---


def test_reads_what_is_there(c, source):
    a = rows(source)
    assert len(c.bodies) == len(a) == 180 and len(c.films) == 40
    assert (c.bodies.sq == a.XQSQ.astype(float)).all() and (
        c.bodies.label == genant.to_label(a.XQSQ.astype(float))
    ).all()
    np.testing.assert_allclose(
        cohort.points(c.bodies), np.stack([a[SIX_X].astype(float), a[SIX_Y].astype(float)], -1)
    )
    assert (c.bodies.region == a.SPINE_TYPE).all() and (c.films.facing == 'right').all()
    assert (
        c.bodies.body_id[0] == f'{a.ID[0]}V1L-{a.XQVERT[0]}'
        and (c.films.width == 300).all()
        and (c.films.source == 'film').all()
    )
    image = c.read(c.films.film_id[0])
    stored = pydicom.dcmread(source / c.films.path[0]).pixel_array
    np.testing.assert_array_equal(
        np.argsort(image[:, ::-1].ravel(), kind='stable'), np.argsort(stored.ravel(), kind='stable')
    )


def test_letters_are_counted_and_need_no_points(root):
    a = rows(root)
    for i, letter in ((2, 'N'), (7, 'A'), (8, 'A'), (30, 'M')):
        a.loc[i, 'XQSQ'] = letter
        a.loc[i, SIX_X + SIX_Y] = ''
    write(root, a)
    flow = cohort.read_mros(root).flow.set_index('step')
    assert flow.bodies.to_dict() == {
        'annotated': 180,
        'excluded: graded A': 2,
        'excluded: graded M': 1,
        'excluded: graded N': 1,
        'excluded: second annotation': 0,
        'included': 176,
    }


def test_a_subject_of_letters_alone_leaves_the_flow(root):
    a = rows(root)
    a.loc[a.ID == a.ID[0], 'XQSQ'] = 'N'
    write(root, a)
    shutil.rmtree(root / a.ID[0][:2] / a.ID[0])  # no film is needed for what was not graded
    c = cohort.read_mros(root)
    assert c.flow.set_index('step').loc[
        'excluded: graded N', ['subjects', 'films', 'bodies']
    ].tolist() == [1, 2, 9]
    assert a.ID[0] not in set(c.subjects.subject_id) | set(c.films.subject_id)


def test_double_annotation_merges_where_labels_agree(root):
    a = rows(root)
    a.loc[4, 'XQSQ'] = '0'
    second = a.iloc[[4]].assign(XQSQ='2.5')
    write(root, pd.concat([a.iloc[:5], second, a.iloc[5:]]))
    c = cohort.read_mros(root)
    assert (
        len(c.bodies) == 180
        and c.bodies.sq[4] == 0
        and c.flow.set_index('step').bodies['excluded: second annotation'] == 1
    )
    write(root, pd.concat([a.iloc[:5], second.assign(XQSQ='3'), a.iloc[5:]]))
    (p,) = problems(root)
    assert p.row == 7 and 'lines 6, 7' in p.message and p.value == '0, 3'


def test_known_visit_lies_all_on_the_thoracic_film(source, tmp_path):
    root = tmp_path / 'mros'
    a = rows(source)
    first = a[(a.ID == a.ID[0]) & (a.SPINE_TYPE == 'T')].assign(ID='PO7267', VISIT='2')
    (root / 'PO/PO7267').mkdir(parents=True)
    shutil.copy(next(source.glob('PO/*/*T.dcm')), root / 'PO/PO7267/MRPO7267V2T.dcm')
    write(root, first)
    c = cohort.read_mros(root)
    assert set(c.bodies.film_id) == {'PO7267V2T'}


def test_known_film_is_read_upside_down(source, tmp_path):
    root = tmp_path / 'mros'
    a = rows(source)
    one = a[a.ID == a.ID[0]].assign(ID='PO6538')
    for film in 'LT':
        (root / 'PO/PO6538').mkdir(parents=True, exist_ok=True)
        shutil.copy(
            source / f'PO/{a.ID[0]}/MR{a.ID[0]}V1{film}.dcm',
            root / f'PO/PO6538/MRPO6538V1{film}.dcm',
        )
    write(root, one)
    c = cohort.read_mros(root)
    assert c.films.set_index('film_id').flip_vertical.to_dict() == {
        'PO6538V1L': False,
        'PO6538V1T': True,
    }
    first = cohort.read_mros(source)
    np.testing.assert_array_equal(c.read('PO6538V1T'), first.read(f'{a.ID[0]}V1T')[::-1])
    # MrOS's points are those of the upright film: in the study's frame they stay as they are
    there, here = c.film('PO6538V1T'), first.film(f'{a.ID[0]}V1T')
    np.testing.assert_allclose(there.points, here.points)
    upside = cohort.points(c.bodies[c.bodies.film_id == 'PO6538V1T'])
    np.testing.assert_allclose(upside[..., 1], here.picture.shape[0] - here.points[..., 1])


def test_a_film_whose_rows_do_not_run_down_is_refused(root):
    "Where y never falls back, no body is lost as a second annotation."
    a = rows(root)
    first = a.index[a.ID == a.ID[0]]
    for c in SIX_Y:
        a.loc[first, c] = (a.loc[first, c].astype(float) * 0.5).astype(str)
    for c in SIX_Y:
        a.loc[first[5:], c] = (a.loc[first[5:], c].astype(float) + 200).astype(str)
    a.loc[first[5:], 'XQVERT'] = ['T12', 'L1', 'L2', 'L3']
    write(root, a)
    found = problems(root)
    assert [(p.row, p.column, p.value) for p in found if 'does not follow' in p.message] == [
        (7, 'XQVERT', 'T12')
    ]


def test_a_second_annotation_stands_beside_the_first(root):
    a = rows(root)
    write(root, pd.concat([a.iloc[:3], a.iloc[[0]], a.iloc[3:]]))
    assert any('falls back more than once' in p.message for p in problems(root))
    assert [
        p.row
        for p in problems(root, lambda r: cohort.read_mros(r, film_rule='spine_type'))
        if 'does not follow' in p.message
    ] == [5]


def test_spine_type_can_rule(root):
    a = rows(root)
    mixed = a.ID == a.ID[0]
    write(
        root, pd.concat([a[mixed].iloc[::-1], a[~mixed]])
    )  # up the spine: y falls back at every row
    assert any('falls back more than once' in p.message for p in problems(root))
    c = cohort.read_mros(root, film_rule='spine_type')
    assert len(c.bodies) == 180
    stated = a.assign(SPINE_TYPE=a.SPINE_TYPE.where(a.index != 3, 'T'))
    write(root, stated)
    (warning,) = cohort.check(root)
    assert (warning.row, warning.severity, warning.column) == (5, 'warning', 'SPINE_TYPE')


def test_data_may_lie_on_any_file_system(source, c, tmp_path):
    import fsspec

    fs = fsspec.filesystem('memory')
    for f in source.rglob('*'):
        if f.is_file():
            fs.pipe(f'/mros/{f.relative_to(source)}', f.read_bytes())
    m = cohort.read('memory://mros')
    pd.testing.assert_frame_equal(m.bodies, c.bodies)
    np.testing.assert_array_equal(m.read(c.films.film_id[3]), c.read(c.films.film_id[3]))
    assert cohort.load(m.save(tmp_path / 'cohort')).about['root'] == 'memory://mros'


# --- everything that can be wrong, listed at once ---


def point(a, i, x=None, y=None, k=3):
    if x is not None:
        a.loc[i, f'XQQMX{k}'] = str(x)
    if y is not None:
        a.loc[i, f'XQQMY{k}'] = str(y)


def reverse(a, i):
    for c in (SIX_X, SIX_Y):
        a.loc[i, c] = a.loc[i, c[::-1]].to_numpy()


def mirror_points(a, i):
    for c in (SIX_X, SIX_Y):
        a.loc[i, c] = a.loc[i, [c[k] for k in (2, 1, 0, 5, 4, 3)]].to_numpy()


def coincide(a, i):
    for c in (SIX_X, SIX_Y):
        a.loc[i, c[3]] = a.loc[i, c[2]]


def bend(a, i):
    for c in (SIX_X, SIX_Y):
        a.loc[i, c[2]] = str(a.loc[i, [c[0], c[3], c[5]]].astype(float).mean())


FAULTS = {
    'level': (
        lambda a: a.__setitem__('XQVERT', a.XQVERT.mask(a.index == 5, 'C7')),
        7,
        'C7',
        'is not one of',
    ),
    'grade': (
        lambda a: a.__setitem__('XQSQ', a.XQSQ.mask(a.index == 6, '8')),
        8,
        '8',
        'neither an SQ class nor a letter',
    ),
    'letter': (
        lambda a: a.__setitem__('XQSQ', a.XQSQ.mask(a.index == 6, 'X')),
        8,
        'X',
        'neither an SQ class nor a letter',
    ),
    'visit': (lambda a: a.__setitem__('VISIT', a.VISIT.mask(a.index == 6, '3')), 8, '3', ''),
    'subject leaving the folder': (
        lambda a: a.__setitem__('ID', a.ID.mask(a.index == 6, '../x1')),
        8,
        '../x1',
        '',
    ),
    'outside, right': (lambda a: point(a, 4, x=300.5), 6, None, 'outside the film of 300 x 420'),
    'outside, left': (lambda a: point(a, 4, x=-1, k=1), 6, None, 'outside the film'),
    'outside, below': (lambda a: point(a, 4, y=421, k=5), 6, None, 'outside the film'),
    'upside down': (lambda a: reverse(a, 9), 11, None, 'wrong order'),
    'facing the other way': (lambda a: mirror_points(a, 9), 11, None, 'wrong order'),
    'coincident': (lambda a: coincide(a, 9), 11, None, 'coincide'),
    'not convex': (lambda a: bend(a, 9), 11, None, 'not convex'),
    'point missing': (lambda a: point(a, 9, x=''), 11, None, 'all six points'),
    'no number': (lambda a: point(a, 9, x='left'), 11, 'left', 'is not a finite number'),
    'infinite': (lambda a: point(a, 9, x='inf'), 11, 'inf', 'is not a finite number'),
}


@pytest.mark.parametrize('fault', FAULTS)
def test_a_bad_row_is_named(root, fault):
    change, line, value, message = FAULTS[fault]
    a = rows(root)
    change(a)
    write(root, a)
    found = [p for p in problems(root) if p.row == line]
    assert found and any(message in p.message for p in found)
    assert all(p.file == 'annotations.csv' and p.column for p in found)
    if value:
        assert value in [p.value for p in found]


def test_the_films_size_is_told_of_points_outside_it_alone(root):
    a = rows(root)
    point(a, 4, x=9999, k=1)
    write(root, a)
    assert {'px' in p.message for p in problems(root) if 'wrong order' in p.message} == {False}
    assert [
        p.message.endswith('of 300 x 420 px') for p in problems(root) if 'outside' in p.message
    ] == [True]


def test_all_problems_at_once(root):
    a, lines = rows(root), set()
    for at, name in zip(
        (0, 20, 40, 60, 80, 100),
        ('level', 'grade', 'outside, right', 'upside down', 'coincident', 'point missing'),
        strict=True,
    ):
        shifted = a.iloc[at:].reset_index(drop=True)
        FAULTS[name][0](shifted)
        a = pd.concat([a.iloc[:at], shifted], ignore_index=True)
        lines.add(FAULTS[name][1] + at)
    write(root, a)
    gone = next(root.glob('BI/*/*T.dcm'))
    gone.unlink()
    torn = next(root.glob('PO/*/*L.dcm'))
    torn.write_bytes(b'no film')
    found = problems(root)
    assert {p.row for p in found if p.row} == lines
    assert {p.file for p in found if not p.row} == {str(x.relative_to(root)) for x in (gone, torn)}


def colour(ds):
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, 'RGB', 0
    ds.PixelData = ds.PixelData * 3


def frames(ds):
    ds.NumberOfFrames = 2
    ds.PixelData = ds.PixelData * 2


@pytest.mark.parametrize('change, message', [(colour, 'colour'), (frames, 'frame')])
def test_a_film_of_another_kind_is_refused_from_its_header(root, change, message):
    path = sorted(root.glob('PO/*/*L.dcm'))[0]
    ds = pydicom.dcmread(path)
    change(ds)
    ds.save_as(path)
    (p,) = problems(root)
    assert message in p.message and p.file == str(path.relative_to(root))


def test_constant_film_is_found_by_its_pixels(root):
    for path in sorted(root.glob('PO/*/*L.dcm'))[:2]:
        ds = pydicom.dcmread(path)
        ds.PixelData = bytes(len(ds.PixelData))
        ds.save_as(path)
    with pytest.raises(DataError) as e:
        cohort.pixel_hashes(cohort.read_mros(root))
    blank = sorted(str(p.relative_to(root)) for p in root.glob('PO/*/*L.dcm'))[:2]
    assert [
        (p.file.endswith(b), p.column, p.value, 'constant' in p.message)
        for p, b in zip(e.value.problems, blank, strict=True)
    ] == 2 * [(True, 'grey level', 0, True)]


def test_a_film_that_ends_early_is_found_by_the_check(root):
    path = sorted(root.glob('PO/*/*L.dcm'))[0]
    path.write_bytes(path.read_bytes()[:-1])
    (p,) = problems(root)
    assert p.file == str(path.relative_to(root)) and 'truncated' in p.message


@pytest.mark.parametrize('column', ['XQQMX1', 'XQQMY6'])
def test_a_point_column_that_is_missing(root, column):
    write(root, rows(root).drop(columns=column))
    (p,) = problems(root)
    assert (p.file, p.column, p.message) == ('annotations.csv', column, 'column is missing')


def test_no_graded_body_is_an_error(root):
    a = rows(root)
    write(root, a.assign(XQSQ='M'))
    (p,) = problems(root)
    assert (p.column, p.message) == ('XQSQ', 'no body is graded')
    write(root, a[:0])
    (p,) = problems(root)
    assert (p.file, p.message) == ('annotations.csv', 'holds no row')


@pytest.mark.parametrize('name', ['films', 'bodies', 'subjects'])
def test_an_empty_table_is_an_error(tables, name):
    pd.read_csv(tables / f'{name}.csv', dtype=str)[:0].to_csv(tables / f'{name}.csv', index=False)
    (p,) = [p for p in problems(tables, cohort.read_tables) if p.file == f'{name}.csv']
    assert p.message == 'holds no row'


@pytest.mark.parametrize('layout', ['root', 'tables'])
def test_what_is_not_told_of_a_subject_is_missing(layout, request):
    folder = request.getfixturevalue(layout)
    s = pd.read_csv(folder / 'subjects.csv')
    s[['subject_id', 'visit']].to_csv(folder / 'subjects.csv', index=False)
    assert (
        cohort.read(folder).subjects[['age', 'bmi', 'sex', 'race_ethnicity']].isna().all(axis=None)
    )


@pytest.mark.parametrize(
    'content',
    [b'', b'\xff\xfe\x00bad', b'ID,VISIT\nPO1,1,extra,extra\n', b'a,b\n1,2\n', b'ID,"VISIT\n'],
)
def test_a_file_that_is_no_table(root, content):
    (root / 'annotations.csv').write_bytes(content)
    assert all(p.file == 'annotations.csv' for p in problems(root))


def test_blank_lines_do_not_shift_the_report(root):
    lines = (root / 'annotations.csv').read_text().splitlines()
    lines.insert(3, '')
    lines[10] = (
        lines[10].replace(',L', ',Q', 1) if ',L' in lines[10] else lines[10].replace(',T', ',Q', 1)
    )
    (root / 'annotations.csv').write_text('\n'.join(lines) + '\n\n')
    assert {p.row for p in problems(root)} == {11}


def test_no_folder_no_layout(tmp_path):
    assert 'no such data folder' in str(cohort.check(tmp_path / 'none')[0])
    assert 'neither annotations.csv' in str(cohort.check(tmp_path)[0])
    assert problems(tmp_path)[0].message == 'no such file'


def test_subjects_may_be_missing_or_incomplete(root):
    s = pd.read_csv(root / 'subjects.csv', dtype=str)
    s.iloc[1:].to_csv(root / 'subjects.csv', index=False)
    c = cohort.read_mros(root)
    assert [p.severity for p in cohort.check(root)] == [
        'warning'
    ] and c.subjects.age.isna().sum() == 1
    (root / 'subjects.csv').unlink()
    assert cohort.read_mros(root).subjects.site.notna().all()
    s.assign(age='old').to_csv(root / 'subjects.csv', index=False)
    assert {p.file for p in problems(root)} == {'subjects.csv'}


# --- three tables ---


@pytest.fixture
def tables(root, c):
    (root / 'annotations.csv').unlink()
    c.subjects.to_csv(root / 'subjects.csv', index=False)
    c.films[['film_id', 'subject_id', 'visit', 'region', 'path', 'facing']].to_csv(
        root / 'films.csv', index=False
    )
    c.bodies.drop(columns='label').to_csv(root / 'bodies.csv', index=False)
    return root


def test_tables_give_the_same_cohort(tables, c):
    t = cohort.read(tables)
    pd.testing.assert_frame_equal(t.bodies.reset_index(drop=True), c.bodies, check_dtype=False)
    b = pd.read_csv(tables / 'bodies.csv')
    (tables / 'bodies.csv').unlink()
    b.to_parquet(tables / 'bodies.parquet')
    assert len(cohort.read(tables).bodies) == len(c.bodies)


@pytest.mark.parametrize(
    'table, column, value, message',
    [
        ('films', 'path', '../../secret.dcm', 'inside the data folder'),
        ('films', 'path', '/etc/passwd', 'inside the data folder'),
        ('films', 'subject_id', 'nobody', 'is not in subjects.csv'),
        ('bodies', 'film_id', 'nofilm', 'is not in films.csv'),
        ('bodies', 'level', 'S1', 'is not one of'),
        ('bodies', 'sq', '9', 'is not one of'),
        ('films', 'facing', 'up', 'is not one of'),
        ('bodies', 'label', '1', 'contradicts'),
        ('films', 'width', '299', 'the file says 300'),
    ],
)
def test_bad_cells_of_tables(tables, table, column, value, message):
    d = pd.read_csv(tables / f'{table}.csv', dtype=str)
    if column not in d:
        d[column] = ''
    if column == 'label':
        d.loc[0, 'sq'] = '0'
    d.loc[0, column] = value
    d.to_csv(tables / f'{table}.csv', index=False)
    assert any(message in p.message and p.row == 2 for p in problems(tables, cohort.read_tables)), (
        problems(tables, cohort.read_tables)
    )


def test_all_problems_of_tables_at_once(tables):
    s, f, b = (pd.read_csv(tables / f'{n}.csv', dtype=str) for n in ('subjects', 'films', 'bodies'))
    s.loc[1, 'age'], f.loc[2, 'path'], b.loc[3, 'level'], b.loc[20, 'x3'] = (
        'old',
        'PO/none.dcm',
        'S1',
        '4000',
    )
    b.loc[30, cohort.XY] = cohort.points(b)[30, ::-1].ravel().astype(str)
    for n, d in (('subjects', s), ('films', f), ('bodies', b)):
        d.to_csv(tables / f'{n}.csv', index=False)
    found = problems(tables, cohort.read_tables)
    assert {(p.file, p.row) for p in found} == {
        ('subjects.csv', 3),
        ('films.csv', 4),
        ('bodies.csv', 5),
        ('bodies.csv', 22),
        ('bodies.csv', 32),
    }
    assert len(found) == 5


def test_one_body_id_on_two_films_is_an_error(tables):
    "Numbered film by film, as programs do: nothing is dropped as a second annotation"
    b = pd.read_csv(tables / 'bodies.csv', dtype=str)
    b.assign(body_id=b.groupby('film_id').cumcount().astype(str), sq='0').to_csv(
        tables / 'bodies.csv', index=False
    )
    found = problems(tables, cohort.read_tables)
    assert len(found) == len(b) - 5 and all(
        'with another film_id' in p.message and p.column == 'body_id' for p in found
    )


def points_upside_down(root, film_ids):
    "Points as they lie on films of 420 px that are stored upside down."
    bodies = pd.read_csv(root / 'bodies.csv')
    mine = bodies.film_id.isin(film_ids)
    bodies.loc[mine, cohort.XY[1::2]] = 420 - bodies.loc[mine, cohort.XY[1::2]]
    bodies.to_csv(root / 'bodies.csv', index=False)


def test_a_switch_with_gaps_is_read_as_it_was_checked(tables, c):
    points_upside_down(tables, c.films.film_id[[0, 2]])
    change(tables, 'films', flip_vertical={0: '1.0', 1: '0.0', 2: 'TRUE'})
    assert cohort.read(tables).films.flip_vertical.tolist()[:4] == [True, False, True, False]
    f = pd.read_csv(tables / 'films.csv').assign(
        flip_vertical=lambda d: d.flip_vertical.map({'1.0': 1.0, '0.0': 0.0, 'TRUE': 1.0})
    )
    (tables / 'films.csv').unlink()
    f.to_parquet(tables / 'films.parquet')
    assert cohort.read(tables).films.flip_vertical.tolist()[:4] == [True, False, True, False]


def test_whole_numbers_written_with_a_point_and_gaps_are_whole_numbers(tables, c):
    b, f = (pd.read_csv(tables / f'{n}.csv', dtype=str) for n in ('bodies', 'films'))
    b.assign(visit=[''] * 3 + ['1.0'] * (len(b) - 3)).to_csv(tables / 'bodies.csv', index=False)
    f.assign(visit='1.0').to_csv(tables / 'films.csv', index=False)
    assert len(cohort.read(tables).bodies) == len(c.bodies) and not cohort.check(tables)


def test_every_row_may_be_wrong(tables):
    change(tables, 'films', facing=dict.fromkeys(range(40), 'front'))
    assert sum(p.column == 'facing' for p in problems(tables, cohort.read_tables)) == 40


def test_line_ends_of_old_programs(tables):
    (tables / 'films.csv').write_bytes(
        (tables / 'films.csv').read_bytes().replace(b'\r', b'').replace(b'\n', b'\r')
    )
    assert not cohort.check(tables)


def test_parquet_is_read_like_csv_and_not_without_bounds(tables, monkeypatch):
    s = pd.read_csv(tables / 'subjects.csv', dtype=str)
    (tables / 'subjects.csv').unlink()
    s.assign(bmi=s.bmi.where(np.arange(len(s)) % 2 == 0, 'NA')).to_parquet(
        tables / 'subjects.parquet'
    )
    assert cohort.read(tables).subjects.bmi.isna().sum() == len(s) // 2
    monkeypatch.setattr(manifest, 'MOST_CELLS', 50)
    assert [
        'cells are more than 50' in p.message for p in problems(tables, cohort.read_tables)
    ] == [True]


def test_grey_films_in_three_channels_are_films(tables, c):
    from PIL import Image

    grey = np.random.default_rng(0).integers(0, 255, (420, 300), dtype=np.uint8)
    Image.fromarray(np.repeat(grey[..., None], 3, -1)).save(tables / 'film.png')
    change(tables, 'films', path={0: 'film.png'})
    assert not cohort.check(tables)
    Image.fromarray(np.stack([grey, grey[::-1], grey], -1)).save(tables / 'film.png')
    assert [('colour' in p.message, p.row) for p in cohort.check(tables)] == [(True, 2)]


def test_check_says_of_films_what_reading_them_says(tables, monkeypatch):
    "Also which tag it is and what stands there; in a large folder only the pixels can hide more"
    films = sorted(tables.rglob('*.dcm'))

    def change(path, **tags):
        ds = pydicom.dcmread(path)
        for tag, value in tags.items():
            setattr(ds, tag, value)
        ds.save_as(path)

    change(films[0], BitsStored=20)
    change(films[1], PixelSpacing=['0.3', '0.1'])
    change(films[2], PixelData=bytes(len(pydicom.dcmread(films[2]).PixelData)))
    change(films[3], BitsStored=11, HighBit=10)
    rgb = np.random.default_rng(0).integers(0, 255, (420, 300, 3), np.uint8)
    tags = dict(SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation='RGB')
    tags |= dict(BitsAllocated=8, BitsStored=8, HighBit=7)
    change(films[4], PixelData=rgb.tobytes(), **tags)
    for whole in (200, 0):
        monkeypatch.setattr(cohort, 'WHOLE', whole)
        monkeypatch.setattr(cohort, 'SOME', 0)
        said = {
            Path(p.value).name: (p.severity, p.message)
            for p in cohort.check(tables)
            if p.column == 'path'
        }
        assert said[films[0].name] == ('error', 'BitsStored = 20: 8 to 16 bits are read')
        assert said[films[1].name][0] == 'warning'
        assert said[films[1].name][1].startswith("PixelSpacing = '0.3 x 0.1 mm': pixels are not")
        assert said[films[2].name][1].startswith('grey level = 0: constant')
        assert said[films[4].name] == ('error', 'channels = 3: a colour picture, not a radiograph')
        assert (films[3].name in said) == (whole == 200)
    assert any(
        'BitsStored = 11: levels reach' in p.message for p in cohort.check(tables, pixels=True)
    )


def test_the_film_rule_is_one_that_there_is(root):
    for rule in ('Y', 'spine-type'):
        (problem,) = problems(root, partial(cohort.read_mros, film_rule=rule))
        assert 'neither y nor spine_type' in problem.message


def test_duplicate_body_with_another_label_is_refused(tables):
    b = pd.read_csv(tables / 'bodies.csv', dtype=str)
    again = b.iloc[[0]].assign(sq='5' if float(b.sq[0]) < 3 else '0')
    pd.concat([b, again]).to_csv(tables / 'bodies.csv', index=False)
    assert any(p.row == len(b) + 2 for p in problems(tables, cohort.read_tables))


def test_double_annotation_in_tables_merges_where_labels_agree(tables, c):
    b = pd.read_csv(tables / 'bodies.csv', dtype=str)
    pd.concat([b, b.iloc[[5]]]).to_csv(tables / 'bodies.csv', index=False)
    t = cohort.read_tables(tables)
    assert t.bodies.body_id.is_unique and len(t.bodies) == len(c.bodies)
    assert t.flow.set_index('step').bodies.to_dict() == {
        'annotated': 181,
        'excluded: second annotation': 1,
        'included': 180,
    }


def change(root, table, **cells):
    d = pd.read_csv(root / f'{table}.csv', dtype=str)
    for column, values in cells.items():
        if column not in d:
            d[column] = ''
        for i, v in values.items():
            d.loc[i, column] = v
    d.to_csv(root / f'{table}.csv', index=False)


def upside_down(root, film_id):
    "Store one film of three tables upside down, its points with it."
    films = pd.read_csv(root / 'films.csv')
    path = root / films.set_index('film_id').path[film_id]
    ds = pydicom.dcmread(path)
    ds.PixelData = ds.pixel_array[::-1].tobytes()
    ds.save_as(path)
    points_upside_down(root, [film_id])
    films.assign(flip_vertical=films.film_id == film_id).to_csv(root / 'films.csv', index=False)


def test_a_film_that_is_stored_upside_down_is_turned_with_its_points(tables, c, tmp_path):
    film_id = c.films.film_id[0]
    before = cohort.read(tables).film(film_id)
    upside_down(tables, film_id)
    assert not cohort.check(tables)
    after = cohort.read(tables).film(film_id)
    np.testing.assert_array_equal(after.picture, before.picture)
    np.testing.assert_allclose(after.points, before.points, atol=1e-9)
    overlay.write(cohort.inspect(tables), tables, tmp_path / 'pictures')
    assert (tmp_path / 'pictures' / f'{film_id}.png').exists()


def test_a_number_of_a_table_is_shown_as_one(tables):
    f = pd.read_csv(tables / 'films.csv')
    f.assign(width=150).to_csv(tables / 'films.csv', index=False)
    assert told(tables)[0] == 'error: films.csv, line 2, width = 150: the file says 300'


def test_points_that_do_not_hang_with_their_film_are_told(tables, c):
    "Points of the upright picture, with a film that is said to be stored upside down; the reverse."
    film_id = c.films.film_id[0]
    upside_down(tables, film_id)
    films = pd.read_csv(tables / 'films.csv')
    films.assign(flip_vertical=False).to_csv(tables / 'films.csv', index=False)
    found = cohort.check(tables)
    assert found and all('stored upside down (`flip_vertical`)' in p.message for p in found)
    films.assign(flip_vertical=True).to_csv(tables / 'films.csv', index=False)
    found = cohort.check(tables)
    said = {p.message.partition(': ')[0] for p in found}
    assert all('not stored upside down (`flip_vertical`)' in p.message for p in found)
    mine = set(c.bodies.body_id[c.bodies.film_id == film_id])
    assert said == set(c.bodies.body_id) - mine


def test_points_of_an_upside_down_film_are_repaired_in_its_frame(tables, c):
    film_id = c.films.film_id[0]
    upside_down(tables, film_id)
    right = cohort.read(tables).film(film_id).points
    b = pd.read_csv(tables / 'bodies.csv')
    b.loc[1, cohort.XY] = cohort.points(b)[1, ::-1].ravel()
    b.to_csv(tables / 'bodies.csv', index=False)
    assert [p.severity for p in cohort.check(tables)] == ['error']
    mended = cohort.read_tables(tables, repair=True)
    assert mended.about['repaired'] == 1
    np.testing.assert_allclose(mended.film(film_id).points, right, atol=1e-9)


def test_tables_that_contradict_each_other(tables, c):
    def found():
        return [(p.file, p.row, p.column, p.value) for p in problems(tables, cohort.read_tables)]

    other = c.subjects.subject_id[c.subjects.subject_id != c.bodies.subject_id[0]].iloc[0]
    kept = {t: (tables / f'{t}.csv').read_bytes() for t in ('films', 'bodies')}
    change(tables, 'bodies', subject_id={0: other}, visit={1: '2'}, region={2: 'T'})
    assert set(found()) == {
        ('bodies.csv', 2, 'subject_id', other),
        ('bodies.csv', 3, 'visit', 2),
        ('bodies.csv', 4, 'region', 'T'),
    }
    (tables / 'bodies.csv').write_bytes(kept['bodies'])
    change(tables, 'films', path={3: c.films.path[2]})
    assert found() == [('films.csv', 5, 'path', c.films.path[2])]
    change(tables, 'films', path={3: 'no/such.dcm'})
    assert found() == [('films.csv', 5, 'path', 'no/such.dcm')]
    (tables / 'films.csv').write_bytes(kept['films'])
    sq = '5' if c.bodies.label[0] == 0 else '0'
    pd.concat(
        [
            pd.read_csv(tables / 'bodies.csv', dtype=str),
            pd.read_csv(tables / 'bodies.csv', dtype=str).iloc[[0]].assign(body_id='again', sq=sq),
        ]
    ).to_csv(tables / 'bodies.csv', index=False)
    assert [p.message for p in problems(tables, cohort.read_tables)][0].endswith(
        'with different labels'
    )
    (tables / 'bodies.csv').write_bytes(kept['bodies'].replace(b'x6', b'x1', 1))
    assert 'x1: column stands twice' in str(problems(tables, cohort.read_tables)[0])


def test_a_film_without_bodies_is_told(tables, c):
    b = pd.read_csv(tables / 'bodies.csv', dtype=str)
    b[b.film_id != c.films.film_id[4]].to_csv(tables / 'bodies.csv', index=False)
    (p,) = cohort.check(tables)
    assert (p.severity, p.row, p.value) == ('warning', 6, c.films.film_id[4])


def test_an_infinite_value_is_text_for_a_machine():
    r = manifest.report(
        [manifest.Problem('a', 1, 'x', v, 'm') for v in (np.inf, float('nan'), 1.5, True, None)]
    )
    assert [p['value'] for p in r['problems']] == ['inf', 'nan', 1.5, True, None] and json.loads(
        json.dumps(r, allow_nan=False)
    ) == r


def test_a_negative_ratio_is_refused(c):
    with pytest.raises(ValueError, match='at least 0'):
        cohort.downsample(cohort.partition(c, 7).bodies, -1)


def test_bad_data_leaves_no_folder(root, tmp_path):
    a = rows(root)
    FAULTS['level'][0](a)
    write(root, a)
    done = ocf('run', '--profile', 'smoke', '--out', tmp_path / 'run', '--data', root)
    assert (
        done.returncode == 1
        and "line 7, XQVERT = 'C7'" in done.stderr
        and not (tmp_path / 'run').exists()
    )


def test_a_leak_stops_the_run(root, tmp_path):
    films = sorted(root.glob('*/*/*L.dcm'))
    for path in films[1:]:
        shutil.copyfile(films[0], path)
    done = ocf(
        'run',
        '--profile',
        'smoke',
        '--out',
        tmp_path / 'run',
        '--data',
        root,
        '--until',
        '00_cohort',
    )
    found = (tmp_path / 'run' / 'work' / 'problems.txt').read_text()
    assert (
        done.returncode == 1
        and found.startswith('pixels: ')
        and films[1].stem.removeprefix('MR') in found
    )
    assert not (tmp_path / 'run' / 'work' / 'cohort').exists() and not list(
        (tmp_path / 'run').glob('tables/*.csv')
    )


def test_false_is_false(tables, c):
    f = pd.read_csv(tables / 'films.csv', dtype=str)
    f['flip_vertical'] = 'False'
    f.loc[1, 'flip_vertical'], f.loc[2, 'flip_vertical'] = 'true', ''
    f.to_csv(tables / 'films.csv', index=False)
    points_upside_down(tables, f.film_id[[1]])
    assert np.flatnonzero(cohort.read_tables(tables).films.flip_vertical).tolist() == [1]
    f.loc[3, 'flip_vertical'] = 'perhaps'
    f.to_csv(tables / 'films.csv', index=False)
    (p,) = problems(tables, cohort.read_tables)
    assert (p.row, p.column, p.value) == (5, 'flip_vertical', 'perhaps')


def test_facing_per_film(tables, c):
    f = pd.read_csv(tables / 'films.csv', dtype=str)
    b = pd.read_csv(tables / 'bodies.csv')
    left = b.film_id == f.film_id[0]
    for k in range(1, 7):
        b.loc[left, f'x{k}'] = 300 - b.loc[left, f'x{k}']
    b.to_csv(tables / 'bodies.csv', index=False)
    assert len(problems(tables, cohort.read_tables)) == left.sum()
    f.loc[0, 'facing'] = 'left'
    f.to_csv(tables / 'films.csv', index=False)
    t = cohort.read_tables(tables)
    np.testing.assert_array_equal(t.read(f.film_id[0]), c.read(f.film_id[0])[:, ::-1])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.booleans())
def test_any_order_is_repaired(orders, left):
    p = nhanes.points(nhanes.bodies().iloc[: len(orders)])
    if left:
        p = p * [-1, 1] + [2000, 0]
    clicked = np.take_along_axis(p, cohort._ORDERS[orders][..., None], 1)
    repaired, which = cohort.repair_order(clicked, 'left' if left else 'right')
    np.testing.assert_array_equal(repaired, p)
    assert which.tolist() == [o > 0 for o in orders]


def test_no_nhanes_body_is_refused():
    p = nhanes.points(nhanes.bodies())
    assert not placement.faults(p, 'right').drop(columns='outside').to_numpy().any()
    assert placement.faults(p, 'left').order.all()


def test_what_the_check_lets_pass_can_be_cut():
    p = np.tile(nhanes.points(nhanes.bodies().iloc[:2000]), (20, 1, 1))
    draw = np.random.default_rng(0)
    p = p + draw.normal(0, 25, p.shape) * draw.random((len(p), 1, 1))
    p = p - p.min((0, 1)) + 5
    width, height = np.ceil(p.max((0, 1))) + 5
    for facing in ('right', 'left'):
        q = p if facing == 'right' else geometry.mirror(p, width)
        passed = ~placement.faults(q, facing, width, height).any(axis=1).to_numpy()
        assert 0.2 < passed.mean() < 0.98
        maps = geometry.affine(q[passed], shape=(height, width), facing=facing)
        assert np.isfinite(maps).all() and (np.linalg.det(maps[:, :, :2]) != 0).all()


# --- partition, down-sampling, certificate ---


def made_up(people, bodies_each, sick):
    "A cohort of tables alone."
    ids = [f'PO{1000 + i}' for i in range(people)]
    b = pd.DataFrame(
        [
            dict(
                subject_id=s,
                film_id=f'{s}V1{r}',
                region=r,
                body_id=f'{s}V1{r}-{k}',
                label=int((i * bodies_each + k) in sick),
            )
            for i, s in enumerate(ids)
            for k in range(bodies_each)
            for r in 'LT'
        ]
    )
    flow = cohort.flow_of(b, [])
    return cohort.Cohort(
        pd.DataFrame(dict(subject_id=ids, visit=1)),
        b[['film_id', 'subject_id']].drop_duplicates(),
        b,
        flow,
        dict(root='.', rendered=True),
        salt='a salt for tests only',
    )


cohorts = st.builds(
    made_up,
    st.integers(12, 60),
    st.integers(1, 4),
    st.sets(st.integers(0, 200), min_size=4, max_size=40),
)


@settings(max_examples=30, deadline=None)
@given(cohorts, st.integers(0, 2**31), st.booleans())
def test_partition_holds(c, seed, stratify):
    fractions = (0.6, 0.15, 0.25)
    p = cohort.partition(c, seed, fractions, stratify)
    assert p.bodies.groupby('subject_id').split.nunique().eq(1).all()
    people = (
        p.bodies.drop_duplicates('subject_id')
        .split.value_counts()
        .reindex(cohort.SPLITS, fill_value=0)
    )
    assert np.abs(people.to_numpy() - np.array(fractions) * people.sum()).max() <= (
        2 if stratify else 1
    )
    assert (
        p.subjects.set_index('subject_id').split == p.bodies.groupby('subject_id').split.first()
    ).all()
    again = cohort.partition(
        replace(c, bodies=c.bodies.sample(frac=1, random_state=seed % 1000)),
        seed,
        fractions,
        stratify,
    )
    assert again.bodies.split.sort_index().tolist() == p.bodies.split.tolist()
    proof = cohort.certificate(p)
    assert (
        sum(s['bodies'] for s in proof['splits'].values()) == len(c.bodies)
        and proof['disjoint']['pixels'] == 'not looked at'
    )
    cohort.check_flow(p.flow)
    assert not cohort.verify_split(p, cohort.split_manifest(p))


def test_paper_fractions():
    c = cohort.partition(made_up(4461, 1, {0, 5}), 1)
    n = c.bodies.drop_duplicates('subject_id').split.value_counts()
    assert (n['test'], n['validation'], n['train']) == (669, 379, 3413)


def test_other_seed_other_split():
    c = made_up(60, 1, {1})
    a, b = (cohort.partition(c, s).bodies.split.tolist() for s in (1, 2))
    assert a != b


@settings(max_examples=30, deadline=None)
@given(cohorts, st.integers(0, 2**31), st.booleans(), st.integers(1, 12))
def test_subjects_who_are_one_person_stay_together(c, seed, stratify, twins):
    plain = cohort.partition(c, seed, (0.6, 0.15, 0.25), stratify)
    alone = replace(c, subjects=c.subjects.assign(person=[f'P{i}' for i in range(len(c.subjects))]))
    assert cohort.partition(alone, seed, (0.6, 0.15, 0.25), stratify).bodies.equals(plain.bodies)
    person = np.where(
        np.arange(len(c.subjects)) < 2 * twins,
        np.arange(len(c.subjects)) // 2,
        np.arange(len(c.subjects)) + 1000,
    )
    some = replace(
        c, subjects=c.subjects.assign(person=pd.Series(person, dtype=object).where(person < 1005))
    )  # of the others it is not known
    p = cohort.partition(some, seed, (0.6, 0.15, 0.25), stratify)
    assert p.subjects.groupby(person).split.nunique().eq(1).all()
    assert cohort.certificate(p)['disjoint'] == dict(
        subjects=True, films=True, persons=True, pixels='not looked at'
    )
    first = p.subjects.subject_id[0]
    apart = replace(
        p,
        bodies=p.bodies.assign(
            split=p.bodies.split.mask(
                p.bodies.subject_id == first,
                next(s for s in cohort.SPLITS if s != p.subjects.split[0]),
            )
        ),
    )
    with pytest.raises(cohort.LeakError, match=f'persons: {first}'):
        cohort.certificate(apart)


def test_a_subject_is_one_person():
    c = made_up(20, 1, {1})
    twice = pd.concat(
        [c.subjects.assign(person='a'), c.subjects.assign(visit=2, person='b')], ignore_index=True
    )
    with pytest.raises(ValueError, match='more than one person: 20'):
        cohort.partition(replace(c, subjects=twice), 1)


@settings(max_examples=30, deadline=None)
@given(
    cohorts,
    st.integers(0, 1000),
    st.sampled_from([1.0, 2.5, 10.0]),
    st.sampled_from(['', 'region']),
)
def test_downsampling_holds(c, seed, ratio, by):
    p = cohort.thin(cohort.partition(c, seed, (0.6, 0.15, 0.25)), ratio, by, seed)
    b = p.bodies
    train = b[b.split == 'train']
    assert b.used[(b.split != 'train') | (b.label == 1)].all()
    for _, g in train.groupby('region') if by else [(None, train)]:
        assert (g.used & (g.label == 0)).sum() == min(
            round(ratio * g.label.sum()), (g.label == 0).sum()
        )
    shuffled = b.sample(frac=1, random_state=1)
    assert (cohort.downsample(shuffled, ratio, by, seed) == shuffled.used).all()
    assert cohort.downsample(b, 0, by, seed).all()


@settings(max_examples=30, deadline=None)
@given(cohorts, st.data())
def test_any_leak_raises(c, data):
    p = cohort.partition(c, 3, (0.6, 0.15, 0.25))
    hashes = pd.Series([f'{i:x}' for i in range(len(p.films))], index=p.films.film_id)
    assert cohort.certificate(p, hashes)['disjoint'] == dict(subjects=True, films=True, pixels=True)
    i = data.draw(st.integers(0, len(p.bodies) - 1))
    other = data.draw(st.sampled_from([s for s in cohort.SPLITS if s != p.bodies.split[i]]))
    if p.bodies.subject_id.eq(p.bodies.subject_id[i]).sum() > 1:
        b = p.bodies.copy()
        b.loc[i, 'split'] = other
        with pytest.raises(cohort.LeakError, match=f'subjects: {b.subject_id[i]}'):
            cohort.certificate(replace(p, bodies=b))
    there = p.bodies.film_id[p.bodies.split == other]
    if len(there):
        twin = hashes.copy()
        twin[p.bodies.film_id[i]] = twin[there.iloc[0]]
        with pytest.raises(cohort.LeakError, match='pixels') as e:
            cohort.certificate(p, twin)
        assert p.bodies.film_id[i] in str(e.value) and there.iloc[0] in str(e.value)


def test_same_picture_twice_in_one_split_is_told():
    p = cohort.partition(made_up(20, 1, {1}), 3)
    hashes = pd.Series([f'{i:x}' for i in range(len(p.films))], index=p.films.film_id)
    train = p.bodies.film_id[p.bodies.split == 'train'].unique()
    hashes[train[0]] = hashes[train[1]]
    assert cohort.certificate(p, hashes)['pictures_twice_in_one_split'] == 1
    with pytest.raises(DataError, match='has no hash'):
        cohort.certificate(p, hashes.drop(train[2]))
    with pytest.raises(DataError, match='has no hash'):
        cohort.certificate(p, hashes.mask(hashes.index == train[2]))


def ocf(*args):
    return subprocess.run(
        [Path(sys.executable).with_name('ocf-study'), *map(str, args)],
        capture_output=True,
        text=True,
    )


def test_pictures_need_a_folder(root):
    done = ocf('check', root, '--pictures', root / 'annotations.csv')
    assert done.returncode and 'needs a folder, and' in done.stderr + done.stdout
    assert 'Errno' not in done.stderr and 'Traceback' not in done.stderr


def test_verify_split_on_the_command_line(c, tmp_path):
    p = cohort.load(cohort.partition(c, 7, (0.6, 0.15, 0.25)).save(tmp_path / 'run/work/cohort'))
    file, salt = tmp_path / 'split.csv', tmp_path / 'salt.txt'
    theirs = replace(p, salt='the salt of the publisher')
    cohort.split_manifest(theirs).to_csv(file, index=False)
    salt.write_text(theirs.salt + '\n')
    done = ocf('verify-split', file, '--run', tmp_path / 'run', '--salt-file', salt)
    assert done.returncode == 0 and 'The split is the published one' in done.stdout
    moved = pd.read_csv(file)
    moved.loc[4, 'split'] = 'test' if moved.split[4] != 'test' else 'train'
    moved.to_csv(file, index=False)
    done = ocf('verify-split', file, '--run', tmp_path / 'run', '--salt-file', salt)
    assert (
        done.returncode == 1 and 'line 6, split' in done.stdout and done.stdout.count('error:') == 1
    )
    for bad in (b'\xff\xfe', b'subject,split\nx,y\n', b'', b'a,b\n'):
        file.write_bytes(bad)
        done = ocf('verify-split', file, '--run', tmp_path / 'run')
        assert (
            done.returncode == 1 and 'split.csv' in done.stderr and 'Traceback' not in done.stderr
        ), done.stderr
    assert 'no run with a cohort' in ocf('verify-split', file, '--run', tmp_path).stderr


def test_check_for_a_machine(root):
    a = rows(root)
    FAULTS['level'][0](a)
    FAULTS['infinite'][0](a)
    write(root, a)
    done = ocf('check', root, '--json')
    report = json.loads(done.stdout, parse_constant=lambda x: pytest.fail(f'{x} is not JSON'))
    assert done.returncode == 1 and report['errors'] == len(report['problems']) == 2
    assert {(p['file'], p['row'], p['column']) for p in report['problems']} == {
        ('annotations.csv', 7, 'XQVERT'),
        ('annotations.csv', 11, 'XQQMX3'),
    }


def test_split_manifest_hides_and_verifies(tmp_path):
    c = cohort.partition(made_up(30, 1, {1}), 3)
    m = cohort.split_manifest(c)
    assert not any(s in m.to_csv() for s in c.subjects.subject_id)
    m.to_csv(tmp_path / 'split.csv', index=False)
    assert cohort.verify_split(c, tmp_path / 'split.csv') == []
    assert set(cohort.split_manifest(replace(c, salt='another salt for tests')).subject).isdisjoint(
        m.subject
    )
    m.loc[0, 'split'] = 'test' if m.split[0] != 'test' else 'train'
    (p,) = cohort.verify_split(c, m)
    assert p.row == 2 and p.column == 'split'
    assert [
        p.message
        for p in cohort.verify_split(
            c, m.iloc[1:].assign(split=cohort.split_manifest(c).split.iloc[1:])
        )
    ][0].endswith('is not in the manifest')
    assert cohort.verify_split(c, m.drop(columns='split'))[0].column == 'split'
    assert (
        'already'
        in cohort.verify_split(c, pd.concat([m, m.iloc[:1]]).reset_index(drop=True))[0].message
    )


# --- saving ---


def test_saved_cohort_comes_back(c, tmp_path, monkeypatch):
    p = cohort.thin(cohort.partition(c, 7, (0.6, 0.15, 0.25)), seed=7)
    cohort.Cohort.save(p, tmp_path / 'run/work/cohort')
    q = cohort.load(tmp_path / 'run/work/cohort')
    for name in ('subjects', 'films', 'bodies', 'flow'):
        pd.testing.assert_frame_equal(getattr(p, name), getattr(q, name), check_dtype=False)
    assert len(q.salt) == 32 and os.path.samefile(q.about['root'], p.about['root'])
    q.save(tmp_path / 'run/work/cohort')
    assert cohort.load(tmp_path / 'run/work/cohort').salt == q.salt
    p.save(tmp_path / 'run/work/cohort')  # made anew, the folder's salt stays
    assert cohort.load(tmp_path / 'run/work/cohort').salt == q.salt
    monkeypatch.chdir(tmp_path)
    assert os.path.samefile(cohort.load('run/work/cohort').about['root'], p.about['root'])


def test_interrupted_save_leaves_the_old(c, tmp_path, monkeypatch):
    folder = c.save(tmp_path / 'cohort')
    monkeypatch.setattr(
        pd.DataFrame, 'to_parquet', lambda *a, **k: (_ for _ in ()).throw(OSError('disk full'))
    )
    with pytest.raises(OSError):
        replace(c, about=c.about | {'data': 'other'}).save(folder)
    monkeypatch.undo()
    assert cohort.load(folder).about['data'] == c.about['data'] and [
        x.name for x in tmp_path.iterdir()
    ] == ['cohort']


# --- flow and masking ---


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.integers(0, 3),
            st.sampled_from([0, 1, None]),
            st.sampled_from(['', 'N', 'A', 'double']),
        ),
        min_size=1,
        max_size=60,
    )
)
def test_flow_always_adds_up(bodies):
    b = pd.DataFrame(bodies, columns=['subject_id', 'film', 'label', 'why'])
    b['film_id'] = b.subject_id.astype(str) + b.film.astype(str)
    flow = cohort.flow_of(b, [(w, b.why == w) for w in ('A', 'N', 'double')])
    cohort.check_flow(flow)
    assert flow.bodies.iloc[-1] == (b.why == '').sum()
    flow.loc[0, 'films'] += 1
    with pytest.raises(ValueError, match='add up'):
        cohort.check_flow(flow)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 40), min_size=3, max_size=3), min_size=2, max_size=6),
    st.integers(1, 15),
)
def test_masked_cells_cannot_be_had_from_totals(cells, below):
    counts = pd.DataFrame(cells, columns=list('abc'))
    hidden = disclosure.suppress(counts, below).map(lambda x: isinstance(x, str))
    assert hidden[(counts > 0) & (counts < below)].fillna(True).all(axis=None)
    for h, n in [
        *zip(hidden.to_numpy(), counts.to_numpy(), strict=True),
        *zip(hidden.to_numpy().T, counts.to_numpy().T, strict=True),
    ]:
        if h.sum() == 1:
            assert not (n[~h] > 0).any()  # nothing left to hide it among
    if not ((counts > 0) & (counts < below)).any(axis=None):
        assert not hidden.any(axis=None)


def spread(values, hidden, relations, j, below, small):
    "Lowest and highest value that a hidden cell may have, as a reader of the rest sees it."
    from scipy.optimize import linprog

    at = np.flatnonzero(hidden)
    bounds = [(1, below - 1) if small[k] else (0, None) for k in at]
    fit = [
        linprog(
            sign * (at == j),
            A_eq=relations[:, at],
            b_eq=relations[:, at] @ values[at],
            bounds=bounds,
        ).fun
        for sign in (1, -1)
    ]
    return fit[0], -fit[1]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 40), min_size=4, max_size=4), min_size=2, max_size=6),
    st.integers(2, 15),
)
def test_no_masked_cell_follows_from_the_others(cells, below):
    values = np.array(cells, float)
    r, k = values.shape
    relations = np.array(
        [(np.arange(r * k) // k == i) for i in range(r)]
        + [(np.arange(r * k) % k == j) for j in range(k)],
        float,
    )
    counts = pd.DataFrame(values.astype(int))
    hidden = disclosure.suppress(counts, below).map(lambda x: isinstance(x, str)).to_numpy().ravel()
    values = values.ravel()
    small = (values > 0) & (values < below)
    assert hidden[small].all()
    for j in np.flatnonzero(small):
        low, high = spread(values, hidden, relations, j, below, small)
        everything_told = all(
            hidden[(line > 0) & (values > 0)].all() for line in relations[relations[:, j] > 0]
        )
        assert high - low > 0.5 or everything_told, (cells, j)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 15))
def test_no_masked_step_of_a_flow_follows_from_the_others(seed, below):
    rng = np.random.default_rng(seed)
    b = pd.DataFrame(dict(subject_id=rng.integers(0, 30, 200)))
    b['film_id'], b['label'], b['body_id'] = (
        b.subject_id.astype(str) + 'L',
        (rng.random(200) < 0.15).astype(float),
        np.arange(200).astype(str),
    )
    b['split'], b['region'] = (
        np.array(['train', 'train', 'train', 'validation', 'test'])[b.subject_id % 5],
        'L',
    )
    letter = rng.random(200) < rng.choice([0.02, 0.1])
    b.loc[letter, 'label'] = np.nan
    flow = cohort.flow_of(b, [('graded N', letter), ('second annotation', rng.random(200) < 0.02)])
    kept = b[~letter].head(int(flow.bodies.iloc[-1]))
    flow = cohort.flow_of(
        b.assign(out=~b.index.isin(kept.index) & ~letter),
        [('graded N', letter), ('second annotation', ~b.index.isin(kept.index) & ~letter)],
    )
    flow = cohort._split_flow(flow, kept, 'partitioned')
    flow = cohort._split_flow(flow, kept[cohort.downsample(kept, seed=seed)], 'down-sampled')
    m = description.masked_flow(flow, below)
    n, hidden = (
        flow[cohort.COUNTS].to_numpy(float).ravel(),
        m[cohort.COUNTS].isna().to_numpy().ravel(),
    )
    whole = np.repeat(((flow.split == '') & (flow.step == 'included')).to_numpy()[:, None], 5, 1)
    labels = flow[cohort.COUNTS[3:]]
    whole[((labels > 0) & (labels < below)).any(axis=1), 3:] = False
    whole = whole.ravel()
    small = (n > 0) & (n < below) & ~whole
    assert hidden[small].all() and not hidden[whole].any()
    relations = description._flow_relations(flow)
    assert not (relations @ n).any(), 'what a reader is said to know must hold'
    for j in np.flatnonzero(small):
        low, high = spread(n, hidden, relations, j, below, small)
        others = [
            hidden[(line != 0) & (n > 0) & ~whole].all() for line in relations[relations[:, j] != 0]
        ]
        assert high - low > 0.5 or all(others), (flow, m, j)


def test_table1_cannot_be_worked_back(c):
    "Ages over few people are masked too; a total or a difference gives nothing back."
    p = cohort.thin(cohort.partition(c, 7, (0.6, 0.15, 0.25)), seed=7)
    p.subjects['race_ethnicity'] = np.where(np.arange(len(p.subjects)) % 7, 'White', 'Asian')
    t = description.table1(p, below=4).astype(str)
    race = t[t.row.str.startswith('Race') | (t.row == 'n')]
    assert not race[description.SETS].map(lambda x: bool(re.match(r'[1-3]( |$)', x))).any(axis=None)
    parts = race[[description.SETS[0], *description.SETS[2:]]]
    hidden = parts.map(lambda x: x == 'masked' or x.startswith('<'))
    assert hidden.any(axis=None) and (hidden.sum(axis=1) != 1).all() and (hidden.sum() != 1).all()
    few = p.subjects.assign(
        age=p.subjects.age.where(p.subjects.split != 'test').where(
            p.subjects.subject_id != p.subjects.subject_id.iloc[0]
        )
    )
    few.loc[few.index[few.split == 'test'][0], 'age'] = 70.0
    t = (
        description.table1(replace(p, subjects=few), below=4)
        .set_index('row')
        .loc['Age at Visit 1, mean (SD)']
        .astype(str)
    )
    assert t['Test set'] == '<4' and 'masked' in t.tolist()
    assert 'nan' not in description.table1(replace(p, subjects=few)).astype(str).to_string()


def test_flow_hides_both_labels(c):
    p = cohort.thin(cohort.partition(c, 7, (0.6, 0.15, 0.25)), seed=7)
    m = description.masked_flow(p.flow, 11)
    split = m[m.split != '']
    assert split.label1.isna().any() and (split.label0.isna() == split.label1.isna()).all()
    n = split[['subjects', 'films', 'bodies', 'label0', 'label1']].stack()
    assert not ((n > 0) & (n < 11)).any()


def test_a_cohort_of_few_fractures_does_not_tell_how_many(c):
    p = cohort.thin(cohort.partition(c, 7, (0.6, 0.15, 0.25)), seed=7)
    flow = p.flow.copy()
    flow['bodies'] = flow.bodies - (flow.label1 - (few := flow.label1.clip(upper=7)))
    flow['label1'] = few
    m = description.masked_flow(flow, 11)
    assert m.loc[m.step == 'included', ['subjects', 'films', 'bodies']].notna().all(axis=None)
    assert m.loc[m.step == 'included', ['label0', 'label1']].isna().all(axis=None)
    few = replace(p, bodies=p.bodies.assign(label=(np.arange(len(p.bodies)) < 7).astype(float)))
    assert '(< 11 label 1)' in repr(replace(few, about=dict(rendered=False)))
    assert '(7 label 1)' in repr(replace(few, about=dict(rendered=True)))


def test_table1_counts_people_and_masks(c):
    p = cohort.thin(cohort.partition(c, 7, (0.6, 0.15, 0.25)), seed=7)
    t = description.table1(p).set_index('row')
    assert t.loc['n', ['Test set', 'Entire dataset']].tolist() == [5, 20]
    ages = p.subjects.set_index('subject_id').age
    test = p.bodies.subject_id[p.bodies.split == 'test'].unique()
    assert (
        t.loc['Age at Visit 1, mean (SD)', 'Test set']
        == f'{ages[test].mean():.1f} ({ages[test].std():.1f})'
    )
    masked = description.table1(p, below=11).set_index('row')
    assert (masked['Test set'] == '<11').sum() >= 3
    race = masked.loc[['Race/ethnicity, n (%)'], description.SETS].map(str)
    assert not race.map(lambda x: bool(re.match(r'([1-9]|10) ', x))).any(axis=None)


def test_table1_of_people_of_whom_little_is_known(c):
    "Without age, weight and race only the number is left; unknown race is a cell like any other."
    p = cohort.thin(cohort.partition(c, 7, (0.6, 0.15, 0.25)), seed=7)
    bare = replace(p, subjects=p.subjects.assign(age=np.nan, bmi=np.nan, race_ethnicity=None))
    assert description.table1(bare).to_dict('records') == [
        dict(row='n', level='', **dict(zip(description.SETS, [12, 12, 3, 5, 20], strict=True)))
    ]
    assert description.table1(bare, below=11).loc[0, ['Validation set', 'Test set']].tolist() == [
        '<11',
        '<11',
    ]
    some = p.subjects.assign(
        race_ethnicity=p.subjects.race_ethnicity.where(p.subjects.subject_id.rank() > 3)
    )
    t = description.table1(replace(p, subjects=some), below=4)
    unknown = t[t.level == 'Not known'][description.SETS].iloc[0].astype(str)
    assert len(unknown) and not unknown.str.match('[1-3] ').any() and (unknown == '<4').any()


def test_differences_of_table1_have_one_sign(c):
    p = cohort.thin(cohort.partition(c, 7, (0.6, 0.15, 0.25)), seed=7)
    older = p.subjects.assign(
        age=p.subjects.age + p.subjects.split.map(dict(train=0, validation=20, test=-20))
    )
    t = (
        description.table1(replace(p, subjects=older))
        .set_index('row')
        .loc['Age at Visit 1, mean (SD)']
    )
    assert float(t['SMD, validation and training']) > 1 and float(t['SMD, test and training']) < -1


# --- morphometry ---


def test_audit_finds_a_wrong_grade(c):
    b = c.bodies.copy()
    loss = description.morphometry(b).largest
    sound = loss.idxmin()
    b.loc[sound, ['sq', 'label']] = [7.0, 1]
    worst = description.audit(b, 3).iloc[0]
    assert worst.body_id == b.body_id[sound] and worst.gap == pytest.approx(
        loss[sound] - genant.GRADE_LOSS[2]
    )
    fit = description.audit(b.assign(sq=description.morphometry(b).sq.to_numpy()), 5)
    assert (fit.gap == 0).all()


def test_expected_height_follows_the_neighbours():
    n = nhanes.norms()['mean', 'posterior'].groupby(level='level').mean()
    b = pd.DataFrame(dict(body_id=list('abcd'), film_id='a', level=['T12', 'L1', 'L2', 'L4']))
    height = n[b.level].to_numpy()
    b[cohort.XY] = [[0, 0, 15, 0, 30, 0, 30, h, 15, h, 0, h] for h in height]
    got = description.expected_posterior(b)
    np.testing.assert_allclose(got[:3], height[:3])
    assert np.isnan(got[3])  # L3 is not on the film
    b.loc[1, cohort.XY] = [0, 0, 15, 0, 30, 0, 30, 10, 15, 10, 0, 10]
    assert description.morphometry(b).crush[1] == pytest.approx(1 - 10 / height[1])


# --- what may be shared of real people ---


def test_nothing_shared_names_a_subject(tmp_path, monkeypatch):
    "The first stage on films that count as real: no identifier, no small count outside work/."
    import papermill

    monkeypatch.setenv('OCF_RUN', '1')
    root = cohort.write_example(tmp_path / 'data', subjects=24, seed=3)
    out = tmp_path / 'run'
    (out / 'notebooks').mkdir(parents=True)
    notebook = runtime.root().parent / 'nbs/study/00_cohort.ipynb'
    papermill.execute_notebook(
        str(notebook),
        str(out / 'notebooks/00_cohort.ipynb'),
        kernel_name='python3',
        progress_bar=False,
        cwd=str(out),
        parameters=dict(out='.', data=str(root), suppress_below=11, workers=1, resamples=20),
    )
    ids = set(pd.read_csv(root / 'subjects.csv').subject_id)
    assert ids <= set(cohort.load(out / 'work/cohort').subjects.subject_id)
    shared = [f for f in out.rglob('*') if f.is_file() and 'work' not in f.relative_to(out).parts]
    assert {f.name for f in shared} >= {
        '00_cohort.ipynb',
        'table1.csv',
        'certificate.csv',
        'figure1.svg',
        'figure2.svg',
        'figure5a.csv',
    }
    for f in shared:
        content = f.read_bytes()
        assert not [i for i in ids if i.encode() in content], f.name
        assert not re.search(rb'PO6\d{3}|BI6\d{3}', content), f.name
    assert not any('label_audit' in f.name for f in shared)
    assert not any(f.name == 'split.csv' for f in shared), 'its rows count the people of a split'
    split = pd.read_csv(out / 'work/cohort/split.csv').split.value_counts()
    assert 0 < split.validation < 11
    for name in ('figures/figure1', 'figures/figure5a', 'figures/figure2', 'tables/certificate'):
        d = (
            pd.read_csv(out / f'{name}.csv')
            .select_dtypes('number')
            .drop(columns=['sq', 'prevalence'], errors='ignore')
            .to_numpy()
        )
        if name.endswith('2'):
            d = d[1:-1]
        assert not ((d > 0) & (d < 11)).any(), name


def test_a_failing_stage_names_nobody(tmp_path, monkeypatch):
    import papermill

    monkeypatch.setenv('OCF_RUN', '1')
    root = cohort.write_example(tmp_path / 'data', subjects=3)
    write(root, rows(root).assign(XQVERT='C1'))
    out = tmp_path / 'run'
    out.mkdir()
    with pytest.raises(papermill.PapermillExecutionError, match='name subjects'):
        papermill.execute_notebook(
            str(runtime.root().parent / 'nbs/study/00_cohort.ipynb'),
            str(out / '00_cohort.ipynb'),
            kernel_name='python3',
            progress_bar=False,
            cwd=str(out),
            parameters=dict(out='.', data=str(root)),
        )
    failed = (out / '00_cohort.ipynb').read_text()
    assert (
        not re.search(r'(PO|BI)6\d{3}', failed) and 'C1' in (out / 'work/problems.txt').read_text()
    )


# --- grades, levels and points as other tables have them ---


def bodies(tables, change):
    b = pd.read_csv(tables / 'bodies.csv')
    change(b).to_csv(tables / 'bodies.csv', index=False)


def told(tables, **choices):
    return [str(p) for p in cohort.check(tables, **choices)]


def graded(values):
    return lambda b: b.assign(sq=np.resize(values, len(b)))


@pytest.mark.parametrize(
    'values, kind, message',
    [
        ([0, 1, 0, 2, 0, 3], 'error', 'look like Genant grades'),
        ([0, 0, 0, 1, 0, 1], 'warning', 'no class above 1'),
        ([0] * 30 + [2, 3], 'warning', 'look like Genant grades'),
        ([0, 1, 0, 2, 0, 3] * 20 + [4], 'warning', 'look like Genant grades'),
        ([0, 0, 3], 'warning', "sq = '0, 3'"),
        ([0, 1, 2, 2.5, 3], '', ''),
        ([0, 3, 0, 6], '', ''),
    ],
)
def test_grades_or_labels_in_the_column_of_the_classes(tables, values, kind, message):
    bodies(tables, graded(values))
    found = [x for x in told(tables) if 'no body has label 1' not in x]
    assert [x.startswith(kind) and message in x for x in found] == [True] * bool(kind)


def test_types_are_read_in_any_case_and_a_misspelt_one_is_named_once(tables, c):
    true = genant.SQ_CLASSES.set_index('sq').loc[c.bodies.sq]
    kind = true.type.str.capitalize().to_numpy()
    bodies(tables, lambda b: b.drop(columns='sq').assign(grade=true.grade.to_numpy(), type=kind))
    (p,) = cohort.check(tables)
    assert p.severity == 'warning' and 'Wedge as wedge (' in p.message
    assert cohort.read_tables(tables).bodies.sq.tolist() == c.bodies.sq.tolist()
    wrong = np.where(true.grade.to_numpy() > 0, 'wegde', '')
    bodies(tables, lambda b: b.assign(type=wrong))
    found = [x for x in told(tables) if x.startswith('error')]
    assert len(found) == (true.grade > 0).sum() and all("type = 'wegde'" in x for x in found)


def test_an_empty_table_of_unknown_columns_names_those_that_are_missing(tables):
    (tables / 'bodies.csv').write_text('a;b\n1;2\n')
    found = told(tables)
    assert any('x1: column is missing' in x for x in found)
    assert not any('accessor' in x for x in found)


def test_mros_with_grades_is_told_too(root):
    a = rows(root)
    write(root, a.assign(XQSQ=np.resize(['0', '1', '0', '2', '0', '3'], len(a))))
    (p,) = problems(root)
    assert p.column == 'XQSQ' and 'look like Genant grades' in p.message


def test_a_grade_with_or_without_a_type_makes_a_class(tables, c):
    true = genant.SQ_CLASSES.set_index('sq').loc[c.bodies.sq]
    words = np.array(['normal', 'mild', 'moderate', 'severe'])
    for grade in (true.grade.to_numpy(), words[true.grade]):
        coded = dict(grade=grade, type=true.type.to_numpy())
        bodies(tables, lambda b, coded=coded: b.drop(columns='sq').assign(**coded))
        read = cohort.read_tables(tables)
        assert read.bodies.sq.tolist() == c.bodies.sq.tolist()
        assert ['another spelling' in x for x in told(tables)] == [True] * (grade.dtype.kind != 'i')
        b = pd.read_csv(tables / 'bodies.csv').assign(sq=c.bodies.sq.to_numpy())
        b.to_csv(tables / 'bodies.csv', index=False)
    bodies(tables, lambda b: b.drop(columns=['sq', 'type']))
    read = cohort.read_tables(tables)
    assert (genant.to_grade(read.bodies.sq) == true.grade.to_numpy()).all()
    assert (read.bodies.label == c.bodies.label).all()
    found = [x for x in told(tables) if 'another spelling' not in x]
    assert ['no type, which is taken from the points' in x for x in found] == [True]
    bodies(tables, lambda b: b.assign(sq=c.bodies.sq.to_numpy(), grade=3))
    assert any('contradicts sq' in x for x in told(tables))
    bodies(tables, lambda b: b.drop(columns='sq').assign(grade=0.5))
    assert ["grade = '0.5': is not one of 0, 1, 2, 3" in x for x in told(tables)] == [True] * 180


@pytest.mark.parametrize('column, values', [('grade', [1, 2, 3]), ('sq', [1, 2.5, 3, 4])])
def test_grades_without_zero_are_told(tables, column, values):
    def change(b):
        return b.drop(columns='sq').assign(**{column: np.resize(values, len(b))})

    bodies(tables, change)
    assert any('no body is normal (0)' in x for x in told(tables))


@pytest.mark.parametrize('blank', [[3], range(9), [0, 50, 100]])
def test_bodies_without_a_grade_are_left_out_and_counted(tables, c, blank):
    change(tables, 'bodies', sq=dict.fromkeys(blank, ''), x3=dict.fromkeys(blank, ''))
    read = cohort.read_tables(tables)
    assert read.bodies.body_id.tolist() == c.bodies.body_id.drop(list(blank)).tolist()
    flow = read.flow.set_index('step')
    assert flow.bodies['excluded: not graded'] == len(blank) and flow.bodies['annotated'] == 180
    assert any(f'without a grade, which are left out: {len(blank)}' in x for x in told(tables))


def test_a_cohort_that_nobody_graded_is_an_error(tables):
    bodies(tables, lambda b: b.assign(sq=''))
    found = problems(tables, cohort.read_tables)
    assert len(found) == 180 and all(str(p).endswith('sq: is missing') for p in found)


def test_a_class_or_a_grade_row_by_row(tables, c):
    true = genant.SQ_CLASSES.set_index('sq').loc[c.bodies.sq]
    odd = np.arange(180) % 2 == 1
    bodies(
        tables,
        lambda b: b.assign(
            sq=b.sq.where(odd), grade=np.where(odd, '', true.grade), type=true.type.to_numpy()
        ),
    )
    read = cohort.read_tables(tables).bodies
    assert read.sq.tolist() == c.bodies.sq.tolist() and read.body_id.equals(c.bodies.body_id)


def test_blank_classes_of_mros_count_as_missing(root):
    a = rows(root)
    a.loc[[2, 9], 'XQSQ'] = ''
    a.loc[2, SIX_X] = ''
    write(root, a)
    c = cohort.read_mros(root)
    assert c.flow.set_index('step').bodies['excluded: graded M'] == 2
    assert any('count as M, missing: 2' in x for x in told(root))


def test_labels_alone_are_no_grades(tables, c):
    bodies(tables, lambda b: b.drop(columns='sq').assign(label=c.bodies.label.to_numpy()))
    (p,) = cohort.check(tables)
    assert p.column == 'sq' and 'labels without a severity as grade 0 and 2' in p.message


def test_nobody_fractured_is_told_before_a_run(tables):
    bodies(tables, graded([0]))
    assert ['no body has label 1' in x for x in told(tables)] == [True]
    assert not cohort.read_tables(tables).bodies.label.any()


@pytest.mark.parametrize('layout', ['root', 'tables'])
def test_other_levels_are_left_out_and_counted(layout, request, c):
    folder = request.getfixturevalue(layout)
    name, column = dict(root=('annotations', 'XQVERT'), tables=('bodies', 'level'))[layout]
    change(folder, name, **{column: {4: 'L5', 5: 'T3'}})
    assert len(cohort.read(folder).bodies) == len(c.bodies) - 2
    assert any('left out: 2' in x and 'T3, L5' in x for x in told(folder))


@pytest.mark.parametrize('layout', ['root', 'tables'])
@pytest.mark.parametrize('how', ['no columns', 'empty', '(0, 0)'])
def test_four_corners_are_enough(layout, how, request, c):
    folder = request.getfixturevalue(layout)
    name, columns = dict(
        root=('annotations', ['XQQMX2', 'XQQMY2', 'XQQMX5', 'XQQMY5']),
        tables=('bodies', ['x2', 'y2', 'x5', 'y5']),
    )[layout]
    b = pd.read_csv(folder / f'{name}.csv', dtype=str)
    value = '0' if how == '(0, 0)' else ''
    b = (
        b.drop(columns=columns)
        if how == 'no columns'
        else b.assign(**dict.fromkeys(columns, value))
    )
    b.to_csv(folder / f'{name}.csv', index=False)
    p, whole = cohort.points(cohort.read(folder).bodies), cohort.points(c.bodies)
    np.testing.assert_allclose(p[:, [0, 2, 3, 5]], whole[:, [0, 2, 3, 5]])
    np.testing.assert_allclose(p[:, 1], (whole[:, 0] + whole[:, 2]) / 2)
    assert [f'halfway between the corners: {len(p)}' in x for x in told(folder)] == [True]


def test_half_a_middle_point_is_an_error(tables):
    change(tables, 'bodies', x2={3: ''})
    assert [(p.row, p.column) for p in problems(tables, cohort.read_tables)] == [(5, 'x2')]


def test_sas_and_excel_make_the_same_cohort(tables, c):
    import pyreadstat

    for name in ('films', 'bodies', 'subjects'):
        d = pd.read_csv(tables / f'{name}.csv')
        (tables / f'{name}.csv').unlink()
        if name == 'films':
            d.to_excel(tables / 'films.xlsx', index=False)
        else:
            pyreadstat.write_xport(d, str(tables / f'{name}.xpt'), file_format_version=8)
    assert not told(tables)
    pd.testing.assert_frame_equal(cohort.read(tables).bodies, c.bodies, check_dtype=False)


def test_a_table_that_is_there_twice_is_told(tables):
    pd.read_csv(tables / 'films.csv').to_parquet(tables / 'films.parquet')
    assert ['films.csv: is read, and films.parquet is not' in x for x in told(tables)] == [True]


def test_lines_after_a_quoted_line_end(tables):
    path = tables / 'subjects.csv'
    s = pd.read_csv(path, dtype=str)
    s.loc[0, 'race_ethnicity'], s.loc[2, 'age'] = 'two\nlines', 'old'
    s.to_csv(path, index=False)
    assert [p.row for p in problems(tables, cohort.read_tables)] == [5]


# --- bodies that are wrong together ---


def film(c, at=0):
    return c.bodies.film_id == c.films.film_id[at]


def moved(tables, c, change, at=0):
    "Points of one film, changed."
    p = cohort.points(c.bodies)
    on = film(c, at)
    p[on] = change(p[on])
    bodies(tables, lambda b: b.assign(**dict(zip(cohort.XY, p.reshape(-1, 12).T, strict=True))))


@pytest.mark.parametrize(
    'order, facing, said',
    [
        ([2, 1, 0, 5, 4, 3], None, 'the subject looks left (`facing`), or x is counted from'),
        ([2, 1, 0, 5, 4, 3], ['A', 'F'], 'listed from another end'),
        ([5, 4, 3, 2, 1, 0], None, 'listed from another end'),
        ([3, 4, 5, 0, 1, 2], None, 'the subject looks left (`facing`)'),
    ],
)
def test_a_film_whose_bodies_are_all_wrong_alike(tables, c, order, facing, said):
    moved(tables, c, lambda p: p[:, order])
    if facing:
        path = tables / c.films.path[0]
        ds = pydicom.dcmread(path)
        ds.PatientOrientation = facing
        ds.save_as(path)
    n = film(c).sum()
    found = told(tables)
    assert len(found) == n and all(said in x and f'all {n} bodies' in x for x in found)
    after = told(tables, repair=True)
    if 'listed' in said:
        assert len(after) == 1 and 'put right: 5' in after[0]
        read = cohort.read_tables(tables, repair=True)
        np.testing.assert_allclose(cohort.points(read.bodies), cohort.points(c.bodies))
    else:
        assert after == found


def test_y_counted_from_the_bottom_is_never_repaired(tables, c):
    moved(tables, c, lambda p: p * [1, -1] + [0, 420])
    for repair in (False, True):
        found = told(tables, repair=repair)
        assert sum('y is counted from the bottom' in x for x in found) == film(c).sum()


def test_one_body_that_is_wrong_alone_is_repaired(tables, c):
    moved(tables, c, lambda p: np.concatenate([p[:1, [2, 1, 0, 5, 4, 3]], p[1:]]))
    assert 'put right: 1' in told(tables, repair=True)[0]
    assert 'bodies of this film' not in told(tables)[0]


@pytest.mark.parametrize(
    'levels, kind, said',
    [
        (['L4', 'L3', 'L2', 'L1', 'T12'], 'error', 'levels run upwards, from L4 at the top'),
        (['T12', 'L2', 'L1', 'L3', 'L4'], 'error', 'lies above L1 (line 4)'),
        (['T11', 'L1', 'L2', 'L3', 'L4'], 'warning', 'a level left out, or off by one'),
        (['T12', 'L1', 'L1', 'L3', 'L4'], 'error', 'stands twice on one film, at two places'),
    ],
)
def test_levels_of_a_film_fit_their_places(tables, c, levels, kind, said):
    b = c.bodies.drop(columns='label')
    b.loc[film(c), 'level'] = levels
    b['body_id'] = [f'{f}-{i}' for i, f in enumerate(b.film_id)]
    b.to_csv(tables / 'bodies.csv', index=False)
    found = told(tables)
    assert len(found) == 1 and found[0].startswith(kind) and said in found[0], found


@pytest.mark.parametrize(
    'columns, by, kind, said',
    [
        (['y4', 'y5', 'y6'], 45, 'error', 'overlaps L2 (line 4) by'),
        (['y4', 'y5', 'y6'], 35, 'warning', 'times as high as'),
        (['y4', 'y5', 'y6'], 10, '', ''),
        (['x3', 'x4'], 45, 'warning', 'times as wide as'),
        (['x3', 'x4'], 85, 'error', 'times as wide as'),
        (['x3', 'x4'], 20, '', ''),
        (['x3', 'x4'], -30, 'warning', 'is 0.5 times as wide as'),
        (['x3', 'x4'], -40, 'error', 'is 0.33 times as wide as'),
        (['y4', 'y5', 'y6'], -20, '', ''),  # crushed
        (['y4', 'y5', 'y6'], -35, 'warning', 'is 0.22 times as high as'),
    ],
)
def test_bodies_that_overlap_or_are_absurdly_large(tables, columns, by, kind, said):
    b = pd.read_csv(tables / 'bodies.csv')
    b.loc[2, columns] += by
    b.loc[2, ['x2', 'x5']] = (b.loc[2, 'x1'] + b.loc[2, 'x3']) / 2
    b.to_csv(tables / 'bodies.csv', index=False)
    found = told(tables)
    assert any(x.startswith(kind) and said in x for x in found) if kind else not found, found


@pytest.mark.parametrize('layout', ['root', 'tables'])
def test_regions_that_are_exchanged(layout, request):
    folder = request.getfixturevalue(layout)
    other = {'L': 'T', 'T': 'L'}
    if layout == 'root':
        a = rows(folder)
        write(folder, a.assign(SPINE_TYPE=a.SPINE_TYPE.map(other)))
        found = cohort.check(folder, film_rule='spine_type')
    else:
        f = pd.read_csv(folder / 'films.csv')
        f.assign(region=f.region.map(other)).to_csv(folder / 'films.csv', index=False)
        bodies(folder, lambda b: b.drop(columns='region'))
        found = cohort.check(folder)
    assert [(p.severity, p.column) for p in found] == [('error', 'region')]
    assert 'and T are exchanged' in found[0].message and '37 more' in found[0].value


def test_a_region_that_no_body_has(tables):
    f = pd.read_csv(tables / 'films.csv')
    alone = f.film_id == f.film_id[1]
    f = f[~((f.subject_id == f.subject_id[1]) & ~alone)].assign(region=f.region.mask(alone, 'L'))
    bodies(tables, lambda b: b[b.film_id.isin(f.film_id)].drop(columns='region'))
    f.to_csv(tables / 'films.csv', index=False)
    (found,) = told(tables)
    assert 'is not that of any body' in found and f.film_id[1] in found
    assert found.startswith('warning')


def test_points_of_another_film(tables, c):
    b = c.bodies[['body_id', 'film_id', 'level', 'sq', *cohort.XY]].copy()
    b.loc[9:13, cohort.XY] = b.loc[0:4, cohort.XY].to_numpy()
    b.to_csv(tables / 'bodies.csv', index=False)
    (found,) = told(tables)
    assert 'have the very points of another film' in found and b.film_id[9] in found
    assert b.film_id[0] in found


@pytest.mark.parametrize('layout', ['root', 'tables'])
def test_x_and_y_exchanged_is_one_sentence(layout, request, c):
    folder = request.getfixturevalue(layout)
    name, pair = dict(
        root=('annotations', lambda i: (f'XQQMX{i}', f'XQQMY{i}')),
        tables=('bodies', lambda i: (f'x{i}', f'y{i}')),
    )[layout]
    b = pd.read_csv(folder / f'{name}.csv', dtype=str)
    for i in range(1, 7):
        x, y = pair(i)
        b[x], b[y] = b[y].copy(), b[x].copy()
    b.to_csv(folder / f'{name}.csv', index=False)
    choice = dict(film_rule='spine_type') if layout == 'root' else {}
    found = [p for p in cohort.check(folder, **choice) if p.severity == 'error']
    assert [p.message for p in found] == ['x and y are exchanged']


def test_both_layouts_in_one_folder(tables, source):
    shutil.copy(source / 'annotations.csv', tables)
    for found in (cohort.check(tables), problems(tables, cohort.read)):
        assert ['annotations.csv (MrOS) and in bodies.csv' in str(p) for p in found] == [True]


@pytest.mark.parametrize(
    'layout, choice, name', [('root', 'repair', True), ('tables', 'film_rule', 'spine_type')]
)
def test_choices_of_the_other_layout_are_told(layout, choice, name, request):
    folder = request.getfixturevalue(layout)
    (p,) = cohort.check(folder, **{choice: name})
    assert (p.column, p.value, p.severity) == (choice, name, 'warning')
    assert 'has no meaning for' in p.message


def test_two_bodies_on_one_place(tables, c):
    moved(tables, c, lambda p: p[[0, 1, 1, 3, 4]])
    (found,) = told(tables)
    assert 'L2: lies on the points of L1 (line 3)' in found and found.startswith('error')


@pytest.mark.parametrize('layout', ['root', 'tables'])
def test_a_level_twice_at_two_places_is_no_second_annotation(layout, request):
    folder = request.getfixturevalue(layout)
    name, column, ids = dict(
        root=('annotations', 'XQVERT', {}), tables=('bodies', 'level', {'body_id': {2: 'other'}})
    )[layout]
    grade = 'XQSQ' if layout == 'root' else 'sq'
    change(folder, name, **{column: {2: 'L1'}, grade: {1: '0', 2: '0'}}, **ids)
    assert any('twice on one film, at two places' in x for x in told(folder))


def test_a_middle_point_far_from_its_end_plate(tables, c):
    def change(p):
        p[2, 1] += [0, -30]
        return p

    moved(tables, c, change)
    (found,) = told(tables)
    assert 'point 2 or 5 lies far from its end-plate' in found and found.startswith('warning')


@pytest.mark.parametrize(
    'change, said',
    [
        (lambda p: p / 1.7 + [120, 150], 'bodies have another size than on other films'),
        (lambda p: p / 2.5, 'in the upper left of the film: points of a smaller'),
        (lambda p: p / [300, 420], 'bodies'),
    ],
)
def test_one_film_with_points_of_another_picture(tables, c, change, said):
    moved(tables, c, change)
    assert any(said in x for x in told(tables))


def test_parts_of_the_film_are_not_px(tables, c):
    bodies(tables, lambda b: b.assign(**{x: b[x] / (300 if x < 'y' else 420) for x in cohort.XY}))
    assert ['between 0 and 1' in x for x in told(tables)] == [True]


def test_small_points_in_a_corner_need_no_spacing(tables, c):
    bodies(tables, lambda b: b.assign(**{x: b[x] / 2.5 for x in cohort.XY}))
    assert ['in the upper left of the film: points of a smaller' in x for x in told(tables)] == [
        True
    ]


# --- where the subject looks, links, people ---


def test_points_of_a_half_size_copy_on_few_films_without_a_spacing(tmp_path):
    "Nothing but the place of the bodies is known: an L4 in the upper left half of its film"
    root = cohort.write_example(tmp_path / 'few', subjects=2)
    a = rows(root)
    right = cohort.check(root)
    a[SIX_X + SIX_Y] = a[SIX_X + SIX_Y].astype(float) / 2
    write(root, a)
    (found,) = [p for p in cohort.check(root) if p not in right]
    assert found.severity == 'warning' and 'in the upper left of the film' in found.message
    assert found.value == 'PO6000V1L, BI6001V1L'


def test_facing_is_told(tables, c):
    f = pd.read_csv(tables / 'films.csv')
    f.drop(columns='facing').to_csv(tables / 'films.csv', index=False)
    (found,) = told(tables)
    assert 'is not given: right is taken' in found and 'and 37 more' in found
    for path in c.films.path:
        ds = pydicom.dcmread(tables / path)
        ds.PatientOrientation = ['A', 'F']
        ds.save_as(tables / path)
    assert ['taken from the tag PatientOrientation' in x for x in told(tables)] == [True]
    f.assign(facing='left').to_csv(tables / 'films.csv', index=False)
    found = told(tables, repair=True)
    assert any('other side than the tag' in x for x in found) and 'looks right' in found[0]


def test_links_out_of_the_folder(tables, tmp_path, c):
    outside = tmp_path / 'archive'
    (tables / 'PO').rename(outside)
    (tables / 'PO').symlink_to(outside)
    inner = tables / c.films.path[c.films.path.str.startswith('BI').idxmax()]
    inner.rename(tables / 'kept.dcm')
    inner.symlink_to('../../kept.dcm')  # within the folder: nothing to tell
    found = problems(tables, cohort.read_tables)
    assert {p.message.partition(' (')[0] for p in found} == {'leads out of the data folder'}
    assert all(p.file.startswith('PO') and '`links`' in p.message for p in found)
    assert len(cohort.read_tables(tables, links=True).bodies) == len(c.bodies)
    assert {p.severity for p in cohort.check(tables, links=True)} == {'warning'}
    (tables / 'rendered.json').write_text('{}')
    assert {p.severity for p in cohort.check(tables)} == {'warning'}
    tables.rename(tmp_path / 'elsewhere')
    (tmp_path / 'link').symlink_to(tmp_path / 'elsewhere')  # the folder itself may be one
    again = told(tmp_path / 'link')
    assert sum('leads out' in x for x in again) == len(found)


def test_what_stands_in_place_of_a_film_is_told_once(tables, c):
    first, second, third, fourth = (tables / p for p in c.films.path[:4])
    for path in (first, second, third, fourth):
        path.unlink()
    first.symlink_to('/nowhere/gone.dcm')
    os.mkfifo(second)
    third.mkdir()
    found = {p.value: p.message for p in problems(tables, cohort.read_tables)}
    assert len(problems(tables, cohort.read_tables)) == 4
    assert [found[p] for p in c.films.path[:4]] == [
        'a link to a file that is not there',
        'a pipe, a socket or a device, not a film',
        'a folder, not a film',
        'no such film',
    ]


def test_upside_down_by_the_tag_alone_or_by_the_table_alone_is_told(tables, c):
    by_tag, by_table, by_both = c.films.path[:3]
    for path, down in ((by_tag, 'H'), (by_table, 'F'), (by_both, 'H')):
        ds = pydicom.dcmread(tables / path)
        ds.PatientOrientation = ['A', down]
        ds.save_as(tables / path)
    f = pd.read_csv(tables / 'films.csv', dtype=str)
    turned = f.path.isin([by_table, by_both])
    points_upside_down(tables, f.film_id[turned])
    f.assign(flip_vertical=np.where(turned, 'true', 'false')).to_csv(
        tables / 'films.csv', index=False
    )
    names = f.set_index('path').film_id
    found = {(p.value, p.message) for p in cohort.check(tables) if p.column == 'flip_vertical'}
    assert found == {
        (names[by_tag], radiograph.UPSIDE),
        (
            names[by_table],
            'is against the tag PatientOrientation, by which the film is stored head up',
        ),
    }


@pytest.mark.parametrize('whole', [0, 200])
def test_one_picture_under_two_names_is_found_in_any_folder(tables, c, whole, monkeypatch):
    "A copy of a file, and the same pixels under another header, in folders that are not decoded"
    monkeypatch.setattr(cohort, 'WHOLE', whole)
    monkeypatch.setattr(cohort, 'SOME', 0)
    one, copy, other, exported = c.films.path[:4]
    shutil.copy(tables / one, tables / copy)
    ds = pydicom.dcmread(tables / other)
    ds.PatientName, ds.SOPInstanceUID = 'somebody else', '1.2.3'
    ds.save_as(tables / exported)
    (found,) = [p for p in cohort.check(tables) if 'the same picture' in p.message]
    assert found.value == ', '.join(c.films.film_id[[1, 3]])


def test_two_subjects_with_one_patient(tables, c):
    def patient(films, value):
        for path in films.path:
            ds = pydicom.dcmread(tables / path)
            ds.PatientID = value
            ds.save_as(tables / path)

    one, two, three = c.films.subject_id.unique()[:3]
    patient(c.films[c.films.subject_id.isin([one, two])], 'name of somebody')
    (found,) = told(tables)
    assert f'{one} and {two}' in found and 'one PatientID' in found and 'somebody' not in found
    s = pd.read_csv(tables / 'subjects.csv', dtype=str)
    s.assign(person=s.subject_id.where(s.subject_id != two, one)).to_csv(
        tables / 'subjects.csv', index=False
    )
    assert not told(tables)
    s.to_csv(tables / 'subjects.csv', index=False)
    patient(c.films[c.films.subject_id == three], 'name of somebody')
    assert not told(tables)  # a stand-in that many share


@pytest.mark.parametrize(
    'column, values, said',
    [
        ('age', '0', 'below 18 or above 110: 3. A code for unknown'),
        ('bmi', '99', 'below 12 or above 80: 3. A code for unknown'),
        ('person', 'everybody', 'is 20 of 20 subjects'),
    ],
)
def test_what_is_unlikely_of_people_is_told(tables, column, values, said):
    s = pd.read_csv(tables / 'subjects.csv', dtype=str)
    few = s.index < (len(s) if column == 'person' else 3)
    old = s.get(column, pd.Series('', s.index))
    s.assign(**{column: old.where(~few, values)}).to_csv(tables / 'subjects.csv', index=False)
    (found,) = cohort.check(tables)
    assert (found.severity, found.column) == ('warning', column) and said in found.message


def test_a_film_that_is_filed_under_somebody_else_is_told(tables, c):
    "By its PatientID, where that is the subject's identifier"
    f = pd.read_csv(tables / 'films.csv', dtype=str)
    for path, subject in zip(f.path, f.subject_id, strict=True):
        ds = pydicom.dcmread(tables / path)
        ds.PatientID = subject
        ds.save_as(tables / path)
    assert not told(tables)
    f.loc[[0, 4], 'path'] = f.path[[4, 0]].to_numpy()
    f.to_csv(tables / 'films.csv', index=False)
    found = told(tables)
    assert (
        sum('the PatientID of the film is the subject_id of somebody else' in x for x in found) == 1
    )
    assert f'{f.film_id[0]}, {f.film_id[4]}' in ' '.join(found)


def test_visits_and_regions_that_cannot_be_told_apart(tables):
    b = pd.read_csv(tables / 'bodies.csv', dtype=str)
    b.drop(columns=['subject_id', 'visit', 'region']).to_csv(tables / 'bodies.csv', index=False)
    f = pd.read_csv(tables / 'films.csv', dtype=str)
    f.assign(visit='2').to_csv(tables / 'films.csv', index=False)
    (found,) = told(tables)
    assert 'of a visit that subjects.csv does not have' in found
    s = pd.read_csv(tables / 'subjects.csv', dtype=str)
    s.assign(sex='X').to_csv(tables / 'subjects.csv', index=False)
    assert all('sex' in x for x in told(tables)), 'a row with an error is a row'
    s.to_csv(tables / 'subjects.csv', index=False)
    f.assign(subject_id=f.subject_id[0]).to_csv(tables / 'films.csv', index=False)
    assert 'not the only film of its region' in ' '.join(told(tables))


def test_a_folder_to_score_is_checked_and_a_bad_film_left_out(tables, c):
    bodies(tables, lambda b: b.drop(columns='sq'))
    (tables / 'subjects.csv').unlink()
    assert 'column `grade`' in ' '.join(told(tables)) and not told(tables, graded=False)
    (tables / c.films.path[3]).write_bytes(b'no film')
    (found,) = told(tables, graded=False)
    assert 'the film is left out' in found and found.startswith('warning')
    read = cohort.read_tables(tables, graded=False)
    assert len(read.films) == len(c.films) - 1 and read.about['told'] == [found]


@pytest.mark.parametrize('sick, n', [(1, 12), (3, 20), (9, 200), (40, 45), (0, 8)])
def test_the_chance_of_a_split_without_label_1_counts_people(sick, n):
    "Against 20,000 divisions of the people, with the sizes that `partition` gives the splits"
    fractions = (0.64, 0.16, 0.2)
    of = cohort._draw(range(n), fractions, np.random.default_rng(0))
    sizes = pd.Series(of).value_counts().reindex(cohort.SPLITS).fillna(0).astype(int)
    draw, places = np.random.default_rng(1), np.repeat(range(3), sizes)
    drawn = [len(set(draw.permutation(places)[:sick])) < 3 for _ in range(20_000)]
    assert cohort._without(sick, n, fractions) == pytest.approx(np.mean(drawn), abs=0.015)


def test_what_a_cohort_can_show(c, tables, tmp_path):
    said = cohort.outlook(c, (0.5, 0.25, 0.25))
    people = c.bodies.groupby('subject_id').label.max()
    assert said[0].startswith(f'20 people, 180 bodies; label 1: {c.bodies.label.sum()} bodies of')
    assert f'in test: 5.0 people, {people.sum() / 4:.1f} of them' in said[3]
    for sick, advice in (
        (7, '`stratify` keeps some in each.'),
        (3, 'too few people have label 1.'),
    ):
        some = c.bodies.subject_id.isin(people[people == 1].index[:sick])
        few = replace(c, bodies=c.bodies.assign(label=c.bodies.label * some))
        assert cohort.outlook(few, (0.7, 0.15, 0.15))[-1].endswith(advice)
    out = subprocess.run(
        [
            Path(sys.executable).with_name('ocf-study'),
            'check',
            tables,
            '--pictures',
            tmp_path / 'p',
        ],
        capture_output=True,
        text=True,
    )
    assert '20 people' in out.stdout and out.returncode == 0, out.stderr
    assert {p.stem for p in (tmp_path / 'p').iterdir()} == set(c.films.film_id)


def test_a_mean_of_one_person_has_no_sd():
    ids = [f'P{k}' for k in range(8)]
    subjects = pd.DataFrame(dict(subject_id=ids, visit=1, age=70.0 + np.arange(8), bmi=25.0))
    bodies = pd.DataFrame(
        dict(subject_id=ids, split=['train'] * 4 + ['validation'] * 3 + ['test'], used=True)
    )
    one = SimpleNamespace(subjects=subjects, bodies=bodies)
    table = description.table1(one).set_index('row').loc['Age at Visit 1, mean (SD)']
    assert table['Test set'] == '77.0 (no SD)' and table['Validation set'] == '75.0 (1.0)'


# --- films that cannot be read ---


def damage(root, path, how='cut'):
    "A film whose header is sound and whose pixels are not, or no film at all."
    whole = (root / path).read_bytes()
    (root / path).unlink()
    if how == 'pixels':  # a PNG, torn in its middle
        png = io.BytesIO()
        Image.fromarray(pydicom.dcmread(io.BytesIO(whole)).pixel_array).save(png, 'PNG')
        torn = bytearray(png.getvalue())
        torn[len(torn) // 2] ^= 255
        (root / path).write_bytes(torn)
    elif how == 'cut':
        (root / path).write_bytes(whole[: len(whole) // 2])


@pytest.mark.parametrize('layout', ['mros', 'tables'])
@pytest.mark.parametrize('how', ['cut', 'gone'])
def test_a_film_that_cannot_be_read_is_left_out(layout, how, root, request):
    whole = cohort.read(root if layout == 'mros' else request.getfixturevalue('tables'))
    gone = whole.films.iloc[2]
    damage(root, gone.path, how)
    assert [p.severity for p in cohort.check(root)] == ['error']
    (said,) = cohort.check(root, max_failed=0.1)
    assert said.severity == 'warning' and said.message.endswith('the film is left out')
    assert gone.path in str(said)
    c = cohort.read(root, max_failed=0.1)
    assert c.excluded.film_id.tolist() == [gone.film_id]
    kept = whole.bodies[whole.bodies.film_id != gone.film_id].reset_index(drop=True)
    pd.testing.assert_frame_equal(c.bodies, kept)
    assert c.films.width.dtype == whole.films.width.dtype and len(c.films) == 39
    row = c.flow.set_index('step').loc['excluded: film cannot be read']
    assert row[['subjects', 'films']].tolist() == [0, 1]
    assert row.bodies == (whole.bodies.film_id == gone.film_id).sum()
    cohort.check_flow(c.flow)
    again = cohort.load(c.save(root.parent / 'saved'))
    pd.testing.assert_frame_equal(again.excluded, c.excluded)


@pytest.mark.parametrize('n, subjects', [(10, 5), (40, 20)])
def test_a_tenth_of_the_films_may_be_unreadable_whatever_their_number(n, subjects, tmp_path):
    root = cohort.write_example(tmp_path / 'mros', subjects=subjects)
    films = cohort.read(root).films
    assert len(films) == n
    for k in range(n // 10 + 1):
        damage(root, films.path[k])
        found = cohort.check(root, max_failed=cohort.MAX_FAILED)
        severities = {p.severity for p in found if p.message != 'holds no row'}
        assert severities == ({'warning'} if k < n // 10 else {'error'})
    assert f'{n // 10 + 1} of {n} films cannot be read, more than 10%' in str(found[-1])


def test_films_that_only_decoding_shows_to_be_damaged_are_left_out_alike(root, monkeypatch):
    whole = cohort.read(root)
    for path in whole.films.path[:2]:
        damage(root, path, 'pixels')
    small = cohort.read(root, max_failed=0.1)  # so few films are decoded when they are checked
    monkeypatch.setattr(cohort, 'WHOLE', 0)
    monkeypatch.setattr(cohort, 'SOME', 0)
    large = cohort.read(root, max_failed=0.1)
    assert len(large.films) == 40 and not len(large.excluded)
    large, hashes = cohort.decoded(large, max_failed=0.1)
    assert set(hashes.index) == set(large.films.film_id)
    pd.testing.assert_frame_equal(large.bodies, small.bodies)
    pd.testing.assert_frame_equal(large.flow, small.flow)
    assert large.excluded.film_id.tolist() == small.excluded.film_id.tolist()
    assert small.excluded.film_id.tolist() == whole.films.film_id[:2].tolist()
    with pytest.raises(DataError, match='more than 4%'):
        cohort.decoded(cohort.read(root), max_failed=0.04)
    with pytest.raises(DataError) as e:
        cohort.pixel_hashes(cohort.read(root))
    assert len(e.value.problems) == 2


def test_both_times_count_against_the_share(root):
    "Films left out when headers were read, and those left out when they were decoded."
    c = cohort.read(root)
    c = cohort.exclude_films(c, {f: 'torn' for f in c.films.film_id[:3]})
    for path in c.films.path[:2]:
        damage(root, path)
    assert len(cohort.decoded(c, max_failed=0.125)[0].excluded) == 5
    flow = cohort.decoded(c, max_failed=0.125)[0].flow.set_index('step')
    assert flow.films['excluded: film cannot be read'] == 5
    with pytest.raises(DataError, match='5 of 40'):
        cohort.decoded(c, max_failed=0.12)


def test_check_and_run_leave_out_the_same_film(root, tmp_path):
    gone = cohort.read(root).films.iloc[2]
    damage(root, gone.path, 'pixels')
    checked, strict = ocf('check', root), ocf('check', root, '--strict')
    assert checked.returncode == 0 and 'the film is left out' in checked.stdout
    assert strict.returncode == 1 and 'the film is left out' not in strict.stdout
    out = tmp_path / 'run'
    same = ('run', '--profile', 'smoke', '--out', out, '--data', root, '--until', '00_cohort')
    refused = ocf(*same, '--set', 'max_failed=0')
    assert refused.returncode == 1 and gone.path in refused.stderr and not out.exists()
    done = ocf(*same)
    assert done.returncode == 0 and 'the film is left out' in done.stdout
    c = cohort.load(out / 'work' / 'cohort')
    assert c.excluded.film_id.tolist() == [gone.film_id]
    assert 'excluded: film cannot be read' in (out / 'figures' / 'figure2.csv').read_text()
    assert (out / 'tables' / 'excluded_films.csv').exists()
