"The transcription of the paper: complete, valid, and right where arithmetic can tell."

import importlib
import inspect

import numpy as np
import pandas as pd
import pytest

from ocf_study import error_analysis, manifest, metrics, runtime, settings

TABLES = (
    'table1',
    'table2',
    'table3',
    'table4',
    'table5',
    'figure6',
    'text',
    'related',
    'cosman2017',
    'differences',
)


def test_data_package_is_valid(monkeypatch):
    from frictionless import Package

    monkeypatch.chdir(runtime.root() / 'published')
    package = Package('datapackage.json')
    report = package.validate()
    assert report.valid, report.flatten(['name', 'rowNumber', 'fieldName', 'note'])
    assert (
        set(package.resource_names)
        == {p.stem for p in (runtime.root() / 'published').glob('*.csv')}
        == set(TABLES)
    )


@pytest.mark.parametrize('name', TABLES)
def test_each_row_keeps_the_schema_and_says_where_it_stands(name):
    table = manifest.published(name)
    assert manifest.check(table, name) == []
    assert table['where'].str.len().gt(5).all()


def test_every_cell_of_the_tables_is_there():
    shape = {
        name: manifest.published(name).shape[0]
        for name in ('table1', 'table2', 'table3', 'table4', 'table5')
    }
    assert shape == {'table1': 15, 'table2': 15, 'table3': 11, 'table4': 3, 'table5': 4}
    assert manifest.published('table2').confounder.tolist() == manifest.CONFOUNDERS
    numbers = manifest.published_numbers()
    assert (
        np.isfinite(numbers.value).all()
        and not numbers.duplicated(['table', 'row', 'column']).any()
    )


def test_digits_are_those_that_were_printed():
    d = manifest.published_numbers(('table3', 'table5')).set_index(['row', 'column']).decimals
    assert d['0.75', 'ppv'] == 1 and d['0.75', 'f1'] == 2 and d['10.00', 'specificity'] == 1
    assert d['learning_rate', 'optimum'] == 6 and d['decay', 'optimum'] == 2


@pytest.mark.parametrize('table', ['table3', 'table4'])
def test_fdr_is_the_complement_of_ppv(table):
    t = manifest.published(table)
    assert ((t.ppv + t.fdr).round(1) == 100).all()


@pytest.mark.parametrize('table', ['table3', 'table4'])
def test_f1_lies_where_sensitivity_and_ppv_put_it(table):
    t = manifest.published(table)

    def f1(d):
        return 2 * (t.sensitivity + d) * (t.ppv + d) / (t.sensitivity + t.ppv + 2 * d) / 100

    assert ((t.f1 + 0.005 >= f1(-0.05)) & (t.f1 - 0.005 <= f1(0.05))).all()


def test_table3_implies_its_counts():
    counts = manifest.implied_counts()
    assert (
        counts.positives.unique().tolist() == [174]
        and 15_100 < counts.bodies.min() <= counts.bodies.max() < 15_200
    )
    table = manifest.published('table3').set_index('cutoff')
    for _, found in (
        counts[counts.bodies == counts.bodies.max()]
        .groupby('cutoff')
        .max()
        .reset_index()
        .iterrows()
    ):
        y = np.r_[np.ones(174), np.zeros(int(found.bodies) - 174)]
        p = np.zeros(len(y))
        p[: int(found.true_positives)] = p[
            174 : 174 + int(found.flagged - found.true_positives)
        ] = 1
        mine = metrics.measures(y, p, 0.5)
        for m in metrics.MEASURES:
            assert (
                abs(mine[m] * (1 if m == 'f1' else 100) - table.loc[found.cutoff, m])
                <= (0.005 if m == 'f1' else 0.05) + 1e-9
            ), (found.cutoff, m)


def test_sensitivity_has_a_ceiling_at_the_paper_s_share():
    counts = manifest.implied_counts().query('cutoff == .75')
    assert (counts.flagged / counts.positives).max() == pytest.approx(114 / 174)


def test_odds_ratios_with_and_without_the_half():
    t = manifest.published('table2').set_index('confounder')
    plain, half = (error_analysis.odds_ratio(t, h).odds_ratio for h in ('never', 'zero'))
    off = (plain - t.odds_ratio).abs() > 0.005 + 1e-9
    assert set(off.index[off]) == {'metal', 'point_placement'}
    assert ((half - t.odds_ratio).abs() <= 0.005 + 1e-9).all()
    always = error_analysis.odds_ratio(t, 'always').odds_ratio
    assert (
        (always - t.odds_ratio).abs() > 0.005 + 1e-9
    ).sum() > 5  # so the rule is "where one is zero", not "always"
    assert (t.present_incorrect + t.absent_incorrect == 120).all() and (
        t.present_correct + t.absent_correct == 150
    ).all()


def test_what_does_not_agree_is_named():
    off = pd.concat([manifest.arithmetic(), error_analysis.arithmetic()]).query('not agrees')
    assert set(off['what']) == {
        'subjects: the text',
        'subjects: at most the men of MrOS',
        "subjects: 76.5 % of table 1's own total",
        "subjects: 8.5 % of table 1's own total",
        "subjects: 15 % of table 1's own total",
        'bmi_visit1: mean of the parts by their number',
        'range of the sigmoid gain: low end below the high',
        'odds ratio a d / (b c)',
    }


def test_a_wrong_digit_would_be_found(monkeypatch):
    real = manifest.published

    def spoilt(name):
        table = real(name)
        if name == 'table4':
            table.loc[0, 'fdr'] += 0.1
        return table

    monkeypatch.setattr(manifest, 'published', spoilt)
    assert 'FDR = 100 - PPV' in set(manifest.arithmetic().query('not agrees')['what'])


SWITCHED = (
    manifest.published('differences').dropna(subset='parameter').to_dict('records')
)  # some steps have no other way here


@pytest.mark.parametrize('row', SWITCHED, ids=lambda r: r['step'])
def test_every_difference_can_be_switched(row):
    name, _, rest = row['parameter'].partition('.')
    module = importlib.import_module(f'ocf_study.{name}')
    if ':' in rest:
        function, _, parameter = rest.partition(':')
        accepted = inspect.signature(getattr(module, function)).parameters
    else:
        function, _, parameter = rest.partition('.')
        accepted = inspect.signature(getattr(module, function)).parameters
    assert parameter in accepted


def test_a_difference_without_a_switch_says_why():
    rows = manifest.published('differences')
    without = rows[rows.parameter.isna()]
    assert len(without) == 2 and without.package.str.contains('; no switch, because ').all()
    assert rows.package.str.contains('no switch').sum() == len(without)


def test_the_ratio_of_the_down_sampling_is_an_experiment_of_the_study():
    from ocf_study import study

    row = manifest.published('differences').set_index('step').loc['ratio of the down-sampling']
    assert '91_ratio' in row.package and '91_ratio' in study.stages()
    assert 2.5 in study.settings('demo')['91_ratio']['ratios']


def test_what_set_is_said_to_take_is_a_parameter_of_the_study():
    from ocf_study import study

    known = {name for stage in study.stages().values() for name in study.parameters(stage)}
    said = manifest.published('differences')['set']
    assert set(said.dropna()) <= known and said.notna().sum() > 15


def default_of(parameter):
    "What this package does where nothing is said."
    from ocf_study import augmentation, geometry, inversion

    name, _, rest = parameter.partition('.')
    made = dict(
        inversion=lambda: inversion.DETECTORS[inversion.DEFAULT],
        geometry=lambda: geometry.VARIANTS['paper'],
        augmentation=lambda: augmentation.RANGES['paper'],
    )
    if ':' not in rest and name in made:
        return getattr(made[name](), rest.partition('.')[2])
    where, _, field = rest.replace(':', '.').partition('.')
    return (
        inspect.signature(getattr(importlib.import_module(f'ocf_study.{name}'), where))
        .parameters[field]
        .default
    )


@pytest.mark.parametrize('row', SWITCHED, ids=lambda r: r['step'])
def test_what_the_package_is_said_to_do_is_its_default(row):
    "The column `package` names the default, as 'paper' and 'code' or as a value"
    from ocf_study import augmentation, geometry, inversion

    value, parameter = default_of(row['parameter']), row['parameter']
    said = row['package'].split(';')[0].split(',')[0]
    variants = {'geometry': geometry.VARIANTS, 'augmentation': augmentation.RANGES}
    module, field = parameter.split('.')[0], parameter.rpartition('.')[2]
    if module in variants and said in ('paper', 'code'):
        if said == 'paper':
            assert value == getattr(variants[module]['paper'], field)
        else:
            assert value == getattr(variants[module]['published'], field)
        if said == 'paper' and field not in ('gain',):
            assert value != getattr(variants[module]['published'], field), 'no difference'
    elif parameter in ('inversion.Detector.low', 'inversion.Detector.strip'):
        assert float(said.split()[0]) == value
    elif parameter == 'inversion.Detector.signed':
        assert (said == 'absolute gradient') == (not value)
    elif parameter == 'inversion.Detector.relative':
        percentile = inversion.DETECTORS[inversion.DEFAULT].levels[1] * 100
        assert value and f"gradient's {percentile:.0f}th percentile" in said
    else:
        expected = {
            'inversion.is_inverted:detector': said,
            'inversion.film_vote:tie': 'random',
            'cohort.downsample:by': 'region',
            'cohort.read_mros:film_rule': 'y',
            'cohort.partition:stratify': False,
            'training.Recipe.copied': 3,
            'training.network:checkpoint': '',
            'patches.build:obey_tag': True,
            'resampling.bootstrap:rechoose': True,
            'googlenet.build:bn_momentum': 0.9,
            'training.Recipe.epochs': 100,
            'training.Recipe.schedule': said,
            'training.Recipe.warmup': 0,
        }
        if parameter in expected:
            assert value == expected[parameter]
        if str(value).replace('.', '').isdigit() and said.replace('.', '').isdigit():
            assert float(said) == value


def test_the_small_profiles_schedule_is_told():
    steps = manifest.published('differences').set_index('step').package
    ask = settings.settings

    assert (
        ask('demo')['30_training']['schedule'] == 'cosine'
        and 'cosine' in steps['learning rate between epochs']
    )
    assert (ask('demo')['30_training']['warmup'] > 0) == (
        'some in the small profiles' in steps['warm-up of the learning rate']
    )
    assert (
        ask('paper')['10_preprocessing']['detector'] == 'paper'
        and ask('demo')['10_preprocessing']['detector'] == 'later'
    )


def test_differences_are_the_defaults():
    from ocf_study import augmentation, geometry, inversion

    text = manifest.published('text').set_index('key').value
    paper, code = inversion.DETECTORS['paper'], inversion.DETECTORS['published']
    assert (paper.low, paper.high, paper.strip) == (
        text.hysteresis_low,
        text.hysteresis_high,
        text.strip_height,
    )
    assert (code.low, code.strip, code.signed) == (0.6, 0.1, True)
    ranges = augmentation.RANGES['paper']
    assert (
        ranges.copies == text.augmented_copies
        and ranges.noise_sd == (text.noise_low, text.noise_high)
        and ranges.cutoff == (text.cutoff_low, text.cutoff_high)
    )
    assert (
        np.allclose(ranges.area_scale, np.array([text.scale_low, text.scale_high]) / 100)
        and ranges.gain[1] == text.gain_high
    )
    assert (
        augmentation.RANGES['published'].noise_sd[1] == pytest.approx(52.4, abs=0.05)
        and augmentation.RANGES['published'].copies == 15
    )
    assert not any(geometry.VARIANTS['paper']) and all(geometry.VARIANTS['published'])
    assert metrics.PAPER_SHARE == text.top_share / 100 and np.allclose(
        np.array(metrics.SHARES) * 100, manifest.published('table3').cutoff
    )


def test_accepted_weights_are_the_dialects_of_the_network():
    import json

    from ocf_study import googlenet

    accepted = json.loads((runtime.root() / 'weights.json').read_text())
    assert {w['dialect'] for w in accepted.values()} == {'slim', 'torchvision'}
    for name, w in accepted.items():
        assert w['tensors'] == len(googlenet.names(w['dialect'])), name
        assert w['sha256'] is None or w['sha256'] in name
