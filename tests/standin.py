"A cohort without films that counts as real people; its predictions give the paper's table 3"

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit

from ocf_study import cohort, description, disclosure, figures, genant, runtime

TABLE3 = dict(  # bodies flagged -> fractured ones among them (arithmetic of the paper's table 3)
    zip(
        (38, 76, 114, 152, 190, 228, 304, 456, 608, 912, 1520, 15200),
        (37, 73, 104, 122, 133, 142, 149, 161, 164, 170, 171, 174),
        strict=True,
    )
)
FRACTURED_AT = dict(
    zip(genant.LEVELS, (11, 12, 14, 20, 22, 13, 3, 5, 18, 24, 12, 11, 9), strict=True)
)
SHARE = dict(train=0.765, validation=0.085, test=0.15)


def ranked(n: int, fractured: int) -> np.ndarray:
    "Labels from the highest score down, with the paper's hits at the paper's cut-offs."
    label, start, hits = np.zeros(n, bool), 0, 0
    for flagged, found in TABLE3.items():
        stop = round(flagged * n / 15200)
        more = round(found * fractured / 174) - hits
        label[np.linspace(start, stop - 1, more).round().astype(int)] = True
        start, hits = stop, hits + more
    return label


def bodies_of(split: str, people: int, per_person: int, fractured: int, seed: int):
    "Bodies of one split with their score: the fractured ones lie with a quarter of the people."
    rng = np.random.default_rng(seed)
    n = people * per_person
    person = np.repeat(np.arange(people), per_person)
    place = np.tile(np.arange(per_person), people)
    label = np.zeros(n, bool)
    wanted = rng.permutation(np.repeat([*FRACTURED_AT], [*FRACTURED_AT.values()]))
    wanted = np.resize(wanted, fractured) if fractured != 174 else wanted
    level = np.array(genant.LEVELS)[place % len(genant.LEVELS)]
    for name in genant.LEVELS:
        at = np.flatnonzero((level == name) & (person % 4 == 0))
        label[rng.choice(at, min((wanted == name).sum(), len(at)), replace=False)] = True
    score = expit(rng.normal(-4 + 4 * label, 1.5, n))
    if n > 7000:  # as in the paper
        order, value = ranked(n, fractured), np.sort(expit(rng.normal(-5, 2, n)))[::-1]
        score[rng.permutation(np.flatnonzero(label))] = value[order]
        score[rng.permutation(np.flatnonzero(~label))] = value[~order]
    subject = np.array([f'{"PO BI MN".split()[k % 3]}{split[1]}{k:05d}' for k in person])
    visit = 1 + (place >= len(genant.LEVELS))
    region = np.where(pd.Series(level).isin(genant.LEVELS[:8]), 'T', 'L')
    film = [f'{s}V{v}{r}' for s, v, r in zip(subject, visit, region, strict=True)]
    frame = pd.DataFrame(
        dict(
            body_id=[f'{f}-{name}' for f, name in zip(film, level, strict=True)],
            film_id=film,
            subject_id=subject,
            visit=visit,
            region=region,
            level=level,
            sq=np.where(label, rng.choice([3, 4, 5, 7], n, p=[0.6, 0.3, 0.09, 0.01]), 0.0),
            label=label.astype(int),
            split=split,
            probability=score,
        )
    )
    middle, back = 24 - 6 * label * rng.random(n), 25 + rng.normal(0, 0.5, n)
    front = 24.5 - 9 * label * rng.random(n)
    y0 = 60 * place
    ends = [(0, y0), (15, y0), (30, y0), (30, y0 + front), (15, y0 + middle), (0, y0 + back)]
    for k, (x, y) in enumerate(ends, 1):
        frame[f'x{k}'], frame[f'y{k}'] = x, y
    return frame


def write(out: Path, people: dict, per_person: dict, fractured: dict, limit: int = 11):
    "A run folder as it is before stage 50, with what stage 00 saves of its people."
    bodies = pd.concat(
        [bodies_of(s, people[s], per_person[s], fractured[s], k) for k, s in enumerate(SHARE)],
        ignore_index=True,
    )
    rng = np.random.default_rng(9)
    subjects = bodies[['subject_id', 'visit', 'split']].drop_duplicates().reset_index(drop=True)
    code = pd.factorize(subjects.subject_id)[0]
    first_age = rng.normal(74, 6, code.max() + 1)
    races = rng.choice(
        ['White', 'Black', 'Asian', 'Other'], code.max() + 1, p=[0.9, 0.07, 0.02, 0.01]
    )
    subjects = subjects.assign(
        site=subjects.subject_id.str[:2],
        age=np.where(code % 211 == 5, np.nan, first_age[code]) + 4 * (subjects.visit - 1),
        bmi=rng.normal(27, 4, len(subjects)),
        sex='M',
        race_ethnicity=np.where(code % 157 == 3, None, races[code]),
    )
    films = bodies[['film_id', 'subject_id', 'visit', 'region']].drop_duplicates()
    films = films.assign(
        path=films.film_id + '.dcm',
        width=1000,
        height=2000,
        source=np.where(films.visit == 1, 'film', 'digital'),
        facing='left',
        photometric='MONOCHROME2',
        flip_vertical=False,
    )
    # 40 bodies without a grade, and 6 that were annotated twice
    more = bodies.head(46).assign(label=[np.nan] * 40 + [0] * 6)
    every, k = (
        pd.concat([bodies, more], ignore_index=True),
        np.arange(len(bodies) + 46) - len(bodies),
    )
    flow = cohort.flow_of(
        every, [('graded N', (k >= 0) & (k < 40)), ('second annotation', k >= 40)]
    )
    c = cohort.Cohort(
        subjects,
        films,
        bodies.drop(columns='probability').assign(used=True),
        flow,
        dict(root=str(out / 'nowhere'), data=f'{len(films):,} radiographs', rendered=False),
    )
    c.flow = cohort._split_flow(c.flow, c.bodies, 'partitioned')
    c = cohort.thin(c, 2.5, 'region', 7)
    c.about['limit'] = limit
    c = cohort.load(c.save(out / 'work/cohort'))
    used = c.bodies[c.bodies.used].body_id
    bodies[bodies.body_id.isin(used)][['body_id', 'split', 'label', 'probability']].assign(
        model='googlenet'
    ).to_parquet(out / 'work/predictions.parquet', index=False)
    (out / 'work/failed_films.csv').write_text('film_id,reason\n')
    _describe(c, out, limit)
    return c


def _describe(c, out, below):
    "What stage 00 saves of the people."
    steps = description.masked_flow(c.flow, below)
    sizes = steps[steps.step == 'partitioned'].drop(columns='step').reset_index(drop=True)
    sizes['bodies_used'] = steps[steps.step == 'down-sampled'].bodies.to_numpy()
    counts = c.bodies.groupby(['sq', 'region', 'level']).size().rename('n').reset_index()
    tables = dict(
        certificate=sizes.rename(columns={'films': 'radiographs'}),
        table1=description.table1(c, below),
    )
    for name, index, column in (('figure1', 'sq', 'region'), ('figure5b', 'level', 'sq')):
        wide = counts.pivot_table(
            index=index, columns=column, values='n', aggfunc='sum', fill_value=0
        )
        tables[name] = disclosure.masked_counts(wide, below)
    tables['figure2'] = steps.rename(columns={'films': 'n_films'})
    for name, df in tables.items():
        save = dict(caption=name, rests_on=disclosure.MASKED)
        if name.startswith('figure'):
            figures.save(figures.plt.figure(), name, out, alt=name, data=df, **save)
        else:
            figures.save_table(df, name, out, **save)


STAGES = ['50_evaluation', '60_error_analysis', '70_beyond', '80_comparison']


def run(out: Path, stages=STAGES, readings=(), resamples=20):
    "Stages 50 to 80, each in a fresh kernel."
    import papermill

    (out / 'notebooks').mkdir(exist_ok=True)
    more = {
        '50_evaluation': dict(resamples=resamples),
        '60_error_analysis': dict(resamples=resamples, readings=[str(p) for p in readings]),
        '70_beyond': dict(resamples=resamples, saliency_bodies=0),
        '80_comparison': {},
    }
    for stage in stages:
        papermill.execute_notebook(
            str(runtime.root().parent / f'nbs/study/{stage}.ipynb'),
            str(out / 'notebooks' / f'{stage}.ipynb'),
            kernel_name='python3',
            progress_bar=False,
            cwd=str(out),
            parameters=dict(out='.', **more[stage]),
        )
