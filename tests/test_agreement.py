"""`check` and `run` say the same of a folder: sixty bad and odd inputs, each made here.

What a run does before its first stage is `study._accept`, and what its first stage reads is
`cohort.read`. Both have to refuse what `check` refuses, for the same reasons, and take the rest.
"""

import shutil

import numpy as np
import openpyxl
import pandas as pd
import pydicom
import pytest
from PIL import Image

from ocf_study import cohort, manifest, study

SAID = dict(repair=False, film_rule='y', workers=2, links=False, max_failed=0.02)
RUN = SAID | dict(fractions=[0.6, 0.15, 0.25], stratify=True)


@pytest.fixture(scope='module')
def pure(tmp_path_factory):
    "Four subjects, in three tables and in MrOS's layout."
    room = tmp_path_factory.mktemp('agreement')
    mros = cohort.write_example(room / 'mros', subjects=4, seed=1)
    c = cohort.read_mros(mros)
    three = shutil.copytree(mros, room / 'three')
    (three / 'annotations.csv').unlink()
    columns = ['film_id', 'subject_id', 'visit', 'region', 'path', 'facing']
    c.films[columns].to_csv(three / 'films.csv', index=False)
    c.subjects[['subject_id', 'visit', 'age', 'sex']].to_csv(three / 'subjects.csv', index=False)
    columns = ['body_id', 'film_id', 'level', 'sq', *cohort.XY]
    c.bodies[columns].to_csv(three / 'bodies.csv', index=False)
    return room


def table(name, change, **how):
    "A change of one table, which is given and returned as text."

    def make(folder):
        path = folder / f'{name}.csv'
        df = pd.read_csv(path, dtype=str, keep_default_na=False)
        change(df).to_csv(path, index=False, **how)

    return make


def column(name, **values):
    return table(name, lambda df: df.assign(**{k: f(df[k]) for k, f in values.items()}))


def cell(name, at, **values):
    def change(df):
        for k, v in values.items():
            df.loc[at, k] = v
        return df

    return table(name, change)


def text(name, change):
    return lambda f: (f / name).write_text(change((f / name).read_text()))


def shifted(by, axis):
    def change(df):
        for i in range(1, 7):
            df[f'{axis}{i}'] = [f'{by(float(x)):.2f}' for x in df[f'{axis}{i}']]
        return df

    return table('bodies', change)


def film(change):
    def make(folder):
        path = next(iter(sorted(folder.rglob('*.dcm'))))
        change(path)

    return make


def tags(**values):
    def change(path):
        ds = pydicom.dcmread(path)
        for k, v in values.items():
            setattr(ds, k, v)
        ds.save_as(path)

    return film(change)


def picture(array, suffix='.png'):
    def make(folder):
        f = pd.read_csv(folder / 'films.csv')
        f.loc[0, 'path'] = f'odd{suffix}'
        f.to_csv(folder / 'films.csv', index=False)
        Image.fromarray(array).save(folder / f'odd{suffix}')

    return make


def workbook(change):
    def make(folder):
        df = pd.read_csv(folder / 'subjects.csv')
        (folder / 'subjects.csv').unlink()
        book = openpyxl.Workbook()
        for row in [list(df), *df.astype(object).to_numpy().tolist()]:
            book.active.append(row)
        change(book)
        book.save(folder / 'subjects.xlsx')

    return make


def formula(book):
    book.active['C2'] = '=70+1'


def info_first(book):
    book.create_sheet('info', 0).append(['read me'])


def cut_short(path):
    path.write_bytes(path.read_bytes()[:9000])


def twice(folder):
    "A picture under two names."
    first, *_, last = sorted(folder.rglob('*.dcm'))
    shutil.copy(first, last)


def linked(folder):
    path = next(iter(sorted(folder.rglob('*.dcm'))))
    shutil.move(path, folder.parent / 'outside.dcm')
    path.symlink_to(folder.parent / 'outside.dcm')


def exchanged(df):
    return df.rename(columns={f'{a}{i}': f'{b}{i}' for i in range(1, 7) for a, b in ('xy', 'yx')})


def copied_as_parquet(folder):
    pd.read_csv(folder / 'films.csv').to_parquet(folder / 'films.parquet')


def both(by):
    return lambda f: [shifted(by, axis)(f) for axis in 'xy']


def grades(values):
    return column('bodies', sq=lambda x: np.resize(list(values), len(x)))


def without(*columns):
    return lambda df: df.drop(columns=list(columns))


GREY = np.random.default_rng(0).integers(0, 256, (420, 300)).astype(np.uint8)
OTHER = {'L': 'T', 'T': 'L'}

# name: (layout, what is done, severity of what is said, words of it); '': nothing is said
INPUTS = {
    'sound tables': ('three', lambda f: None, '', ''),
    'sound MrOS': ('mros', lambda f: None, '', ''),
    'semicolons': ('three', table('bodies', lambda d: d, sep=';'), 'warning', 'semicolons'),
    'tabs': ('three', table('bodies', lambda d: d, sep='\t'), 'warning', 'tabs'),
    'utf-16': ('three', table('bodies', lambda d: d, encoding='utf-16'), '', ''),
    'byte order mark': ('three', table('films', lambda d: d, encoding='utf-8-sig'), '', ''),
    'blank lines': ('three', text('bodies.csv', lambda t: t + '\n\n'), '', ''),
    'a header in capitals': ('three', table('films', lambda d: d.rename(columns=str.upper)),
                             'warning', 'columns in another spelling'),
    'another column order': ('three', table('bodies', lambda d: d[d.columns[::-1]]), '', ''),
    'an extra column': ('three', table('bodies', lambda d: d.assign(note='x')), '', ''),
    'no header': ('three', text('bodies.csv', lambda t: t.partition('\n')[2]),
                  'error', 'names of columns are needed'),
    'a quote not closed': ('three', text('bodies.csv', lambda t: t + '"a,b\n'),
                           'error', 'not closed'),
    'a web page': ('three', text('bodies.csv', lambda t: '<html></html>'), 'error', 'web page'),
    'an empty file': ('three', text('bodies.csv', lambda t: ''), 'error', 'no header'),
    'a header alone': ('three', table('bodies', lambda d: d[:0]), 'error', 'holds no row'),
    'a short row': ('three', text('bodies.csv', lambda t: t + 'a,b\n'), 'error', 'has 2 cells'),
    'a column twice': ('three', text('films.csv', lambda t: t.replace('region', 'visit', 1)),
                       'error', 'stands twice'),
    'no column of levels': ('three', table('bodies', without('level')),
                            'error', 'column is missing'),
    'a formula without value': ('three', workbook(formula), 'error', 'formula'),
    'the second sheet': ('three', workbook(info_first), 'warning', 'sheets Sheet is read'),
    'a table twice': ('three', copied_as_parquet, 'warning', 'films.parquet is not'),
    'both layouts': ('mros', lambda f: (f / 'bodies.csv').write_text('x\n'),
                     'error', 'move one of them'),
    'neither layout': ('mros', lambda f: (f / 'annotations.csv').unlink(),
                       'error', 'neither annotations.csv'),
    'levels in another spelling': (
        'three', column('bodies', level=lambda x: x.str.replace('T', 'Th ')),
        'warning', 'Th 12 as T12'),
    'levels in lower case, MrOS': ('mros', column('annotations', XQVERT=lambda x: x.str.lower()),
                                   'warning', 't12 as T12'),
    'an unknown level': ('three', cell('bodies', 0, level='C7'), 'error', 'is not one of'),
    'L5': ('three', cell('bodies', 4, level='L5'), 'warning', 'left out: 1'),
    'words for sex': ('three', column('subjects', sex=lambda x: 'female'),
                      'warning', 'female as F'),
    'facing right as R': ('three', column('films', facing=lambda x: 'R'), 'warning', 'R as right'),
    'facing up': ('three', column('films', facing=lambda x: 'up'), 'error', 'is not one of'),
    'facing not given': ('three', table('films', without('facing')), 'warning', 'is not given'),
    'facing the other way': ('three', column('films', facing=lambda x: 'left'),
                             'error', 'the subject looks right'),
    'regions as words': (
        'three', column('films', region=lambda x: x.map({'L': 'lumbar', 'T': 'thoracic'})),
        'warning', 'lumbar as L'),
    'regions exchanged': ('three', column('films', region=lambda x: x.map(OTHER)),
                          'error', 'are exchanged'),
    'grades in the classes': ('three', grades('023'), 'error', 'look like Genant grades'),
    'grades in Roman numbers': (
        'three', table('bodies', lambda d: d.drop(columns='sq').assign(
            grade=np.resize(['0', 'I', 'II', 'III'], len(d)))), 'warning', 'II as 2'),
    'a class that is none': ('three', cell('bodies', 3, sq='9'), 'error', 'is not one of'),
    'some not graded': ('three', cell('bodies', [1, 2], sq=''), 'warning', 'left out: 2'),
    'nobody graded': ('three', column('bodies', sq=lambda x: ''), 'error', 'is missing'),
    'nobody fractured': ('three', column('bodies', sq=lambda x: '0'), 'error', 'label 1'),
    'letters of MrOS': ('mros', cell('annotations', [1, 2], XQSQ='.A'), 'warning', '.A as A'),
    'a label that contradicts': ('three', table('bodies', lambda d: d.assign(label='1')),
                                 'error', 'contradicts'),
    'age in months': ('three', column('subjects', age=lambda x: '900'), 'error', 'is outside'),
    'a subject without a row': ('three', table('subjects', lambda d: d[1:]),
                                'error', 'is not in subjects.csv'),
    'a film without a row': ('three', table('films', lambda d: d[1:]),
                             'error', 'is not in films.csv'),
    'four corners': ('three', table('bodies', without('x2', 'y2', 'x5', 'y5')),
                     'warning', 'halfway between the corners'),
    'points in parts of the film': ('three', both(lambda v: v / 500),
                                    'error', 'px of the stored film are needed'),
    'points with a unit': ('three', column('bodies', x1=lambda x: x + 'px'),
                           'error', 'is not a finite number'),
    'x and y exchanged': ('three', table('bodies', exchanged), 'error', 'x and y are exchanged'),
    'y counted from the bottom': ('three', shifted(lambda v: 420 - v, 'y'),
                                  'error', 'counted from the bottom'),
    'points off the film': ('three', cell('bodies', 2, x3='4000'), 'error', 'outside the film'),
    'points of a small copy': ('three', both(lambda v: v / 3),
                               'warning', 'upper left'),
    'one body far too wide': ('three', cell('bodies', 2, x3='265', x4='265', x2='190', x5='190'),
                              'error', 'times as wide'),
    'one picture twice': ('three', twice, 'warning', 'the same picture as another film'),
    'a path out of the folder': ('three', cell('films', 0, path='../x.dcm'),
                                 'error', 'is not a path inside'),
    'a link out of the folder': ('three', linked, 'error', 'leads out of the data folder'),
    'a film that is gone': ('three', film(lambda p: p.unlink()), 'error', 'no such film'),
    'a film cut short': ('three', film(cut_short), 'error', ''),
    'several frames': ('three', tags(NumberOfFrames=2), 'error', 'frame'),
    'a constant film': ('three', picture(np.full((420, 300), 7, np.uint8)), 'error', 'constant'),
    'a film in colour': (
        'three', picture(np.random.default_rng(1).integers(0, 256, (420, 300, 3)).astype(np.uint8)),
        'error', 'colour'),
    'a grey PNG of three channels': ('three', picture(np.stack([GREY] * 3, -1)), '', ''),
    'an upright film turned': ('three', picture(np.ascontiguousarray(GREY.T)), 'error', 'outside'),
}  # fmt: skip


def errors(problems):
    return {str(p) for p in problems if p.severity == 'error'}


@pytest.mark.parametrize('name', INPUTS)
def test_check_and_run_agree(pure, tmp_path, name, capsys):
    layout, make, severity, words = INPUTS[name]
    folder = shutil.copytree(pure / layout, tmp_path / 'data')
    make(folder)
    told = cohort.check(folder, **SAID)
    worst = 'error' if errors(told) else 'warning' if told else ''
    assert worst == severity, [str(p) for p in told]
    assert any(words in str(p) for p in told if p.severity == severity) or not severity
    refused = set()
    try:
        study._accept(folder, RUN)
    except manifest.DataError as e:
        refused = errors(e.problems)
    assert refused == errors(told)
    choice = dict(film_rule='y') if layout == 'mros' else dict(repair=False)
    choice |= dict(max_failed=SAID['max_failed'])
    try:
        c = cohort.read(folder, **choice)
    except manifest.DataError as e:
        assert errors(e.problems) == errors(told)
    else:  # whoever reads a cohort may want one without label 1
        assert len(c.bodies) and all('label 1' in x for x in errors(told))


def test_there_are_sixty():
    assert len(INPUTS) >= 60
