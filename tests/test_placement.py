"Six points that cannot be right: one definition for reading, rendering and cutting"

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocf_study import geometry, placement

BODY = np.array([[30, 0], [0, 2], [-30, 0], [-30, 40], [0, 38], [30, 40]], float)  # faces left
WIDE, HIGH = 300, 600


@given(st.floats(-0.6, 0.6), st.floats(0.2, 20), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_a_body_is_sound_from_both_sides(turn, scale, loss):
    body = BODY * [1, 1]
    body[2, 1] += 30 * loss  # wedged in front
    body[1, 1] += 15 * loss
    matrix = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    points = (body @ matrix * scale + 2000)[None]
    mirrored = geometry.mirror(points, 10**4)
    assert placement.refused(points, 'left', 10**4, 10**4) == {}
    assert placement.refused(mirrored, 'right', 10**4, 10**4) == {}
    assert placement.refused(mirrored, 'left', 10**4, 10**4) == {0: placement.FAULTS['order']}


def test_each_kind_is_told_alone():
    good = BODY + [200, 250]
    cases = {
        'missing': good.copy(),
        'outside': good + [300, 0],
        'coincident': good.copy(),
        'order': good[[5, 4, 3, 2, 1, 0]],
        'convex': good.copy(),
    }
    cases['missing'][1, 0] = np.inf
    cases['coincident'][3] = cases['coincident'][2]
    cases['convex'][5] = good.mean(0) - [20, 10]
    behind = good * [-1, 1] + [420, 0]
    middle = good[[0, 4, 2, 3, 1, 5]]
    p = np.stack([*cases.values(), behind, middle])
    found = placement.faults(p, 'left', WIDE, HIGH)
    assert found.idxmax(axis=1).tolist() == [*cases, 'order', 'order']
    assert placement.refused(p, 'left', WIDE, HIGH) == {
        i: placement.FAULTS[kind] for i, kind in enumerate([*cases, 'order', 'order'])
    }


def test_a_film_a_size_and_a_side():
    points = np.stack([BODY + 100] * 3)
    points[2] = geometry.mirror(points[2], 200)
    found = placement.faults(points, ['left', 'left', 'right'], [400, 120, 400], 400)
    assert found.any(axis=1).tolist() == [False, True, False] and found.outside[1]


def test_wrong_arguments():
    with pytest.raises(ValueError, match='left or right, not up'):
        placement.faults(BODY[None], 'up')
    with pytest.raises(ValueError, match=r'\(N, 6, 2\)'):
        placement.faults(BODY[None, :4], 'left')
