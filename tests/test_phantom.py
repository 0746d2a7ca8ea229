"""Whole rendered cohorts, kills, and that nothing technical tells the label."""

import json
import shutil
import subprocess
import sys
import time
import zlib
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import psutil
import pydicom
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ocf_study import (
    anatomy,
    cohort,
    exposure,
    genant,
    manifest,
    nhanes,
    phantom,
    placement,
    radiograph,
    roster,
    runtime,
    scene,
    study,
)

SMALL = dict(subjects=3, seed=5, pixel_mm=1.6, workers=1)
POINTS = [f'{c}{i}' for i in range(1, 7) for c in 'xy']


def bytes_of(folder):
    return {
        str(p.relative_to(folder)): runtime.sha256(p)
        for p in sorted(folder.rglob('*'))
        if p.is_file()
    }


@pytest.fixture(scope='module')
def films(tmp_path_factory):
    out = tmp_path_factory.mktemp('cohort') / 'films'
    phantom.write_cohort(out, **SMALL)
    return out


def test_nothing_is_told_of_rendered_films(films):
    assert cohort.check(films) == []


@pytest.mark.parametrize(
    'axis, change, said',
    [
        ('X', lambda x: x + 14, 'far better when all are moved'),
        ('Y', lambda y: y + 60, 'lie on no edges of the picture'),
    ],
)
def test_points_beside_the_bodies_of_a_picture_are_told(tmp_path, axis, change, said):
    phantom.write_cohort(tmp_path / 'films', **SMALL | dict(subjects=4, pixel_mm=0.8))
    path = tmp_path / 'films' / 'annotations.csv'
    a = pd.read_csv(path)
    columns = [f'XQQM{axis}{i}' for i in range(1, 7)]
    assert cohort.check(tmp_path / 'films') == []
    a.assign(**{c: change(a[c]) for c in columns}).to_csv(path, index=False)
    found = [p for p in cohort.check(tmp_path / 'films') if said in p.message]
    assert [(p.column, p.severity) for p in found] == [('points', 'warning')]


def test_same_seed_same_bytes_whatever_the_number_of_processes(films, tmp_path):
    phantom.write_cohort(tmp_path / 'again', **SMALL | dict(workers=2))
    assert bytes_of(films) == bytes_of(tmp_path / 'again')


def test_a_participant_who_is_used_twice_is_one_person_in_one_split(tmp_path, monkeypatch):
    people = roster.people
    monkeypatch.setattr(
        roster,
        'people',
        lambda settings: people(settings).assign(
            seqn=lambda d: d.seqn.iloc[[0, 0, 2]].to_numpy(), reuse=[0, 1, 0]
        ),
    )
    phantom.write_cohort(tmp_path / 'films', **SMALL)
    c = cohort.partition(cohort.read(tmp_path / 'films'), 1, (0.4, 0.3, 0.3))
    s = c.subjects.drop_duplicates('subject_id')
    assert s.person.str.fullmatch(r'NHANES \d+').all() and s.person.nunique() == 2
    assert (
        s.groupby('person').split.nunique().eq(1).all()
        and cohort.certificate(c)['disjoint']['persons']
    )


def test_another_seed_is_another_cohort(films, tmp_path):
    phantom.write_cohort(tmp_path / 'other', **SMALL | dict(seed=6, subjects=1))
    assert not set(bytes_of(tmp_path / 'other').values()) & {
        h for n, h in bytes_of(films).items() if n.endswith('dcm')
    }


def test_nobody_works_on_for_a_run_that_was_killed(tmp_path):
    code = (
        "if __name__ == '__main__':\n    from ocf_study import phantom\n"
        f'    phantom.write_cohort({str(tmp_path / "films")!r}, 40, pixel_mm=0.8, workers=2)'
    )
    (tmp_path / 'run.py').write_text(code)
    process = subprocess.Popen(
        [sys.executable, tmp_path / 'run.py'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while not (
        workers := [
            p
            for p in psutil.Process(process.pid).children(recursive=True)
            if any('spawn_main' in a for a in p.cmdline())
        ]
    ) or not list(tmp_path.rglob('*.dcm')):
        time.sleep(0.1)
    process.kill()
    process.wait()
    assert len(workers) == 2 and not psutil.wait_procs(workers, timeout=30)[1]


def test_a_killed_run_goes_on(films, tmp_path, monkeypatch):
    write, written = phantom.write_dicom, []

    def die_at_the_fourth(*args):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(args[0])
        write(*args)

    monkeypatch.setattr(phantom, 'write_dicom', die_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        phantom.write_cohort(tmp_path / 'films', **SMALL)
    left = sorted((tmp_path / 'films').rglob('*.dcm'))
    assert (
        len(left) == 3
        and not json.loads((tmp_path / 'films/rendered.json').read_text())['complete']
    )
    before = {p: p.stat().st_mtime_ns for p in left}
    monkeypatch.setattr(phantom, 'write_dicom', write)
    phantom.write_cohort(tmp_path / 'films', **SMALL)
    assert bytes_of(tmp_path / 'films') == bytes_of(films)
    assert {p: p.stat().st_mtime_ns for p in left} == before, (
        'finished films are kept, not rendered again'
    )


def test_a_lost_film_is_rendered_again(films, tmp_path):
    copy = shutil.copytree(films, tmp_path / 'films')
    lost = sorted(copy.rglob('*.dcm'))[2]
    lost.unlink()
    phantom.write_cohort(copy, **SMALL)
    assert bytes_of(copy) == bytes_of(films)


def test_cohorts_are_not_mixed(films, tmp_path):
    with pytest.raises(ValueError, match='other settings'):
        phantom.write_cohort(films, **SMALL | dict(seed=6))
    (tmp_path / 'mine.txt').write_text('not a film')
    with pytest.raises(ValueError, match='not empty'):
        phantom.write_cohort(tmp_path, **SMALL)
    assert [p.name for p in tmp_path.iterdir()] == ['mine.txt']


@pytest.mark.parametrize(
    'wrong, message',
    [
        (dict(glare=0.1), 'no such confounder: glare'),
        (dict(subjects=0), 'not positive'),
        (dict(pixel_mm=-1.0), 'not positive'),
    ],
)
def test_wrong_settings_leave_nothing_behind(wrong, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        phantom.write_cohort(tmp_path / 'films', **SMALL | wrong)
    assert not (tmp_path / 'films').exists()


def test_any_film_renders_alone(films):
    for path in sorted(films.rglob('*.dcm'))[::4]:
        assert np.array_equal(
            radiograph.read(path, facing='left'),
            radiograph.to_16bit(phantom.render(path.stem[2:], films)),
        )
    with pytest.raises(ValueError, match='no film'):
        phantom.render('PO0000V1L', films)


def test_annotations_are_mros_own(films):
    table = pd.read_csv(films / 'annotations.csv', dtype=dict(XQSQ=str))
    assert manifest.check(table, 'mros_annotations') == []
    for _, t in table.groupby(['ID', 'VISIT'], sort=False):
        falls = np.flatnonzero(t.XQQMY1.diff() < 0)
        assert (
            len(falls) == 1
            and (t.SPINE_TYPE.iloc[: falls[0]] == 'L').all()
            and (t.SPINE_TYPE.iloc[falls[0] :] == 'T').all()
        )
        assert list(t.XQVERT) == [
            level
            for region in 'LT'
            for level in roster.REGION[region]
            if level in set(t.XQVERT[t.SPINE_TYPE == region])
        ]


def test_films_say_that_they_are_rendered(films):
    for path in films.rglob('*.dcm'):
        ds = pydicom.dcmread(path)
        assert (
            'RENDERED' in ds.SeriesDescription
            and ds.BitsAllocated == 16
            and ds.PhotometricInterpretation in ('MONOCHROME1', 'MONOCHROME2')
            and 'NumberOfFrames' not in ds
        )
    assert 'rendered' in json.loads((films / 'rendered.json').read_text())['what']


@pytest.mark.skipif(not shutil.which('dciodvfy'), reason='without dicom3tools')
@pytest.mark.parametrize('source', ['film', 'digital'])
@pytest.mark.parametrize('region', ['L', 'T'])
@pytest.mark.parametrize('white_is_zero', [0, 1])
def test_films_keep_the_dicom_standard(tmp_path, monkeypatch, source, region, white_is_zero):
    p = roster.plan(roster.Settings(subjects=1, seed=3, pixel_mm=2.4))
    film, s = scene.scenes(p, p.subjects.subject_id.iloc[0])[0][0]
    film = SimpleNamespace(**dict(film._asdict()) | dict(source=source, region=region))
    monkeypatch.setattr(phantom, 'WHITE_IS_ZERO', white_is_zero)
    path = tmp_path / 'film.dcm'
    phantom.write_dicom(path, scene.render(s, p.settings), film, p.settings)
    said = subprocess.run(['dciodvfy', path], capture_output=True, text=True)
    assert said.returncode == 0 and 'Error' not in said.stdout + said.stderr, said.stderr
    assert ('SCImage' if source == 'film' else 'DXImage') in said.stderr
    about = radiograph.header(path)
    assert (about['pixel_mm'], about['facing'], about['source']) == (2.4, 'right', source)
    assert not about['warnings']


def test_photometry_of_the_file_changes_nothing_that_is_read(tmp_path, monkeypatch):
    p = roster.plan(roster.Settings(subjects=6, seed=3, pixel_mm=2.4))
    for name in p.subjects.subject_id:
        for film, s in scene.scenes(p, name)[0]:
            pixels, seen = scene.render(s, p.settings), set()
            for share in (0, 1):
                monkeypatch.setattr(phantom, 'WHITE_IS_ZERO', share)
                phantom.write_dicom(tmp_path / 'one.dcm', pixels, film, p.settings)
                assert np.array_equal(
                    radiograph.read(tmp_path / 'one.dcm', facing='left'),
                    radiograph.to_16bit(pixels),
                )
                seen.add(pydicom.dcmread(tmp_path / 'one.dcm').PhotometricInterpretation)
            assert seen == {'MONOCHROME1', 'MONOCHROME2'}


@pytest.fixture(scope='module')
def read():
    "Annotations and truth of 110 people, more of them broken than in the demo, without rendering."
    p = roster.plan(roster.Settings(subjects=110, prevalence=0.1, pixel_mm=2.4))
    found = [
        phantom.annotate(s, rows, p.settings)
        for name in p.subjects.subject_id
        for films, rows in [scene.scenes(p, name)]
        for _, s in films
    ]
    return p, pd.concat(found, ignore_index=True)


def test_labels_follow_the_plan(read):
    p, bodies = read
    assert 0.08 < bodies.label.mean() < 0.12
    real = bodies[~bodies.made]
    scored = real[real.final_score.notna()]
    assert (genant.to_grade(scored.sq) == scored.final_score).all(), (
        'what NHANES graded is not graded anew'
    )
    assert (real.letter[real.final_score.isna()] == 'N').all()
    assert (scored.label[scored.software_grade == 1] == 1).any(), 'labels follow the final score'
    assert (bodies.label[bodies.look_alike != ''] == 0).all()
    xy = bodies[POINTS].to_numpy().reshape(-1, 6, 2)
    assert (placement.turns(xy * p.settings.pixel_mm) > phantom.ROOM).all() and (xy > 0).all()


def test_labels_can_follow_the_software():
    settings = dict(subjects=40, seed=3, prevalence=0.0, fractured=0.5, pixel_mm=2.4)
    found = {}
    for labels, column in roster.GRADED_BY.items():
        p = roster.plan(roster.Settings(labels=labels, **settings))
        films, rows = scene.scenes(p, p.subjects.subject_id[0])
        bodies = pd.concat([phantom.annotate(s, rows, p.settings) for _, s in films])
        assert (genant.to_grade(bodies.sq) == bodies[column].fillna(0)).all()
        assert {'final_score', 'software_grade'} <= set(bodies)
        found[labels] = set(p.bodies.seqn[p.bodies[column] >= 2])
    assert found['final'] != found['software']
    with pytest.raises(ValueError, match="no such labels: 'expert'"):
        roster.plan(roster.Settings(labels='expert'))


def test_a_body_without_a_score_is_not_graded():
    row = pd.Series(dict(made=False, since=1, kind='', nhanes_grade=np.nan, nhanes_type=''))
    losses = pd.Series(dict(loss_wedge=0.5, loss_biconcave=0.0, loss_crush=0.0))
    draw = np.random.default_rng(0)
    assert phantom.read_grade(row, losses, 1, draw, roster.Settings()) == (-1, '')


def test_fractures_stay_and_new_ones_come(read):
    _, bodies = read
    b = bodies[bodies.made].pivot_table(
        index=['subject_id', 'level'], columns='visit', values='made_loss'
    )
    both = b.dropna()
    assert len(both) and np.allclose(both[1], both[2]), 'a fracture does not heal'
    later = bodies[(bodies.visit == 2)].set_index(['subject_id', 'level']).made
    first = bodies[(bodies.visit == 1)].set_index(['subject_id', 'level']).made.reindex(later.index)
    assert (later & ~first.fillna(True).astype(bool)).any()


def test_confounders_come_at_their_rates(read):
    p, bodies = read
    films = p.films
    for k in roster.ON_FILM:
        assert abs(films[f'has_{k}'].mean() - p.settings.rates[k]) < 0.04, k
    for k in ('schmorl', 'osteophytes', 'point_placement', 'disc_calcification', 'fused'):
        assert abs(bodies[k].mean() - p.settings.rates[k]) < 0.025, k
    seen = bodies.groupby('film_id').parallax.agg(['all', 'any'])
    assert (seen['all'] == seen['any']).all() and (
        seen['any'] == films.set_index('film_id').has_parallax[seen.index]
    ).all(), 'all bodies of a film taken askew, and of no other film'
    assert (
        bodies.cut_off.any()
        and bodies.metal.any()
        and bodies.sticker.any()
        and bodies.writing.any()
        and bodies.overlying_lines.any()
    )


def test_fused_bodies_come_at_their_rate_and_in_neighbours():
    rate = 0.1
    settings = roster.Settings(subjects=300, rates=roster.RATES | dict(fused=rate))
    b = roster.fractures(roster.people(settings), settings)
    assert abs(b.fused.mean() - rate) < 0.015
    other = b[['subject_id', 'fused']].groupby('subject_id').fused
    assert (other.shift(1, fill_value=False) | other.shift(-1, fill_value=False))[b.fused].all()


class Drawn:
    "A canvas that notes the thickness of each bone, and the width and thickness of each line."

    def __init__(self):
        self.bones, self.lines = [], []

    def bone(self, polygons, mm, *_, **__):
        self.bones.append(mm)

    def line(self, points, width, mm, **_):
        self.lines.append((width, mm))


def test_a_bridge_is_drawn_only_between_bodies_that_are_told_to_be_fused():
    p = roster.plan(
        roster.Settings(
            subjects=12, pixel_mm=2.4, rates=roster.RATES | dict(fused=0.2, osteophytes=0.0)
        )
    )
    for name in p.subjects.subject_id:
        film, s = scene.scenes(p, name)[0][0]
        own, canvas = s.person.findings, Drawn()
        scene._growths(canvas, s, range(len(s.person.levels)), 0)
        fused = [
            (a, b)
            for a, b in pairwise(s.person.levels)
            if a in own.index and b in own.index and own.fused[a] and own.fused[b]
        ]
        assert canvas.bones.count(4.0) == len(fused)


def test_what_lies_over_a_body_is_told():
    box = np.array([40.0, 40]), np.array([80.0, 80])

    def writing(at):
        return scene.Mark('writing', np.array(at), 1.0, 'T12', 10.0)

    assert writing([25.0, 60]).over(*box), 'it starts beside the body and runs over it'
    assert not writing([25.0, 30]).over(*box) and not writing([85.0, 60]).over(*box)

    def card(low, high):
        return scene.Mark(
            'sticker', np.array([low, (high[0], low[1]), high, (low[0], high[1])], float)
        )

    assert card((20, 20), (100, 100)).over(*box), 'a sticker with no corner on the body'
    assert not card((20, 20), (39, 100)).over(*box)


def test_points_are_worse_at_the_corners_with_a_spur():
    true, s = BODIES[1][3], roster.Settings()

    def placed(spurred):
        return np.stack(
            [
                phantom.place_points(true, spurred, False, runtime.rng(k), s) - true
                for k in range(600)
            ]
        ).std((0, 2))

    ratio = placed(True) / placed(False)
    assert (abs(ratio[[2, 3]] - 2) < 0.2).all() and (abs(ratio[[0, 1, 4, 5]] - 1) < 0.1).all()


def outcome(features, bodies, model):
    "AUC of label 1 for people that the model has not seen, within lumbar and thoracic films."
    score = cross_val_predict(
        model,
        features.to_numpy(float),
        bodies.label,
        groups=bodies.subject_id,
        cv=GroupKFold(5, shuffle=True, random_state=0),
        method='predict_proba',
    )[:, 1]
    parts = [
        (roc_auc_score(bodies.label[k], score[k]), bodies.label[k].sum())
        for k in (bodies.region == 'L', bodies.region == 'T')
    ]
    return np.average([a for a, _ in parts], weights=[n for _, n in parts])


def header(path):
    "What a DICOM file says beside its pixels and its names."
    ds = pydicom.dcmread(path, stop_before_pixels=True)
    words = [
        str(ds.get(k, ''))
        for k in (
            'Modality',
            'ConversionType',
            'BodyPartExamined',
            'PhotometricInterpretation',
            'SOPClassUID',
        )
    ]
    return [
        *(int(runtime.fingerprint(w)[:6], 16) for w in words),
        *(len(ds.get(k, '')) for k in ('SOPInstanceUID', 'StudyInstanceUID', 'SeriesInstanceUID')),
        len(list(ds)),
        path.stat().st_size,
    ]


def cues(p, folder):
    "For each film of a plan: grey levels, noise, compressed size and header."
    for name in p.subjects.subject_id:
        for film, s in scene.scenes(p, name)[0]:
            pixels = scene.render(s, p.settings)
            grey = (pixels / (2**film.bits - 1)).astype(np.float32)
            phantom.write_dicom(folder / 'one.dcm', pixels, film, p.settings)
            packed = len(zlib.compress((grey * 255).astype(np.uint8).tobytes(), 6))
            yield (
                film.film_id,
                [
                    grey.mean(),
                    grey.std(),
                    np.median(grey),
                    np.median(abs(grey - cv2.medianBlur(grey, 3))),
                    packed,
                    *header(folder / 'one.dcm'),
                ],
            )


def test_no_technical_cue_gives_the_label_away(read, tmp_path):
    p, bodies = read
    found = pd.DataFrame(dict(cues(p, tmp_path))).T.add_prefix('cue ')
    film = p.films.set_index('film_id').loc[bodies.film_id].reset_index()
    features = film[
        [
            'inverted',
            'noise',
            'blur_mm',
            'scatter',
            'heel',
            'density',
            'gamma',
            'enhance',
            'border',
            'collimated',
            'label',
            'dust',
            'bits',
            *(f'has_{k}' for k in roster.ON_FILM),
        ]
    ].astype(float)
    features = features.assign(
        digital=film.source == 'digital',
        marker=film.marker.map({'': 0, 'L': 1, 'R': 2}),
        order=bodies.subject_id.rank(method='dense').to_numpy(),
    ).astype(float)
    features = features.join(found.loc[bodies.film_id].reset_index(drop=True).astype(float))
    for k in range(5):
        features[f'cue {k}'] -= features.groupby([bodies.region, film.inverted.to_numpy()])[
            f'cue {k}'
        ].transform('mean')
    for model in (
        make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500)),
        HistGradientBoostingClassifier(max_iter=40, max_depth=3, random_state=0),
    ):
        # by chance 0.42 to 0.52 over seeds: unseen people pull it below a half, a cue only up
        assert (auc := outcome(features, bodies, model)) <= 0.55, (
            f'{model.__class__.__name__}: AUC {auc:.3f}'
        )
    shape = bodies[['loss_wedge', 'loss_biconcave', 'loss_crush']]
    assert (
        outcome(
            shape, bodies, HistGradientBoostingClassifier(max_iter=40, max_depth=3, random_state=0)
        )
        > 0.85
    ), 'the same test sees the shape'


@given(
    st.sampled_from(['wedge', 'biconcave', 'crush']),
    st.floats(0, 0.6),
    st.floats(0.5, 1),
    st.integers(0, 12),
)
@hypothesis_settings(max_examples=60, deadline=None)
def test_a_fracture_takes_the_height_that_it_says(kind, loss, superior, at):
    curves, points = BODIES[0][at], BODIES[1][at]
    c, q = anatomy.fracture(curves, points, kind, loss, superior)
    lost = 1 - genant.heights(q) / genant.heights(points)
    most = dict(wedge=2, biconcave=1, crush=2)[kind]
    assert abs(lost[most] - loss) < 0.12 * loss + 1e-9
    assert (c[2] - c[0] > 0).all(), 'end-plates never cross'
    assert (np.diff(q[[0, 1, 2], 0]) > 0).all() and np.isfinite(c).all()


BODIES = anatomy.body_curves(
    nhanes.points(nhanes.bodies()[lambda b: b.seqn == 78080]),
    nhanes.outlines(nhanes.bodies()[lambda b: b.seqn == 78080]),
)


@given(st.floats(0, 400), st.floats(0, 400), st.floats(0, 40))
@hypothesis_settings(max_examples=50, deadline=None)
def test_more_in_the_beam_lets_less_through(a, b, bone):
    def through(w, z):
        return float(
            exposure.attenuate(np.full((1, 1), w, np.float32), np.full((1, 1), z, np.float32))[0, 0]
        )

    assert 0 < through(max(a, b), bone) <= through(min(a, b), bone) + 1e-7 <= 1 + 2e-7
    assert through(a, bone) <= through(a, 0) + 1e-7


def test_paper_phantom_is_as_large_as_the_paper():
    profile = study.settings('paper-phantom')['00_cohort']
    s = roster.Settings(
        **{
            k: profile[k]
            for k in ('subjects', 'seed', 'pixel_mm', 'visit2', 'prevalence', 'fractured')
        }
    )
    people = roster.people(s)
    films = roster.films(people, s)
    bodies = roster.fractures(people, s)
    visits = 1 + bodies.second
    assert (
        len(people) == 4461
        and people.subject_id.is_unique
        and not people.duplicated(['seqn', 'reuse']).any()
    )
    assert (
        people.second.sum() == 3309
        and len(films) == 15524
        and abs(visits.sum() / 100409 - 1) < 0.01
    )
    made = (bodies.made * np.where(bodies.since == 2, 1, visits)).sum() * roster._SEEN
    assert (
        abs((made + (visits * (bodies.nhanes_grade >= 2)).sum()) / visits.sum() - 0.0114) < 0.0015
    )


def test_an_end_plate_hardens_when_it_breaks_and_not_before():
    "Sclerosis adds a line only on the visit's film that shows the fracture already"
    p = roster.plan(roster.Settings(subjects=60, prevalence=0.1, visit2=1.0, pixel_mm=2.4))
    seen = {1: set(), 2: set()}
    for name in p.bodies[p.bodies.made & (p.bodies.since == 2)].subject_id.unique():
        for film, s in scene.scenes(p, name)[0]:
            canvas = Drawn()
            own, all_of_them = s.person.findings, range(len(s.person.levels))
            broken = own.index[own.made.astype(bool) & (own.since == 2)]
            use = [i for i in all_of_them if s.person.levels[i] in broken]
            scene._growths(
                canvas,
                replace(s, person=replace(s.person, findings=own.assign(sclerosis=True))),
                use,
                0,
            )
            seen[film.visit].add((3.0, 3.2) in canvas.lines)
    assert seen == {1: {False}, 2: {True}}


def test_a_hair_beside_the_film_is_no_error():
    for shape in (
        (40, 60),
        (400, 300),
    ):  # on a small film most hairs leave it, some lie wholly beside it
        for seed in range(30):
            grey = np.full(shape, 0.5, np.float32)
            exposure._dust(grey, exposure.Frame(dust=60), 0.3, np.random.default_rng(seed))
            assert (
                np.isfinite(grey).all()
                and grey.min() >= 0
                and grey.max() <= 1
                and (grey != 0.5).any()
            )


@pytest.mark.parametrize('marked', [True, False])
def test_what_is_lost_or_cut_is_rendered_again(tmp_path, marked):
    "Tables of a folder that says it is complete; a film of one that was stopped"
    phantom.write_cohort(tmp_path / 'a', subjects=1, pixel_mm=2.0, workers=1)
    before = {p: p.read_bytes() for p in (tmp_path / 'a').rglob('*') if p.is_file()}
    film = next(p for p in before if p.suffix == '.dcm')
    mark = tmp_path / 'a' / 'rendered.json'
    if marked:
        film.unlink()
        for name in ('annotations.csv', 'truth/bodies.parquet'):
            (tmp_path / 'a' / name).unlink()
    else:
        mark.write_text(mark.read_text().replace('"complete": true', '"complete": false'))
        film.write_bytes(before[film][:600])
    phantom.write_cohort(tmp_path / 'a', subjects=1, pixel_mm=2.0, workers=1)
    assert {p: p.read_bytes() for p in before} == before
