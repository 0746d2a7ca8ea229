"Readers' sheets and their statistics, against closed forms and other implementations."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.contingency_tables import Table2x2

from ocf_study import error_analysis as ea
from ocf_study import manifest
from ocf_study.manifest import CONFOUNDERS, DataError

cells = st.lists(st.integers(0, 60), min_size=4, max_size=4)


def as_frame(*rows):
    return pd.DataFrame(rows, columns=ea.CELLS)


@settings(max_examples=80, deadline=None)
@given(cells)
def test_woolf_is_statsmodels(row):
    mine = ea.odds_ratio(as_frame(row)).iloc[0]
    a, b, c, d = row
    if (a + b) * (c + d) * (a + c) * (b + d) == 0:
        return np.testing.assert_equal(mine.odds_ratio, np.nan)
    theirs = Table2x2(np.array(row).reshape(2, 2) + (0.5 if 0 in row else 0), shift_zeros=False)
    np.testing.assert_allclose(
        [mine.odds_ratio, mine.low, mine.high],
        [theirs.oddsratio, *theirs.oddsratio_confint()],
        rtol=1e-9,
    )


@settings(max_examples=30, deadline=None)
@given(st.lists(cells, min_size=1, max_size=6))
def test_corrections_and_exact_intervals_keep_their_bounds(rows):
    d = ea.exact(as_frame(*rows)).dropna()
    assert (d.exact_low <= d.conditional * (1 + 1e-6)).all() and (
        d.conditional <= d.exact_high * (1 + 1e-6)
    ).all()
    assert (
        (d.p <= d.p_bh + 1e-12).all()
        and (d.p_bh <= d.p_holm + 1e-12).all()
        and d.p_holm.le(1 + 1e-12).all()
    )


@settings(max_examples=60, deadline=None)
@given(cells)
def test_it_is_said_where_p_and_interval_disagree(row):
    d = ea.exact(as_frame(row))
    outside = d.exact_low.item() > 1 or d.exact_high.item() < 1
    agree = (d.p.item() < 0.05) == outside
    assert (ea.disagree(d) == '') == agree


def test_a_row_whose_p_and_interval_disagree():
    "Of the first, Fisher's p is .05 or less and the conditional interval holds 1, or the reverse"
    d = ea.exact(pd.concat([as_frame((1, 26, 11, 40)), as_frame((30, 30, 10, 60))]))
    d = d.set_axis(['noise', 'metal'])
    assert (d.p < 0.05).tolist() == [True, True]
    assert d.exact_high['noise'] > 1 and d.exact_low['metal'] > 1
    assert 'disagree for noise:' in ea.disagree(d)
    assert ea.disagree(d.loc[['metal']]) == ''


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=60))
def test_kappa_is_sklearn(marks):
    a, b = np.array(marks).T
    value, low, high = ea.kappa(a, b)
    if np.isnan(value):
        return np.testing.assert_(a.all() and b.all() or not (a.any() or b.any()))
    assert value == pytest.approx(cohen_kappa_score(a, b))
    if min(a.mean(), b.mean()) == 0 or max(a.mean(), b.mean()) == 1:
        assert np.isnan(low) and np.isnan(high)
    else:
        assert -1 <= low <= value + 1e-12 and value - 1e-12 <= high <= 1
    assert ea.kappa(b, a)[0] == pytest.approx(value)


def truth(n, rate=0.3, seed=0):
    return pd.DataFrame(
        np.random.default_rng(seed).random((n, 15)) < rate, columns=CONFOUNDERS
    ).assign(body_id=[f'PO{i:03d}V1L-L1' for i in range(n)])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 1000))
def test_sample_is_the_design(n_right, n_wrong, seed):
    ids = [f'b{i}' for i in range(n_right + n_wrong)]
    correct = np.arange(n_right + n_wrong) < n_right
    d = ea.sample(ids, correct, seed=seed)
    assert d.correct.sum() == min(150, n_right) and (~d.correct).sum() == min(120, n_wrong)
    assert (
        d['first'].sum() == min(50, len(d))
        and d.body_id.is_unique
        and d.case.tolist() == list(range(1, len(d) + 1))
    )
    assert (
        dict(zip(ids, correct, strict=True)).items()
        >= dict(zip(d.body_id, d.correct, strict=True)).items()
    )


def test_sheet_is_blind_and_comes_back(tmp_path):
    cases = ea.sample([f'PO{i:03d}V1L-L1' for i in range(30)], np.arange(30) < 20)
    sheet = pd.read_csv(ea.write_sheet(cases, 'reader 1', tmp_path / 'one.csv'))
    assert (
        'correct' not in sheet and 'label' not in sheet and sheet[CONFOUNDERS].isna().all(axis=None)
    )
    with pytest.raises(DataError) as e:
        ea.read_readings(tmp_path / 'one.csv', cases.body_id)
    assert len(e.value.problems) == 30 * 15 and 'is missing' in str(e.value)
    sheet[CONFOUNDERS] = 'false'
    sheet.loc[3, 'noise'] = 'x'
    sheet.loc[4, CONFOUNDERS] = 'no'
    sheet.to_csv(tmp_path / 'one.csv', index=False)
    back = ea.read_readings(tmp_path / 'one.csv', cases.body_id)
    assert (
        back[CONFOUNDERS].dtypes.eq(bool).all()
        and back.noise.sum() == 1
        and back.body_id[3] == back[back.noise].body_id.item()
    )


def test_a_sheet_that_is_being_filled_is_kept(tmp_path):
    ids = np.array([f'PO{i:03d}V1L-L1' for i in range(30)])
    cases, others = (ea.sample(ids[k:], np.arange(30)[k:] < 20) for k in (0, 5))
    path = ea.write_sheet(others, 'reader 1', tmp_path / 'one.csv')
    ea.write_sheet(cases, 'reader 1', path)  # nobody has begun: the new sample replaces it
    sheet = pd.read_csv(path, dtype=str)
    assert sheet.body_id.tolist() == cases.body_id.tolist()
    sheet.loc[0, 'noise'] = 'x'
    sheet.to_csv(path, index=False)
    was = path.read_bytes()
    ea.write_sheet(cases, 'reader 1', path)
    assert path.read_bytes() == was
    with pytest.raises(ValueError, match='another sample'):
        ea.write_sheet(others, 'reader 1', path)


@pytest.mark.parametrize('how', [dict(sep=';'), dict(sep='\t'), dict(header=False)])
def test_a_sheet_that_another_program_saved_its_own_way_is_left_alone(how, tmp_path):
    cases = ea.sample([f'PO{i:03d}V1L-L1' for i in range(30)], np.arange(30) < 20)
    path = ea.write_sheet(cases, 'reader 1', tmp_path / 'one.csv')
    pd.read_csv(path, dtype=str, keep_default_na=False).assign(noise='x').to_csv(
        path, index=False, **how
    )
    was = path.read_bytes()
    with pytest.raises(ValueError, match='one.csv is not a sheet.*left alone'):
        ea.write_sheet(cases, 'reader 1', path)
    assert path.read_bytes() == was


def test_faulty_sheets(tmp_path):
    t = truth(12)
    good = ea.simulate_readers(t)

    def problems(*sheets):
        paths = [tmp_path / f'{i}.csv' for i in range(len(sheets))]
        for path, sheet in zip(paths, sheets, strict=True):
            sheet.to_csv(path, index=False)
        with pytest.raises(DataError) as e:
            ea.read_readings(paths, t.body_id)
        return [(p.file, p.row, p.value, p.message) for p in e.value.problems]

    assert problems(good.drop(index=2)) == [
        ('0.csv', None, t.body_id[2], 'has no row by simulated reader 1')
    ]
    assert problems(pd.concat([good, good[:1].assign(body_id='XX9V1L-L1')])) == [
        ('0.csv', 26, 'XX9V1L-L1', 'is not in the sample')
    ]
    assert (
        problems(pd.concat([good, good[:1]]))[0][3]
        == 'stands on line 2 already, with the same reader'
    )
    assert problems(good.drop(columns='metal')) == [('0.csv', 1, None, 'column is missing')]
    assert (
        problems(good.astype(object).replace({True: 'seen'}))[0][3] == 'is neither true nor false'
    )
    assert 'more than one sheet' in problems(good, good)[0][3]
    assert problems(good[:0]) == [('0.csv', None, None, 'has no row')]
    assert problems(good, good[:0]) == [('1.csv', None, None, 'has no row')]
    two = problems(
        good.drop(index=0), good[good.reader == 'simulated reader 2'].drop(columns='noise')
    )
    assert [f for f, *_ in two] == ['0.csv', '1.csv']


def test_combining_readers():
    readings = ea.simulate_readers(truth(200), sensitivity=0.7, specificity=0.9)
    both, either, one = (ea.combine(readings, r) for r in ('both', 'either', 'simulated reader 1'))
    assert (both <= one.loc[both.index]).all(axis=None) and (one.loc[both.index] <= either).all(
        axis=None
    )
    assert both.sum().sum() < one.sum().sum() < either.sum().sum()


def test_simulated_readers_have_the_skill_asked_for():
    t = truth(3000)
    one = (
        ea.combine(ea.simulate_readers(t, 1, 0.8, 0.95), 'simulated reader 1')
        .loc[t.body_id]
        .to_numpy()
    )
    real = t[CONFOUNDERS].to_numpy()
    assert one[real].mean() == pytest.approx(0.8, abs=0.015) and 1 - one[
        ~real
    ].mean() == pytest.approx(0.95, abs=0.01)
    pd.testing.assert_frame_equal(ea.simulate_readers(t[:50]), ea.simulate_readers(t[:50]))


def test_published_readings_come_back_from_bodies():
    "270 bodies with table 2's counts give table 2."
    published = manifest.published('table2').set_index('confounder')
    correct = pd.Series(np.arange(270) >= 120, [f'b{i}' for i in range(270)])
    marks = pd.DataFrame(
        {
            k: np.r_[np.arange(120) < r.present_incorrect, np.arange(150) < r.present_correct]
            for k, r in published.iterrows()
        },
        correct.index,
    )
    table = ea.table(marks, correct)
    assert (table[ea.CELLS] == published[ea.CELLS]).all(axis=None)
    assert (table.odds_ratio - published.odds_ratio).abs().max() <= 0.005 + 1e-9


def test_people_widen_the_interval():
    rng = np.random.default_rng(4)
    subject = np.repeat(np.arange(60), 10)
    mark = np.repeat(rng.random(60) < 0.4, 10)
    wrong = rng.random(600) < 1 / (
        1 + np.exp(1 - np.repeat(rng.normal(0, 1.5, 60), 10) - 0.5 * mark)
    )
    index = [f'b{i}' for i in range(600)]
    marks, correct = pd.DataFrame({'noise': mark}, index), pd.Series(~wrong, index)
    together, apart = (
        ea.by_subject(marks, correct, pd.Series(s, index)).iloc[0]
        for s in (subject, np.arange(600))
    )
    assert np.log(together.gee_high / together.gee_low) > 1.3 * np.log(
        apart.gee_high / apart.gee_low
    )
    empty = ea.by_subject(marks & False, correct, pd.Series(subject, index)).iloc[0]
    assert np.isnan(empty.gee) and empty.gee_note == '0 people carry it, under 5'
    assert together.carriers == len(set(subject[mark])) and apart.carriers == mark.sum()
    narrow = ea.by_subject(marks, correct, pd.Series(subject, index), 0.5).iloc[0]
    assert narrow.gee == together.gee and narrow.gee_high < together.gee_high


def test_agreement_needs_two_readers_of_the_same_bodies():
    readings = ea.simulate_readers(truth(20))
    with pytest.raises(ValueError, match='same bodies'):
        ea.reader_agreement(readings.drop(index=0))
    d = ea.reader_agreement(readings)
    assert (
        d[['both', 'first_alone', 'second_alone', 'neither']].sum(axis=1) == [20] * 15 + [300]
    ).all()
    assert ((d.agreement_low <= d.agreement) & (d.agreement <= d.agreement_high)).all()


def test_agreement_counts_people():
    "Copies of a person's bodies add no information; few joint marks have no limits."
    one = truth(80, rate=0.3, seed=2)
    readings = ea.simulate_readers(one, seed=1)
    subject = pd.Series(np.arange(80), one.body_id)
    copies = pd.concat(
        [readings.assign(body_id=readings.body_id + f'-{k}') for k in range(4)], ignore_index=True
    )
    owner = pd.concat([subject.set_axis(subject.index + f'-{k}') for k in range(4)])
    single, grown, naive = (
        ea.reader_agreement(readings, subject=subject),
        ea.reader_agreement(copies, subject=owner),
        ea.reader_agreement(copies),
    )

    def width(d):
        return (d.kappa_high - d.kappa_low).median()

    assert width(grown) == pytest.approx(width(single), rel=0.15) and width(naive) < 0.7 * width(
        grown
    )
    np.testing.assert_allclose(single.kappa, grown.kappa)
    assert (
        (single.marked_low <= single.marked_agreement).all()
        and (single.marked_agreement <= single.marked_high).all()
        and (single.marked_high - single.marked_low > 0).all()
    )
    each = single.drop(index='all')
    marked = [(each.both + k) / 80 for k in (each.first_alone, each.second_alone)]
    chance = (marked[0] * marked[1] + (1 - marked[0]) * (1 - marked[1])).mean()
    assert single.kappa['all'] == pytest.approx((each.agreement.mean() - chance) / (1 - chance))
    rare = ea.reader_agreement(
        readings.assign(metal=readings.body_id.isin(one.body_id[:4])), subject=subject
    )
    assert (
        rare.both.metal == 4
        and rare.kappa.metal == 1
        and np.isnan(rare.kappa_low.metal)
        and np.isfinite(rare.kappa_low['all'])
    )


def test_readers_who_mark_at_random_do_not_agree():
    "Each marks some confounders often and some rarely; pooled counts would give a kappa of .47."
    rates = np.where(np.arange(15) < 4, 0.8, 0.02)
    draw = np.random.default_rng(5)
    ids = [f'b{k}' for k in range(400)]
    readings = pd.concat(
        pd.DataFrame(draw.random((400, 15)) < rates, columns=CONFOUNDERS).assign(
            body_id=ids, reader=name
        )
        for name in ('one', 'two')
    )
    table = ea.reader_agreement(readings, subject=pd.Series(np.arange(400) // 4, ids), n=200)
    assert abs(table.kappa['all']) < 0.05
    assert table.kappa_low['all'] < 0 < table.kappa_high['all']
    a, b = (readings[readings.reader == r][CONFOUNDERS].to_numpy().ravel() for r in ('one', 'two'))
    assert cohen_kappa_score(a, b) > 0.45
    assert np.isnan(ea.reader_agreement(readings).kappa_low['all'])


def test_a_confounder_of_two_people_has_no_gee():
    "Its sandwich is of two clusters, and gave a p of 1e-27."
    subject = np.repeat(np.arange(60), 4)
    index = [f'b{k}' for k in range(240)]
    wrong = np.random.default_rng(1).random(240) < 0.4
    marks = pd.DataFrame(dict(few=subject < 2, enough=subject < 8), index)
    table = ea.table(marks, pd.Series(~wrong, index), pd.Series(subject, index), level=0.9)
    assert table.carriers.tolist() == [2, 8]
    assert np.isnan(table.gee_p['few']) and table.gee_note['few'] == '2 people carry it, under 5'
    assert 0 < table.gee_p['enough'] <= 1
