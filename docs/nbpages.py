"Turn nbdev notebooks into pages for myst-nb: nbdev's own processors strip the directives, the rest is below."
import ast, json, re, shutil
from importlib import import_module
from pathlib import Path

import pandas as pd
from execnb.nbio import nb2str, mk_cell
from nbdev.process import NBProcessor, Processor
from nbdev.processors import hide_, hide_line, filter_stream_, rm_header_dash, strip_ansi

figures_note = 'These films were rendered from the morphometry of NHANES participants. Nothing on this page says anything about patients.'

_opt = re.compile(r'^#\|\s*([\w-]+):\s*(.*)\n?', re.M)

def quarto_options(cell):
    "Give myst-nb what Quarto's cell options say: label, captions, echo, output, code-fold"
    if cell.cell_type != 'code': return
    o = dict(_opt.findall(cell.source))
    cell.source = _opt.sub('', cell.source)
    tags, fig = set(cell.metadata.get('tags', [])), {}
    if o.get('echo') == 'false': tags.add('remove-input')
    if o.get('output') == 'false' or o.get('eval') == 'false': tags.add('remove-output')
    if o.get('include') == 'false': tags.add('remove-cell')
    if o.get('code-fold') == 'true': tags.add('hide-input')
    cap = o.get('fig-cap') or o.get('tbl-cap')
    if cap: fig['caption'] = cap.strip('"\'')
    if cap and 'label' in o: fig['name'] = o['label']
    if tags: cell.metadata['tags'] = sorted(tags)
    if fig: cell.metadata['mystnb'] = {'figure': fig}

def parameters(cell):
    "Of a papermill run show the parameters injected, folding away the defaults they replace"
    tags = cell.metadata.get('tags', [])
    if 'parameters' in tags: cell.metadata['tags'] = [*tags, 'hide-cell']
    if 'injected-parameters' in tags: cell.source = cell.source.replace('# Parameters\n', '# Parameters of this run\n')

class api(Processor):
    "Replace exported definitions, and `show_doc`, by what autodoc says about them"
    def begin(self):
        src = '\n'.join(c.source for c in self.nb.cells if c.cell_type == 'code')
        self.exp = next((c.directives_['default_exp'][0] for c in self.nb.cells
                         if 'default_exp' in (c.directives_ or {})), None)
        self.shown = set(re.findall(r'^show_doc\(([\w.]+)', src, re.M))

    def _doc(self, name, kind):
        apart = sorted(m.partition('.')[2] for m in self.shown if m.startswith(name + '.'))
        opts = '   :members:\n' if kind == 'class' else ''
        if opts and apart: opts += f"   :exclude-members: {', '.join(apart)}\n"
        return f"```{{eval-rst}}\n.. auto{kind}:: {self.mod}.{name}\n{opts}```"

    @property
    def mod(self):
        from nbdev.config import get_config
        return f'{get_config().lib_path.name}.{self.exp}'

    def cell(self, cell):
        d = cell.get('directives_') or {}
        if cell.cell_type != 'code': return
        if 'default_exp' in d or 'exporti' in d: del cell['source']; return
        m = re.match(r'show_doc\(([\w.]+)', cell.source)
        if m: return self._md(cell, [self._doc(m[1], 'method' if '.' in m[1] else 'function')])
        if 'export' in d:
            defs = [n for n in (cell.parsed_() or []) if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name[0] != '_']
            if not defs: del cell['source']; return
            self._md(cell, [self._doc(n.name, 'class' if isinstance(n, ast.ClassDef) else 'function') for n in defs])

    def _md(self, cell, docs):
        cell.cell_type, cell.source = 'markdown', '\n\n'.join(docs)
        for k in ('outputs', 'execution_count'): cell.pop(k, None)

def links(syms):
    "A processor that links `name` in Markdown to the documentation of `name`"
    def _link(m): return f"{{py:obj}}`{m[1]} <{syms[m[1]]}>`" if m[1] in syms else m[0]
    def add_links(cell):
        if cell.cell_type == 'markdown' and 'eval-rst' not in cell.source:
            cell.source = re.sub(r'(?<!`)`([\w.]+?)(?:\(\))?`(?!`)', _link, cell.source)
            cell.source = re.sub(r'(?<!\w)@((?:fig|tbl)-[\w-]+)', r'{numref}`\1`', cell.source)
    return add_links

def page(src, dest, syms):
    "Write the page of the notebook `src` to `dest`"
    nb = NBProcessor(src, [hide_, hide_line, filter_stream_, strip_ansi, api, rm_header_dash, quarto_options, parameters, links(syms)], process=True).nb
    dest.parent.mkdir(parents=True, exist_ok=True)
    dest.write_text(nb2str(nb))

def banner(nb_path, run):
    "Say on top of an executed notebook which films it was run on"
    nb, about = json.loads(nb_path.read_text()), json.loads((run/'provenance.json').read_text())
    kind = 'warning' if about['about']['rendered'] else 'note'
    text = f":::{{{kind}}}\nProfile `{about['profile']}`, seed {about['seed']}. {about['about']['data']}\n:::"
    nb['cells'].insert(1, dict(cell_type='markdown', metadata={}, id='banner', source=text))
    nb_path.write_text(json.dumps(nb))

def results(run, dest):
    "A page with every table and figure of the run, each with a link to the notebook that makes it"
    p = json.loads((run/'provenance.json').read_text())
    text = ['# Results', f"Every table and figure of the run `{p['profile']}`. {p['about']['data']}", '']
    if p['about']['rendered']: text += [':::{warning}', figures_note, ':::', '']
    for kind, title in (('figure', 'Figures'), ('table', 'Tables')):
        text += [f'## {title}', '']
        for a in (a for a in p['artefacts'] if a['kind'] == kind):
            source = f"From [{a['stage']}](study/{a['stage']}.ipynb)."
            if kind == 'figure':
                text += [f"### {a['name']}", '', f"```{{image}} results/{a['name']}.png", f":alt: {a['alt']}", '```', '', f"{a['caption']} {source}", '']
                (dest/'results').mkdir(parents=True, exist_ok=True)
                shutil.copy(run/'figures'/f"{a['name']}.png", dest/'results')
            else:
                df = pd.read_csv(run/'tables'/f"{a['name']}.csv", dtype=str, keep_default_na=False).drop(columns='films', errors='ignore')
                more = f' The first 30 of {len(df)} rows.' if len(df) > 30 else ''
                text += [f"### {a['name']}", '', f"{a['caption']}{more} {source}", '', '```{raw} html', '<div class="table-wide">', df.head(30).to_html(index=False, border=0), '</div>', '```', '']
    (dest/'results.md').write_text('\n'.join(text))

def build(root, run, dest):
    "Write every page: the chapters, the executed notebooks of `run`, the guides, the results"
    from nbdev.config import get_config
    idx = import_module(get_config().lib_path.name + '._modidx').d['syms']
    syms = {full[len(mod)+1:]: full for mod, d in idx.items() for full in d}
    shutil.rmtree(dest, ignore_errors=True)
    for part, folder in (('method', root/'nbs'/'method'), ('guides', root/'nbs'/'guides'), ('study', run/'notebooks')):
        for src in sorted(folder.glob('[!_.]*.ipynb')): page(src, dest/part/src.name, syms)
    for nb in (dest/'study').glob('*.ipynb'): banner(nb, run)
    results(run, dest)
    return syms
