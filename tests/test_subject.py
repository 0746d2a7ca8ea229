"From bodies to people: four scores, their faults, and maps of where the network looks."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocf_study import metrics, subject
from ocf_study.subject import TOP, people, scorer

quick = settings(deadline=None, max_examples=40, derandomize=True)


def cohort(n=300, seed=0):
    draw = np.random.default_rng(seed)
    subjects = pd.DataFrame(
        dict(subject_id=[f'S{i}' for i in range(n)], age=draw.integers(65, 95, n))
    )
    bodies = (
        subjects.loc[np.repeat(np.arange(n), draw.integers(1, 12, n))]
        .drop(columns='age')
        .reset_index(drop=True)
    )
    bodies['label'] = (draw.random(len(bodies)) < 0.04).astype(int)
    bodies['probability'] = 1 / (1 + np.exp(-draw.normal(np.where(bodies.label, 1.5, -3), 1.3)))
    bodies['visit'] = draw.integers(1, 3, len(bodies))
    return bodies, subjects


@quick
@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(0, 20)), min_size=1, max_size=40
    )
)
def test_top_three_by_hand(rows):
    bodies = pd.DataFrame(rows, columns=['subject_id', 'label', 'probability']).assign(
        probability=lambda d: d.probability / 20
    )
    bodies['subject_id'] = 'S' + bodies.subject_id.astype(str)
    found = people(
        bodies, pd.DataFrame(dict(subject_id=bodies.subject_id.unique(), age=70))
    ).set_index('subject_id')
    assert len(found) == bodies.subject_id.nunique()
    for name, some in bodies.groupby('subject_id'):
        best = sorted(some.probability, reverse=True)[:3]
        best += [best[-1]] * (3 - len(best))
        assert list(found.loc[name, TOP]) == best
        assert found.label[name] == some.label.max() and found.bodies[name] == len(some)


def test_order_of_bodies_does_not_matter():
    bodies, subjects = cohort()
    shuffled = bodies.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(people(bodies, subjects), people(shuffled, subjects))


def test_a_person_at_one_visit():
    bodies, subjects = cohort()
    found = people(bodies, subjects, by=('subject_id', 'visit'))
    assert len(found) == len(bodies.drop_duplicates(['subject_id', 'visit']))
    assert found.groupby('subject_id').label.max().sum() == people(bodies, subjects).label.sum()


def test_age_is_that_of_the_first_visit():
    bodies, subjects = cohort()
    later = pd.concat([subjects.assign(age=subjects.age + 4.5), subjects])
    assert list(people(bodies, later).age) == list(people(bodies, subjects).age)


@pytest.mark.parametrize('rule', subject.RULES)
def test_scores_rank_people_and_stay_in_bounds(rule):
    bodies, subjects = cohort()
    everybody = people(bodies, subjects)
    score = scorer(rule, everybody[::2])(everybody[1::2])
    assert score.shape == (150,) and (score >= 0).all() and (score <= 1).all()
    assert metrics.auc_roc(everybody.label[1::2], score) > 0.8


@pytest.mark.parametrize('rule', subject.RULES)
def test_extreme_people_are_scored(rule):
    bodies, subjects = cohort()
    everybody = people(bodies, subjects)
    extreme = everybody[:4].assign(
        age=[20, 120, 70, 70], first=[0, 1, 1, 0], second=[0, 1, 0, 0], third=[0, 1, 0, 0]
    )
    assert np.isfinite(scorer(rule, everybody)(extreme)).all()


def test_gam_is_read_within_the_ages_it_has_seen():
    bodies, subjects = cohort()
    everybody = people(bodies, subjects)
    gam = scorer('gam', everybody)
    assert gam(everybody[:1].assign(age=200)) == pytest.approx(
        gam(everybody[:1].assign(age=everybody.age.max()))
    )


def test_fitting_needs_both_kinds_of_people():
    bodies, subjects = cohort(40)
    everybody = people(bodies, subjects)
    for rule in ('logistic', 'gam'):
        for some in (None, everybody[everybody.label == 0], everybody[:0]):
            with pytest.raises(ValueError, match='at least three people'):
                scorer(rule, some)
    with pytest.raises(ValueError, match="unknown rule 'median'"):
        scorer('median', everybody)


def test_bad_people():
    bodies, subjects = cohort(20)
    with pytest.raises(ValueError, match='probability of body'):
        people(bodies.assign(probability=np.nan), subjects)
    with pytest.raises(ValueError, match='no bodies'):
        people(bodies[:0], subjects)


def test_grad_cam_follows_the_class_weights():
    keras = pytest.importorskip('ocf_study.saliency').keras
    from ocf_study import saliency

    patch = keras.Input((16, 16, 1))
    maps = keras.layers.Conv2D(2, 1, use_bias=False, name='maps')(patch)
    model = keras.Model(
        patch,
        keras.layers.Dense(1, name='logit')(
            keras.layers.GlobalAveragePooling2D(name='average')(maps)
        ),
    )
    model.get_layer('maps').set_weights([np.array([1.0, -1.0]).reshape(1, 1, 1, 2)])
    x = np.random.default_rng(0).normal(size=(3, 16, 16, 1)).astype(np.float32)
    model.get_layer('logit').set_weights([np.array([[2.0], [0.5]]), np.zeros(1)])
    both_ways = 1.5 * x[..., 0] / np.abs(1.5 * x[..., 0]).max((1, 2), keepdims=True)
    np.testing.assert_allclose(saliency.grad_cam(model, x, signed=True), both_ways, atol=1e-5)
    lowered = -np.abs(x)
    assert (saliency.grad_cam(model, lowered) == 0).all() and (
        saliency.grad_cam(model, lowered, signed=True).min((1, 2)) == -1
    ).all()
    alike = saliency.sanity(model, x, twins=12, seed=0)
    assert alike.shape == (12, 3) and np.isfinite(alike).all()
    np.testing.assert_allclose(
        np.abs(alike), 1, atol=1e-9
    )  # one linear map: a twin's is the same or its negative
    assert {-1, 1} == set(np.sign(alike[:, 0]))
    expected = np.maximum(1.5 * x[..., 0], 0)
    expected /= expected.max((1, 2), keepdims=True)
    np.testing.assert_allclose(saliency.grad_cam(model, x), expected, atol=1e-5)
    whole = x.repeat(2, 1).repeat(2, 2)  # a network trained on averaged patches is shown whole ones
    np.testing.assert_allclose(
        saliency.grad_cam(model, whole, resize=False),
        saliency.grad_cam(model, x, resize=False),
        atol=1e-5,
    )
    model.get_layer('logit').set_weights([np.array([[0.0], [0.0]]), np.zeros(1)])
    assert (saliency.grad_cam(model, x) == 0).all()
    before = [w.copy() for w in model.get_weights()]
    twin = saliency.shuffled(model, 1)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    assert all(
        (np.sort(a.ravel()) == np.sort(b.ravel())).all()
        for a, b in zip(before, twin.get_weights(), strict=True)
    )


def test_the_map_of_an_ensemble_is_the_mean_of_its_members():
    from ocf_study import googlenet, saliency, training

    members = [googlenet.build(size=64, aux=False, seed=s) for s in (1, 2)]
    x = np.random.default_rng(0).normal(size=(3, 64, 64, 1)).astype(np.float32)
    mean = np.mean([saliency._cells(m, x) for m in members], 0)
    found = saliency.grad_cam(training.average(members), x, resize=False, signed=True)
    np.testing.assert_allclose(
        found, mean / np.abs(mean).max((1, 2), keepdims=True), rtol=1e-4, atol=1e-5
    )
    assert np.isfinite(saliency.sanity(training.average(members), x, twins=1)).all()


def test_an_unknown_age_counts_as_the_median_of_those_fitted_on():
    bodies, subjects = cohort(120)
    known = people(bodies, subjects)
    some = people(bodies, subjects.assign(age=subjects.age.where(subjects.index % 5 > 0)))
    assert some.age.isna().sum() == 24
    for rule in ('logistic', 'gam'):
        score = scorer(rule, some)
        assert np.isfinite(score(some)).all()
        assert np.array_equal(
            score(some), score(some.assign(age=some.age.fillna(some.age.median())))
        )
        assert np.isfinite(scorer(rule, known.assign(age=np.nan))(known)).all()
