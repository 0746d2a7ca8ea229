"Properties of the map from film to patch that a chapter cannot host."

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ocf_study import geometry
from ocf_study.geometry import Variant

BODY = np.array([[38, -34], [0, -30], [-38, -32], [-40, 33], [0, 30], [37, 35]], float)
SHAPE = (520, 420)


def turned(points, degrees):
    t = np.radians(degrees)
    return points @ np.array([[np.cos(t), np.sin(t)], [-np.sin(t), np.cos(t)]])


def blobs(shape, seed=0, fine=1):
    "A smooth film, so that two readings of it may be compared."
    noise = np.random.default_rng(seed).random((shape[0] // 8 + 1, shape[1] // 8 + 1))
    return np.uint16(
        cv2.resize(noise, shape[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1) * 60000
    )


bodies = st.builds(
    lambda scale, tilt, x, y, jitter: (
        turned(BODY * scale, tilt) + [x, y] + np.array(jitter).reshape(6, 2)
    )[None],
    st.floats(0.5, 6),
    st.floats(-60, 60),
    st.floats(-50, 2000),
    st.floats(-50, 3500),
    st.lists(st.floats(-3, 3), min_size=12, max_size=12),
)
draws = st.fixed_dictionaries(
    dict(
        area_scale=st.floats(0.81, 1.21),
        rotation=st.floats(-5, 5),
        dx=st.floats(-0.05, 0.05),
        dy=st.floats(-0.05, 0.05),
    )
)


@given(bodies, draws, st.sampled_from(['paper', 'published']), st.sampled_from(['left', 'right']))
@settings(max_examples=150, deadline=None)
def test_to_the_patch_and_back_is_exact(points, draw, variant, facing):
    shape = (5000, 4000)
    if facing == 'right':
        points = geometry.mirror(points, shape[1])
    forward = geometry.affine(points, draws=draw, variant=variant, shape=shape, facing=facing)
    assume(np.isfinite(forward).all())  # cut short, a square wholly off the film has no map
    back = geometry.apply(geometry.invert(forward), geometry.apply(forward, points))
    assert np.abs(back - points).max() < 1e-6


@given(bodies, st.floats(-60, 60), st.floats(0.5, 3), st.floats(-100, 100))
@settings(max_examples=100, deadline=None)
def test_a_body_looks_the_same_wherever_it_lies(points, tilt, zoom, shift):
    other = turned(points * zoom, tilt) + shift
    assert np.allclose(
        geometry.apply(geometry.affine(points), points),
        geometry.apply(geometry.affine(other), other),
        atol=1e-6,
    )


@given(bodies, draws)
@settings(max_examples=100, deadline=None)
def test_square_is_the_smallest_around_the_corners(points, draw):
    square = geometry.square(points)
    local = (geometry.corners(points) - square.centre[:, None]) @ np.swapaxes(square.axes, 1, 2)
    assert np.allclose(local.min(1), -local.max(1), atol=1e-9)
    assert np.isclose(2 * np.abs(local).max(), square.side[0])
    moved = (
        geometry.apply(geometry.affine(points, draws=draw), square.centre[:, None])[0, 0] / 224
        - 0.5
    )
    assert np.allclose(moved, [draw['dx'], draw['dy']], atol=1e-9)


@pytest.mark.parametrize('facing', ['left', 'right'])
def test_axis_halves_the_diagonals(facing):
    points = turned(BODY, 25)[None] + 500
    sp, sa, ia, ip = geometry.corners(points)[0]
    x = geometry.axes(points)[0, 0]
    angles = [np.arccos(x @ d / np.linalg.norm(d)) for d in (sp - ia, ip - sa)]
    assert angles[0] == pytest.approx(angles[1])
    assert x[0] > 0


@pytest.mark.parametrize('width', [420, 421])
def test_mirrored_film_gives_the_same_patch(width):
    film = blobs((520, width))
    points = turned(BODY, 12)[None] + [210.3, 260.7]
    draw = dict(area_scale=1.1, rotation=3, dx=0.02, dy=-0.01)
    left = geometry.extract_patches(film, points, draws=draw)
    right = geometry.extract_patches(
        np.ascontiguousarray(film[:, ::-1]),
        geometry.mirror(points, width),
        draws=draw,
        facing='right',
    )
    assert np.abs(left.astype(int) - right).max() <= 2


def test_patch_does_not_depend_on_the_tilt():
    "A film drawn at two tilts gives one patch, up to the reading's smoothing."
    patches = []
    for tilt in (0, 17):
        film = np.zeros((1600, 1600), np.uint8)
        cv2.fillPoly(
            film, [np.int32(np.round((turned(BODY * 4, tilt) + 800) * 16 - 8))], 255, cv2.LINE_AA, 4
        )
        patches.append(
            geometry.extract_patches(film, turned(BODY * 4, tilt)[None] + 800)[0].astype(float)
        )
    assert np.abs(patches[0] - patches[1]).mean() < 1
    assert np.corrcoef(patches[0].ravel(), patches[1].ravel())[0, 1] > 0.999


@pytest.mark.parametrize('scale', [0.8, 1.5, 4.4])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16, np.float32])
def test_drawn_disc_lands_where_the_map_says(scale, dtype):
    size, top = int(300 * scale), 200 if dtype == np.uint8 else 50000
    rng = np.random.default_rng(int(scale * 10))
    points = (turned(BODY * scale, 9) + size / 2 + rng.random(2))[None]
    centre, radius = points[0].mean(0) + rng.random(2), 20 * scale
    y, x = np.mgrid[:size, :size] + 0.5
    film = (top * np.clip(radius - np.hypot(x - centre[0], y - centre[1]) + 0.5, 0, 1)).astype(
        dtype
    )
    draw = dict(area_scale=0.9, rotation=-4, dx=0.03, dy=0.01)
    patch = geometry.extract_patches(film, points, draws=draw)[0].astype(float)
    found = [(patch.sum(k) * (np.arange(224) + 0.5)).sum() / patch.sum() for k in (0, 1)]
    assert (
        np.linalg.norm(
            found - geometry.apply(geometry.affine(points, draws=draw), centre[None, None])[0, 0]
        )
        < 0.05
    )


def test_zero_outside_the_film():
    film = np.full(SHAPE, 30000, np.uint16)
    points = (BODY + [30, 30])[None]
    patch = geometry.extract_patches(film, points)[0]
    back = geometry.invert(geometry.affine(points))
    y, x = np.mgrid[:224, :224] + 0.5
    on_film = geometry.apply(back, np.stack([x, y], -1).reshape(1, -1, 2))[0].reshape(224, 224, 2)
    outside = (on_film < -1).any(-1) | (on_film > np.array(SHAPE[::-1]) + 1).any(-1)
    inside = ((on_film > 1) & (on_film < np.array(SHAPE[::-1]) - 1)).all(-1)
    assert outside.any() and inside.any()
    assert (patch[outside] == 0).all() and (patch[inside] == 30000).all()


def test_body_far_outside_gives_an_empty_patch():
    film, points = np.full(SHAPE, 30000, np.uint16), (BODY + 5000)[None]
    assert (geometry.extract_patches(film, points) == 0).all()
    for variant in ('published', Variant(cut_short=True)):
        assert (geometry.extract_patches(film, points, variant=variant) == 0).all()


def test_published_box_lies_on_whole_pixels_of_the_turned_film():
    points = np.stack([turned(BODY * 4, t) + [x, 900] for t, x in ((0, 800), (7, 700), (-20, 150))])
    turn, box = geometry._stages(points, None, Variant(truncate=True), (1800, 1600), 'left', 2.0)
    assert (box == np.trunc(box)).all()
    own = geometry.affine(points, variant=Variant(truncate=True), shape=(1800, 1600))
    shift = geometry.apply(own, points) - geometry.apply(geometry.affine(points), points)
    assert 0 < np.abs(shift).max() < 1.5


def literal_crop(film, body, scale=1.0, degrees=0.0, shift=(0.0, 0.0)):
    "The published order, step by step: turn the whole film, cut whole pixels twice, no padding."
    height, width = film.shape
    tilt = np.arctan2(*geometry.axes(body[None])[0, 0][::-1])
    angle = np.radians(degrees) - tilt
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), -np.degrees(angle), 1.0)
    sine, cosine = np.abs(turn[0, 1]), np.abs(turn[0, 0])
    canvas = int(height * sine + width * cosine), int(height * cosine + width * sine)
    turn[:, 2] += np.array(canvas) / 2 - [width / 2, height / 2]
    whole = cv2.warpAffine(film, turn, canvas)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    border = np.array([[0, 0], [width, 0], [width, height], [0, height]]) @ matrix.T
    corners = geometry.corners(body[None])[0] @ matrix.T - border.min(0)
    ends = []
    for axis in (0, 1):
        low, high = corners[:, axis].min(), corners[:, axis].max()
        spare = (np.ptp(corners, axis=0).max() - (high - low)) / 2
        low, high = int(low - spare), int(high + spare)
        edge = (high - low) * 2 / np.sqrt(scale)
        more = (edge - (high - low)) / 2
        ends.append([int(low - more - edge * shift[axis]), int(high + more - edge * shift[axis])])
    (x0, x1), (y0, y1) = np.clip(ends, 0, np.array(canvas)[:, None])
    return whole[y0:y1, x0:x1]


@pytest.mark.parametrize('seed', range(12))
def test_published_crops_are_those_of_the_published_order(seed):
    "Same shape, and grey levels apart by the last bits of one interpolation alone"
    g = np.random.default_rng(seed)
    film = cv2.GaussianBlur(g.integers(0, 65536, (901, 700)).astype(np.float32), (0, 0), 3)
    film = np.uint16(np.clip((film - 32768) * 6 + 32768, 0, 65535))
    body = turned(BODY * g.uniform(1.0, 3.0), g.uniform(-25, 25)) + g.normal(0, 3, (6, 2))
    body += g.uniform(60, 600, 2)
    drawn = dict(area_scale=1.0, rotation=0.0, dx=0.0, dy=0.0)
    if seed % 2:
        low, high = [0.81, -5, -0.05, -0.05], [1.21, 5, 0.05, 0.05]
        drawn = dict(zip(drawn, g.uniform(low, high), strict=True))
    expected = literal_crop(
        film, body, drawn['area_scale'], drawn['rotation'], (drawn['dx'], drawn['dy'])
    )
    [crop] = geometry.extract_crops(film, body[None], 'published', drawn)
    assert crop.shape == expected.shape and crop.size
    assert np.abs(crop.astype(int) - expected).max() <= 8
    patch = geometry.extract_patches(film, body[None], variant='published', draws=drawn)[0]
    resized = cv2.resize(expected, (224, 224), interpolation=cv2.INTER_LINEAR)
    assert np.abs(patch.astype(int) - resized).max() <= 8


def test_the_square_around_a_turned_body_is_larger():
    points, draws = (BODY + [200, 250])[None], dict(area_scale=1.0, rotation=5.0, dx=0.0, dy=0.0)
    sides = [
        224 / np.linalg.norm(geometry.affine(points, draws=draws, variant=v)[0, 0, :2])
        for v in ('paper', Variant(around_turned=True))
    ]
    assert 1.02 < sides[1] / sides[0] < 1.12


def test_cut_short_stretches_only_at_the_edge():
    inner, edge = (BODY + [200, 200])[None], (BODY + [45, 200])[None]
    short = Variant(cut_short=True)
    assert np.allclose(geometry.affine(inner, variant=short, shape=SHAPE), geometry.affine(inner))
    linear = geometry.affine(edge, variant=short, shape=SHAPE)[0, :, :2]
    assert np.linalg.norm(linear[0]) > 1.05 * np.linalg.norm(linear[1])


def test_six_points_and_corners_give_the_same_patch():
    film, points = blobs(SHAPE), (turned(BODY, -8) + [200, 250])[None]
    assert (
        geometry.extract_patches(film, points)
        == geometry.extract_patches(film, geometry.corners(points))
    ).all()


def test_bodies_do_not_influence_each_other():
    film = blobs(SHAPE)
    points = np.stack(
        [turned(BODY, t) + c for t, c in ((5, (150, 150)), (-9, (250, 300)), (2, (30, 500)))]
    )
    draw = pd.DataFrame(
        dict(area_scale=[1, 1.2, 0.9], rotation=[1, 2, 3], dx=[0, 0.01, 0.02], dy=[0, 0, 0.05])
    )
    together = geometry.extract_patches(film, points, draws=draw)
    for k in range(3):
        assert (
            together[k]
            == geometry.extract_patches(film, points[k : k + 1], draws=draw.iloc[k].to_dict())[0]
        ).all()


def test_stripes_of_one_film_pixel_vanish():
    film = np.tile(np.uint16([0, 60000]), (1200, 600))
    points = (BODY * 5 + 600)[None]
    side = geometry.square(points).side[0]
    for whole, left in ((2, 0.02), (3, 0.4), (4, 0.02)):
        patch = geometry.extract_patches(film, points, enlarge=224 * whole / side)[0]
        assert abs(patch.mean() - 30000) < 300 and patch.std() <= left * 30000


@pytest.mark.parametrize('n', [2, 3, 4])
def test_a_patch_pixel_is_the_mean_of_its_film_pixels(n):
    film = np.random.default_rng(n).integers(0, 65536, (120, 160)).astype(np.uint16)
    forward = np.array(
        [[[1 / n, 0, 3.0], [0, 1 / n, 5.0]]]
    )  # a whole number of film pixels to each patch pixel, some beyond the film
    patch = geometry._resample(film, forward, 60)[0]
    wide = np.zeros((60 * n, 60 * n))
    wide[5 * n : 5 * n + 120, 3 * n : 3 * n + 160] = film[: 55 * n, : 57 * n]
    expected = wide.reshape(60, n, 60, n).mean((1, 3))
    assert np.abs(patch - expected).max() <= 1


@pytest.mark.parametrize('shape', [(6, 2), (1, 5, 2), (1, 6, 3), (2, 4)])
def test_wrong_shape_of_points(shape):
    with pytest.raises(ValueError, match=r'\(N, 6, 2\)'):
        geometry.affine(np.zeros(shape))


def test_wrong_arguments():
    points = BODY[None] + 100
    with pytest.raises(ValueError, match='variant'):
        geometry.affine(points, variant='text')
    with pytest.raises(ValueError, match='facing'):
        geometry.affine(points, facing='front')
    with pytest.raises(ValueError, match='shape'):
        geometry.affine(points, variant='published')
    for film in (np.zeros((4, 4, 3), np.uint16), np.zeros((4, 4)), np.zeros((4, 4), np.int32)):
        with pytest.raises(ValueError, match='film'):
            geometry.extract_patches(film, points)


@pytest.mark.parametrize('bad', ['nan', 'one point', 'a line of none'])
def test_points_without_a_square_are_refused_by_row(bad):
    points = np.tile([[60.0, 40.0], [40.0, 40.0], [40.0, 60.0], [60.0, 60.0]], (4, 1, 1))
    points[2] = dict(
        zip(
            ['nan', 'one point', 'a line of none'],
            [np.nan, 50.0, np.array([[50.0, 50.0], [50.0, 50.0], [50.0, 50.0], [50.0, 50.0]])],
            strict=True,
        )
    )[bad]
    film = np.zeros((100, 100), np.uint16)
    for work in (
        lambda: geometry.affine(points),
        lambda: geometry.extract_patches(film, points),
        lambda: geometry.extract_patches(film, points, variant='published'),
    ):
        with pytest.raises(ValueError, match='row 2'):
            work()
