"README.md from the text and the outputs of nbs/index.ipynb; `--check` compares"

import os
import re
import sys
from pathlib import Path

from execnb.nbio import read_nb

ROOT = Path(__file__).resolve().parent.parent


def shown(cell):
    "What a reader sees of a cell: hidden ones nothing, code with `echo: false` only its output"
    if cell.cell_type == 'markdown':
        return cell.source
    if re.match(r'#\|\s*hide\s*$', cell.source.splitlines()[0]):
        return ''
    text = (
        ''
        if re.search(r'^#\|\s*echo:\s*false', cell.source, re.M)
        else f'```python\n{cell.source}\n```'
    )
    for o in cell.outputs:
        data = o.get('data', {})
        text += '\n' + ''.join(
            data.get('text/markdown') or data.get('text/plain') or o.get('text', '')
        )
    return text.strip()


def readme():
    cells = [shown(c) for c in read_nb(ROOT / 'nbs' / 'index.ipynb').cells]
    text = '\n\n'.join(c for c in cells if c) + '\n'

    def moved(m):
        return m[1] + os.path.normpath(
            os.path.join('nbs', m[2])
        )  # links from nbs/ to links from the root

    return re.sub(r'(\]\(|src=")(?!\w+:|#)([^)"]+)', moved, text)


if __name__ == '__main__':
    path = ROOT / 'README.md'
    if '--check' not in sys.argv:
        path.write_text(readme())
    elif path.read_text() != readme():
        sys.exit('README.md is not what nbs/index.ipynb says: python docs/readme.py')
