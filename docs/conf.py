"The site: Sphinx and MyST-NB over the notebooks, offline"

import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the package
sys.path.insert(0, str(Path(__file__).parent))  # nbpages
os.environ['MPLBACKEND'] = os.environ.get('MPLBACKEND', 'agg')

import nbpages
from myst_parser.mdit_to_docutils.base import DocutilsRenderer
from nbdev.config import get_config

here, root = Path(__file__).parent, Path(__file__).parents[1]
os.chdir(root)  # nbdev looks for settings.ini from the working folder up
cfg = get_config()
names = nbpages.build(
    root, root / 'reports' / os.environ.get('OCF_SITE_RUN', 'demo'), here / 'pages'
)

project, author, release = cfg.title, cfg.author, cfg.version
extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx_design', 'sphinx_copybutton']
exclude_patterns = ['pages/landing.md', 'pages/results_list.md']
nb_execution_mode = 'off'
nb_output_stderr = 'remove'
nb_merge_streams = True
myst_enable_extensions = ['dollarmath', 'amsmath', 'colon_fence', 'deflist', 'attrs_inline']
myst_heading_anchors = 3
suppress_warnings = ['myst.header']  # a notebook may go from its title to the third level
default_role = 'py:obj'
add_module_names = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 110
autodoc_typehints = 'signature'
autodoc_inherit_docstrings = False
html_theme = 'sphinx_book_theme'
html_title = cfg.title
html_theme_options = dict(
    show_toc_level=2,
    show_navbar_depth=1,
    max_navbar_depth=2,
    navbar_persistent=[],
    use_download_button=False,
    use_fullscreen_button=False,
)
html_use_index = html_copy_source = html_show_sourcelink = False
html_context = dict(default_mode='auto')
html_favicon = '_static/favicon.svg'
html_css_files, html_js_files = ['site.css'], ['site.js']

# MathJax of our own, one file with its glyphs, so that formulas show without a network
shutil.copy(
    Path(find_spec('sphinx-mathjax-offline').origin).parent / 'static/mathjax/tex-svg.js',
    here / '_static',
)
html_static_path, mathjax_path = ['_static'], 'tex-svg.js'


def marked(text, module):
    "A line of a docstring or a comment as reStructuredText, its names as links"
    parts = re.split(r'(?<!`)`([^`]+)`(?!`)', text)
    for i, part in enumerate(parts):
        if i % 2:
            parts[i] = (
                f':py:obj:`{part} <{full}>`'
                if (full := nbpages.entry(part, names, module))
                else f'``{part}``'
            )
        else:
            parts[i] = re.sub(r'([*|]|_\b)', r'\\\1', part)
    return ''.join(parts)


def docments_to_fields(app, what, name, obj, options, lines):
    "The docstring, and below it the comments beside the parameters (docments) as fields"
    from fastcore.docments import docments

    module = name.split('.')[1] if name.startswith('ocf_study.') else ''
    module = module if module in names else ''
    if what in ('function', 'method', 'class'):
        try:
            d = docments(obj, full=True, returns=True)
        except (ValueError, TypeError, OSError):
            d = {}  # no source to read comments from
        fields = [
            f':{"returns" if k == "return" else "param " + k}: '
            + marked(' '.join(v['docment'].split()), module)
            for k, v in d.items()
            if v['docment'] and k != 'self'
        ]
    else:
        fields = []
    lines[:] = [marked(line, module) for line in lines]
    lines += ['', *fields, ''] if fields else []


def without_padding(self, token):
    "MyST pads a cell with blank lines by the ten thousand: nine tenths of the time of a build"
    token.token.map = [0, 0]
    return padded(self, token)


padded = DocutilsRenderer.render_restructuredtext
DocutilsRenderer.render_restructuredtext = without_padding


def divided(html):
    "Lines of a long signature, which the theme writes as definitions without their terms"

    def lines(m):
        return re.sub(r'<(/?)(?:dl|dd)>', r'<\1div>', m[0])

    return re.sub(r'<dt class="sig .*?</dt>', lines, html, flags=re.S)


def remembered(app, pagename, templatename, context, doctree):
    from_data[pagename] = nbpages.inline_scripts(context.get('body', ''))


from_data = {}  # page -> scripts in its body, which are not this site's


def lighter(app, exception):
    """The theme brings its icons twice, as a font and as 1.5 MB of script: the font will do.

    Its index is for the page of the search alone.
    """
    icons, search = (
        re.compile(rf'<script[^>]*(?:{name})[^>]*></script>')
        for name in ('fontawesome', 'searchtools|language_data|searchindex')
    )
    out = Path(app.outdir)
    for page in out.rglob('*.html'):
        html = icons.sub('', page.read_text(encoding='utf-8'))
        html = divided(html if page.name == 'search.html' else search.sub('', html))
        name = page.relative_to(out).with_suffix('').as_posix()
        html = nbpages.guarded(html, from_data.get(name, ()))
        page.write_text(html, encoding='utf-8')
    (out / '_static' / 'scripts' / 'fontawesome.js').unlink(missing_ok=True)


def setup(app):
    app.connect('autodoc-process-docstring', docments_to_fields)
    app.connect(
        'autodoc-skip-member',
        lambda app, what, name, obj, skip, options: (
            True if type(obj).__name__ == '_tuplegetter' else None
        ),
    )  # fields of a named tuple
    app.connect('html-page-context', remembered)
    app.connect('build-finished', lighter)
