"Six points under everything a film can do to them, and the mapping of grades."

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocf_study import genant

share = st.floats(0, 0.8)
classes = st.sampled_from(genant.SQ_CLASSES.sq.tolist())


def body(posterior=0.0, middle=0.0, anterior=0.0):
    "Points of a body facing left, 30 x 25 px, its upper end-plate sunk by these shares."
    superior = np.c_[[30.0, 15.0, 0.0], 25 * np.array([posterior, middle, anterior])]
    return np.r_[superior, np.c_[[0.0, 15.0, 30.0], [25.0, 25.0, 25.0]]]


@given(st.lists(classes, min_size=1, max_size=30))
def test_label_follows_grade(sq):
    assert (genant.to_label(sq) == (genant.to_grade(sq) >= 2)).all()
    assert (genant.sq_class(genant.to_grade(sq), genant.to_type(sq)) == sq).all()


@given(
    st.one_of(st.floats(allow_nan=True), st.text(max_size=4)).filter(
        lambda x: pd.to_numeric(x, errors='coerce') not in genant.SQ_CLASSES.sq.tolist()
    )
)
def test_no_other_number_is_a_class(x):
    with pytest.raises(ValueError, match='no SQ class'):
        genant.to_label(x)


def test_shape_is_kept():
    assert genant.to_label(np.zeros((2, 3))).shape == (2, 3)
    assert isinstance(genant.to_label(3), int)


@given(
    share, share, share, st.floats(0.1, 10), st.floats(0, 6.3), st.floats(-500, 500), st.booleans()
)
def test_deformities_do_not_depend_on_the_film(
    posterior, middle, anterior, scale, angle, shift, mirrored
):
    points = body(posterior, middle, anterior)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    moved = points @ turn.T + shift
    if mirrored:
        moved[:, 0] = 1000 - moved[:, 0]
    was, now = (
        genant.grade_from_points(p[None], [25 * s]) for p, s in ((points, 1), (moved, scale))
    )
    np.testing.assert_allclose(
        was[['wedge', 'biconcave', 'crush']], now[['wedge', 'biconcave', 'crush']], atol=1e-7
    )


@given(st.floats(0.0, 0.19), st.floats(0.0, 0.6))
def test_grade_grows_with_the_loss(small, more):
    grades = genant.grade_from_points(
        [body(anterior=small), body(anterior=min(small + more, 0.8))]
    ).grade
    assert grades[0] == 0 and grades[1] >= grades[0]


@pytest.mark.parametrize(
    'loss, grade', [(0.1999, 0), (0.2001, 1), (0.2499, 1), (0.2501, 2), (0.3999, 2), (0.4001, 3)]
)
@pytest.mark.parametrize('type', genant.TYPES)
def test_limits(loss, grade, type):
    where = {
        'wedge': dict(anterior=loss),
        'biconcave': dict(middle=loss),
        'crush': dict(posterior=loss, middle=loss, anterior=loss),
    }[type]
    row = genant.grade_from_points([body(**where)], [25.0]).iloc[0]
    assert row.grade == grade and row.type == (type if grade else '')
    assert row.label == (grade >= 2)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_neighbours_in_any_order(seed):
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(
        [(film, level) for film in 'ab' for level in genant.LEVELS if rng.random() < 0.7],
        columns=['film', 'level'],
    )
    if rows.empty:
        return
    rows['height'] = rng.uniform(10, 30, len(rows))
    rows['expected'] = genant.neighbour_height(rows.height, rows.level, rows.film)
    for r in rows.itertuples():
        i = genant.LEVELS.index(r.level)
        near = rows[
            (rows.film == r.film) & rows.level.map(genant.LEVELS.index).isin([i - 1, i + 1])
        ].height
        assert (np.isnan(r.expected) and near.empty) or np.isclose(r.expected, near.mean())
    mixed = rows.sample(frac=1, random_state=int(rng.integers(1000)))
    np.testing.assert_allclose(
        genant.neighbour_height(mixed.height, mixed.level, mixed.film), mixed.expected
    )


def test_profile_takes_the_level_out():
    profile = np.linspace(18, 30, 13)
    heights = profile * 1.7
    np.testing.assert_allclose(
        genant.neighbour_height(heights, genant.LEVELS, [0] * 13, profile, reach=2), heights
    )
    assert not np.allclose(genant.neighbour_height(heights, genant.LEVELS, [0] * 13), heights)


@pytest.mark.parametrize('bad', [np.zeros((2, 4, 2)), np.zeros((6,)), np.zeros((2, 6, 3))])
def test_other_shapes_are_refused(bad):
    with pytest.raises(ValueError, match='six points'):
        genant.heights(bad)


def test_points_that_are_not_numbers_are_refused():
    points = np.stack([body(), body()])
    points[1, 0] = np.nan
    with pytest.raises(ValueError, match=r'rows \[1\]'):
        genant.deformities(points)


def test_z_scores_of_unknown_levels_are_unknown():
    norms = pd.DataFrame(
        {('mean', 'wedge'): [0.1], ('sd', 'wedge'): [0.05]},
        index=pd.MultiIndex.from_tuples([('T8', 'M')]),
    )
    z = genant.z_scores(
        pd.DataFrame({'wedge': [0.2, 0.2], 'other': [0, 0]}), ['T8', 'L1'], ['M', 'M'], norms
    )
    assert list(z) == ['wedge'] and np.isclose(z.wedge[0], 2) and np.isnan(z.wedge[1])
