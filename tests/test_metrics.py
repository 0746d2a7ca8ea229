"Thresholds, measures and curves against brute force, scikit-learn and the paper's own arithmetic."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from ocf_study import manifest, metrics
from ocf_study.metrics import MEASURES, Threshold, measures, threshold

settings.register_profile('ocf', deadline=None, max_examples=60, derandomize=True)
settings.load_profile('ocf')


@st.composite
def scored(draw, least=2):
    "Labels with both classes and probabilities with many ties."
    n = draw(st.integers(least, 60))
    y = np.array(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    y[:2] = [0, 1]
    steps = draw(st.sampled_from([1, 3, 10, 1000]))
    p = np.array(draw(st.lists(st.integers(0, steps), min_size=n, max_size=n))) / steps
    return y, p


@given(scored())
def test_areas_are_scikit_learns(yp):
    y, p = yp
    assert metrics.auc_roc(y, p) == pytest.approx(sk.roc_auc_score(y, p), abs=1e-12)
    assert metrics.average_precision(y, p) == pytest.approx(
        sk.average_precision_score(y, p), abs=1e-12
    )
    precision, recall, _ = sk.precision_recall_curve(y, p)
    ours = metrics.pr(y, p)
    np.testing.assert_allclose(ours.recall.values[:0:-1], recall[:-1])
    np.testing.assert_allclose(ours.precision.values[:0:-1], precision[:-1])


@given(scored(), st.randoms(use_true_random=False))
def test_areas_do_not_depend_on_order_or_scale(yp, random):
    y, p = yp
    order = np.array(random.sample(range(len(y)), len(y)))
    for area in (metrics.auc_roc, metrics.average_precision, metrics.auc_pr_trapezoid):
        assert area(y[order], p[order]) == pytest.approx(area(y, p), abs=1e-12)
        assert area(y, p**3 / 2) == pytest.approx(area(y, p), abs=1e-12)
        assert 0 <= area(y, p) <= 1
    assert metrics.auc_roc(1 - y, 1 - p) == pytest.approx(metrics.auc_roc(y, p), abs=1e-12)


@given(scored(), st.floats(0, 1))
def test_measures_are_bounded_and_fit_together(yp, cut):
    y, p = yp
    found = measures(y, p, cut)
    assert tuple(found) == MEASURES
    assert all(np.isnan(v) or 0 <= v <= 1 for v in found.values())
    flagged = p >= cut
    assert found['sensitivity'] == pytest.approx(flagged[y == 1].mean())
    assert found['specificity'] == pytest.approx(1 - flagged[y == 0].mean())
    assert found['accuracy'] == pytest.approx((flagged == y).mean())
    assert np.isnan(found['ppv']) == (not flagged.any())
    if flagged.any():
        assert found['ppv'] + found['fdr'] == pytest.approx(1)
        harmonic = (
            2
            * found['ppv']
            * found['sensitivity']
            / max(found['ppv'] + found['sensitivity'], 1e-300)
        )
        assert found['f1'] == pytest.approx(harmonic)


def brute(rule, y, p, parameter):
    "Every distinct probability tried, from high to low; the first best is taken."
    best, answer = -1, None
    for cut in sorted(set(p), reverse=True):
        flags = p >= cut
        tp, fp = int((flags & (y == 1)).sum()), int((flags & (y == 0)).sum())
        if rule == 'youden':
            worth = tp * int((y == 0).sum()) - fp * int((y == 1).sum()) + len(y) ** 2
        elif rule == 'sensitivity_at_least':
            worth = int(tp >= parameter * y.sum())
        elif rule == 'ppv_at_least':
            worth = tp if tp >= parameter * (tp + fp) and tp else -1
        else:
            worth = int(tp + fp >= max(int(np.floor(parameter * len(y) + 0.5)), 1))
        if worth > best:
            best, answer = worth, cut
    return answer


@given(
    scored(),
    st.sampled_from(['top_share', 'youden', 'sensitivity_at_least', 'ppv_at_least']),
    st.floats(0.01, 1),
)
def test_rules_by_brute_force(yp, rule, parameter):
    y, p = yp
    wanted = brute(rule, y, p, parameter)
    if wanted is None:
        with pytest.raises(ValueError, match='no threshold reaches'):
            threshold(rule, y, p, parameter)
    else:
        assert threshold(rule, y, p, parameter).value == wanted


@given(scored(), st.floats(0.01, 1))
def test_top_share_flags_k_and_whole_ties(yp, share):
    y, p = yp
    t = threshold('top_share', y, p, share, split='validation')
    k = max(int(np.floor(share * len(p) + 0.5)), 1)
    assert t.flags(p).sum() >= k > (p > t.value).sum()
    assert t.split == 'validation' and t.parameter == share
    assert t.alert_rate(p) == t.flags(p).mean()


@given(scored())
def test_youden_is_scikit_learns_first_maximum(yp):
    y, p = yp
    fpr, tpr, cut = sk.roc_curve(y, p, drop_intermediate=False)
    found = measures(y, p, threshold('youden', y, p))
    assert found['sensitivity'] + found['specificity'] - 1 == pytest.approx(
        (tpr - fpr)[1:].max(), abs=1e-12
    )


@pytest.mark.parametrize(
    'y, p, message',
    [
        ([0, 1], [0.1, np.nan], 'probability of body 1 is nan'),
        ([0, 1], [0.1, 1.5], 'probability of body 1 is 1.5'),
        ([0, 1], [-0.1, 1], 'probability of body 0'),
        ([0, 3], [0.1, 0.5], 'label of body 1 is 3'),
        ([0, np.nan], [0.1, 0.5], 'label of body 1 is nan'),
        ([0, 1, 1], [0.1, 0.5], 'one length'),
        ([], [], 'no bodies'),
    ],
)
def test_bad_input_is_named(y, p, message):
    for call in (
        metrics.auc_roc,
        metrics.roc,
        lambda y, p: measures(y, p, 0.5),
        lambda y, p: threshold('youden', y, p),
    ):
        with pytest.raises(ValueError, match=message):
            call(y, p)


@pytest.mark.parametrize('label', [0, 1])
def test_one_label_only(label):
    y, p = [label] * 3, [0.1, 0.2, 0.3]
    for call in (
        metrics.auc_roc,
        metrics.average_precision,
        metrics.pr,
        lambda y, p: threshold('youden', y, p),
    ):
        with pytest.raises(ValueError, match='needs both labels'):
            call(y, p)
    assert np.isnan(measures(y, p, 0.15)['specificity' if label else 'sensitivity'])
    assert threshold('top_share', y, p, 0.3).value == 0.3


@pytest.mark.parametrize(
    'rule, parameter',
    [('top_share', 1.2), ('ppv_at_least', None), ('fixed', np.nan), ('nearest', 0.5)],
)
def test_bad_rules(rule, parameter):
    with pytest.raises(ValueError):
        threshold(rule, [0, 1], [0.2, 0.8], parameter)


def test_a_threshold_keeps_its_history():
    t = threshold('top_share', [0, 1, 0, 0], [0.1, 0.9, 0.2, 0.3])
    assert t == Threshold('top_share', 0.0075, 'test', 0.9) and float(t) == 0.9
    with pytest.raises(AttributeError):
        t.value = 0.5


def test_single_precision_scores_flag_the_same_bodies():
    p = np.random.default_rng(0).random(500).astype(np.float32)
    y = (np.arange(500) % 9 == 0).astype(int)
    t = threshold('top_share', y, p, 0.1)
    assert t.flags(p).sum() == t.flags(p.astype(float)).sum() == 50


def test_table_3_of_the_paper_follows_from_counts():
    "174 of label 1 among 15,190 bodies: all 77 numbers to the printed digit."
    for row in manifest.published('table3').itertuples():
        flagged = round(15190 * row.cutoff / 100)
        tp = round(row.sensitivity * 174 / 100)
        found = metrics.from_counts(15190 - 174 - flagged + tp, flagged - tp, 174 - tp, tp)
        for name in MEASURES:
            value = float(found[name]) * (1 if name == 'f1' else 100)
            assert abs(value - getattr(row, name)) <= (0.00501 if name == 'f1' else 0.0501), (
                row.cutoff,
                name,
                value,
            )


def test_by_share_has_the_cut_offs_of_table_3():
    assert [100 * s for s in metrics.SHARES] == pytest.approx(
        list(manifest.published('table3').cutoff)
    )


def test_by_group_keeps_an_empty_group():
    table = metrics.by_group(
        [0, 1, 1], [0.2, 0.9, 0.4], ['T8', 'T8', 'L1'], 0.5, order=['T8', 'T9', 'L1']
    ).set_index('group')
    assert (
        list(table.bodies) == [2, 0, 1]
        and np.isnan(table.accuracy['T9'])
        and table.sensitivity['L1'] == 0
    )


@pytest.mark.parametrize('group', [['T8'], ['T8', 'T9', 'L1', 'L1']])
def test_by_group_wants_a_group_for_each_body(group):
    with pytest.raises(ValueError, match='3 bodies but groups of shape'):
        metrics.by_group([0, 1, 1], [0.2, 0.9, 0.4], group, 0.5)


def bodies():
    return pd.DataFrame(
        dict(
            body_id=['a', 'b', 'c'],
            label=[0, 1, 0],
            split=['test', 'test', 'train'],
            used=[True, True, False],
        )
    )


def test_every_bad_prediction_is_listed_at_once():
    bad = pd.DataFrame(dict(body_id=['a', 'a', 'x'], probability=[0.1, 2, 0.3], model='m'))
    with pytest.raises(manifest.DataError) as e:
        metrics.evaluated(bad, bodies(), 'test')
    text = str(e.value)
    assert all(
        w in text
        for w in (
            "'x': unknown body",
            "'a': second prediction",
            'outside 0-1',
            "'b': no prediction",
        )
    )


@pytest.mark.parametrize('dtype', [object, 'string', 'str'])
def test_text_and_lacking_columns_are_bad_predictions(dtype):
    p = pd.DataFrame(dict(body_id=['a', 'b'], probability=pd.array(['0.1', 'high'], dtype)))
    with pytest.raises(manifest.DataError, match="'b': probability outside 0-1") as e:
        metrics.evaluated(p, bodies(), 'test')
    assert len(e.value.problems) == 1
    numbers = p.assign(probability=pd.array(['0.1', '0.9'], dtype))
    assert list(metrics.evaluated(numbers, bodies(), 'test').probability) == [0.1, 0.9]
    for column in p:
        with pytest.raises(manifest.DataError, match=f'predictions, {column}: column is missing'):
            metrics.evaluated(p.drop(columns=column), bodies(), 'test')


def test_evaluated_picks_split_model_and_used_bodies():
    p = pd.DataFrame(
        dict(
            body_id=['b', 'a', 'c', 'a', 'b'],
            probability=[0.9, 0.2, 0.4, 0.5, 0.6],
            model=['m', 'm', 'm', 'n', 'n'],
        )
    )
    assert list(metrics.evaluated(p, bodies(), 'test', 'm').probability) == [0.2, 0.9]
    assert list(metrics.evaluated(p[:3], bodies()).body_id) == ['a', 'b']
    with pytest.raises(ValueError, match='several models'):
        metrics.evaluated(p, bodies(), 'test')
    with pytest.raises(ValueError, match="no body is in split 'holdout'"):
        metrics.evaluated(p, bodies(), 'holdout', 'm')


def spine(n=13, seed=0):
    from ocf_study.genant import LEVELS

    draw = np.random.default_rng(seed)
    posterior = np.linspace(25, 40, n) * draw.uniform(0.98, 1.02, n)
    heights = posterior[:, None] * draw.uniform(0.5, 1, (n, 3))
    heights[:, 0] = posterior
    width = 40 * np.array([1, 0.5, 0])
    points = np.zeros((n, 6, 2))
    points[:, :3, 0], points[:, 3:, 0] = width, width[::-1]
    points[:, 3:, 1] = heights[:, ::-1]
    points[..., 1] += np.arange(n)[:, None] * 60
    return LEVELS[:n], points


def frame(levels, points):
    flat = pd.DataFrame(
        {f'{a}{k + 1}': points[:, k, i] for k in range(6) for i, a in enumerate('xy')}
    )
    return flat.assign(level=levels, film_id='F')


@given(st.floats(-3, 3), st.floats(0.2, 5), st.booleans())
def test_six_points_do_not_depend_on_placement(angle, scale, mirror):
    levels, points = spine()
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = points @ turn.T * ([-1, 1] if mirror else [1, 1]) + 100
    reference = frame(*spine(seed=1))
    np.testing.assert_allclose(
        metrics.six_points(frame(levels, moved), reference),
        metrics.six_points(frame(levels, points), reference),
        atol=1e-9,
    )


def test_six_points_find_a_crush_by_its_neighbours():
    levels, points = spine()
    points[:, 3:, 1] = points[:, [0], 1] + np.linspace(25, 40, 13)[:, None]
    sound = frame(levels, points)
    assert metrics.six_points(sound, sound).max() < 0.03
    points[6, 3:, 1] = points[6, 0, 1] + 0.6 * np.linspace(25, 40, 13)[6]
    crushed = metrics.six_points(frame(levels, points), sound)
    assert crushed.argmax() == 6 and crushed[6] == pytest.approx(0.4, abs=0.03)


def test_shares_that_binary_fractions_miss():
    "55 of 100 are enough for a sensitivity of 0.55, 9 of 10 for a PPV of 0.9; halves round up."
    p = np.linspace(1, 0, 200)
    y = np.r_[np.ones(100, int), np.zeros(100, int)]
    for wanted in range(1, 101):
        t = metrics.threshold('sensitivity_at_least', y, p, wanted / 100)
        assert t.flags(p).sum() == wanted
    y = np.r_[0, np.ones(9, int), np.zeros(190, int)]
    assert metrics.threshold('ppv_at_least', y, p, metrics.PAPER_PPV).flags(p).sum() == 10
    assert [int(metrics.share_count(k / 1000, 100)) for k in (5, 15, 145, 155)] == [1, 2, 15, 16]


def test_evaluated_bodies_carry_the_person():
    b = bodies().assign(subject_id=['s1', 's2', 's3'])
    subjects = pd.DataFrame(dict(subject_id=b.subject_id.unique())).assign(
        person='one and the same'
    )
    p = pd.DataFrame(dict(body_id=b.body_id, probability=0.5))
    assert metrics.evaluated(p, b).person.tolist() == metrics.evaluated(p, b).subject_id.tolist()
    assert metrics.evaluated(p, b, subjects=subjects).person.nunique() == 1
