#!/bin/bash
# acro (SACRO's library of statistical disclosure control) masks nothing in a crosstab whose
# categories are integers, such as grades 0 to 3, when margins are asked for. The same table with
# the same categories as text is masked.
set -euo pipefail
room=$(mktemp -d)
trap 'rm -rf "$room"' EXIT
cd "$room"
python3 -m venv env
env/bin/pip install -q acro==1.0.2 pandas==2.3.3
cat > try.py <<'PY'
import logging
import warnings
from importlib.metadata import version

import pandas as pd
from acro import ACRO

warnings.simplefilter('ignore')
logging.disable(logging.CRITICAL)
counts = {(0, 0): 25, (0, 1): 3, (1, 0): 40, (1, 1): 31}  # sex, grade -> people
people = pd.DataFrame([(*k, 1) for k, n in counts.items() for _ in range(n)])
people.columns = ['sex', 'grade', 'one']


def small_counts_left(sex, grade, margins):
    table = ACRO(suppress=True).crosstab(sex, grade, margins=margins)
    print(table, '\n')
    return bool(((table > 0) & (table < 10)).any(axis=None))


print('acro', version('acro'), 'pandas', version('pandas'))
print('Guess: suppress=True leaves no count from 1 to 9, whatever the categories are called.')
as_numbers = {m: small_counts_left(people.sex, people.grade, m) for m in (False, True)}
as_text = small_counts_left('s' + people.sex.astype(str), 'g' + people.grade.astype(str), True)
print(f'integers: {as_numbers[False]}; integers, margins: {as_numbers[True]}; text: {as_text}')
found = as_numbers[True] and not as_text
print('It does: with margins, a count of 3 is left where grades are integers.' if found else 'fixed')
raise SystemExit(not found)
PY
env/bin/python try.py
