"The inversion test on drawn bodies, and the vote."

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.filters import apply_hysteresis_threshold

from ocf_study import inversion
from ocf_study.inversion import DETECTORS, decisions, evidence, film_vote, is_inverted, steps

CORNERS = np.array([[168, 64], [56, 64], [56, 160], [168, 160]], float)


def body(seed=0, noise=400, size=224, floor=12000):
    "A body with bright end-plates, blurred, in even soft tissue."
    k = size / 224
    y, x = (np.mgrid[:size, :size] + 0.5) / k
    inside = (abs(x - 112) < 56) & (abs(y - 112) < 48)
    rim = inside & (abs(abs(y - 112) - 45) < 3)
    grey = floor + 9000 * inside + 22000 * rim
    for _ in range(3):
        grey = (np.roll(grey, 1, 0) + 2 * grey + np.roll(grey, -1, 0)) / 4
    return np.uint16(
        np.clip(grey + np.random.default_rng(seed).normal(0, noise, grey.shape), 0, 65535)
    )


@pytest.mark.parametrize(
    'detector, size',
    [
        ('paper', 224),
        ('paper', 448),
        ('paper', 112),
        ('later', 56),
        ('later', 112),
        ('later', 160),
        ('later', 224),
        ('later', 448),
    ],
)
def test_bright_and_dark_bone(detector, size):
    patch, corners = body(size=size), CORNERS * size / 224
    assert not is_inverted(patch, detector, corners)
    assert is_inverted(65535 - patch, detector, corners)


@given(st.integers(0, 10**6), st.floats(0, 2000))
@settings(max_examples=25, deadline=None)
def test_absolute_detectors_treat_both_scales_alike(seed, noise):
    patch = body(seed, noise)
    for detector in ('paper', 'later'):
        there, back = (evidence(p, detector, CORNERS) for p in (patch, 65535 - patch))
        assert there == pytest.approx(-back, abs=2e-3)


def test_published_detector_counts_rising_edges_alone():
    patch = np.zeros((224, 224), np.uint16)
    patch[100:] = 40000
    marked = steps(patch, 'published')['endplates']
    assert marked[98:102].any() and not steps(patch[::-1].copy(), 'published')['endplates'].any()
    assert steps(patch[::-1].copy(), 'paper')['endplates'].any()


def literal_published(crop):
    "The published decision, step by step."
    grey, reach = crop.astype(float), int(len(crop) * 0.05)
    edges = cv2.Sobel(grey, cv2.CV_16U, 0, 1, ksize=5) / 65535
    marked = apply_hysteresis_threshold(edges, 0.6, 0.8)
    near = [
        (grey[y, x], grey[y - reach : y + reach, x])
        for y, x in np.argwhere(marked)
        if reach <= y < len(crop) - reach
    ]
    to_lowest = np.mean([edge - strip.min() for edge, strip in near])
    return (to_lowest - np.mean([strip.max() - edge for edge, strip in near])) / 65535


@pytest.mark.parametrize('shape', [(224, 224), (451, 450), (287, 288), (112, 90)])
@pytest.mark.parametrize('seed', range(4))
def test_published_detector_is_what_its_description_says(shape, seed):
    crop = cv2.resize(body(seed, noise=1500 * seed), shape[::-1])
    for patch in (crop, 65535 - crop):
        expected = literal_published(patch)
        assert evidence(patch, 'published') == pytest.approx(expected, abs=1e-9)
        assert is_inverted(patch, 'published') == (expected < 0)


def test_published_detector_looks_at_the_crop_where_there_is_one():
    crops = [body(size=451), 65535 - body(size=300)]
    patches = [cv2.resize(c, (224, 224)) for c in crops]
    table = decisions(patches, ['a', 'b'], np.stack([CORNERS] * 2), crops=crops)
    found = table.set_index(['detector', 'row']).evidence
    for row, (patch, crop) in enumerate(zip(patches, crops, strict=True)):
        assert found['published', row] == evidence(crop, 'published')
        assert found['paper', row] == evidence(patch, 'paper')


def test_strip_of_the_paper_is_the_odd_number_nearest_to_its_share():
    assert [sum(inversion._strip(n, DETECTORS['paper'])) + 1 for n in (112, 224, 448)] == [
        5,
        11,
        23,
    ]
    assert inversion._strip(448, DETECTORS['later']) == (20, 20)
    assert inversion._strip(451, DETECTORS['published']) == (22, 21)


def test_published_gradients_saturate():
    assert steps(body(), 'published')['gradient'].max() == 65535
    assert steps(body(), 'paper')['gradient'].max() > 65535


def test_strip_looks_as_far_as_asked_and_not_further():
    patch = np.full((240, 240), 20000, np.uint16)
    patch[100, 50] = 60000
    for share, reach in ((0.05, 6), (0.10, 12)):
        highest = steps(patch, 'paper', strip=share)['highest']
        rows = np.flatnonzero(highest[:, 50] == 60000)
        assert (rows.min(), rows.max()) == (100 - reach, 100 + reach)
        assert (highest[:, 49] == 20000).all()


def test_distances_are_never_negative_and_add_up():
    for detector in DETECTORS:
        s = steps(body(3), detector, CORNERS)
        assert (s['highest'] >= s['grey']).all() and (s['lowest'] <= s['grey']).all()
        assert (
            s['d_high'].astype(int) + s['d_low'] == s['highest'].astype(int) - s['lowest']
        ).all()


def test_hysteresis_joins_weak_to_strong_only():
    patch = np.zeros((224, 224), np.uint16)
    patch[50:, :100] = 20000
    patch[50:, 100:150] = 12000
    patch[50:, 190:] = 12000
    marked = steps(patch, 'paper', low=0.5, high=0.9)['endplates']
    assert marked[:, 60].any() and marked[:, 125].any() and not marked[:, 205].any()


@given(st.integers(0, 10**6), st.floats(0.1, 0.9), st.floats(0, 1))
@settings(max_examples=30, deadline=None)
def test_hysteresis_is_that_of_scikit_image(seed, low, between):
    gradient = np.random.default_rng(seed).random((40, 50)).astype(np.float32)
    high = low + between * (1 - low)
    assert (
        inversion._hysteresis(gradient, low, high)
        == apply_hysteresis_threshold(gradient, low, high)
    ).all()


def test_later_detector_is_what_its_description_says():
    "Two crops around the end-plates' corners, in each the gradient stretched and eroded"
    patch, corners = cv2.resize(body(4), (448, 448)), CORNERS * 2 + 0.5
    low, high = [], []
    for a, b in ((0, 1), (2, 3)):
        (x0, y0), (x1, y1) = (
            np.minimum(corners[a], corners[b]) - [22.4, 44.8],
            np.maximum(corners[a], corners[b]) + [22.4, 44.8],
        )
        crop = patch[int(y0) : int(y1), int(x0) : int(x1)].astype(float)
        gradient = abs(cv2.Sobel(crop, cv2.CV_64F, 0, 1, ksize=5))
        ranked = np.sort(gradient, axis=None)
        bottom, top = ranked[int(0.05 * crop.size)], ranked[int(0.95 * crop.size) - 1]
        gradient = cv2.erode(np.clip((gradient - bottom) / (top - bottom), 0, 1), np.ones((3, 3)))
        for y, x in np.argwhere(apply_hysteresis_threshold(gradient, 0.6, 0.8)):
            strip = crop[max(y - 20, 0) : y + 21, x]
            low.append(crop[y, x] - strip.min())
            high.append(strip.max() - crop[y, x])
    assert len(low) > 500
    assert evidence(patch, 'later', corners) == pytest.approx(
        (np.mean(low) - np.mean(high)) / 65535, abs=1e-6
    )


def test_later_detector_does_not_see_the_film_edge():
    patch = body()
    patch[:, :40] = 0
    patch[166:] = 0
    s = steps(patch, 'later', CORNERS)
    marked = s['endplates']
    assert s['grey'].shape == marked.shape == (448, 448)
    assert marked.any() and not marked[326:].any() and not marked[:, :86].any()


def test_later_detector_looks_near_the_end_plates_alone():
    patch = body()
    patch[10:14] = 65000
    assert steps(patch, 'paper')['endplates'][8:18].any()
    marked = steps(patch, 'later', CORNERS)['endplates']
    assert not marked[:80].any() and marked[120:140].any() and marked[308:332].any()


def test_a_body_beside_the_film_says_nothing():
    assert np.isnan(evidence(body(), 'later', CORNERS + 4000))


@pytest.mark.parametrize(
    'patch',
    [
        np.zeros((224, 224), np.uint16),
        np.full((224, 224), 9000, np.uint16),
        np.full((224, 224), 65535, np.uint16),
    ],
)
@pytest.mark.parametrize('detector', DETECTORS)
def test_nothing_to_see_is_not_inverted(patch, detector):
    assert np.isnan(evidence(patch, detector)) and not is_inverted(patch, detector)


@pytest.mark.parametrize(
    'bad', [np.zeros((4, 4)), np.zeros((4, 4), np.uint8), np.zeros((2, 4, 4), np.uint16)]
)
def test_wrong_patches_are_refused(bad):
    with pytest.raises(TypeError, match='uint16'):
        is_inverted(bad)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match='paper, published, later'):
        is_inverted(body(), 'text')
    with pytest.raises(ValueError, match='hgih'):
        is_inverted(body(), hgih=0.9)
    with pytest.raises(ValueError, match='tie'):
        film_vote([True], tie='first')


@given(st.lists(st.booleans(), min_size=1, max_size=14), st.integers(0, 1000), st.randoms())
@settings(max_examples=100, deadline=None)
def test_vote_is_the_majority_whatever_the_order(own, seed, random):
    vote = film_vote(own, seed=seed, key='BI0001V1L')
    assert len(set(vote.tolist())) == 1
    if 2 * sum(own) != len(own):
        assert vote[0] == (2 * sum(own) > len(own))
    shuffled = random.sample(own, len(own))
    assert (film_vote(shuffled, seed=seed, key='BI0001V1L') == vote[0]).all()


def test_tie_own_leaves_each_body_its_decision():
    assert film_vote([True, False, False, True], tie='own').tolist() == [True, False, False, True]
    assert film_vote([True, True, False], tie='own').tolist() == [True] * 3


def test_tie_random_is_fair_and_fixed_by_seed_and_film():
    drawn = [film_vote([True, False], seed=5, key=f'film {k}')[0] for k in range(400)]
    assert 150 < sum(drawn) < 250
    assert drawn == [film_vote([False, True], seed=5, key=f'film {k}')[0] for k in range(400)]
    assert drawn != [film_vote([True, False], seed=6, key=f'film {k}')[0] for k in range(400)]


def test_one_body_decides_its_film():
    assert film_vote(body()[None]).tolist() == [False]
    assert film_vote(65535 - body()[None]).tolist() == [True]
    assert film_vote(np.zeros((0, 8, 8), np.uint16)).shape == (0,)


def test_decisions_hold_every_body_under_every_detector():
    patches = np.stack([body(k) for k in range(3)] + [65535 - body(k) for k in range(3, 6)])
    patches[2] = 65535 - patches[2]
    table = decisions(patches, ['a'] * 3 + ['b'] * 3, np.stack([CORNERS] * 6))
    assert len(table) == 6 * len(DETECTORS)
    later = table[table.detector == 'later']
    assert later.own.tolist() == [False, False, True, True, True, True]
    assert later.voted.tolist() == [False] * 3 + [True] * 3
