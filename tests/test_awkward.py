"""A study of real films ends, whatever its results are: asserts are on what must hold.

A cohort that counts as real people's goes through stages 50 to 80 with the predictions of networks
that nobody would want, and with people of whom little is known.
"""

import json

import numpy as np
import pandas as pd
import pytest
import standin

from ocf_study import cohort, study
from ocf_study.run import Run

PEOPLE = dict(train=60, validation=30, test=40)


def constant(label, rng):
    return np.full(len(label), 0.5)


def reversed_(label, rng):
    return np.where(label == 1, 0.1, 0.9) * rng.random(len(label))


def saturated(label, rng):
    return (rng.random(len(label)) < 0.3 + 0.3 * label).astype(float)


NETWORKS = {'constant': constant, 'reversed': reversed_, 'saturated': saturated}


@pytest.fixture(params=NETWORKS)
def awkward(request, tmp_path):
    "A run folder before stage 50."
    out = tmp_path / 'run'
    each = dict.fromkeys(PEOPLE, 8)
    c = standin.write(out, PEOPLE, each, dict(train=40, validation=14, test=16), limit=0)
    path = Run(out).path('predictions')
    table, rng = pd.read_parquet(path), np.random.default_rng(1)
    table['probability'] = NETWORKS[request.param](table.label.to_numpy(), rng)
    table.to_parquet(path, index=False)
    if request.param != 'reversed':  # of whom nothing is known but what was graded
        for name in ('age', 'bmi', 'sex', 'race_ethnicity'):
            c.subjects[name] = np.nan
        c.save(Run(out).path('cohort'))
    return out


def test_no_result_stops_a_study(awkward, monkeypatch):
    monkeypatch.setenv('OCF_RUN', '1')
    standin.run(awkward)
    summary = json.loads((awkward / 'work/summary/50_evaluation.json').read_text())
    assert 0 <= summary['test']['auc_roc'] <= 0.75


def test_grades_that_the_points_do_not_follow_are_a_warning(tmp_path):
    "Readers who grade by end-plates: half of the grades have nothing to do with the six points"
    root = cohort.write_example(tmp_path / 'films', subjects=30)
    a, rng = pd.read_csv(root / 'annotations.csv'), np.random.default_rng(0)
    other = rng.random(len(a)) < 0.5
    a.loc[other, 'XQSQ'] = rng.permutation(a.XQSQ[other])
    a.to_csv(root / 'annotations.csv', index=False)
    out = tmp_path / 'run'
    study.run('smoke', out, until='00_cohort', data=root, stratify=True, resamples=40)
    page = (out / 'notebooks' / '00_cohort.ipynb').read_text()
    assert 'Warning: six points alone reach an AUC of' in page
