"The site: Sphinx and MyST-NB over the notebooks, offline"
import inspect
import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

here = Path(__file__).parent
root = here.parent
sys.path[:0] = [str(here), str(root)]

import nbpages
from nbdev.config import get_config

os.chdir(root)  # nbdev looks for settings.ini from the working folder up
cfg = get_config()
run = root/'reports'/os.environ.get('OCF_SITE_RUN', 'demo')
symbols = nbpages.build(root, run, here/'pages')

project, author, release = cfg.title, cfg.author, cfg.version
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.viewcode', 'sphinx_design', 'sphinx_copybutton']
nb_execution_mode = 'off'
nb_output_stderr = 'remove'
nb_merge_streams = True
myst_enable_extensions = ['dollarmath', 'amsmath', 'colon_fence', 'deflist', 'attrs_inline']
myst_heading_anchors = 3
numfig = True
autodoc_typehints = 'signature'
default_role = 'py:obj'
python_use_unqualified_type_names = True
add_module_names = False
html_theme = 'sphinx_book_theme'
html_title = cfg.title
html_theme_options = dict(show_toc_level=2, show_navbar_depth=1, use_download_button=False, navbar_persistent=[], use_fullscreen_button=False)
html_sourcelink_suffix = ''
html_copy_source = html_show_sourcelink = False
html_extra_path = []

# MathJax of our own, one file with its glyphs, so that formulas show without a network
(here/'_static').mkdir(exist_ok=True)
shutil.copy(Path(find_spec('sphinx-mathjax-offline').origin).parent/'static/mathjax/tex-svg.js', here/'_static')
html_static_path, mathjax_path = ['_static'], 'tex-svg.js'


def docments_to_fields(app, what, name, obj, options, lines):
    "Add the comments beside the parameters (docments) to the docstring as fields"
    from fastcore.docments import docments
    if what not in ('function', 'method', 'class') or any(l.strip().startswith((':param', 'Parameters')) for l in lines): return
    try: d = docments(obj, full=True, returns=True)
    except (ValueError, TypeError, OSError): return  # no source to read comments from
    fields = [f":{'returns' if k == 'return' else 'param ' + k}: {v['docment']}" for k, v in d.items() if v['docment'] and k != 'self']
    if fields: lines += ['', *fields, '']
    lines[:] = [re.sub(r'(?<![`:])`([\w.]+)`(?!`)', lambda m: f":py:obj:`{m[1]} <{symbols[m[1]]}>`" if m[1] in symbols else f'``{m[1]}``', l) for l in lines]


def setup(app): app.connect('autodoc-process-docstring', docments_to_fields, priority=900)
