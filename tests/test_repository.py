"The repository itself: exported, clean, small, and of one mind about its requirements"

import json
import re
import shutil
import subprocess
import sys
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(
    p.relative_to(ROOT)
    for p in (ROOT / 'nbs').rglob('*.ipynb')
    if '.ipynb_checkpoints' not in p.parts
)


@pytest.fixture(scope='module')
def copy(tmp_path_factory):
    "The sources, exported and cleaned once more in another folder"
    folder = tmp_path_factory.mktemp('copy')
    ignore = shutil.ignore_patterns('__pycache__', '.ipynb_checkpoints')
    for name in ('nbs', 'ocf_study'):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ('settings.ini', 'pyproject.toml'):
        shutil.copy(ROOT / name, folder)
    for command in ('nbdev_export', 'nbdev_clean'):
        subprocess.run([command], cwd=folder, check=True, capture_output=True)
    return folder


def files(folder, pattern):
    return {
        p.relative_to(folder): p.read_text()
        for p in folder.rglob(pattern)
        if '.ipynb_checkpoints' not in p.parts
    }


def test_modules_are_what_the_notebooks_export(copy):
    here, there = files(ROOT / 'ocf_study', '*.py'), files(copy / 'ocf_study', '*.py')
    assert len(there) > 15
    assert sorted(here) == sorted(there)
    assert [str(n) for n in here if here[n] != there[n]] == []


@pytest.mark.parametrize(
    'command',
    (
        'format --check .',
        'check .',
        # whatever the configuration leaves out
        'check --select E4,E5,E7,E9,F,B .',
        # what a notebook's other cells define is not there in the module
        'check --isolated --select F ocf_study',
    ),
)
def test_one_handwriting(command):
    told = subprocess.run(['ruff', *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0, told.stdout


def test_notebooks_are_clean(copy):
    here, there = files(ROOT / 'nbs', '*.ipynb'), files(copy / 'nbs', '*.ipynb')
    assert [str(n) for n in here if here[n] != there[n]] == []


@pytest.mark.parametrize('path', NOTEBOOKS, ids=str)
def test_notebook(path):
    text = (ROOT / path).read_text()
    nb = json.loads(text)
    outputs = [o for c in nb['cells'] for o in c.get('outputs', [])]
    assert len(text) < 1e6, 'over 1 MB'
    assert nb['cells'][0]['cell_type'] == 'markdown' and ''.join(
        nb['cells'][0]['source']
    ).startswith('# '), 'no title'
    assert not [o for o in outputs if o['output_type'] == 'error' or o.get('name') == 'stderr'], (
        'an error or a warning among its outputs'
    )
    read = re.sub(r'"image/[\w+]+": (\[[^]]*\]|"[^"]*")', '', text)
    assert not re.search(r"""(?<![\w.*}])/(home|root|tmp|Users|work)/""", read), (
        'a path of one machine'
    )
    tagged = [i for i, c in enumerate(nb['cells']) if 'parameters' in c['metadata'].get('tags', [])]
    assert len(tagged) == 1 if path.parent.name == 'study' else len(tagged) <= 1


LINES = {  # of code that a study notebook may have, without parameters and comments
    '40_prediction': 173,
    '90_benchmarks': 479,
}
STORY, CELL = 60, 8  # lines of a notebook that is told as a story, and of its longest cell


def code_of(path):
    "The lines of code of each cell but that of the parameters."
    for cell in json.loads((ROOT / path).read_text())['cells']:
        if cell['cell_type'] == 'code' and 'parameters' not in cell['metadata'].get('tags', []):
            lines = ''.join(cell['source']).splitlines()
            yield [x for x in lines if x.strip() and not x.lstrip().startswith('#')]


@pytest.mark.parametrize('path', [p for p in NOTEBOOKS if p.parent.name == 'study'], ids=str)
def test_a_study_notebook_is_short(path):
    cells = list(code_of(path))
    assert sum(map(len, cells)) <= LINES.get(path.stem, STORY)
    if path.stem in LINES:
        return
    assert max(map(len, cells)) <= CELL
    code = '\n'.join(x for lines in cells for x in lines)
    assert not re.search(r'\b(def|lambda)\b', code), 'it defines something'
    assert not re.search(r'^\s*assert (?!.*, )', code, re.M), 'an assertion without words'


def test_the_first_page_takes_its_numbers_from_files():
    cells = json.loads((ROOT / 'nbs' / 'index.ipynb').read_text())['cells']
    typed = ' '.join(''.join(c['source']) for c in cells if c['cell_type'] == 'markdown')
    assert not re.search(r'Python 3|\b(two|2) cores|\b(nine|9) steps', typed)
    oldest = re.search(r'min_python = (.*)', (ROOT / 'settings.ini').read_text())[1]
    after = re.search(
        r'<3\.(\d+)',
        tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']['requires-python'],
    )[1]
    assert f'With Python {oldest} to 3.{int(after) - 1}, ' in (ROOT / 'README.md').read_text()
    assert subprocess.run([sys.executable, ROOT / 'docs' / 'readme.py', '--check']).returncode == 0


def test_the_locks_hold_what_settings_ask_for():
    ini = ConfigParser(delimiters=['='], interpolation=None)
    ini.read(ROOT / 'settings.ini')
    for extra in ('cpu', 'gpu'):
        lock = (ROOT / 'requirements' / f'{extra}.txt').read_text()
        asked = ' '.join(
            ini['DEFAULT'][k]
            for k in (
                'requirements',
                f'{extra}_requirements',
                'dev_requirements',
                'docs_requirements',
            )
        ).split()
        names = {re.match(r'[\w.-]+', a)[0].lower() for a in asked}
        assert names <= {n.lower() for n in re.findall(r'^([\w.-]+)(?:\[[\w,-]+\])?==', lock, re.M)}
        assert '--hash=sha256' in lock and '--index-url' not in lock and '://' not in lock


def test_conda_environment_uses_the_gpu_lock():
    env = yaml.safe_load((ROOT / 'environment.yml').read_text())
    assert env['dependencies'][-1] == {'pip': ['-r requirements/gpu.txt']}
    ini = (ROOT / 'settings.ini').read_text()
    assert f'python={re.search(r"min_python = (.*)", ini)[1]}' in env['dependencies']


def test_only_final_scores_are_called_an_expert_s():
    "The software grades by six points: no page, docstring or message may call that an expert's."
    sources = [ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'CITATION.cff')]
    for folder, kind in (('docs', 'md'), ('docs', 'py'), ('nbs', 'ipynb'), ('ocf_study', 'py')):
        sources += sorted((ROOT / folder).rglob(f'*.{kind}'))
    sources = [path for path in sources if 'pages' not in path.parts]  # built from the others
    told = []
    for path in sources:
        text = re.sub(r'"image/[\w+]+": (\[[^]]*\]|"[^"]*")', '', path.read_text())
        told += [
            f'{path.relative_to(ROOT)}: {line.strip()[:100]}'
            for line in text.splitlines()
            if re.search(r'\bexpert', line, re.I) and 'final' not in line.lower()
        ]
    assert told == []
