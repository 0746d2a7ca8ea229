"Pages for the site out of notebooks, a run and the repository's own files"

import ast
import json
import os
import re
import shutil
from base64 import b64encode
from collections import Counter
from functools import partial
from hashlib import sha256
from html import escape
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import yaml
from execnb.nbio import mk_cell, nb2str, read_nb
from nbdev.process import NBProcessor, Processor
from nbdev.processors import hide_, hide_line, rm_header_dash, strip_ansi

from ocf_study import escaping

PACKAGE = 'ocf_study'
BROAD = (
    'differences',
    'coverage',
    'papermill',
)  # guides whose tables take the width of the list of contents, too
LONG = 14  # lines of code that a page of the study, or constants in a chapter, show unfolded


# What there is to link to


def chapters(root):
    "Chapter's module -> notebook"
    found = {}
    for path in notebooks(root / 'nbs' / 'method'):
        if m := re.search(
            r'#\|\s*default_exp\s+(\w+)',
            '\n'.join(c.source for c in read_nb(path).cells if c.cell_type == 'code'),
        ):
            found[m[1]] = path
    return found


def notebooks(folder):
    return sorted(p for p in folder.glob('*.ipynb') if p.name[0] not in '_.')


def heading(path):
    "Title and summary of a notebook"
    source = read_nb(path).cells[0].source
    return re.match(r'# (.*)', source)[1], ' '.join(re.findall(r'^> ?(.*)', source, re.M))


def public(source):
    "Public functions and classes that a piece of Python defines"
    return [
        n
        for n in ast.parse(source).body
        if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name[0] != '_'
    ]


def documented(root, found):
    "module -> {name: one line}, of everything that gets an entry of its own"
    out = {}
    for module in found:
        defs = public((root / PACKAGE / f'{module}.py').read_text())
        out[module] = {n.name: ast.get_docstring(n) or '' for n in defs}
        for c in (n for n in defs if isinstance(n, ast.ClassDef)):
            out[module] |= {
                f'{c.name}.{m.name}': ast.get_docstring(m)
                for m in c.body
                if isinstance(m, ast.FunctionDef) and m.name[0] != '_' and ast.get_docstring(m)
            }
    return out


def entry(name, names, module=''):
    "Full name of what `name` means on the page of `module`; '' for nothing"
    of, _, symbol = name.partition('.')
    if module and name in names[module]:
        return f'{PACKAGE}.{module}.{name}'
    return f'{PACKAGE}.{name}' if symbol in names.get(of, ()) else ''


# Processors: one cell of a notebook after another


def quarto_options(cell):
    "Give myst-nb what Quarto's cell options say: label, captions, echo, output, code-fold"
    if cell.cell_type != 'code':
        return
    option = re.compile(r'^#\|\s*([\w-]+):\s*(.*)\n?', re.M)
    o = dict(option.findall(cell.source))
    cell.source = re.sub(r'^#\|.*\n?', '', option.sub('', cell.source), flags=re.M)
    tags, more = set(cell.metadata.get('tags', [])), {}
    if o.get('echo') == 'false':
        tags.add('remove-input')
    if o.get('output') == 'false' or o.get('eval') == 'false':
        tags.add('remove-output')
    if o.get('include') == 'false':
        tags.add('remove-cell')
    if o.get('code-fold') == 'true':
        tags.add('hide-input')

    def text(k):
        return o[k].strip().strip('"\'')

    if cap := next((text(k) for k in ('fig-cap', 'tbl-cap') if k in o), ''):
        more['figure'] = dict(caption=cap)
    if 'fig-alt' in o:
        more['image'] = dict(alt=text('fig-alt'))
    if tags:
        cell.metadata['tags'] = sorted(tags)
    if more:
        cell.metadata['mystnb'] = more


def preparing(cell):
    "Leave out what a notebook does to find its run"
    if cell.cell_type == 'code' and 'study.prepare(' in cell.source and cell.source.count('\n') < 4:
        del cell['source']


def widgets(cell):
    "In the place of a widget a line that says where it can be used"
    if cell.cell_type == 'code' and any(
        'widget' in k for o in cell.get('outputs', []) for k in o.get('data', {})
    ):
        what = re.search(r'explore\.(\w+)\(', cell.source)
        cell.cell_type, cell.source = (
            'markdown',
            f'*In JupyterLab (`make lab`) a widget stands here'
            f'{": `explore." + what[1] + "`" if what else ""}. '
            'What it shows is below, as plain Python.*',
        )
        for k in ('outputs', 'execution_count'):
            cell.pop(k, None)


def outputs(cell):
    "Keep of a cell's outputs what a page can show: no widgets, no bars, no errors"
    if cell.cell_type != 'code':
        return
    kept = []
    for o in cell.get('outputs', []):
        data = o.get('data', {})
        if o.get('name') == 'stderr' or any('widget' in k for k in data):
            continue
        if o.output_type == 'stream' and '\r' in ''.join(o.text):
            continue
        if 'text/html' in data:
            data['text/html'] = re.sub(
                r'<img (?![^>]*\balt=)', '<img alt="" ', ''.join(data['text/html'])
            )
        kept.append(o)
    cell['outputs'] = kept


def _plain(markdown):
    "Markdown as plain text"
    text = re.sub(r'\{[\w:]+\}`([^`<]*?)\s*(?:<[^`]*>)?`', r'\1', markdown)
    text = re.sub(r'!?\[([^\]]*)\]\([^)]*\)', r'\1', re.sub(r'^#+ .*$', '', text, flags=re.M))
    return ' '.join(re.sub(r'[`*>$|]', '', text).split())


class alternatives(Processor):
    "Alternative text of every figure: what the run noted, its caption, or what led to it"

    def begin(self):
        self.title, self.said, self.given, self.known, self.told = '', '', Counter(), {}, False

    def cell(self, cell):
        if about := cell.metadata.pop('about', {}):
            self.known, self.said, self.told = self.known | about, list(about.values())[-1], True
        elif cell.cell_type == 'markdown' and not cell.source.startswith('*In JupyterLab'):
            if titles := re.findall(r'^#+ (.*)$', cell.source, re.M):
                self.title, self.said = _plain(titles[-1]), ''
            self.said, self.told = (
                _plain(re.sub(r'^(`{3,}|:{3,}).*?^\1', '', cell.source, flags=re.M | re.S))
                or self.said,
                False,
            )
        elif any(
            k.startswith('image/') for o in cell.get('outputs', []) for k in o.get('data', {})
        ):
            if self.told:
                self.said = next(
                    (
                        self.known[n]
                        for n in re.findall(r'(?<![\w.])(\w+)\(', cell.source)
                        if n in self.known
                    ),
                    self.said,
                )
            options = cell.metadata.setdefault('mystnb', {})
            noted = (
                cell.metadata.pop('alt', '')
                or options.get('image', {}).get('alt', '')
                or options.get('figure', {}).get('caption', '')
            )
            last = re.split(r'(?<=[.:]) (?=[A-Z])', self.said)
            alt = (
                noted
                or ': '.join(
                    t
                    for t in (self.title, self.said if len(self.said) < 200 else last[-1][-300:])
                    if t
                )
            ).rstrip(' :')
            self.given[alt] += 1
            options.setdefault('image', {})['alt'] = (
                f'{alt} (picture {self.given[alt]})' if self.given[alt] > 1 else alt
            )


def parameters(cell):
    "Show the parameters that papermill passed instead of the defaults; fold long code"
    tags = cell.metadata.get('tags', [])
    if 'parameters' in tags:
        tags = [*tags, 'remove-cell']
    elif 'injected-parameters' in tags:
        cell.source = re.sub(
            r'^out = .*\n?',
            '',
            cell.source.replace('# Parameters\n', '# Parameters of this run\n'),
            flags=re.M,
        )
    elif (
        cell.cell_type == 'code' and cell.source.count('\n') >= LONG and 'remove-input' not in tags
    ):
        tags = [*tags, 'hide-input']
    if tags:
        cell.metadata['tags'] = tags


def folded(names, code):
    "Source that a reader unfolds"
    return f'````{{dropdown}} Source of {", ".join(names)}\n:class-container: source\n{code}\n````'


def api(module):
    "A processor that shows signature and parameters of exported code, its source folded"

    def document(cell):
        d = cell.get('directives_') or {}
        if cell.cell_type != 'code':
            return
        if 'default_exp' in d or 'exporti' in d:
            del cell['source']
            return
        if 'export' not in d and 'exports' not in d:
            return
        tree, defs = ast.parse(cell.source), public(cell.source)
        constants = [
            t.id
            for n in tree.body
            if isinstance(n, (ast.Assign, ast.AnnAssign))
            for t in getattr(n, 'targets', [getattr(n, 'target', None)])
            if isinstance(t, ast.Name) and t.id.isupper() and t.id[0] != '_'
        ]
        if not defs:
            if not constants or any(isinstance(n, (ast.Import, ast.ImportFrom)) for n in tree.body):
                del cell['source']
                return
            source = re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M)
            if (
                all(isinstance(n, (ast.Assign, ast.AnnAssign)) for n in tree.body)
                and source.count('\n') < LONG
            ):
                return
            cell.cell_type, cell.source = (
                'markdown',
                folded(constants, f'```python\n{source}\n```'),
            )
            for k in ('outputs', 'execution_count'):
                cell.pop(k, None)
            return
        shown = [
            '```{eval-rst}\n.. auto'
            f'{"class" if isinstance(n, ast.ClassDef) else "function"}:: '
            f'{PACKAGE}.{module}.{n.name}\n'
            + ('   :members:\n' if isinstance(n, ast.ClassDef) else '')
            + '```'
            for n in defs
        ]
        source = re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M)
        code = f'```python\n{source}\n```'
        shown.append(code if 'exports' in d else folded([n.name for n in defs], code))
        cell.cell_type, cell.source = 'markdown', '\n\n'.join(shown)
        cell.metadata['about'] = {
            n.name: _plain((ast.get_docstring(n) or n.name).split('\n')[0]) for n in defs
        }
        for k in ('outputs', 'execution_count'):
            cell.pop(k, None)

    return document


def links(origin, root, pages, names, module):
    "A processor that links names, and files of the repository, to their pages"

    def symbol(m):
        return f'{{py:obj}}`{m[1]} <{full}>`' if (full := entry(m[1], names, module)) else m[0]

    def add(cell):
        if cell.cell_type != 'markdown' or '{eval-rst}' in cell.source:
            return
        cell.source = relink(
            re.sub(r'(?<![`}])`([\w.]+?)(?:\(\))?`(?!`)', symbol, cell.source), origin, root, pages
        )
        cell.source = re.sub(r'(?<!\w)@((?:fig|tbl)-[\w-]+)', r'[figure](#\1)', cell.source)

    return add


def relink(text, origin, root, pages):
    "Links between files of the repository as links between pages; what has no page is named"

    def one(m):
        words, target, anchor = m[1], *m[2].partition('#')[::2]
        if '://' in target or not target:
            return m[0]
        path = os.path.relpath((root / origin).parent / target, root)
        if path in pages:
            return f'[{words}](/{pages[path]}{"#" + anchor if anchor else ""})'
        return (
            words
            if words.strip('`') == path
            else f'{words} (`{path}`)'
            if (root / path).exists()
            else m[0]
        )

    return re.sub(r'(?<!!)\[([^\]\n]+)\]\(([^)\s]+)\)', one, text)


# Pages


def page(src, dest, origin, root, pages, names, module='', study=False, before=lambda nb: None):
    "Write the page of the notebook `src`"
    steps = [
        hide_,
        hide_line,
        preparing,
        widgets,
        strip_ansi,
        outputs,
        *([api(module)] if module else []),
        rm_header_dash,
        quarto_options,
        *([parameters] if study else []),
        alternatives,
        links(origin, root, pages, names, module),
    ]
    nb = read_nb(src)
    before(nb)
    nb = NBProcessor(nb=nb, procs=steps, process=True).nb
    for c in nb.cells:
        c.pop('directives_', None)
        c.pop('idx_', None)
    if dest.stem in BROAD:
        nb.metadata['html_theme.sidebar_secondary.remove'] = True
        nb.cells[0].source += '\n\n<span class="broad"></span>'
    dest.parent.mkdir(parents=True, exist_ok=True)
    dest.write_text(nb2str(nb))


def _literals(source):
    "Patterns of the kinds and names that a cell gives to `figures.save` and `figures.save_table`"
    for n in ast.walk(ast.parse(source)):
        if isinstance(n, ast.Call) and (
            kind := {'save': 'figure-', 'save_table': 'table-'}.get(getattr(n.func, 'attr', ''))
        ):
            for arg in n.args[1:2]:
                for part in ast.walk(arg):
                    if isinstance(part, ast.Constant) and isinstance(part.value, str):
                        yield kind + re.escape(part.value)
                    if isinstance(part, ast.JoinedStr):
                        yield kind + ''.join(
                            re.escape(v.value) if isinstance(v, ast.Constant) else '.+'
                            for v in part.values
                        )


def as_text(text):
    "Text of a run in Markdown: no markup, no formula, no tag"
    return escape(re.sub(r'([*_`$\[\]{}\\])', r'\\\1', ' '.join(str(text).split())), quote=False)


REAL_PEOPLE = '05_real_people'  # the stage that is about people; first among the results


def banner(about, people=False):
    "What a page was run on; `people`: it is about people of a survey, not about films"
    if people:
        return [
            ':::{admonition} Real people',
            ':class: note',
            'This page is about people of a survey. No film and no network is part of it.',
            ':::',
            '',
        ]
    rendered = about['about']['rendered']
    facts = (
        f'Profile {as_text(about["profile"])}, seed {about["seed"]}. '
        f'{as_text(about["about"]["data"]).rstrip(".")}.'
    )
    return [
        ':::{admonition} ' + ('Rendered films' if rendered else 'This run'),
        f':class: {"warning" if rendered else "note"}',
        facts + (' No figure on this page says anything about patients.' if rendered else ''),
        ':::',
        '',
    ]


def _marked(stage, about):
    "A function that marks in a stage's notebook what it was run on and where artefacts are made"

    def mark(nb):
        cells = []
        for c in nb.cells:
            made = []
            if c.cell_type == 'code' and 'figures.save' in c.source:
                patterns = list(_literals(c.source))
                made = [
                    a
                    for a in about['artefacts']
                    if a['stage'] == stage
                    and any(re.fullmatch(p, f'{a["kind"]}-{a["name"]}') for p in patterns)
                ]
            if made:
                cells.append(
                    mk_cell(
                        ''.join(f'<span id="{a["kind"]}-{a["name"]}"></span>' for a in made),
                        'markdown',
                    )
                )
            if alts := [a['alt'] for a in made if a['alt']]:
                c.metadata['alt'] = ' '.join(dict.fromkeys(alts))
            cells.append(c)
        cells[0].source = re.sub(r'\A# (?!Study)', '# Study: ', cells[0].source)
        nb.cells = [
            *cells[:1],
            mk_cell('\n'.join(banner(about, stage == REAL_PEOPLE)), 'markdown'),
            *cells[1:],
        ]

    return mark


WORDS = {
    'auc_roc': 'AUC-ROC',
    'auc_pr': 'AUC-PR',
    'ppv': 'PPV',
    'npv': 'NPV',
    'fdr': 'FDR',
    'f1': 'F1',
    'sq': 'SQ',
    'bmi': 'BMI',
    'gee': 'GEE',
    'roc': 'ROC',
    'smd': 'SMD',
    'p_holm': 'p (Holm)',
    'p_bh': 'p (Benjamini-Hochberg)',
    'age_visit1': 'age at Visit 1',
    'age_visit2': 'age at Visit 2',
    'bmi_visit1': 'BMI at Visit 1',
    'bmi_visit2': 'BMI at Visit 2',
    'american_indian_or_alaska_native': 'American Indian or Alaska Native',
    'asian': 'Asian',
    'black_or_african_american': 'Black or African American',
    'hispanic_or_latino': 'Hispanic or Latino',
    'native_hawaiian_or_other_pacific_islander': 'Native Hawaiian or other Pacific Islander',
    'white': 'White',
    'errors_correct': 'right patches in the sample',
    'errors_incorrect': 'wrong patches in the sample',
    'errors_first': 'patches read first',
    'errors_readers': 'readers',
    'errors_all': 'patches in the sample',
    'fractures_t10': 'fractures at T10',
    'fractures_t11': 'fractures at T11',
    'cutoff': 'cut-off',
    'cut_off': 'cut off',
    'label0': 'label 0',
    'label1': 'label 1',
    'label_1': 'label 1',
    'marked_agreement': 'agreement where marked',
}

PAIRS = {
    'marked_agreement': ('marked_low', 'marked_high'),
    'odds_ratio': ('woolf_low', 'woolf_high'),
    'conditional': ('exact_low', 'exact_high'),
}  # limits that are not named for their estimate


def words(name):
    "A name of the package as a reader's words"
    if not isinstance(name, str) or not re.fullmatch(
        r'[a-z]\w*(?: (?:mean|sd|percent|number))?', name
    ):
        return name
    return re.sub(
        '|'.join(
            rf'(?<![a-z]){k.replace("_", "[_ ]")}(?![a-z0-9])'
            for k in sorted(WORDS, key=len, reverse=True)
        ),
        lambda m: WORDS[m[0].replace(' ', '_')],
        name,
    ).replace('_', ' ')


def _places(values):
    "Decimal places of a column: up to two as written, else one from ten up, three for shares"
    v = pd.Series(values).dropna().abs()
    if (((100 * v) % 1).round(6) % 1 == 0).all():
        return max(
            (len(f'{x:.2f}'.rstrip('0').partition('.')[2]) for x in v), default=0
        )  # written with two places or fewer: as they are
    return 1 if v.max() >= 10 else 3


def _number(v, places, blank=''):
    if pd.isna(v):
        return blank
    if abs(v) < 1e-12:
        v = 0  # dust of floating point
    return (
        f'{v:,.{places}f}'
        if abs(round(v, places) - v) <= 0.2 * abs(v)
        else np.format_float_positional(v, 3, fractional=False, trim='-')
    )


def readable(df):
    "A table for the eye: words for names, one format per column, intervals beside estimates"
    df, out = (
        df.drop(columns='films', errors='ignore')
        if set(df.get('films', [])) <= {'rendered'}
        else df,
        {},
    )
    skip = set()
    for i, c in enumerate(df.columns):
        if c in skip:
            continue
        values = df[c]
        if not pd.api.types.is_numeric_dtype(values) or pd.api.types.is_bool_dtype(values):
            out[words(c)] = values.map(
                lambda v: (
                    ''
                    if not isinstance(v, (list, dict)) and pd.isna(v)
                    else words(str(v) if isinstance(v, bool) else v)
                )
            )
            continue
        pair = next(
            (
                p
                for p in ((f'{c}_low', f'{c}_high'), PAIRS.get(c, ('low', 'high')), ('low', 'high'))
                if set(p) <= set(df.columns)
                and (
                    p[0] not in ('low', 'woolf_low') or df.columns[i + 1 : i + 2].tolist() == [p[0]]
                )
            ),
            (),
        )
        places = _places(pd.concat([values, *(df[k] for k in pair)]))
        text = values.map(partial(_number, places=places))
        if pair:
            skip |= set(pair)
            text = [
                t
                + (
                    f' ({_number(a, places)} to {_number(b, places)})'
                    if pd.notna(a) and pd.notna(b)
                    else ''
                )
                for t, a, b in zip(text, df[pair[0]], df[pair[1]], strict=True)
            ]
        out[words(c)] = text
    return pd.DataFrame(out, index=df.index)


def table(df, label, most=30):
    "A table in a box of its own, which scrolls sideways where it must"
    text = df.head(most).map(
        lambda v: (
            v
            if not isinstance(v, str)
            else f'<span class="long">{escape(v)}</span>'
            if len(v) > 50
            else escape(v)
        )
    )
    with pd.option_context('display.max_colwidth', None):
        html = text.rename(columns=lambda c: escape(str(c))).to_html(
            index=False, border=0, classes='table', escape=False
        )
    return [
        '```{raw} html',
        f'<div class="wide" role="region" tabindex="0" aria-label="{escape(label, quote=True)}">',
        *html.splitlines(),
        '</div>',
        '```',
        '',
    ] + ([f'The first {most} of {len(df)} rows.', ''] if len(df) > most else [])


def beside(df):
    "Rows of comparison.csv for the eye, with as many decimals as the paper prints"
    places = df.published.map(
        lambda v: 0 if v % 1 == 0 else len(f'{v:.10f}'.rstrip('0').partition('.')[2])
    )
    scale = (
        df.item if (df.source == 'table5').all() else df.measure + df.unit.fillna('')
    )  # what shares a scale
    places = places.groupby(scale).transform('max') if df.measure.nunique() > 2 else places

    def show(k):
        return [_number(v, p, '-') for v, p in zip(df[k], places, strict=True)]

    df = df.assign(
        paper=show('published'),
        run=show('this_run'),
        interval=[
            f' ({_number(a, p)} to {_number(b, p)})' if pd.notna(a) and pd.notna(b) else ''
            for a, b, p in zip(df.low, df.high, places, strict=True)
        ],
    )
    df['item'], df['measure'] = df.item.map(words).fillna(''), df.measure.map(words)
    if (
        df.measure.nunique() > 2
        and df.item.nunique() > 2
        and not df.duplicated(['item', 'measure']).any()
    ):
        grid = (
            df.assign(cell=df.run + ' / ' + df.paper)
            .pivot(index='item', columns='measure', values='cell')
            .reindex(index=df.item.unique(), columns=df.measure.unique())
            .fillna('')
        )
        return grid.rename_axis(columns=None).rename_axis(index='').reset_index(), True
    named = {} if (df.measure == 'value').all() else {'measure': df.measure}
    return pd.DataFrame(
        {
            '': df.item,
            **named,
            'unit': df.unit.fillna(''),
            'the paper': df.paper,
            'this run': df.run + df.interval,
        }
    ), False


def rendered_page(nb):
    "A guide or chapter that opens a run of rendered films, or renders some, says so on top"
    if any(
        'Films rendered from' in str(c.get('outputs', '')) or 'phantom.' in c.source
        for c in nb.cells
        if c.cell_type == 'code'
    ):
        nb.cells.insert(
            1,
            mk_cell(
                ':::{admonition} Rendered films\n:class: warning\n'
                'The films on this page are rendered from NHANES morphometry. '
                'No figure on it says anything about patients.\n:::',
                'markdown',
            ),
        )


def _compared(run, name):
    "The paper's numbers of one figure or table beside the run's"
    path, (kind, number) = run / 'comparison.csv', re.match(r'(figure|table)(\d)', name).groups()
    if not path.exists():
        return []
    df = escaping.read_csv(path)
    df = df[
        df.this_run.notna()
        & (
            (df.source == kind + number)
            | (df['where'].str.contains(rf'{kind} {number}\b') & (df.source == 'text'))
        )
    ]
    if not len(df):
        return [
            f'The paper prints {kind} {number} as a picture, '
            'with no number that could stand beside this one.',
            '',
        ]
    quoted = df.source == 'text'  # what a caption or a sentence says of the table
    shown, grid = beside(df[~quoted] if not quoted.all() else df)
    also = (
        table(beside(df[quoted])[0], f'Quoted numbers of {name} beside this run', 100)
        if quoted.any() and not quoted.all()
        else []
    )
    why = df[df.comparable == 'no'].why.dropna().unique()
    said = ' In each cell: this run / the paper.' if grid else ''
    few = (
        f' The paper prints {kind} {number} as a picture, with few numbers.'
        if kind == 'figure' and len(df) < 12
        else ''
    )
    return [
        f'**The published numbers beside this run.**{said}{few}'
        f'{" Not comparable: " + "; ".join(why) + "." if len(why) else ""}',
        '',
        *table(shown, f'Published numbers of {name} beside this run', 100),
        *(['Quoted in its caption or text:', ''] if also else []),
        *also,
    ]


TITLES = {
    'carried': 'Thresholds carried from validation to test',
    'split': 'Who is in which split',
    'splits': 'Every split at its own thresholds',
    'certificate': 'Certificate of the split',
    'patches': 'Patches of each split',
    'backends': 'Agreement of the back-ends',
    'ppv_rule': 'The top 0.75 % beside a PPV of 90 %',
    'real_and_made': 'Real and made fractures',
    'six_points': 'What six points tell alone',
    'morphometry': 'The network beside six points',
    'people': 'From bodies to people',
    'scaling': 'Cost of more films',
    'intervals': 'Every interval of the test set',
    'film_range': 'Films beside the training films',
    'prevalence': 'PPV at other prevalences',
    'probabilities': 'Probabilities of each split',
    'saliency': 'Where the network looks',
    'odds_ratios': "Odds ratios beside the paper's",
    'table2_published': 'Table 2 of the paper with intervals',
    'table2_drawn': 'Table 2 from what was drawn',
}


def called(name):
    "Title of a figure or table from its name"
    if name in TITLES:
        return TITLES[name]
    if m := re.fullmatch(r'(figure|table)(\d)(?:([a-z])|_(.*))?', name):
        part = f' {m[3].upper()}' if m[3] else f', {words(m[4])}' if m[4] else ''
        return f'{m[1].capitalize()} {m[2]}{part}'
    if m := re.fullmatch(r'(people|search|inversion)_(.*)', name):
        return f'{m[1].capitalize()}: {words(m[2])}'
    text = words(name)
    return text[0].upper() + text[1:]


def results(run, dest, about):
    "Pages with every figure and table: what is about people, what the paper has, and the others"

    def of_people(a):
        return a['stage'] == REAL_PEOPLE

    def of_paper(a):
        return not of_people(a) and bool(re.fullmatch(r'(figure|table)\d[a-z]?', a['name']))

    def order(a):
        return (a['kind'], a['name'])

    (dest / 'results').mkdir(parents=True, exist_ok=True)
    made = about['artefacts']
    groups = [
        (
            'people',
            'Real people',
            'What a survey and the grades of its readers say of people. No film is part of it.',
            [a for a in made if of_people(a)],
        ),
        (
            'paper',
            "The paper's tables and figures",
            'Every table and figure of Dong et al. 2022, from this run. Below each stand the '
            'published numbers, where the paper gives numbers, and the cell that makes it.',
            sorted(filter(of_paper, made), key=order),
        ),
        (
            'further',
            'Further tables and figures',
            'What the paper does not have.',
            [
                a
                for a in made
                if not (of_people(a) or of_paper(a))
                and (a['kind'], a['name']) != ('table', 'comparison')
            ],
        ),
    ]
    groups = [g for g in groups if g[3] or g[0] != 'people']
    (dest / 'results_list.md').write_text(
        '\n'.join(
            [
                '```{toctree}',
                ':caption: Results',
                ':hidden:',
                *(f'/pages/results/{g[0]}' for g in groups),
                '```',
                '',
            ]
        )
    )
    for file, title, lead, some in groups:
        text, last = (
            [
                '---',
                'html_theme.sidebar_secondary.remove: true',
                '---',
                f'# {title}',
                '',
                lead,
                '',
                *banner(about, file == 'people'),
                ':::{contents}',
                ':local:',
                ':depth: 1',
                ':backlinks: none',
                ':class: everything',
                ':::',
                '',
            ],
            {},
        )
        last = {
            re.match(r'(?:figure|table)\d|', a['name'])[0]: a['name'] for a in some
        }  # the published numbers stand below the last panel
        for a in some:
            name, page, kind = a['name'], dest / 'study' / f'{a["stage"]}.ipynb', a['kind']
            data = run / ('figures' if kind == 'figure' else 'tables') / f'{name}.csv'
            if kind == 'table' and not len(df := escaping.read_csv(data)):
                continue
            anchor, place = f'{kind}-{name}', f'{data.parent.name}/{data.name}'
            marked = page.exists() and f'id=\\"{anchor}\\"' in page.read_text()
            cell = (
                f'<a href="../study/{page.stem}.html#{anchor}">the cell that makes it</a>'
                if marked
                else f'[{page.stem}](/pages/study/{page.name})'
                if page.exists()
                else f'`{a["stage"]}`'
            )
            text += [f'({anchor})=', f'## {called(name)}', '']
            caption = as_text(a['caption'])
            if kind == 'figure':
                shutil.copy(run / 'figures' / f'{name}.png', dest / 'results')
                text += [
                    f'```{{image}} {name}.png',
                    f':alt: {" ".join((a["alt"] or a["caption"]).split())}',
                    '```',
                    '',
                    caption,
                    '',
                ]
            else:
                text += [caption, '', *table(readable(df), called(name))]
            if data.exists():
                (dest / 'results' / data.parent.name).mkdir(exist_ok=True)
                shutil.copy(
                    data, dest / 'results' / data.parent.name
                )  # a figure and a table may have one name
            text += [
                f'From {cell}'
                + (f', with {{download}}`its numbers <{place}>`' if data.exists() else '')
                + '.',
                '',
            ]
            if of_paper(a) and last[source := re.match(r'(?:figure|table)\d', name)[0]] == name:
                text += _compared(run, source)
        (dest / 'results' / f'{file}.md').write_text('\n'.join(text))


def listing(title, lead, rows, dest, head=('Page', 'What it is about')):
    "A page that leads to others"
    tree = ['```{toctree}', ':hidden:', *(r[0] for r in rows), '```', '']
    lines = [
        f'* - [{r[1]}]({r[0]}{"" if r[0].endswith(".md") else ".ipynb"})\n  - {r[2]}' for r in rows
    ]
    dest.write_text(
        '\n'.join(
            [
                f'# {title}',
                '',
                lead,
                '',
                *tree,
                ':::{list-table}',
                ':header-rows: 1',
                ':widths: 30 70',
                '',
                f'* - {head[0]}\n  - {head[1]}',
                *lines,
                ':::',
                '',
            ]
        )
    )


def reference(names, found, dest):
    "A page that lists every public function and class of every chapter"
    text = [
        '# Reference',
        '',
        'Every public function and class, by chapter. The names lead to signature, parameters '
        'and source, in the chapter that explains them.',
        '',
    ]
    for module, path in found.items():
        title, summary = heading(path)
        text += [
            f'## {PACKAGE}.{module}',
            '',
            f'[{title}](/pages/method/{path.name}). {summary}',
            '',
        ]
        rows = {k: v for k, v in names[module].items() if '.' not in k}
        if rows:
            text += [
                ':::{list-table}',
                ':widths: 30 70',
                '',
                *(
                    f'* - {{py:obj}}`{k} <{PACKAGE}.{module}.{k}>`\n'
                    f'  - {escape_md(v.splitlines()[0]) if v else ""}'
                    for k, v in rows.items()
                ),
                ':::',
                '',
            ]
    dest.write_text('\n'.join(text))


def escape_md(text):
    return re.sub(r'([*_$<>\[\]])', r'\\\1', re.sub(r'`([^`]*)`', r'\1', text))


def citation(root, dest):
    "How to cite, from CITATION.cff"
    cff = yaml.safe_load((root / 'CITATION.cff').read_text())

    def person(a):
        return a.get('name') or f'{a["family-names"]}, {a["given-names"]}'

    def entry(kind, key, r, **more):
        fields = dict(
            author=' and '.join(
                f'{{{person(a)}}}' if 'name' in a else person(a) for a in r['authors']
            ),
            title=f'{{{r["title"]}}}',
            **{k: r[k] for k in ('journal', 'volume', 'year', 'doi', 'version') if k in r},
            **({'number': r['issue']} if 'issue' in r else {}),
            **more,
        )
        return [f'@{kind}{{{key},', *(f'  {k} = {{{v}}},' for k, v in fields.items()), '}']

    references = {r['type']: r for r in cff['references']}
    text = [
        '# How to cite',
        '',
        cff['message'],
        '',
        'The file `CITATION.cff` at the top of the repository holds the same '
        'for reference managers.',
        '',
    ]
    for name, kind, key, r in (
        ('This package', 'software', 'ocf_study', cff),
        ('The paper', 'article', 'dong2022', references['article']),
        ('The morphometry', 'misc', 'nhanes2014', references['dataset']),
    ):
        text += [f'## {name}', '', '```bibtex', *entry(kind, key, r), '```', '']
    dest.write_text('\n'.join(text))


def landing(root, run, pages, dest):
    "The README as the first page, its picture small enough for a phone"
    import readme

    text = readme.readme()

    def image(m):
        source = next(
            p for p in (root / m['src'], run / 'figures' / Path(m['src']).name) if p.exists()
        )
        picture = cv2.imread(str(source))
        width = min(1400, picture.shape[1])
        picture = cv2.resize(
            picture,
            (width, round(picture.shape[0] * width / picture.shape[1])),
            interpolation=cv2.INTER_AREA,
        )
        cv2.imwrite(
            str(dest.parent / f'{source.stem}.webp'), picture, [cv2.IMWRITE_WEBP_QUALITY, 82]
        )
        return f'```{{image}} /pages/{source.stem}.webp\n:alt: {m["alt"]}\n```\n'

    text = re.sub(r'<img src="(?P<src>[^"]+)" alt="(?P<alt>[^"]*)"[^>]*>', image, text)
    # the numbers of the paper's items stand on the page of results
    text = re.sub(r'\]\(reports/demo/(figure|table)s/(\w+)\.csv\)', r'](#\1-\2)', text)
    dest.write_text(relink(text, 'README.md', root, pages))


def build(root, run, dest):
    "Write every page; returns module -> documented names"
    if not (run / 'provenance.json').exists():
        raise SystemExit(
            f'{run} holds no finished run: `make study` makes reports/demo; '
            'OCF_SITE_RUN names another under reports/'
        )
    about, found = json.loads((run / 'provenance.json').read_text()), chapters(root)
    names, modules = documented(root, found), {p: m for m, p in found.items()}
    shutil.rmtree(dest, ignore_errors=True)
    dest.mkdir(parents=True)
    stages = notebooks(run / 'notebooks')
    pages = {
        f'nbs/{part}/{p.name}': f'pages/{part}/{p.name}'
        for part, some in (
            ('method', found.values()),
            ('guides', notebooks(root / 'nbs' / 'guides')),
            ('study', stages),
        )
        for p in some
    }
    demo = f'reports/{run.name}'
    folders = {
        'nbs/method': 'pages/method.md',
        'nbs/study': 'pages/study.md',
        'nbs/guides': 'pages/guides.md',
        'nbs/study/profiles': 'pages/guides/papermill.ipynb',
        'data_manifest': 'about/data.md',
        demo: 'pages/results/paper.md',
        f'{demo}/index.html': 'pages/results/paper.md',
        'reports/demo': 'pages/results/paper.md',
        'reports/demo/index.html': 'pages/results/paper.md',
        'CITATION.cff': 'pages/citation.md',
        **{f'docs/about/{k}.md': f'about/{k}.md' for k in ('limitations', 'data')},
        'CONTRIBUTING.md': 'about/contributing.md',
        'CHANGELOG.md': 'about/changelog.md',
    }
    pages |= {
        k: v
        for k, v in folders.items()
        if v.split('/')[-1] != 'papermill.ipynb' or v in pages.values()
    }
    for origin, target in pages.items():
        if (
            not origin.endswith('.ipynb')
            or not target.endswith('.ipynb')
            or not target.startswith('pages/')
        ):
            continue
        part, name = Path(target).parts[1:]
        src = run / 'notebooks' / name if part == 'study' else root / 'nbs' / part / name
        page(
            src,
            dest / part / name,
            origin,
            root,
            pages,
            names,
            modules.get(src, ''),
            part == 'study',
            _marked(src.stem, about) if part == 'study' else rendered_page,
        )

    def row(p, part):
        return (f'{part}/{p.stem}', *map(escape_md, heading(p)))

    listing(
        'Method',
        'One chapter per step, in the order in which the data flow. Each is a notebook that '
        'explains its step, shows it on a film, and exports a module of the package.',
        [row(p, 'method') for p in found.values()],
        dest / 'method.md',
    )
    listing(
        'Study',
        f'The notebooks that one command runs, executed: profile `{about["profile"]}`.',
        [row(p, 'study') for p in stages],
        dest / 'study.md',
    )
    listing(
        'Guides',
        'How to do one thing.',
        [row(p, 'guides') for p in notebooks(root / 'nbs' / 'guides')],
        dest / 'guides.md',
    )
    results(run, dest, about)
    reference(names, found, dest / 'reference.md')
    citation(root, dest / 'citation.md')
    landing(root, run, pages, dest / 'landing.md')
    return names


# What the theme has made of them


def inline_scripts(html):
    "What the script elements of a page hold that name no file"
    return re.findall(r'<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>', html, re.S)


def guarded(html, from_data):
    "Let a page run the site's own scripts and none that stands in a notebook, a table or a name"
    own = set(inline_scripts(html)) - {*from_data, ''}
    hashes = [b64encode(sha256(code.encode()).digest()).decode() for code in sorted(own)]
    scripts = ' '.join(f"'sha256-{h}'" for h in hashes)
    policy = (
        f"default-src 'self' file:; script-src 'self' file: {scripts}; "
        "style-src 'self' file: 'unsafe-inline'; img-src 'self' file: data:; "
        "font-src 'self' file: data:; object-src 'none'; base-uri 'self'"
    )
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    return html.replace('<head>', f'<head>{meta}', 1)
