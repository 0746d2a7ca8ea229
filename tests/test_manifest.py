"Bad tables: every fault is found, with its line and its value, and quickly."

import os
import pickle
import re
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocf_study import manifest, runtime
from ocf_study.manifest import DataError, Problem


def bodies(n):
    rng = np.random.default_rng(0)
    films = [f'PO{i // 13:04d}V1L' for i in range(n)]
    return pd.DataFrame(
        {
            'body_id': [f'{f}-{i % 13}' for i, f in enumerate(films)],
            'film_id': films,
            'level': 'L1',
            'sq': 0.0,
            'label': 0,
            **{f'{a}{k}': rng.uniform(0, 900, n).round(1) for k in range(1, 7) for a in 'xy'},
        }
    )


BROKEN = {
    'body_id': ['', 'a b', '-x'],
    'film_id': [''],
    'level': ['T3', 'L5', 't14', ''],
    'sq': ['3.5', 'x', '', '8'],
    'label': ['2', '0.5', 'yes'],
    'x1': ['', 'left', 'inf'],
    'y6': ['1,5'],
}


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_every_bad_cell_is_found_and_no_other(tmp_path, data):
    n = data.draw(st.integers(1, 12))
    table = bodies(n).astype(str)
    cells = data.draw(
        st.lists(
            st.tuples(
                st.integers(0, n - 1),
                st.sampled_from([(c, v) for c, vs in BROKEN.items() for v in vs]),
            ),
            max_size=8,
        )
    )
    broken = {}
    for row, (column, value) in cells:
        broken[row, column] = value
    for (row, column), value in broken.items():
        table.loc[row, column] = value
    path = tmp_path / 'bodies.csv'
    table.to_csv(path, index=False)
    wanted = {(row + 2, column, value or None) for (row, column), value in broken.items()}
    try:
        manifest.read_table(path, 'bodies')
        found = set()
    except DataError as e:
        found = {(p.row, p.column, p.value) for p in e.problems}
    assert found == wanted


def test_lines_are_those_of_the_file(tmp_path):
    path = tmp_path / 'subjects.csv'
    path.write_bytes(b'\xef\xbb\xbfsubject_id,visit,site\r\nA1,1,"two\r\nlines"\r\n\r\nA2,x,\r\n')
    with pytest.raises(DataError) as e:
        manifest.read_table(path, 'subjects')
    assert [(p.row, p.column, p.value) for p in e.value.problems] == [(5, 'visit', 'x')]


@pytest.mark.parametrize(
    'content, message',
    [
        (b'', 'no header'),
        (b'subject_id,visit,visit\nA,1,1\n', 'visit: column stands twice'),
        (b'subject_id,visit\nA,1,2\nB\nC,1\n', 'line 3: has 1 cells'),
        (b'subject_id,visit\nA,1,2\nB\nC,1\n', 'line 2: has 3 cells'),
        (b'subject_id,visit\n\xff\xfe,1\n', 'not UTF-8'),
        (b'subject_id\nA\n', 'visit: column is missing'),
        (b'subject_id,visit\nB,1\n"A,1\n', 'line 3: a quote .* not closed'),
        (b'subject_id,visit\nA,1\n"B,1\nC,1\n', 'line 3: a quote .* not closed'),
        (b'A,1,70\nB,1,71\n', 'line 1: holds values where the names of columns are needed'),
        (b'\n <!DOCTYPE html><html></html>', 'is a web page'),
        (b'<?xml version="1.0"?><Workbook/>', 'is a web page or XML'),
        (b'PK\x03\x04rest', 'must end in .xlsx'),
        (b'\xd0\xcf\x11\xe0rest', 'save it as .xlsx'),
    ],
)
def test_files_that_are_no_table(tmp_path, content, message):
    path = tmp_path / 'subjects.csv'
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        manifest.read_table(path, 'subjects')


def test_parquet(tmp_path):
    table = bodies(30)
    path = tmp_path / 'bodies.parquet'
    table.assign(extra='kept').to_parquet(path)
    pd.testing.assert_frame_equal(
        manifest.read_table(path, 'bodies')[list(table)], table, check_dtype=False
    )
    assert 'extra' in manifest.read_table(path, 'bodies')
    table.assign(sq=3.5).to_parquet(path)
    with pytest.raises(DataError) as e:
        manifest.read_table(path, 'bodies')
    assert len(e.value.problems) == 30 and e.value.problems[0].value == 3.5
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match='bodies.parquet: cannot be read'):
        manifest.read_table(path, 'bodies')


def test_missing_file_and_size(tmp_path):
    with pytest.raises(DataError, match='no such file'):
        manifest.read_table(tmp_path / 'films.csv', 'films')
    (tmp_path / 'films.csv').write_bytes(b'x' * 2_000_000)
    with pytest.raises(DataError, match='more than 1'):
        manifest.read_table(tmp_path / 'films.csv', 'films', limit_mb=1)


def test_hundred_thousand_bodies_in_seconds():
    table = bodies(100_000)
    manifest.check(table[:10], 'bodies')  # pandera's import is not what is measured
    start = time.process_time()
    assert manifest.check(table, 'bodies') == []
    assert time.process_time() - start < 5


def test_a_body_may_stand_twice_with_one_label():
    table = bodies(3)
    twice = pd.concat([table, table[:2].assign(sq=[1.0, 5.0], label=[0, 1])], ignore_index=True)
    found = manifest.check(twice, 'bodies')
    assert [(p.row, p.severity) for p in found] == [
        (5, 'warning'),
        (6, 'error'),
    ] and 'line 3' in found[1].message


def test_keys_of_two_columns():
    table = pd.DataFrame(
        {
            'body_id': ['a', 'a', 'a'],
            'split': 'test',
            'probability': 0.5,
            'model': ['one', 'two', 'one'],
        }
    )
    assert [(p.row, p.column) for p in manifest.check(table, 'predictions')] == [(4, 'body_id')]


def test_probabilities_outside_the_unit_interval():
    table = pd.DataFrame(
        {
            'body_id': list('abcd'),
            'split': 'test',
            'probability': [-0.1, 1.1, np.nan, 0.5],
            'model': 'm',
        }
    )
    assert [p.message for p in manifest.check(table, 'predictions')] == [
        'is outside 0 to 1'
    ] * 2 + ['is missing']


@pytest.mark.parametrize(
    'sq, fine',
    [
        ('0', True),
        ('2.5', True),
        ('3.0', True),
        ('N', True),
        ('A', True),
        ('M', True),
        ('9', False),
        ('n', False),
        ('2.6', False),
        ('33', False),
    ],
)
def test_mros_grades_and_letters(sq, fine):
    row = {
        'ID': 'PO6538',
        'VISIT': '1',
        'XQVERT': 'L1',
        'XQSQ': sq,
        'SPINE_TYPE': 'L',
        **{f'XQQM{a}{i}': '1' for a in 'XY' for i in range(1, 7)},
    }
    assert (manifest.check(pd.DataFrame([row]), 'mros_annotations') == []) == fine


def test_references():
    films = pd.DataFrame({'film_id': ['F1'], 'subject_id': ['A']})
    found = manifest.check_references(
        {'films': films, 'bodies': bodies(1), 'subjects': pd.DataFrame({'subject_id': ['B']})}
    )
    assert {(p.file, p.column) for p in found} == {('films', 'subject_id'), ('bodies', 'film_id')}


def test_errors_travel_between_processes():
    e = DataError([Problem('a.csv', 3, 'x', 1.5, 'is wrong')])
    assert pickle.loads(pickle.dumps(e)).problems == e.problems
    assert manifest.report(e.problems)['errors'] == 1


def test_folder_by_environment(tmp_path, monkeypatch):
    monkeypatch.setenv('OCF_DATA_MANIFEST', str(tmp_path))
    assert runtime.root() == tmp_path
    monkeypatch.setenv('OCF_DATA_MANIFEST', str(tmp_path / 'none'))
    with pytest.raises(FileNotFoundError, match='OCF_DATA_MANIFEST'):
        runtime.root()


def test_schemas_are_frictionless():
    from frictionless import Schema

    for path in sorted((runtime.root() / 'schema').glob('*.json')):
        assert list(Schema.metadata_validate(manifest.schema(path.stem))) == []
        assert [f['name'] for f in manifest.schema(path.stem)['fields']] == Schema(
            manifest.schema(path.stem)
        ).field_names
        assert all(f['description'] for f in manifest.schema(path.stem)['fields'])


def test_manifest_files_keep_their_schemas():
    corrections = manifest.read_table(runtime.root() / 'corrections.csv', 'corrections')
    assert set(corrections.ID) == {'PO7267', 'PO6538'}
    assert [f['name'] for f in manifest.schema('readings')['fields']][2:-1] == manifest.CONFOUNDERS


# --- tables as people have them ---

ROWS = (
    'subject_id,visit,age,bmi,site\nA1,1,71.5,24.25,x\nA2,2,68,31.5,"two\nlines"\nA3,1,80.5,22,x\n'
)


def as_read(path, name='subjects'):
    df, told = manifest.cells(path, name)
    return manifest.read_table(path, name, keep_lines=True), [p.message for p in told]


@pytest.mark.parametrize(
    'change, told',
    [
        (lambda t: t, ''),
        (lambda t: '\ufeff' + t, ''),
        (lambda t: t.replace('\n', '\r\n'), ''),
        (lambda t: t.replace(',', ';'), 'semicolons'),
        (lambda t: t.replace(',', '\t'), 'tabs'),
        (lambda t: t.replace(',', ';').replace('.', ','), 'semicolons, and numbers have decimal'),
        (lambda t: 'sep=;\n' + t.replace(',', ';'), 'semicolons'),
        (lambda t: t.replace('71.5', '"71,5"').replace('24.25', '"24,25"').replace('31.5', '"31,5"')
         .replace('80.5', '"80,5"'), 'decimal commas'),
        (lambda t: t.replace('site', 'site,,').replace('x\n', 'x,,\n').replace('"\n', '",,\n'), ''),
    ],
)  # fmt: skip
def test_a_csv_is_read_whatever_separates_it(tmp_path, change, told):
    path = tmp_path / 'subjects.csv'
    path.write_text(ROWS, encoding='utf-8')
    plain, _ = as_read(path)
    path.write_bytes(change(ROWS).encode())
    read, said = as_read(path)
    if not change(ROWS).startswith('sep='):
        read['site'] = read.site.str.replace('\r', '')  # a quoted line end stays as it is
        pd.testing.assert_frame_equal(read, plain)
        assert read.index.tolist() == [2, 3, 5]
    assert read.age.tolist() == [71.5, 68, 80.5] and read.bmi.tolist() == [24.25, 31.5, 22]
    assert told in ' '.join(said) and bool(said) == bool(told)


def test_a_thousand_is_no_decimal(tmp_path):
    "1,234 among commas may be either, and 1.234,5 is neither: both stay errors."
    path = tmp_path / 'subjects.csv'
    for text in ('subject_id,visit,bmi\nA,1,"1,234"\n', 'subject_id;visit;bmi\nA;1;1.234,5\n'):
        path.write_text(text)
        with pytest.raises(DataError, match='bmi = .*is not a finite number'):
            manifest.read_table(path, 'subjects')


def test_unicode_text_of_a_spreadsheet(tmp_path):
    path = tmp_path / 'subjects.txt'
    path.write_bytes(ROWS.replace(',', '\t').encode('utf-16'))
    assert as_read(path)[0].age.tolist() == [71.5, 68, 80.5]
    path.write_bytes('subject_id,visit,site\nA,1,Köln\n'.encode('cp1252'))
    with pytest.raises(DataError, match='CSV UTF-8'):
        manifest.read_table(path, 'subjects')


def test_a_workbook_is_read_like_a_csv(tmp_path):
    import openpyxl

    book = openpyxl.Workbook()
    for row in [
        ['subject_id', 'visit', 'age', 'bmi'],
        ['A1', 1, 71.5, None],
        [],
        [17, 2, '68,5', 31],
    ]:
        book.active.append(row)
    book.create_sheet('notes').append(['=1+1'])
    book.save(tmp_path / 'subjects.xlsx')
    read, told = as_read(tmp_path / 'subjects.xlsx')
    assert read.index.tolist() == [2, 4] and read.subject_id.tolist() == ['A1', '17']
    assert told == ['of 2 sheets Sheet is read', 'numbers have decimal commas']
    (tmp_path / 'subjects.xlsx').write_bytes(b'PK no workbook')
    with pytest.raises(DataError, match='subjects.xlsx: cannot be read'):
        manifest.read_table(tmp_path / 'subjects.xlsx', 'subjects')


@pytest.mark.parametrize('names', [('info', 'subjects'), ('subjects', 'films'), ('a', 'b')])
def test_the_sheet_of_a_workbook_is_found_and_named(tmp_path, names):
    "By its name, or by its columns."
    import openpyxl

    book = openpyxl.Workbook()
    book.active.append(['Protocol'])
    book.active.title = 'read me'
    for name in names:
        sheet = book.create_sheet(name)
        own = name in ('subjects', 'b')
        sheet.append([])
        sheet.append(['subject_id', 'visit', 'age'] if own else ['subject_id', 'seen'])
        sheet.append(['A1', 1, 171] if own else ['A1', 1])
    book.save(tmp_path / 'subjects.xlsx')
    with pytest.raises(DataError) as e:
        manifest.read_table(tmp_path / 'subjects.xlsx', 'subjects')
    name = next(x for x in names if x in ('subjects', 'b'))
    assert [str(p) for p in e.value.problems] == [
        f"error: subjects.xlsx, sheet {name}, line 3, age = '171': is outside 0 to 120"
    ]


def test_a_formula_without_its_value_is_an_error_with_its_cell(tmp_path):
    import openpyxl

    book = openpyxl.Workbook()
    for row in [['subject_id', 'visit', 'age'], ['A1', 1, '=70+1'], ['A2', 1, None]]:
        book.active.append(row)
    book.save(tmp_path / 'subjects.xlsx')
    with pytest.raises(DataError) as e:
        manifest.read_table(tmp_path / 'subjects.xlsx', 'subjects')
    (p,) = e.value.problems
    assert (p.row, p.column, p.value) == (2, 'age', '=70+1') and 'formula' in p.message


@pytest.mark.parametrize(
    'schema, column, spelled, value',
    [
        ('bodies', 'level', ['T12', 't12', 'Th12', 'T 12', 'TH-12', 'D12', 'th. 12'], 'T12'),
        ('bodies', 'level', ['l1', 'L 1', 'L-1', 'lumbar 1'], 'L1'),
        ('bodies', 'grade', ['II', 'grade II', 'Moderate', 'ii', '2'], '2'),
        ('bodies', 'type', ['Wedge', 'WEDGE', 'wedged'], 'wedge'),
        ('films', 'facing', ['right', 'Right', 'R', 'RIGHT '], 'right'),
        ('films', 'region', ['L', 'lumbar', 'Lumbar spine', 'l'], 'L'),
        ('films', 'region', ['thoracic', 'T', 'Th'], 'T'),
        ('films', 'flip_vertical', ['yes', 'Y', 'Yes', 'TRUE'], 'true'),
        ('films', 'visit', ['V2', 'visit 2', 'Visit 2'], '2'),
        ('subjects', 'sex', ['F', 'f', 'female', 'Female', 'W', '2'], 'F'),
        ('mros_annotations', 'XQVERT', ['t4', 'Th4', 'T 4'], 'T4'),
        ('mros_annotations', 'XQSQ', ['.A', 'A', 'a'], 'A'),
    ],
)
def test_spellings_that_people_have_are_read_and_counted(tmp_path, schema, column, spelled, value):
    path = tmp_path / 'table.csv'
    path.write_text(f'{column}\n' + ''.join(f'{x}\n' for x in spelled))
    df, told = manifest.cells(path, schema)
    read = df[column].replace({'TRUE': 'true'}) if column == 'flip_vertical' else df[column]
    assert set(read) == {value}
    n = sum(x.strip() not in (value, 'TRUE') for x in spelled)
    assert [p.column for p in told] == [column]
    assert sum(int(x) for x in re.findall(r' \((\d+)\)', told[0].message)) == min(n, 5)


@pytest.mark.parametrize(
    'schema, column, value',
    [('bodies', 'level', 'T14'), ('bodies', 'grade', '-1'), ('bodies', 'type', 'c'),
     ('subjects', 'sex', '-1'), ('subjects', 'sex', '0'), ('films', 'facing', 'front'),
     ('bodies', 'sq', '25')],
)  # fmt: skip
def test_what_could_mean_two_things_stays_an_error(tmp_path, schema, column, value):
    path = tmp_path / 'table.csv'
    path.write_text(f'{column}\n{value}\n')
    df, told = manifest.cells(path, schema)
    assert df[column].tolist() == [value] and not told
    found = [p.column for p in manifest.check(df, schema) if p.row == 2 and p.value == value]
    assert found == [column]


def test_headers_in_another_spelling(tmp_path):
    path = tmp_path / 'subjects.csv'
    path.write_text('SUBJECT ID;Visit;Age\nA1;1;71,5\n')
    df, told = as_read(path)
    assert (df.subject_id.tolist(), df.age.tolist()) == (['A1'], [71.5])
    assert told[1] == (
        'columns in another spelling: SUBJECT ID as subject_id, Visit as visit, Age as age'
    )


def test_decimal_commas_in_a_workbook(tmp_path):
    import openpyxl

    book = openpyxl.Workbook()
    for row in [['subject_id', 'visit', 'age'], ['A1', 1, '71,5'], ['A2', 1, '68,25']]:
        book.active.append(row)
    book.save(tmp_path / 'subjects.xlsx')
    read, told = as_read(tmp_path / 'subjects.xlsx')
    assert read.age.tolist() == [71.5, 68.25] and told == ['numbers have decimal commas']


def test_parquet_of_other_programs(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / 'subjects.parquet'
    text = pa.array(['A1', 'A2'])

    def write(**columns):
        pq.write_table(pa.table(dict(subject_id=text, visit=[1, 2]) | columns), path)

    write(subject_id=text.cast(pa.binary()), site=text.dictionary_encode())
    read = manifest.read_table(path, 'subjects')
    assert read.subject_id.tolist() == ['A1', 'A2'] and read.site.tolist() == ['A1', 'A2']
    for column, message in (
        (pa.array([b'\xff\xfe', b'a']), 'holds bytes that are not UTF-8'),
        (pa.array([[1], [2]]), 'holds lists or records'),
    ):
        write(site=column)
        with pytest.raises(DataError, match=f'column site {message}'):
            manifest.read_table(path, 'subjects')


def test_a_table_of_another_schema_is_one_error(tmp_path):
    path = tmp_path / 'predictions.parquet'
    bodies(3).to_parquet(path)
    with pytest.raises(DataError, match='probability: column is missing'):
        manifest.read_table(path, 'predictions')


# --- SAS files: the letters of missing numbers ---

SAS = Path(__file__).parent / 'data' / 'airline.sas7bdat'  # of pandas, see NOTICE there


def test_a_sas_file_is_read():
    df, told = manifest.cells(SAS, 'mros_annotations')
    assert df.shape == (32, 6) and df.index.tolist() == list(range(2, 34)) and not told
    assert df.YEAR.astype(float).tolist() == list(range(1948, 1980))


def test_letters_of_missing_numbers_are_kept(tmp_path):
    "SAS writes .A as a NaN whose payload is the letter; the value of the first row is made one."
    import struct

    kept = SAS.read_bytes()
    first = struct.pack('<d', float(manifest.cells(SAS, 'mros_annotations')[0].Y.iloc[0]))
    assert kept.count(first) == 1
    for letter in 'AMN':
        tagged = bytes([0, 0, 0, 0, 0, 255 - ord(letter), 255, 255])
        (tmp_path / 'a.sas7bdat').write_bytes(kept.replace(first, tagged))
        assert manifest.cells(tmp_path / 'a.sas7bdat', 'mros_annotations')[0].Y.iloc[0] == letter


@pytest.mark.parametrize('version', [5, 8])
def test_letters_of_a_transport_file(tmp_path, version):
    import pyreadstat

    a = pd.DataFrame(
        {
            'id': ['PO1', 'PO22', 'BI3', 'BI4'],
            'VISIT': [1.0, 2, 1, 1],
            'XQVERT': ['L1', 'L2', 'T12', 'T11'],
            'XQSQ': [np.nan, 2.5, np.nan, np.nan],
            'XQQMX1': [1.5, np.nan, 3, -0.25],
        }
    )
    path = tmp_path / 'annotations.xpt'
    pyreadstat.write_xport(a, str(path), file_format_version=version)
    parts = path.read_bytes().split(b'.' + bytes(7))  # a missing number is its sign and zeros
    assert len(parts) == 5
    path.write_bytes(
        parts[0]
        + b''.join(
            x + bytes(7) + p for x, p in zip((b'A', b'M', b'.', b'N'), parts[1:], strict=True)
        )
    )
    df, _ = manifest.cells(path, 'mros_annotations')
    assert df.ID.tolist() == a.id.tolist()
    assert df.XQSQ.tolist() == ['A', '2.5', '', 'N']
    assert df.XQQMX1.isna().tolist() == [False, True, False, False] and df.XQQMX1.iloc[3] == -0.25


def test_a_damaged_sas_file_is_one_error(tmp_path):
    for name in ('a.sas7bdat', 'a.xpt'):
        (tmp_path / name).write_bytes(SAS.read_bytes()[:700])
        with pytest.raises(DataError, match=f'{name}: cannot be read'):
            manifest.cells(tmp_path / name, 'mros_annotations')


def test_what_is_no_table_is_named(tmp_path):
    os.mkfifo(tmp_path / 'a.csv')
    (tmp_path / 'b.csv').mkdir()
    (tmp_path / 'c.csv').symlink_to('gone.csv')
    for name, said in (
        ('a.csv', 'a pipe, a socket or a device, not a file'),
        ('b.csv', 'a folder, not a file'),
        ('c.csv', 'a link to a file that is not there'),
        ('d.csv', 'no such file'),
    ):
        with pytest.raises(DataError, match=said):
            manifest.cells(tmp_path / name, 'bodies')
