"One object knows where the artefacts of a run lie and how each is opened"

import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from ocf_study import run as module
from ocf_study.run import OPENED_BY, PLACES, Run

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize('name, by', OPENED_BY.items())
def test_what_a_run_opens_is_defined_by_the_module_that_it_names(name, by):
    import_module(f'ocf_study.{by}')
    opener = Run.__dict__[name]
    function = opener.fget if isinstance(opener, property) else opener
    assert function.__module__ == f'ocf_study.{by}' and function.__doc__


def test_a_run_is_opened_by_name_alone(tiny_run):
    run = Run(tiny_run.folder)
    assert run.rendered and len(run.bodies) == len(run.cohort.bodies)
    assert len(run.scored) == len(run.predictions)
    assert set(run.thresholds) == {'threshold 1', 'threshold 2'}
    assert run.thresholds['threshold 2'].split == 'test'
    for name in ('cohort', 'network', 'scored', 'thresholds'):
        assert getattr(run, name) is getattr(run, name), f'{name} is opened twice'
    opened = run.choices and run.score and len(run._opened)
    assert run.score and run.choices and len(run._opened) == opened, 'a network is compiled twice'


def test_paths_alone_import_nothing_heavy():
    code = f'import sys; from ocf_study.run import Run; Run({str(ROOT)!r}).path("model"); '
    code += 'print([m for m in ("tensorflow", "keras", "pandas", "numpy") if m in sys.modules])'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]', done.stdout


def test_no_other_module_spells_a_path_of_the_run_folder():
    heavy = '|'.join(re.escape(p) for p in PLACES.values() if p.startswith('work/'))
    spelt = re.compile(rf"""'work'\s*/|/\s*'work'|['"/](?:{heavy})['"/]""")
    code = {p: p.read_text(encoding='utf-8') for p in (ROOT / 'ocf_study').glob('*.py')}
    del code[Path(module.__file__)]
    for p in (ROOT / 'nbs' / 'study').glob('*.ipynb'):
        cells = json.loads(p.read_text(encoding='utf-8'))['cells']
        code[p] = '\n'.join(''.join(c['source']) for c in cells if c['cell_type'] == 'code')
    found = {f'{p.name}: {m[0]}' for p, text in code.items() for m in spelt.finditer(text)}
    assert len(code) > 40
    assert not found
