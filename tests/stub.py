"A study of three small notebooks in a folder of its own, for what is asked of the runner"

from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parent.parent

COHORT = """
import json, time
from pathlib import Path
rendered = not data
(Path(out) / 'work/cohort').mkdir(parents=True, exist_ok=True)
about = dict(root=data or 'films', data='Stub.', rendered=rendered)
(Path(out) / 'work/cohort/about.json').write_text(json.dumps(about))
films = Path(data or Path(out) / 'work/films')
films.mkdir(parents=True, exist_ok=True)
if not data:
    for i in range(3):
        if not (films / f'{i}.dcm').exists():
            (films / f'{i}.dcm').write_bytes(bytes([i + 1]) * 1000)
total = sum(p.read_bytes()[0] for p in sorted(films.glob('*.dcm')))
print(films)
"""
MIDDLE = """
import json
from pathlib import Path
work = Path(out) / 'work'
for i in range(rounds):
    (work / f'round{i}.json').write_text(json.dumps(dict(i=i, seed=seed)))
{extra}
"""
END = """
import csv, json
from pathlib import Path
rows = [json.loads(p.read_text()) for p in sorted((Path(out) / 'work').glob('round*.json'))]
for folder in ('tables', 'work/artefacts', 'work/summary'):
    (Path(out) / folder).mkdir(parents=True, exist_ok=True)
with open(Path(out) / 'tables/table1.csv', 'w') as f:
    table = csv.DictWriter(f, rows[0])
    table.writeheader()
    table.writerows(rows)
note = dict(name='table1', kind='table', stage='80_comparison', caption='', alt='', root='there')
(Path(out) / 'work/artefacts/table-table1.json').write_text(json.dumps(note))
(Path(out) / 'work/summary/80_comparison.json').write_text(json.dumps(dict(rounds=len(rows))))
"""
PARAMETERS = {
    '00_cohort': "seed: int = 7  # seed\ndata: str = ''  # films\nfilm_rule: str = 'y'\n"
    'repair: bool = False\nworkers: int = 1',
    '20_search': 'seed: int = 7\nrounds: int = 3  # rounds\nlevel: float = 0.95  # confidence',
    '80_comparison': 'seed: int = 7',
}


def notebook(stage, *cells):
    first = nbformat.v4.new_code_cell(f"out: str = '.'\n{PARAMETERS[stage]}")
    first.metadata['tags'] = ['parameters']
    spec = dict(name='python3', display_name='python3', language='python')
    nb = nbformat.v4.new_notebook(metadata=dict(kernelspec=spec))
    nb.cells = [first, *map(nbformat.v4.new_code_cell, cells)]
    return nb


def write(folder, extra=''):
    "The study; `OCF_DATA_MANIFEST=<folder>/data_manifest` chooses it"
    study = folder / 'nbs' / 'study'
    (study / 'profiles').mkdir(parents=True)
    (folder / 'data_manifest' / 'schema').mkdir(parents=True)
    rules = 'parameters.json'
    (folder / 'data_manifest' / rules).write_text((ROOT / 'data_manifest' / rules).read_text())
    cells = {
        '00_cohort': COHORT,
        '20_search': MIDDLE.replace('{extra}', extra),
        '80_comparison': END,
    }
    for stage, cell in cells.items():
        nbformat.write(notebook(stage, cell), study / f'{stage}.ipynb')
    profile = dict(
        about='Stub.',
        common=dict(seed=7),
        stages={
            '00_cohort': dict(data='', film_rule='y', repair=False, workers=1),
            '20_search': dict(rounds=3, level=0.95),
        },
    )
    (study / 'profiles' / 'stub.yaml').write_text(yaml.safe_dump(profile))
    return folder / 'data_manifest'
