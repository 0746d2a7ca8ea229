"NHANES: what was packaged, and that packaging puts the shifted columns right"

import json

import numpy as np
import pandas as pd
import pytest

from ocf_study import genant, nhanes, runtime

BEFORE = [
    'SEQN',
    'DXDLSPST',
    'DXXL3CC',
    'DXXINITX',
    'DXXINITY',
    'DXXANIDX',
    'DXXLABEL',
    'DXXSQSCR',
    'DXXPOSTH',
    'DXXANTEH',
    'DXXMIDH',
    'DXXWDGRT',
    'DXXBICRT',
    'DXXCRURT',
    'DXXWDGDE',
    'DXXBICDE',
    'DXXCRUDE',
]
N_NAMED = 202  # columns of the release from DXXSPX on: 12 of points, 190 of the outline


@pytest.fixture(scope='module')
def release(tmp_path_factory):
    "CDC's layout: values three columns after their names, the last three outline values missing."
    folder, rng = tmp_path_factory.mktemp('release'), np.random.default_rng(0)
    names = ['DXXSPX', *(f'V{i}' for i in range(N_NAMED - 1))]
    truth = {}
    for level in genant.LEVELS:
        rows = []
        for seqn in (101, 102, 103):
            xy = (rng.uniform(100, 900, (6 + 95, 2))).round(1)
            truth[seqn, level] = xy
            heights = np.linalg.norm(xy[:3] - xy[[5, 4, 3]], axis=1).round(1)
            after = [0, 2, 0, *xy.ravel()][:N_NAMED]
            if seqn == 103:
                after[3:] = [np.nan] * (N_NAMED - 3)  # six points not placed
            rows.append(
                [
                    seqn,
                    1,
                    0,
                    1,
                    1,
                    1,
                    level,
                    2,
                    heights[0],
                    heights[2],
                    heights[1],
                    0.9,
                    0.9,
                    0.9,
                    0.1,
                    0.3,
                    0.05,
                    *after,
                ]
            )
        pd.DataFrame(rows, columns=BEFORE + names).to_csv(
            folder / f'DXX{level}_H.csv.xz', index=False
        )
    people = [101, 102, 103, 999]
    scored = pd.DataFrame(dict(SEQN=[101, 102, 103], DXDLSPST=[1, 2, 5], DXXVFAST=[2, 1, np.nan]))
    for level in genant.LEVELS:
        scored[f'DXX{level}CC'] = [0, 6, np.nan]
        scored[f'DXX{level}FX'] = [1, np.nan, np.nan]
    scored.loc[0, ['DXXL1FX', 'DXXL2FX', 'DXXL3CC']] = [3, 5, 2]  # 5 and 2 are in no codebook
    scored.to_csv(folder / 'DXXVFA_H.csv.xz', index=False)
    spine = {f'DXXL{i}{x}': 1.0 for i in range(1, 5) for x in ('BMC', 'A')}
    pd.DataFrame(
        dict(SEQN=[101, 102], DXASPNST=1, DXXOSBCC=0, DXXOSBMD=[1.0, 0.8], **spine)
    ).to_csv(folder / 'DXXSPN_H.csv.xz', index=False)
    pd.DataFrame(dict(SEQN=[101], DXAFMRST=1, DXXFMBCC=0, DXXNKBMD=[0.7], DXXOFBMD=[0.8])).to_csv(
        folder / 'DXXFEM_H.csv.xz', index=False
    )
    items = [f'OSQ010{p}' for p in 'ABC'] + ['OSQ080', 'OSQ060', 'OSQ072']
    numbers = ['OSQ020A', 'OSQ020B', 'OSQ020C', 'OSD030CA', 'OSD050CA']
    pd.DataFrame(
        dict(SEQN=[101, 102, 103], **dict.fromkeys(items, 2), **dict.fromkeys(numbers, np.nan))
    ).to_csv(folder / 'OSQ_H.csv.xz', index=False)
    pd.DataFrame(
        dict(
            SEQN=people,
            RIDAGEYR=[70, 80, 50, 5],
            RIAGENDR=[1, 2, 1, 1],
            RIDRETH3=[3, 6, 1, 1],
            WTMEC2YR=1.0,
            SDMVSTRA=1,
            SDMVPSU=1,
        )
    ).to_csv(folder / 'DEMO_H.csv.xz', index=False)
    pd.DataFrame(dict(SEQN=people[1:], BMXBMI=[25.0, 26.0, 17.0], BMXHT=170.0, BMXWT=70.0)).to_csv(
        folder / 'BMX_H.csv.xz', index=False
    )
    return folder, truth


def test_package_puts_the_columns_right(release, tmp_path):
    source, truth = release
    nhanes.package(source, tmp_path)
    bodies = pd.read_parquet(tmp_path / 'bodies.parquet')
    assert len(bodies) == 2 * 13 and set(bodies.seqn) == {101, 102}
    steps = (
        pd.read_parquet(tmp_path / 'outlines.parquet')
        .to_numpy(int)
        .reshape(len(bodies), nhanes.N_OUTLINE, 2)
    )
    for i, b in bodies.iterrows():
        xy = truth[b.seqn, b.level]
        six = b[[f'{c}{k}' for k in range(1, 7) for c in 'xy']].to_numpy(int).reshape(6, 2)
        np.testing.assert_array_equal(six, np.rint(xy[:6] * 10))
        np.testing.assert_array_equal(
            six[5] + steps[i].cumsum(0), np.rint(xy[6 : 6 + nhanes.N_OUTLINE] * 10)
        )
        assert (b.type, b.type_from, b.software_grade) == ('biconcave', 'grade', 2)
    people = pd.read_parquet(tmp_path / 'people.parquet').set_index('seqn')
    assert people.sex.to_dict() == {101: 'M', 102: 'F', 103: 'M'}
    assert people.race_ethnicity[102] == 'Non-Hispanic Asian'
    assert people.neck_bmd.isna().to_dict() == {101: False, 102: True, 103: True}
    assert np.isnan(people.bmi[101]) and people.bmi[102] == 25
    about = json.loads((tmp_path / 'provenance.json').read_text())
    assert (about['people'], about['bodies'], about['column_shift']) == (2, 26, 3)
    assert len(about['files']) == 19
    scores = pd.read_parquet(tmp_path / 'scores.parquet').set_index(['seqn', 'level'])
    assert set(scores.index.get_level_values(0)) == {101, 102}, 'nobody who was not scanned'
    assert scores.final_score[101, 'L1'] == 3 and scores.final_score[102].isna().all()
    assert about['codes_set_aside'] == [
        dict(file='DXXVFA_H', column='DXXL2FX', value=5, participants=1),
        dict(file='DXXVFA_H', column='DXXL3CC', value=2, participants=1),
    ]
    assert pd.isna(scores.final_score[101, 'L2']) and pd.isna(scores.invalid[101, 'L3'])
    assert all(len(x) == 64 for x in about['files'].values())


def test_missing_files_are_named_at_once(release, tmp_path):
    source, _ = release
    for path in source.iterdir():
        if path.name not in ('OSQ_H.csv.xz', 'DXXT4_H.csv.xz'):
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(FileNotFoundError, match='no OSQ_H.csv.xz, DXXT4_H.csv.xz'):
        nhanes.package(tmp_path, tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


def test_a_participant_twice_in_a_file_is_an_error(release, tmp_path):
    source, _ = release
    for path in source.iterdir():
        (tmp_path / path.name).symlink_to(path)
    table = pd.read_csv(source / 'OSQ_H.csv.xz')
    (tmp_path / 'OSQ_H.csv.xz').unlink()
    pd.concat([table, table[:1]]).to_csv(tmp_path / 'OSQ_H.csv.xz', index=False)
    with pytest.raises(ValueError, match='OSQ_H.csv.xz: participants in more than one row: 101'):
        nhanes.package(tmp_path, tmp_path / 'out')


def test_shift_is_needed(release):
    source, _ = release
    for shift, good in ((nhanes.SHIFT, True), (0, False)):
        t, xy = nhanes.read_level(source / 'DXXL1_H.csv.xz', shift)
        recorded = t[['DXXPOSTH', 'DXXMIDH', 'DXXANTEH']].to_numpy()[:2]
        drawn = np.linalg.norm(xy[:2, :3] - xy[:2, [5, 4, 3]], axis=-1)
        assert np.allclose(drawn, recorded, atol=0.06) == good


def test_distances_are_the_recorded_heights():
    df = nhanes.bodies()
    r, ratio = nhanes.height_correlation(
        nhanes.points(df), df[['posterior', 'middle', 'anterior']].to_numpy()
    )
    assert (r > 0.9999).all() and np.abs(ratio - 0.995).max() < 5e-4


def test_counts_of_the_release():
    df, people = nhanes.bodies(), nhanes.people()
    assert (len(df), df.seqn.nunique()) == (42066, 3321) and set(people.seqn) == set(df.seqn)
    assert df.software_grade.value_counts().to_dict() == {0: 41670, 1: 292, 2: 79, 3: 25}
    both = pd.crosstab(df.software_grade, df.final_score).to_numpy().tolist()
    assert both == [[41663, 4, 2, 1], [93, 118, 62, 1], [6, 10, 55, 7], [1, 1, 10, 11]]
    assert df.seqn[df.final_score >= 2].nunique() == 114 and (df.final_score >= 2).sum() == 149
    assert not df.duplicated(['seqn', 'level']).any() and set(df.level) == set(genant.LEVELS)
    severe = df[df.software_grade >= 2].merge(people, on='seqn')
    assert (severe.seqn.nunique(), severe[severe.sex == 'M'].seqn.nunique()) == (85, 44)
    old = people[(people.sex == 'M') & (people.age >= 65)]
    assert len(old) == 516 and severe.seqn.isin(old.seqn).sum() == 35


def test_package_is_small():
    assert sum(f.stat().st_size for f in (runtime.root() / 'nhanes').iterdir()) <= 10e6


def test_outlines_follow_their_rows():
    df = nhanes.bodies().sample(50, random_state=1)
    shuffled = nhanes.outlines(df.sample(frac=1, random_state=2))
    order = df.sample(frac=1, random_state=2).index
    np.testing.assert_array_equal(nhanes.outlines(df.loc[order].reset_index(drop=True)), shuffled)
    corner = np.abs(nhanes.outlines(df)[:, 11] - nhanes.points(df)[:, 0]).max()
    assert corner < 6
    with pytest.raises(KeyError, match='no outline'):
        nhanes.outlines(df.assign(seqn=1))


def test_returned_tables_are_copies():
    b, p = nhanes.bodies(), nhanes.people()
    b['final_score'], p['age'] = 9, 0
    assert nhanes.bodies().final_score.max() == 3 and nhanes.people().age.min() >= 40


def test_norms_and_z_scores():
    n = nhanes.norms()
    assert len(n) == 26 and (n['sd'] > 0).all(axis=None) and n['n'].to_numpy().sum() == 41663
    men, women = (n['mean'].xs(s, level='sex') for s in 'MF')
    assert (
        men[['posterior', 'anterior', 'depth']] > women[['posterior', 'anterior', 'depth']]
    ).all(axis=None)
    df = nhanes.bodies()
    sex = df.seqn.map(nhanes.people().set_index('seqn').sex)
    z = nhanes.z_scores(nhanes.points(df), df.level, sex)
    sound = (df.software_grade.eq(0) & df.final_score.eq(0)).to_numpy()
    assert np.abs(z[sound].mean()).max() < 1e-6 and np.abs(z[sound].std() - 1).max() < 0.01
    larger = nhanes.z_scores(
        nhanes.points(df) * 2, df.level, sex, mm_per_pixel=nhanes.MM_PER_PIXEL / 2
    )
    np.testing.assert_allclose(larger, z)
    ratios = nhanes.z_scores(nhanes.points(df) * 3, df.level, sex, ratios_only=True)
    np.testing.assert_allclose(ratios, z[['wedge', 'biconcave']])


def test_largest_deformity_ranks_grades():
    from scipy.stats import mannwhitneyu

    df = nhanes.bodies()
    y, s = (df.software_grade >= 2).to_numpy(), nhanes.largest_deformity(df)
    assert 0.96 < mannwhitneyu(s[y], s[~y]).statistic / (y.sum() * (~y).sum()) < 0.99


def test_everybody_who_was_scanned_has_scores():
    p, s = nhanes.participants(), nhanes.scores()
    scanned = p[p.scan.isin([1, 2])]
    assert len(p) == 3708 and len(scanned) == 3330 and len(s) == 3330 * 13
    assert scanned.status.value_counts().to_dict() == {1: 3038, 2: 186, 3: 106}
    worst = s.groupby('seqn').final_score.max().loc[scanned.seqn].to_numpy()
    assert ((scanned.status == 2).to_numpy() == (worst >= 1)).all()
    assert scanned[['exam_weight', 'stratum', 'psu']].notna().all(axis=None)


def test_what_is_missing_is_counted():
    found = nhanes.completeness().set_index('what')
    assert found.levels['six points and no final score'] == 21
    assert found.levels['marked invalid, with a final score'] == 1
    about = json.loads((runtime.root() / 'nhanes/provenance.json').read_text())
    aside = pd.DataFrame(about['codes_set_aside'])
    at = aside.file == 'DXXVFA_H'
    assert found.levels['invalidity code not in the codebook'] == aside[at].participants.sum()
    assert set(aside.value) == {2}
