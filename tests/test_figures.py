"What the figures say must be what the tables hold."

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from ocf_study import disclosure, figures, genant, metrics


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close('all')


def texts(fig):
    return [t.get_text() for ax in fig.axes for t in ax.texts]


@pytest.mark.parametrize('curve', ['roc', 'pr'])
def test_no_legend_lies_over_a_curve_or_its_band(curve):
    y, p = np.arange(200) % 5 == 0, np.linspace(0.1, 0.9, 200)
    grid = np.linspace(0, 1, 11)
    flat = dict(value=0.5, low=0.1, high=1, low_all=0, high_all=1)
    figures.style()
    marked = {'top 5 %': metrics.threshold('top_share', y, p, 0.05)}
    fig = getattr(figures, curve)(y, p, pd.DataFrame(dict(x=grid, **flat)), (0.4, 0.6), marked)
    fig.canvas.draw()
    (legend,), (ax,) = fig.legends, fig.axes
    assert ax.get_legend() is None and len(legend.get_texts()) >= 3
    assert not legend.get_window_extent().overlaps(ax.get_tightbbox())


def test_sq_classes_count_every_class_once():
    counts = pd.DataFrame(
        [
            dict(sq=c, region=region, level=level, n=n)
            for c, n in zip(genant.SQ_CLASSES.sq, range(1, 11), strict=True)
            for region, level in (('T', 'T8'), ('T', 'T9'), ('L', 'L1'))
        ]
    )
    said = texts(figures.sq_classes(counts))
    assert {f'{2 * n} thoracic\n{n} lumbar' for n in range(1, 11)} <= set(said)
    assert {f'{c:g}' for c in genant.SQ_CLASSES.sq} <= set(said)


def test_flow_sets_exclusions_aside_and_hides_what_is_not_counted():
    columns = ['step', 'split', 'subjects', 'films', 'bodies', 'label0', 'label1']
    rows = [
        ('All', '', 5, 9, 1234, np.nan, np.nan),
        ('Excluded: missing', '', 0, 1, 1, np.nan, np.nan),
        ('Kept', '', 5, 9, 1233, 1200, 33),
        ('Test', 'test', 1, 2, 20, np.nan, np.nan),
    ]
    said = texts(figures.flow(pd.DataFrame(rows, columns=columns, index=[4, 7, 9, 30])))
    assert (
        '1,234 bodies' in ' '.join(said)
        and '1 film · 1 body: missing' in said
        and 'label 0: 1,200 · label 1: 33' in ' '.join(said)
    )
    assert not any('nan' in t or t.startswith('0 ') for t in said)
    assert '1 subject · 2 films\n20 bodies' in said


@pytest.mark.parametrize('normal', [True, False])
def test_levels_stack_to_the_totals(normal):
    counts = pd.DataFrame(
        [
            dict(sq=c, level=level, n=k + 1)
            for k, c in enumerate(genant.SQ_CLASSES.sq)
            for level in ('T4', 'L4')
        ]
    )
    ax = figures.levels(counts, normal).axes[0]
    assert [t.get_text() for t in ax.texts] == ['55' if normal else '54'] + ['0'] * 11 + [
        '55' if normal else '54'
    ]
    assert len(ax.containers) == 9 + normal


def test_colours_tell_classes_apart():
    colours = np.array([matplotlib.colors.to_rgb(c) for c in figures.SQ_COLORS.values()])
    apart = np.linalg.norm(colours[:, None] - colours[None], axis=-1) + 9 * np.eye(len(colours))
    assert set(figures.SQ_COLORS) == set(genant.SQ_CLASSES.sq) and apart.min() > 0.1


Y = np.r_[np.ones(4), np.zeros(26)].astype(int)
P = np.r_[0.9, 0.8, 0.4, 0.4, np.linspace(0, 0.85, 26)]


def test_curves_are_those_of_metrics_and_mark_the_thresholds():
    t = metrics.threshold('top_share', Y, P, 0.1)
    m = metrics.measures(Y, P, t)
    for fig, at, area in (
        (
            figures.roc(Y, P, interval=(0.5, 0.9), thresholds={'top': t}),
            (1 - m['specificity'], m['sensitivity']),
            metrics.auc_roc(Y, P),
        ),
        (
            figures.pr(Y, P, thresholds={'top': t}),
            (m['sensitivity'], m['ppv']),
            metrics.average_precision(Y, P),
        ),
    ):
        ax = fig.axes[0]
        mark = next(line for line in ax.lines if line.get_label() == 'top')
        assert tuple(map(float, mark.get_xydata()[0])) == pytest.approx(at)
        assert f'{area:.3f}' in ax.get_title()


def test_measures_table_prints_per_cent_and_f1_as_a_number():
    rows = [
        dict(threshold='t', measure='ppv', value=0.912, low=0.85, high=1.0),
        dict(threshold='t', measure='f1', value=0.724, low=0.66, high=0.78),
        dict(threshold='t', measure='npv', value=np.nan, low=np.nan, high=np.nan),
        dict(threshold='', measure='auc_roc', value=0.99, low=0.98, high=1.0),
    ]
    cells = {
        c.get_text().get_text()
        for c in figures.measures_table(pd.DataFrame(rows)).axes[0].tables[0].get_celld().values()
    }
    assert {'91.2\n[85.0, 100.0]', '0.72\n[0.66, 0.78]', '-'} <= cells and not any(
        'nan' in c or '99' in c for c in cells
    )


def test_confusion_prints_its_matrix():
    assert texts(figures.confusion([[1520, 3], [0, 17]])) == ['1,520', '3', '0', '17']
    assert texts(figures.confusion([[0.998, 0.002], [np.nan, np.nan]], True)) == [
        '0.998',
        '0.002',
        '-',
        '-',
    ]


def test_levels_with_few_fractures_are_hollow():
    df = metrics.by_group(Y, P, np.where(np.arange(30) < 3, 'T10', 'L1'), 0.5, order=['T10', 'L1'])
    ax = figures.by_level(df, few=2).axes[0]
    hollow = [line for line in ax.lines if line.get_markerfacecolor() == 'white']
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ['T10\n3', 'L1\n1']
    assert all(np.round(line.get_xdata()).tolist() == [1] for line in hollow) and len(hollow) == 4


def test_forest_marks_what_leaves_the_plot():
    df = pd.DataFrame(
        dict(
            label=['a', 'b', 'c'],
            value=[2.0, 3.78, np.nan],
            low=[1.0, 0.15, np.nan],
            high=[4.0, np.inf, np.nan],
            group=['x', 'x', 'y'],
        )
    )
    ax = figures.forest(df).axes[0]
    arrows = [line.get_ydata().tolist() for line in ax.lines if line.get_marker() == '>']
    assert arrows == [[-2]] and [t.get_text() for t in ax.get_yticklabels()] == [
        'a',
        'b',
        'c',
        'x',
        'y',
    ]
    assert texts(ax.figure) == ['2.00 (1.00-4.00)', '3.78 (0.15-inf)', '-']


def test_panels_keep_their_order_and_their_branch():
    grey = np.arange(64.0).reshape(8, 8)
    panels = [
        ('stored film', grey, dict(points=[[1, 2]])),
        ('3 square', grey, dict(polygons=[[[2, 2], [6, 2], [6, 6], [2, 6]]])),
        ('6 cut out', grey, {}),
        ('9 z-score', grey, {}),
        ('6 cut out (training)', grey, {}),
        ('8 contrast, noise (training)', grey, {}),
        ('9 z-score (training)', grey, {}),
    ]
    fig = figures.patch_steps(panels)
    place = {ax.get_title(): ax.get_subplotspec() for ax in fig.axes if ax.get_title()}
    assert list(place) == [t for t, *_ in panels]
    assert (
        place['9 z-score'].colspan == place['9 z-score (training)'].colspan
        and place['9 z-score'].rowspan != place['9 z-score (training)'].rowspan
    )
    zoomed = next(ax for ax in fig.axes if ax.get_title() == '3 square')
    assert zoomed.get_xlim() == pytest.approx((1.5, 6.5)) and zoomed.get_ylim() == pytest.approx(
        (6.5, 1.5)
    )


def test_inversion_rows_hold_one_film_each():
    panels = [
        (f'{film} {k}', np.eye(4), dict(mask=np.eye(4) > 0)) for film in 'ab' for k in range(3)
    ]
    fig = figures.inversion_steps(panels)
    assert [ax.get_subplotspec().rowspan.start for ax in fig.axes] == [0, 0, 0, 1, 1, 1]
    assert all(len(ax.images) == 2 for ax in fig.axes)


def run_of(tmp_path, rendered):
    (tmp_path / 'work/cohort').mkdir(parents=True)
    (tmp_path / 'work/cohort/about.json').write_text(
        f'{{"rendered": {str(rendered).lower()}, "data": "x"}}'
    )
    return tmp_path


@pytest.mark.parametrize('rendered', [True, False])
def test_a_count_of_films_is_not_overwritten(tmp_path, rendered):
    out = run_of(tmp_path, rendered)
    df = pd.DataFrame(dict(split=['train'], films=[7]))
    with pytest.raises(ValueError, match='"films" would be lost'):
        figures.save_table(df, 't', out, caption='c', rests_on=disclosure.NOBODY)
    with pytest.raises(ValueError, match='"films" would be lost'):
        figures.save(
            plt.figure(), 'f', out, caption='c', alt='a', data=df, rests_on=disclosure.NOBODY
        )
    renamed = df.rename(columns=dict(films='n_films'))
    figures.save_table(renamed, 't', out, caption='c', rests_on=disclosure.NOBODY)
    assert pd.read_csv(out / 'tables/t.csv').n_films.tolist() == [7]


def test_what_is_shown_of_real_people_is_what_is_written(tmp_path):
    out = run_of(tmp_path, False)
    shown = figures.save_table(
        pd.DataFrame(dict(film_id=['PO6001V1L'], path=['PO/PO6001/MRPO6001V1L.dcm'], n=[3])),
        't',
        out,
        caption='c',
        rests_on=disclosure.NOBODY,
    )
    assert (
        'PO6001' not in shown.to_html() + (out / 'tables/t.csv').read_text()
        and '3' in shown.to_html()
    )


def test_a_row_without_limits_is_hollow():
    d = pd.DataFrame(
        dict(label=['a', 'b'], value=[0.9, 1.0], low=[0.8, np.nan], high=[0.95, np.nan])
    )
    ax = figures.forest(d, log=False, reference=None).axes[0]
    faces = [
        line.get_markerfacecolor()
        for line in ax.lines
        if line.get_marker() == 's' and len(line.get_xdata())
    ]
    assert len(faces) == 2 and 'white' in faces
    assert sum(len(c.get_segments()) for c in ax.collections) == 1
    assert [t.get_text() for t in ax.texts][:2] == ['0.90 (0.80-0.95)', '1.00']


def test_what_the_certificate_masks_is_not_told(tmp_path):
    out = run_of(tmp_path, False)
    (out / 'tables').mkdir()
    proof = dict(split=['train', 'test'], label1=[40, np.nan], subjects=[300, 100])
    pd.DataFrame(proof).to_csv(out / 'tables/certificate.csv', index=False)
    policy = disclosure.policy(out)
    assert policy.count(40, 'train') == '40' and policy.count(30, 'test') == '[masked]'
    assert not policy.tells(95, 'test', 'subjects'), 'five people fewer than the certificate has'
    assert disclosure.Policy(0).tells(5) and not policy.tells(5) and policy.tells(0)


def test_masked_counts_are_never_drawn_as_zero():
    n = pd.DataFrame({'T': [200, 3], 'L': [300, 40]}, index=pd.Index([0.0, 7.0], name='sq'))
    n.columns.name = 'region'
    said = texts(figures.sq_classes(disclosure.masked_counts(n, 11)))
    assert '<11 thoracic\nmasked lumbar' in said and 'masked thoracic\nmasked lumbar' in said
    n = pd.DataFrame({0.0: [90, 80], 7.0: [3, 30]}, index=pd.Index(['T8', 'T9'], name='level'))
    n.columns.name = 'sq'
    masked = disclosure.masked_counts(n, 11)
    assert masked.n.isna().all()
    masked.loc[3, 'n'] = 30
    said = texts(figures.levels(masked))
    assert said.count('masked') == 1 and '≥ 30' in said and '0' in said  # none at the other levels


@pytest.mark.parametrize('below, saved', [(11, False), (0, True)])
def test_nothing_of_real_people_is_saved_without_a_declaration(tmp_path, below, saved):
    out = run_of(tmp_path, False)
    about = out / 'work/cohort/about.json'
    about.write_text(f'{{"rendered": false, "data": "x", "limit": {below}}}')
    df = pd.DataFrame(dict(n=[3]))
    for save in (
        lambda: figures.save_table(df, 'a', out, caption='c'),
        lambda: figures.save(plt.figure(), 'a', out, caption='c', alt='a', data=df),
        lambda: figures.save(plt.figure(), 'a', out, caption='c', alt='a'),
    ):
        if saved:
            save()
        else:
            with pytest.raises(ValueError, match='a: of real people, say what its numbers rest on'):
                save()
    assert (out / 'tables').exists() == (out / 'figures').exists() == saved
