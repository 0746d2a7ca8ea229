"The commands that README and guides print can be given as they are printed."

import json
import os
import re
import sys
import shlex
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ocf_study import commands, study

ROOT = Path(__file__).parents[1]


def pages():
    "Text of README, index and guides, by name"
    found = {'README.md': (ROOT / 'README.md').read_text()}
    for p in [ROOT / 'nbs/index.ipynb', *sorted((ROOT / 'nbs/guides').glob('*.ipynb'))]:
        cells = json.loads(p.read_text())['cells']
        found[p.name] = '\n'.join(
            ''.join(c['source']) for c in cells if c['cell_type'] == 'markdown'
        )
    return found


def printed_commands():
    "(page, command) of each line of a block of shell, and of each command within a sentence"
    for page, text in pages().items():
        blocks = re.findall(r'^```(\w*)\n(.*?)^```$', text, re.M | re.S)
        shell = '\n'.join(block for language, block in blocks if language in ('', 'sh', 'bash'))
        lines = [line for line in shell.splitlines() if 'ocf-study ' in line]
        lines += re.findall(r'`((?:\./|\S*/)?ocf-study [a-z-]+ [^`\n]*)`', text)
        yield from ((page, line.split('#')[0].strip()) for line in lines if 'conda' not in line)


def parsed(words, app):
    "Options of a command line, read by the command's own parser"
    command = typer.main.get_command(app)
    context = command.make_context('ocf-study', words[:1], resilient_parsing=True)
    while hasattr(command, 'commands'):
        command, words = command.commands[words[0]], words[1:]
    command.parse_args(type(context)(command), list(words))
    return words


@pytest.mark.parametrize('page, command', sorted(set(printed_commands())))
def test_a_printed_command_is_one(page, command):
    launcher, *words = shlex.split(command)
    assert launcher == './ocf-study', f'{page}: {command}'
    for setting in [b for a, b in pairwise(words) if a == '--set']:
        key = setting.partition('=')[0].rpartition('.')[2]
        assert any(key in study.parameters(s) for s in study.stages().values()), key
    if '--profile' in words and words[words.index('--profile') + 1] in ('paper', 'paper-phantom'):
        assert any(w.startswith('checkpoint=') for w in words), f'{page}: refused without weights'
    parsed(words, commands.app)


def test_the_launcher_runs_from_anywhere(tmp_path):
    bare = {k: v for k, v in os.environ.items() if k not in ('VIRTUAL_ENV', 'CONDA_PREFIX')}
    if not (ROOT / '.venv/bin/ocf-study').exists():
        pytest.skip('the environment of this checkout is another one')
    done = subprocess.run(
        [ROOT / 'ocf-study', '--help'], cwd=tmp_path, env=bare, capture_output=True, text=True
    )
    assert done.returncode == 0 and 'check' in done.stdout and 'weights' in done.stdout


def test_the_launcher_takes_the_active_environment_then_the_gpu_one(tmp_path):
    shutil.copy(ROOT / 'ocf-study', tmp_path)
    for name in ('active', '.venv-gpu', '.venv'):
        command = tmp_path / name / 'bin/ocf-study'
        command.parent.mkdir(parents=True)
        command.write_text(f'#!/bin/sh\necho {name} "$@"\n')
        command.chmod(0o755)
    bare = {k: v for k, v in os.environ.items() if k not in ('VIRTUAL_ENV', 'CONDA_PREFIX')}

    def said(**more):
        done = subprocess.run(
            [tmp_path / 'ocf-study', 'run', 'a b'], env=bare | more, capture_output=True, text=True
        )
        return done.stdout.strip() or (done.returncode, done.stderr)

    assert said(CONDA_PREFIX=str(tmp_path / 'active')) == 'active run a b'
    assert said() == '.venv-gpu run a b'
    assert said(VIRTUAL_ENV=str(tmp_path / 'without')) == '.venv-gpu run a b'
    shutil.rmtree(tmp_path / '.venv-gpu')
    assert said() == '.venv run a b'
    shutil.rmtree(tmp_path / '.venv')
    code, error = said()
    assert code == 1 and '`make setup`' in error and '`make gpu`' in error


def test_a_clone_that_was_moved_is_set_up_anew(tmp_path):
    "Scripts and the editable installation of an environment hold the folder's old name"
    clone, names = tmp_path / 'new place', ('Makefile', 'ocf-study', 'settings.ini', 'setup.py')
    (clone / 'requirements').mkdir(parents=True)
    for name in (*names, 'pyproject.toml', 'requirements/cpu.txt'):
        shutil.copy(ROOT / name, clone / name)
    tools = clone / '.venv' / 'bin'
    tools.mkdir(parents=True)
    (tools / 'ocf-study').write_text('#!/bin/sh\necho runs\n')
    (tools / 'ocf-study').chmod(0o755)
    stamp, bare = tools / '.installed', os.environ | dict(VIRTUAL_ENV='', CONDA_PREFIX='')

    def said(*command):
        return subprocess.run(command, cwd=clone, env=bare, capture_output=True, text=True)

    for made, moved in (('', False), (f'{clone}\n', False), (f'{tmp_path / "old"}\n', True)):
        stamp.write_text(made)
        asked = said('make', '-n', 'setup', 'PYTHON=python3').stdout
        assert ('-m venv --clear .venv' in asked) == moved, made
        assert moved or 'venv' not in asked, made
        ran = said('./ocf-study')
        assert (ran.returncode, ran.stdout) == ((1, '') if moved else (0, 'runs\n'))
        assert ('was set up in' in ran.stderr and '`make setup`' in ran.stderr) == moved
    stamp.unlink()
    asked = said('make', '-n', 'setup', 'PYTHON=python3').stdout
    assert re.search(r'-m venv +\.venv\n', asked) and f"echo '{clone}'" in asked


def values(**changes):
    return {'00_cohort': dict(data='x'), '20_search': dict(checkpoint='')} | changes


def test_a_profile_of_the_papers_size_asks_for_weights_and_names_the_cure(tmp_path, monkeypatch):
    from ocf_study import runtime

    class NoGpu:
        class config:
            list_physical_devices = staticmethod(lambda kind: [])

        class sysconfig:
            get_build_info = staticmethod(lambda: dict(is_cuda_build=False))

    monkeypatch.setattr(runtime, 'tensorflow', lambda: NoGpu)
    monkeypatch.setattr(study, '_absent', lambda values: [])
    with pytest.raises(study.StudyError) as refused:
        study._refuse('paper', values(), tmp_path, False)
    assert all(w in str(refused.value) for w in ('--set checkpoint=none', '`make gpu`', '--anyway'))
    with pytest.raises(study.StudyError, match='--set checkpoint=FILE') as refused:
        study._refuse('paper', values(), tmp_path, True)
    assert 'GPU' not in str(refused.value)
    study._refuse('paper', values(**{'20_search': dict(checkpoint='none')}), tmp_path, True)
    study._refuse('demo', values(), tmp_path, False)


def test_none_for_a_checkpoint_is_a_start_from_nothing(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(study, '_run_stages', lambda values, *_: seen.update(values))
    study.run('paper-phantom', tmp_path, anyway=True, checkpoint='none', until='00_cohort')
    assert [seen[s]['checkpoint'] for s in ('20_search', '30_training')] == ['', '']


@pytest.mark.parametrize(
    'words, without',
    [
        (['--help'], {'numpy', 'pandas', 'ocf_study.settings'}),
        (['check', '--help'], {'numpy', 'pandas', 'ocf_study.settings'}),
        (['profiles'], {'pandas', 'cv2', 'nbformat', 'matplotlib'}),
    ],
)
def test_what_needs_no_library_loads_none(words, without):
    "So that help and the list of profiles come at once."
    code = (
        'import atexit, sys\n'
        'from ocf_study import commands\n'
        "atexit.register(lambda: print('loaded', *sys.modules))\n"
        f'sys.argv[1:] = {words}\n'
        'commands.main()'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.rpartition('loaded ')[2].split())
    assert 'typer' in loaded and not loaded & without


def test_what_is_given_twice_is_one_sentence():
    with pytest.raises(study.StudyError, match='data is given twice'):
        CliRunner().invoke(
            commands.app, ['run', '--data', 'a', '--set', 'data=b'], catch_exceptions=False
        )


def test_an_older_console_script_finds_the_commands():
    assert study.main is commands.main and study.app is commands.app
    with pytest.raises(AttributeError, match='nothing'):
        _ = study.nothing
