"What the runner vouches for, what a value may be, and what a signal leaves"

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import stub
import yaml

from ocf_study import commands, inversion, ledger, metrics, runtime, settings, study

COMMAND = [sys.executable, '-c', 'from ocf_study.commands import main; main()']


@pytest.fixture
def small(tmp_path, monkeypatch):
    "A study of three notebooks and a run folder"
    monkeypatch.setenv('OCF_DATA_MANIFEST', str(stub.write(tmp_path / 'study')))
    return tmp_path / 'run'


def ran(capsys, out, **options):
    "Stages that were run; what was said of the others"
    capsys.readouterr()
    study.run('stub', out, **options)
    said = capsys.readouterr().err.splitlines()
    return [line.split()[0] for line in said if ' MB' in line], '\n'.join(said)


def read(out):
    return (out / 'tables' / 'table1.csv').read_text()


ALL = ['00_cohort', '20_search', '80_comparison']


def test_what_changed_after_it_was_noted_is_made_again(small, capsys):
    assert ran(capsys, small)[0] == ALL and ran(capsys, small)[0] == []
    table = read(small)
    faults = {
        'work/films/1.dcm': lambda p: p.write_bytes(b'\x02' * 999 + b'\x03'),  # of the same size
        'work/films/2.dcm': lambda p: p.write_bytes(p.read_bytes()[:100]),
        'work/round1.json': lambda p: p.unlink(),
        'tables/table1.csv': lambda p: p.write_text(p.read_text().replace('7', '8')),
        'work/artefacts/table-table1.json': lambda p: p.write_text(''),
        'work/summary/80_comparison.json': lambda p: p.write_text('{"rounds'),
        'notebooks/20_search.ipynb': lambda p: p.write_text(p.read_text().replace('7', '8')),
    }
    for name, damage in faults.items():
        times = (small / name).stat().st_atime_ns, (small / name).stat().st_mtime_ns
        damage(small / name)
        if (small / name).exists():
            os.utime(small / name, ns=times)
        again, said = ran(capsys, small)
        assert len(again) == 1 and f'again: {name}' in said, name
        assert read(small) == table and ran(capsys, small)[0] == []
    note = small / 'work' / 'stages' / '20_search.json'
    note.write_text(note.read_text()[:50])
    assert ran(capsys, small)[0] == ['20_search']
    shutil.rmtree(small / 'work' / 'stages')
    assert ran(capsys, small)[0] == ALL and read(small) == table


def test_a_late_setting_leaves_the_early_stages_alone(small, capsys):
    ran(capsys, small)
    assert ran(capsys, small, **{'80_comparison.seed': 8})[0] == ['80_comparison']
    assert ran(capsys, small, **{'20_search.rounds': 4, '80_comparison.seed': 8})[0] == ALL[1:]
    assert len(read(small).splitlines()) == 5


def test_films_are_known_by_what_they_hold(small, capsys, tmp_path):
    real = tmp_path / 'disk' / 'films'
    real.mkdir(parents=True)
    (real / '0.dcm').write_bytes(b'\x05' * 100)
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'linked').symlink_to(real)
    (tmp_path / 'data' / '1.dcm').write_bytes(b'\x05' * 100)
    study._accept, accept = (lambda *_: None), study._accept
    try:
        given = dict(data=tmp_path / 'data', until='20_search')
        assert ran(capsys, small, **given)[0] == ALL[:2] and ran(capsys, small, **given)[0] == []
        for film in (real / '0.dcm', tmp_path / 'data' / '1.dcm'):
            times = film.stat().st_atime_ns, film.stat().st_mtime_ns
            film.write_bytes(b'\x06' * 100)
            os.utime(film, ns=times)
            assert ran(capsys, small, **given)[0] == ALL[:2]
        os.utime(film, ns=(0, 0))  # a copy with another time holds the same
        shutil.copy(film, tmp_path / 'copy')
        os.replace(tmp_path / 'copy', film)
        assert ran(capsys, small, **given)[0] == []
    finally:
        study._accept = accept


def test_no_path_of_this_machine_is_shared(small, tmp_path):
    data = tmp_path / 'ward7' / 'films of Mr X'
    data.mkdir(parents=True)
    (data / '0.dcm').write_bytes(b'\x05' * 100)
    study._accept, accept = (lambda *_: None), study._accept
    try:
        study.run('stub', small, data=data)
    finally:
        study._accept = accept
    shared = [p for p in small.rglob('*') if p.is_file() and 'work' not in p.parts[-3:]]
    shared = [p for p in shared if 'work' not in p.relative_to(small).parts]
    assert len(shared) > 8
    for p in shared:
        text = p.read_text(errors='ignore')
        assert 'ward7' not in text and str(tmp_path) not in text, p.name
        assert '../' not in text.replace('"../index.html"', ''), p.name
    assert 'films of Mr X' in (small / 'notebooks' / '00_cohort.ipynb').read_text()


def test_the_kernel_is_this_interpreters(small, tmp_path, monkeypatch, capsys):
    "A kernelspec of another environment, start-up scripts, and a package beside the run folder"
    for place in (tmp_path / 'jupyter', tmp_path / 'home' / '.local' / 'share' / 'jupyter'):
        spec = place / 'kernels' / 'python3'
        spec.mkdir(parents=True)
        told = dict(argv=['/bin/false', '{connection_file}'], display_name='x', language='python')
        (spec / 'kernel.json').write_text(json.dumps(told))
    startup = tmp_path / 'home' / '.ipython' / 'profile_default' / 'startup'
    startup.mkdir(parents=True)
    (startup / 'first.py').write_text('raise SystemExit("not mine")\n')
    monkeypatch.setenv('JUPYTER_PATH', str(tmp_path / 'jupyter'))
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    assert ran(capsys, small, until='20_search')[0] == ALL[:2]


@pytest.fixture
def slow(tmp_path, monkeypatch):
    "A study whose second notebook starts a process of its own and waits"
    extra = (
        'import subprocess, sys, tempfile, time, os\n'
        'tempfile.mkdtemp()\n'
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "(work / 'pids').write_text(f'{os.getpid()} {child.pid}')\n"
        'time.sleep(600)'
    )
    monkeypatch.setenv('OCF_DATA_MANIFEST', str(stub.write(tmp_path / 'study', extra)))
    (tmp_path / 'temporary').mkdir()
    monkeypatch.setenv('TMPDIR', str(tmp_path / 'temporary'))
    monkeypatch.setenv('JUPYTER_RUNTIME_DIR', str(tmp_path / 'temporary'))
    return tmp_path / 'run'


def alive(pids):
    found = [Path(f'/proc/{p}/status') for p in pids]
    return [p for p in found if p.exists() and 'zombie' not in p.read_text()]


def at_work(slow, signum=signal.SIGINT):
    "A run whose second notebook waits; its kernel's process and the one below that"
    arguments = ['run', '--profile', 'stub', '--out', str(slow)]
    process = subprocess.Popen(
        COMMAND + arguments,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signum, signal.SIG_DFL),
    )
    pids, deadline = slow / 'work' / 'pids', time.monotonic() + 200
    while not pids.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    held = [int(p) for p in pids.read_text().split()]
    assert len(alive(held)) == 2
    return process, held


def test_a_run_that_is_killed_leaves_nothing_in_the_temporary_folder(slow, tmp_path):
    process, held = at_work(slow)
    with process:
        for pid in (process.pid, *held):
            os.kill(pid, signal.SIGKILL)
    assert [p.name for p in (tmp_path / 'temporary').iterdir()] == []


@pytest.mark.parametrize('signum', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_one_sentence_and_leaves_nothing(signum, slow, tmp_path):
    process, held = at_work(slow, signum)
    process.send_signal(signum)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 128 + signum
    assert said.splitlines()[-1] == 'Stopped. The same command resumes the run from here.'
    assert 'Traceback' not in said and alive(held) == []
    assert [p.name for p in (tmp_path / 'temporary').iterdir()] == []
    assert not (slow / 'work' / 'running' / 'scratch').exists()


def test_a_sheet_that_a_reader_has_filled_is_never_removed(small, capsys):
    ran(capsys, small)
    sheet = small / 'work' / 'readings' / 'reader1.csv'
    sheet.parent.mkdir()
    note = small / 'work' / 'stages' / '80_comparison.json'  # as an earlier version noted it
    kept = json.loads(note.read_text())
    kept['files']['work/readings/reader1.csv'] = 'a checksum'
    note.write_text(json.dumps(kept))
    sheet.write_text('filled')
    assert ran(capsys, small)[0] == [] and sheet.read_text() == 'filled'
    assert ran(capsys, small, again=True)[0] == ALL and sheet.read_text() == 'filled'


def test_half_written_things_are_swept(small, capsys):
    ran(capsys, small)
    for room in ('work/films/.0.dcm.abcd1234', 'tables/.table1.csv.zyxw9876'):
        name = room.rpartition('/')[2][1:-9]
        (small / room).mkdir()
        (small / room / name).write_text('half')
    (small / 'work' / '.mine.abcd1234').mkdir()
    (small / 'work' / '.mine.abcd1234' / 'notes').write_text('not ours')
    assert ran(capsys, small)[0] == []
    left = [p.name for p in small.rglob('.*') if p.is_dir()]
    assert left == ['.mine.abcd1234']


def test_who_uses_a_run_is_told_what_is_no_longer_what_it_left(small, capsys):
    ran(capsys, small)
    ledger.vouch(small, 'work/round')
    (small / 'work' / 'round0.json').write_text('{}')
    with pytest.raises(ledger.Damaged, match='work/round0.json has changed'):
        ledger.vouch(small, 'work/round')
    ledger.vouch(small, 'work/round1')


@pytest.mark.parametrize(
    'given, says',
    [
        ({'50_evaluation.level': '1.5'}, '50_evaluation.level must be smaller than 1, not 1.5'),
        ({'level': '95'}, 'level must be smaller than 1, not 95.0'),
        ({'suppress_below': '-1'}, 'suppress_below must be bigger than or equal to 0, not -1'),
        ({'fractions': '[0.9, 0.2, -0.1]'}, 'fractions[2] must be bigger than 0'),
        ({'fractions': '[0.6, 0.2, 0.1]'}, 'fractions sum to 0.9, not to 1'),
        ({'fractions': '[0.6, 0.4]'}, 'fractions must contain at least 3 items'),
        ({'fractions': '0.6,0.15,0.25'}, 'takes a list of numbers in brackets'),
        ({'learning_rate_range': '[1e-3, 1e-5]'}, 'begins above its end'),
        ({'detector': 'newest'}, 'detector must be one of'),
        ({'precision': 'float16'}, 'precision must be one of'),
        ({'30_training.epochs': '1:30'}, "is '1:30', but takes a whole number"),
        ({'30_training.epochs': '0x10'}, 'takes a whole number'),
        ({'seed': 'nan'}, 'takes a whole number'),
        ({'ratio': 'inf'}, 'takes a number'),
        ({'stratify': 'maybe'}, 'takes true or false'),
        ({'jit': 'true'}, 'jit needs 30_training.deterministic=false'),
        ({'devices': '[TPU:0]'}, 'devices[0] must match pattern'),
        (
            {'20_search.first': '[1, 2]'},
            '20_search.first is [1.0, 2.0]: it takes learning_rate, decay',
        ),
        ({'first': '[1, 2]'}, 'give 20_search.first or 60_error_analysis.first.'),
        ({'.seed': 1}, 'Unknown parameter .seed'),
        (
            {'20_search.first': '[0.002, 1.5, 0.9, 1]'},
            '20_search.first begins with dropout 0.9, outside 0 to 0.6',
        ),
        ({'combine': 'neither'}, "60_error_analysis.combine is 'neither': it takes both, either"),
        ({'60_error_analysis.right': 0, 'wrong': 0}, 'nothing is left to read'),
        (
            {'10_preprocessing.size': 225},
            '20_search.shrink is 4 and 30_training.shrink is 2: patches of 225 px',
        ),
        ({'30_training.shrink': 16}, '30_training.shrink is 16: patches of 224 px'),
        ({'workers': 10**6}, 'workers must be smaller than or equal to 1024, not 1000000'),
        ({'subjects': '1e12'}, 'subjects must be smaller than or equal to 1000000'),
        ({'epochs': 10**9}, 'epochs must be smaller than or equal to 100000'),
        ({'learning_rate_range': '[1, 1e9]'}, 'learning_rate_range[1] must be smaller than'),
        ({'worker_counts': [1] * 10**4}, 'worker_counts must contain less than or equal to 100'),
        ({'seed': 'x' * 10**6}, "Parameter seed is 'xxx"),
        ({'seed': -1, 'sede': 1, 'level': 'high'}, 'Unknown parameter sede'),
    ],
    ids=str,
)
def test_a_value_that_cannot_be_meant_is_one_sentence(given, says):
    with pytest.raises(study.StudyError) as e:
        study.settings('demo', **given)
    assert says in str(e.value) and len(str(e.value)) < 3000 and '\n' not in str(e.value)


def test_one_fault_is_one_sentence():
    "Whatever number of notebooks take a parameter"
    for given in (
        {'first': '[1, 2]'},
        {'20_search.first': '[1, 2]'},
        {'size': 225},
        {'shrink': 3},
        {'seed': 'x'},
        {'level': 95},
        {'resamples': -5},
        {'fractions': '[0.9, 0.2, -0.1]'},
    ):
        with pytest.raises(study.StudyError) as e:
            study.settings('demo', **given)
        assert '; ' not in str(e.value) and 'definition' not in str(e.value), e.value


def test_every_number_has_an_upper_bound():
    known = json.loads((runtime.root() / 'parameters.json').read_text())['properties']
    kinds = {k: v.get('items', v) for k, v in known.items() if k != '20_search.first'}
    numbers = {k: v for k, v in kinds.items() if v.get('type') in ('integer', 'number')}
    assert len(numbers) > 50
    assert [k for k, v in numbers.items() if not {'maximum', 'exclusiveMaximum'} & {*v}] == []


def test_all_problems_are_told_at_once():
    with pytest.raises(study.StudyError) as e:
        study.settings('demo', seed=-1, level='high', ratio='-2')
    assert all(k in str(e.value) for k in ('seed', 'level', 'ratio'))


def test_values_as_people_write_them():
    for text, wanted in (
        ('learning_rate=1e-4', 1e-4),
        ('seed=1e3', 1000),
        ('resamples=010', 10),
        ('stratify=No', False),
        ('20_search.learning_rate_range=[1e-5, 1e-2]', [1e-5, 1e-2]),
        ('devices=["GPU:0", GPU:1]', ['GPU:0', 'GPU:1']),
        ('readings=a.csv', ['a.csv']),
        ('checkpoint=010', '010'),
        ('max_failed=1', 1.0),
    ):
        name, _, value = text.partition('=')
        stage, _, key = name.rpartition('.')
        found = study.settings('demo', **{name: value})
        got = next(v[key] for s, v in found.items() if key in v and stage in ('', s))
        assert (got, type(got)) == (wanted, type(wanted)), text


def test_every_parameter_has_a_range_and_lists_of_words_are_the_librarys():
    unknown = [
        f'{s}.{k}'
        for s, path in study.stages().items()
        for k in study.parameters(path)
        if k != 'out' and not settings.rule(s, k)
    ]
    assert unknown == []
    words = {k: settings.rule('', k).get('enum') for k in ('variant', 'tie', 'dialect', 'rule')}
    assert set(words['rule']) <= set(metrics.RULES) and all(words.values())
    from ocf_study import googlenet, prediction, training

    assert settings.rule('', 'precision')['enum'] == list(training.PRECISIONS)
    assert settings.rule('', 'schedule')['enum'] == list(training.SCHEDULES)
    assert settings.rule('', 'dialect')['enum'] == list(googlenet.DIALECTS)
    backends = settings.rule('', 'backend')['enum']
    assert backends == list(prediction.BACKENDS)
    assert re.fullmatch(settings.rule('', 'compared')['pattern'], ' '.join(backends))
    assert 'paper' in inversion.DETECTORS


def test_a_first_round_of_the_profile_gives_way_to_a_range():
    narrow = study.settings('smoke', dropout_range='[0.3, 0.6]')['20_search']
    assert narrow['dropout_range'] == [0.3, 0.6] and narrow['first'] == []
    assert study.settings('smoke')['20_search']['first']


@pytest.mark.parametrize(
    'given, says',
    [
        (dict(scheduler='tcp://127.0.0.1:9'), 'No Dask scheduler answers at tcp://127.0.0.1:9'),
        (dict(scheduler='nonsense'), 'No Dask scheduler answers at nonsense'),
        (dict(scheduler='http://127.0.0.1:9'), 'its address begins with tcp:// or tls://'),
        (dict(scheduler='inproc://127.0.0.1/1/1'), 'its address begins with tcp:// or tls://'),
        (dict(storage='sqlite://'), 'The database sqlite:// keeps nothing: name its file'),
        (dict(storage='sqlite:///:memory:'), 'keeps nothing: name its file'),
        (dict(storage='mysql://nobody@127.0.0.1:9/x'), 'The storage cannot be used'),
        (dict(storage='sqlite:////nowhere/at/all.db'), 'There is no folder for the database'),
        (dict(readings='[one.csv]'), 'There is no file of readings'),
        (dict(checkpoint='~/nowhere.ckpt'), 'checkpoint: there is no '),
        (dict(checkpoint='nowhere.ckpt'), 'There is no checkpoint'),
        (dict(freeze='conv9'), "freeze='conv9' is no layer of"),
        (dict(data='~/nowhere'), 'data: there is no '),
        (dict(data='nowhere'), 'There is no data folder'),
    ],
    ids=str,
)
def test_what_is_not_there_is_told_before_anything_runs(given, says, tmp_path):
    with pytest.raises(study.StudyError, match=re.escape(says)) as e:
        study.run('smoke', tmp_path / 'run', **given)
    assert '~' not in str(e.value) and not (tmp_path / 'run').exists()


def test_a_file_in_place_of_a_folder_is_named(small, capsys):
    (small / 'work').mkdir(parents=True)
    for place in ('work/stages', 'tables'):
        (small / place).write_text('mine')
    with pytest.raises(
        study.StudyError, match='stages, .*tables: a file, where a run has a folder'
    ):
        study.run('stub', small)
    assert (small / 'tables').read_text() == 'mine'


def profile(text, folder):
    path = folder / 'study' / 'nbs' / 'study' / 'profiles' / 'mine.yaml'
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


NESTED = 'a0: &a0 [x, x, x, x, x, x, x, x]\n' + ''.join(
    f'a{i}: &a{i} [{", ".join([f"*a{i - 1}"] * 8)}]\n' for i in range(1, 12)
)


@pytest.mark.parametrize(
    'text, says',
    [
        (b'\xff\xfe\x00about', 'is not text in UTF-8'),
        ('', 'no profile: it lacks about'),
        ('about: x\ncommon: {}\nstages:\n', 'lacks stages'),
        ('a: [', 'is not YAML'),
        ('[' * 20000, 'is not YAML'),
        ('about: x\nabout: y\ncommon: {}\nstages: {}\n', 'stands there twice'),
        (f'{NESTED}about: x\ncommon: {{}}\nstages: {{}}\n', "it holds 'a0'"),
        (
            f'about: x\nstages: {{}}\ncommon:\n  b: 1\n  {NESTED.replace(chr(10), chr(10) + "  ")}',
            'more than a value',
        ),
        ('about: x\ncommon: 3\nstages: {}\n', 'lacks common'),
        ('about: x\ncommon: {}\nstages: {00_cohort: 3}\n', 'more than a value'),
        ('about: x\ncommon: {}\nstages: {nothing: {}}\n', 'there is no notebook nothing'),
        ('about: x\nneeds: [tpu]\ncommon: {}\nstages: {}\n', 'needs is'),
        ('x' * 300_000, 'more than 200,000 bytes'),
        ('about: x\ncommon: {rouds: 3}\n', "no notebook takes 'rouds'"),
        ('about: x\nextends: other\n', "extends 'other': there are"),
        ('about: x\nextends: mine\n', 'which extends mine: extend one that stands alone'),
    ],
    ids=range(16),
)
def test_a_profile_that_is_none_is_named_shortly(text, says, small, tmp_path):
    path, start = profile(text, tmp_path), time.process_time()
    with pytest.raises(study.StudyError, match=f'mine.*{re.escape(says)}') as e:
        study.settings('mine')
    assert len(str(e.value)) < 3000 and time.process_time() - start < 10
    path.unlink()


def test_a_profile_reads_values_as_the_command_line_does(small, tmp_path):
    given = yaml.safe_load((tmp_path / 'study/nbs/study/profiles/stub.yaml').read_text())
    text = yaml.safe_dump(given).replace('rounds: 3', 'rounds: 010').replace('0.95', '5e-1')
    profile(text, tmp_path)
    got = study.settings('mine')['20_search']
    assert got == dict(seed=7, rounds=10, level=0.5)


def test_a_profile_says_what_differs(small, tmp_path):
    "From the notebook, over it the profile that is extended, over both the profile's own."
    stub = study.settings('stub')['20_search']
    profile('about: x\n', tmp_path)
    taken = settings.parameters(settings.stages()['20_search'])
    assert study.settings('mine')['20_search'] == {
        k: v for k, (v, _) in taken.items() if k != 'out'
    }
    profile('about: x\nextends: stub\nstages: {20_search: {rounds: 5}}\n', tmp_path)
    assert study.settings('mine')['20_search'] == stub | dict(rounds=5)
    profile('about: x\nextends: stub\ncommon: {seed: 8}\n', tmp_path)
    assert study.settings('mine')['20_search'] == stub | dict(seed=8)
    profile('about: x\nextends: stub\ncommon: {rounds: 9}\n', tmp_path)
    assert study.settings('mine')['20_search'] == stub | dict(rounds=9)
    with pytest.raises(study.StudyError, match='Unknown profile'):
        study.settings('../profiles/mine')


@pytest.mark.parametrize(
    'source, says',
    [
        ("out: str = '.'\nseed: int = len('x')", 'each value written out'),
        ("out: str = '.'\na, b = 1, 2", 'each value written out'),
        ('seed: int = (', 'each value written out'),
        (None, 'has 0 cells tagged `parameters`'),
        ('', 'is not a notebook'),
    ],
)
def test_a_parameters_cell_that_is_none_is_named(source, says, small, tmp_path):
    path = tmp_path / 'study/nbs/study/20_search.ipynb'
    nb = json.loads(path.read_text())
    first = nb['cells'][0]
    first['source'] = source or ''
    first['metadata']['tags'] = ['parameters'] if source else []
    path.write_text(json.dumps(nb) if source != '' else '{"cells": [')
    with pytest.raises(study.StudyError, match=f'20_search.ipynb.*{re.escape(says)}'):
        study.settings('stub')


@pytest.mark.parametrize(
    'salt, says',
    [
        (b'\xff' * 40, 'it is not text'),
        (b'short', 'a text of 16 to 1,000 characters'),
        (b'x' * 10**6, 'a text of 16 to 1,000 characters'),
    ],
)
def test_a_salt_that_is_none_is_one_sentence(salt, says, tmp_path):
    (tmp_path / 'salt').write_bytes(salt)
    with pytest.raises(study.StudyError, match=says):
        commands._salt(tmp_path / 'salt')
    assert runtime.root().is_dir()


def test_a_process_that_starts_kernels_keeps_its_own_temporary_folder(tmp_path):
    (tmp_path / 'scratch').mkdir()
    code = f"""
import os, tempfile
from ocf_study import study
before = os.environ.get('TMPDIR')
with study._environment(TMPDIR={str(tmp_path / 'scratch')!r}):
    tempfile.gettempdir()
assert os.environ.get('TMPDIR') == before
print(tempfile.gettempdir())
"""
    said = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() != str(tmp_path / 'scratch')


def test_a_kernel_that_dies_while_it_starts_is_one_sentence(tmp_path):
    with pytest.raises(study.StudyError, match='00_cohort stopped in its start: .*killed or died'):
        with study._told('00_cohort', {}, tmp_path / 'log'):
            raise RuntimeError('Kernel died before replying to kernel_info')
    with pytest.raises(RuntimeError, match='something else'):
        with study._told('00_cohort', dict(cell=1, cells=9), tmp_path / 'log'):
            raise RuntimeError('something else')
