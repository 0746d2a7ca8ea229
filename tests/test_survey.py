"The survey's numbers against the formula and the printed ones, and with missing people"

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import t as student
from sklearn.metrics import cohen_kappa_score

from ocf_study import nhanes, real_people, survey


@pytest.fixture(scope='module')
def people():
    p = nhanes.participants()
    return p[p.status.notna()].reset_index(drop=True)


def by_hand(people, outcome, among):
    "Taylor linearisation of a weighted share, written out, and its logit interval."
    w = people.exam_weight.to_numpy() * among
    p = (w * outcome).sum() / w.sum()
    u = pd.Series(w * (outcome - p) / w.sum())
    totals = u.groupby([people.stratum, people.psu]).sum()
    spread = sum(
        len(z) / (len(z) - 1) * ((z - z.mean()) ** 2).sum() for _, z in totals.groupby(level=0)
    )
    se = np.sqrt(spread)
    free = len(totals) - people.stratum.nunique()
    reach = student.ppf(0.975, free) * se / (p * (1 - p))
    return [100 * x for x in (p, se, *expit(logit(p) + reach * np.array([-1, 1])))]


@pytest.mark.parametrize('who', ['all', 'women', 'old'])
def test_a_share_is_the_formula(people, who):
    fractured = (people.status == 2).to_numpy(float)
    among = dict(all=people.age > 0, women=people.sex == 'F', old=people.age >= 80)[who].to_numpy()
    found = survey.share(people, fractured, among)
    mine = [found[k] for k in ('percent', 'se', 'low', 'high')]
    np.testing.assert_allclose(mine, by_hand(people, fractured, among), rtol=1e-6)


def test_replicates_give_the_same_error_for_a_share(people):
    fractured = (people.status == 2).to_numpy(float)
    weights = survey.replicate_weights(people)
    assert weights.shape == (3330, 17)
    value, low, high = survey.by_design(lambda w: w @ fractured / w.sum(), weights, 15)
    percent, _, taylor_low, taylor_high = by_hand(people, fractured, np.ones(len(people)))
    assert value == pytest.approx(percent / 100)
    assert [100 * low, 100 * high] == pytest.approx([taylor_low, taylor_high], abs=0.1)


def test_the_published_result_is_regenerated():
    found = survey.regenerated(nhanes.participants())
    assert found.people['all'] == 3330 and found.cases['all'] == 186
    assert found.percent['all'] == pytest.approx(5.4, abs=0.1)
    for key, percent in dict(age_40_59=3.1, age_60_69=5.4, age_70_79=10.5, age_80=18.0).items():
        assert found.percent[key] == pytest.approx(percent, abs=0.5)
    assert found.difference.abs().max() < 2
    assert found.agrees['age_40_59'] == 1, 'below 5 %'
    similar = found.loc[['men', 'women']]
    assert similar.low.max() < similar.high.min(), 'similar in men and women'


def test_weights_matter(people):
    "Without weights the prevalence is not the published one."
    assert abs(100 * (people.status == 2).mean() - 5.4) > 0.1


def test_people_without_a_file_are_left_out_and_not_guessed(people):
    lost = people.copy()
    lost.loc[:99, ['neck_bmd', *(f'l{i}_{k}' for i in range(1, 5) for k in ('bmc', 'area'))]] = (
        np.nan
    )
    dense = survey.bone(lost)
    assert not dense.measured[:100].any() and not dense.osteoporosis[:100].any()
    asked = survey.questions(lost, dense)
    assert not asked['fracture_osteoporosis'][1][:100].any()
    with pytest.raises(ValueError, match='a share of nobody'):
        survey.share(people, people.status == 2, people.age > 200)


def test_dont_know_is_no_answer(people):
    asked = survey.questions(people.assign(told_spine=9.0), survey.bone(people))
    assert not asked['fracture_reported'][0].any()


def test_kappa_is_scikit_learn_s():
    b = nhanes.bodies().dropna(subset=['software_grade', 'final_score'])
    one, two = b.software_grade.astype(int), b.final_score.astype(int)
    both = pd.crosstab(one, two).to_numpy()
    for which, kappa in {
        'any': cohen_kappa_score(one > 0, two > 0),
        'moderate or severe': cohen_kappa_score(one > 1, two > 1),
        'quadratic': cohen_kappa_score(one, two, weights='quadratic'),
    }.items():
        assert survey.kappa(both, which) == pytest.approx(kappa, abs=1e-9)
    found = survey.agreement(nhanes.bodies(), nhanes.people(), 200)
    assert len(found) == 6 and (found.low < found.value).all() and (found.value < found.high).all()


def test_a_ruler_does_not_explain_the_final_score():
    bodies = real_people.scored_bodies()
    found = real_people.areas(bodies, 100).set_index(['measure', 'method']).value
    assert found['auc_roc', 'sample, people resampled'] == pytest.approx(0.969, abs=6e-4)
    assert found['auc_pr', 'sample, people resampled'] == pytest.approx(0.555, abs=6e-4)


def test_few_people_have_no_interval():
    bodies = real_people.scored_bodies()
    few = real_people.areas(bodies[bodies.level == 'T9'], 50)
    assert few.value.notna().all() and few[['low', 'high']].isna().all(axis=None)
    apart = real_people.disagreements(bodies, 4)
    gap = (apart.final_score - apart.software_grade).to_numpy()
    assert (gap[:4] > 0).all() and (gap[4:] < 0).all()
