"Draws without a state, and imgaug's two augmenters against their closed forms."

import concurrent.futures
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ocf_study import augmentation
from ocf_study.augmentation import RANGES, draws, photometric

IDS = [f'BI{i:04d}V1L-L1' for i in range(400)]
FLAT = np.full((224, 224), 30000, np.uint16)
DRAW = dict(gain=6.0, cutoff=0.5, noise_sd=0.0, noise_seed=1)


@given(st.permutations(IDS[:8]), st.integers(1, 6), st.integers(0, 2**40))
@settings(max_examples=25, deadline=None)
def test_draws_depend_on_seed_body_and_copy_alone(order, copies, seed):
    whole = draws(IDS[:8], 6, seed).set_index(['body_id', 'copy'])
    part = draws(order, copies, seed).set_index(['body_id', 'copy'])
    assert part.equals(whole.loc[part.index])


def test_draws_of_two_processes_agree():
    code = (
        'from ocf_study.augmentation import draws; '
        "print(draws(['a', 'b'], seed=7).to_csv(index=False))"
    )
    runs = {
        subprocess.run(
            [sys.executable, '-c', code],
            capture_output=True,
            text=True,
            check=True,
            env={'PYTHONHASHSEED': h, 'PATH': ''},
        ).stdout
        for h in '12'
    }
    assert runs == {draws(['a', 'b'], seed=7).to_csv(index=False) + '\n'}


@pytest.mark.parametrize('variant', RANGES)
def test_draws_are_uniform_in_the_stated_ranges(variant):
    ranges, table = RANGES[variant], draws(IDS, seed=3, variant=variant)
    assert (
        len(table) == len(IDS) * ranges.copies
        and table.groupby('body_id').size().eq(ranges.copies).all()
    )
    ends = dict(
        rotation=ranges.rotation,
        dx=ranges.shift,
        dy=ranges.shift,
        gain=ranges.gain,
        cutoff=ranges.cutoff,
        noise_sd=ranges.noise_sd,
    )
    table = table.assign(side=table.area_scale**-0.5)
    if ranges.side_uniform:
        ends['side'] = tuple(np.array(ranges.area_scale)[::-1] ** -0.5)
    else:
        ends['area_scale'] = ranges.area_scale
    for column, (low, high) in ends.items():
        assert table[column].between(low, high).all()
        assert stats.kstest(table[column], stats.uniform(low, high - low).cdf).pvalue > 1e-3, column
    assert table.noise_seed.between(0, 2**31 - 1).all() and table.noise_seed.is_unique
    correlation = table[[*ends, 'noise_seed']].corr().to_numpy() - np.eye(len(ends) + 1)
    assert np.abs(correlation).max() < 5 / np.sqrt(len(table))


def test_published_side_lies_between_the_printed_ends():
    side = 2 * draws(IDS, seed=3, variant='published').area_scale ** -0.5
    assert side.min() >= 2 / 1.1 and side.max() <= 2 / 0.9


@given(st.floats(4, 8), st.floats(0.4, 0.6))
@settings(max_examples=20, deadline=None)
def test_contrast_is_the_sigmoid_of_the_paper(gain, cutoff):
    grey = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    out = photometric(grey, {**DRAW, 'gain': gain, 'cutoff': cutoff})
    assert (
        np.abs(out - 65535 / (1 + np.exp(gain * (cutoff - grey / 65535)))).max() < 1.01
    )  # the result is cut to an integer


def by_objects(patch, draw):
    "The same through imgaug's own augmenters"
    iaa = augmentation._imgaug()
    contrast = iaa.SigmoidContrast(
        gain=draw['gain'], cutoff=draw['cutoff'], seed=draw['noise_seed']
    )
    return iaa.AdditiveGaussianNoise(scale=draw['noise_sd'], seed=draw['noise_seed']).augment_image(
        contrast.augment_image(patch[..., None])
    )[..., 0]


@given(st.floats(4, 8), st.floats(0.4, 0.6))
@settings(max_examples=10, deadline=None)
def test_contrast_is_that_of_imgaugs_augmenter(gain, cutoff):
    grey, draw = (
        np.arange(65536, dtype=np.uint16).reshape(256, 256),
        {**DRAW, 'gain': gain, 'cutoff': cutoff},
    )
    apart = np.abs(photometric(grey, draw).astype(int) - by_objects(grey, draw))
    assert apart.max() <= 1 and (apart > 0).mean() < 0.01


@pytest.mark.parametrize('sd', [1.0, 39.0])
def test_noise_has_the_law_of_imgaugs_augmenter(sd):
    ours, theirs = (
        np.concatenate(
            [make(FLAT, {**DRAW, 'noise_sd': sd, 'noise_seed': seed}).ravel() for seed in range(4)]
        ).astype(float)
        for make in (photometric, by_objects)
    )
    assert ours.std() == pytest.approx(theirs.std(), rel=0.02)
    values = np.union1d(ours, theirs)

    def share(x):
        return np.searchsorted(np.sort(x), values, 'right') / len(x)

    assert np.abs(share(ours) - share(theirs)).max() < 0.01


def test_noise_of_neighbours_copies_and_seeds_is_unrelated():
    noise = np.stack([augmentation._standard_normal((224, 224), seed) for seed in range(6)])

    def related(a, b):
        return abs(np.corrcoef(a.ravel(), b.ravel())[0, 1])

    limit = 5 / 224
    for lag in (1, 2, 3, 4):
        assert (
            related(noise[0, :, lag:], noise[0, :, :-lag]) < limit
            and related(noise[0, lag:], noise[0, :-lag]) < limit
        )
    assert np.abs(np.corrcoef(noise.reshape(6, -1)) - np.eye(6)).max() < limit


def test_a_stack_is_its_patches_one_by_one():
    rows, stack = (
        draws(IDS[:2], seed=1),
        np.random.default_rng(0).integers(0, 65536, (8, 40, 50), dtype=np.uint16),
    )
    together = photometric(stack, rows)
    for patch, draw, alone in zip(stack, rows.to_dict('records'), together, strict=True):
        assert (photometric(patch, draw) == alone).all()
    with pytest.raises(ValueError):
        photometric(stack, rows[:3])


@pytest.mark.parametrize('shape', [(224, 224), (7, 5), (1, 1), (33, 64)])
def test_patches_of_any_size_have_noise(shape):
    flat = np.full(shape, 30000, np.uint16)
    assert (
        photometric(flat, {**DRAW, 'noise_sd': 30.0}).shape == shape
        and augmentation._standard_normal(shape, 1).shape == shape
    )


@pytest.mark.parametrize('sd', [5.0, 39.0, 200.0])
def test_noise_is_gaussian_of_the_drawn_width(sd):
    clean, noisy = (
        photometric(FLAT, DRAW).astype(float),
        photometric(FLAT, {**DRAW, 'noise_sd': sd}).astype(float),
    )
    noise = (noisy - clean).ravel()
    assert abs(noise.mean()) < 5 * sd / 224
    assert noise.std() == pytest.approx(sd, rel=0.02, abs=0.3)
    assert (
        stats.kstest(
            (noise + np.random.default_rng(0).uniform(-0.5, 0.5, noise.size))
            / np.hypot(sd, 12**-0.5),
            'norm',
        ).statistic
        < 0.01
    )


def test_no_noise_drawn_adds_none():
    assert np.unique(photometric(FLAT, DRAW)).size == 1


def test_noise_depends_on_its_seed_alone():
    noisy = {**DRAW, 'noise_sd': 30.0}
    first = photometric(FLAT, noisy)
    photometric(FLAT, {**noisy, 'noise_seed': 2})
    np.random.seed(5)
    assert (photometric(FLAT, noisy) == first).all()
    assert (photometric(FLAT, {**noisy, 'noise_seed': 2}) != first).any()


def test_noise_saturates_instead_of_wrapping_round():
    ends = np.repeat(np.uint16([[0, 65535]]), 100, 0)
    out = photometric(np.tile(ends, (1, 50)), {**DRAW, 'gain': 8.0, 'noise_sd': 5000.0})
    assert out[:, ::2].max() < 30000 and out[:, 1::2].min() > 35000


def test_threads_make_the_same_patches():
    rows = draws(IDS[:12], seed=1).to_dict('records')
    alone = [photometric(FLAT, r) for r in rows]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda r: photometric(FLAT, r), rows))
    assert all((a == b).all() for a, b in zip(alone, together, strict=True))


def test_patch_is_not_changed_and_its_kind_is_checked():
    patch = FLAT.copy()
    photometric(patch, {**DRAW, 'noise_sd': 30.0})
    assert (patch == FLAT).all()
    with pytest.raises(TypeError, match='uint16'):
        photometric(FLAT.astype(np.uint8), DRAW)
    with pytest.raises(TypeError, match='uint16'):
        photometric(FLAT / 65535, DRAW)


def test_unknown_variant():
    with pytest.raises(ValueError, match='paper, published'):
        draws(['a'], variant='text')


def test_adapter_leaves_numpy_as_imgaug_needs_it():
    assert {
        c.__name__
        for c in (
            augmentation._imgaug().SigmoidContrast,
            augmentation._imgaug().AdditiveGaussianNoise,
        )
    } == {'SigmoidContrast', 'AdditiveGaussianNoise'}
    assert np.uint16 in np.sctypes['uint']
