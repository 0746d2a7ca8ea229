"Property tests are not timed: the machines that run them are shared"

import os
import tempfile

import pytest
from hypothesis import settings

settings.register_profile('study', deadline=None)
settings.load_profile('study')


@pytest.fixture(scope='session', autouse=True)
def temporary(tmp_path_factory):
    "What libraries and commands leave in the temporary folder goes with that of the tests"
    with pytest.MonkeyPatch.context() as patch:
        folder = str(tmp_path_factory.mktemp('temporary'))
        patch.setattr(tempfile, 'tempdir', folder)
        patch.setitem(os.environ, 'TMPDIR', folder)
        yield


@pytest.fixture(scope='session')
def tiny_run(tmp_path_factory):
    """A run of three rendered people and a network whose batch normalisation has seen them."""
    from ocf_study import cohort, googlenet, patches, phantom, prediction
    from ocf_study.run import Run

    side = 56  # the network's; patches are 112 px and averaged down
    run = Run(tmp_path_factory.mktemp('prediction') / 'run')
    films = run.path('films')
    phantom.write_cohort(films, subjects=3, pixel_mm=0.8, prevalence=0.3, workers=1, seed=5)
    people = cohort.partition(cohort.read(str(films)), seed=1, fractions=(0.4, 0.3, 0.3))
    # thresholds need both labels in each split
    people.bodies.loc[people.bodies.groupby('split').head(2).index, ['sq', 'label']] = (3.0, 1)
    people.save(run.path('cohort'))
    store = run.path('patches')
    patches.build(people, store, copies=0, size=2 * side)
    model = googlenet.build(size=side, bn_momentum=0.0)
    x, _ = patches.arrays(store)
    model(patches.averaged(x[:40], side), training=True)
    run.path('model').mkdir()
    model.save(run.path('best'))
    predict = prediction.predictor(run.network, run.path('exported'))
    prediction.predict_store(predict, store).to_parquet(run.path('predictions'))
    return run
