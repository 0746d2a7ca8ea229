"Training: kills, divergence, patience, precision and several devices, on tiny networks"

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import keras  # after the library, which sets TensorFlow up
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocf_study import metrics, patches, runtime, training

tf = runtime.tensorflow()

TINY = training.Recipe(
    learning_rate=0.01, decay=1.3, dropout=0.2, pos_weight=1.0, batch=16, epochs=4, seed=3
)
L = keras.layers


def network(norm=True, heads=False):
    he = keras.initializers.HeNormal
    patch = keras.Input((16, 16, 1))
    x = L.Conv2D(4, 5, 2, use_bias=not norm, kernel_initializer=he(1), name='conv')(patch)
    if norm:
        x = L.BatchNormalization(momentum=0.9, name='bn')(x)
    x = L.Dropout(0.5, name='dropout')(L.GlobalMaxPooling2D()(L.ReLU()(x)))
    logits = [L.Dense(1, kernel_initializer=he(2), name=n)(x) for n in ('logit', 'aux1')]
    return keras.Model(patch, logits if heads else logits[0])


@pytest.fixture(scope='module')
def data():
    return tuple(training.example_patches(n, 16, seed=s) for n, s in ((70, 1), (50, 2)))


@pytest.fixture(scope='module')
def unbroken(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp('unbroken')
    return folder, training.fit(network(), data, folder, TINY)


def same(folder, history, unbroken):
    "Are the weights kept, the state and the history the unbroken training's, to the last bit?"
    numbers = [c for c in history if c not in ('seconds', 'waiting')]
    pd.testing.assert_frame_equal(history[numbers], unbroken[1][numbers], check_exact=True)
    for a, b in zip(
        training.load_best(folder).get_weights(),
        training.load_best(unbroken[0]).get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
    with (
        training.safe_open(folder / 'last.safetensors', 'numpy') as f,
        training.safe_open(unbroken[0] / 'last.safetensors', 'numpy') as g,
    ):
        assert set(f.keys()) == set(g.keys())
        for k in f.keys():
            np.testing.assert_array_equal(f.get_tensor(k), g.get_tensor(k))


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import test_training as t
def kill(row):
    if row['epoch'] == 2: os.kill(os.getpid(), signal.SIGKILL)
data = [t.training.example_patches(n, 16, seed=s) for n, s in ((70, 1), (50, 2))]
t.training.fit(t.network(), data, sys.argv[2], t.TINY, watch=kill)
"""


def test_a_killed_process_goes_on_with_the_same_bits(data, unbroken, tmp_path):
    done = subprocess.run(
        [sys.executable, '-c', KILLED, os.path.dirname(__file__), str(tmp_path)],
        stderr=subprocess.PIPE,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]
    assert len(pd.read_csv(tmp_path / 'history.csv')) == 2
    same(tmp_path, training.fit(network(), data, tmp_path, TINY), unbroken)


@pytest.mark.parametrize('where', ['_epoch', '_validate', '_keep', '_save_state'])
def test_a_stop_at_any_moment_of_an_epoch_changes_nothing(
    where, data, unbroken, tmp_path, monkeypatch
):
    calls, original = [], getattr(training, where)

    def stop(*args):
        calls.append(1)
        if where == '_save_state' and len(calls) == 2:
            raise KeyboardInterrupt  # before it is written
        result = original(*args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as m:
        m.setattr(training, where, stop)
        with pytest.raises(KeyboardInterrupt):
            training.fit(network(), data, tmp_path, TINY)
    same(tmp_path, training.fit(network(), data, tmp_path, TINY), unbroken)


@pytest.fixture(scope='module')
def store(tmp_path_factory):
    from ocf_study import cohort, phantom

    folder = tmp_path_factory.mktemp('store')
    phantom.write_cohort(
        folder / 'films', subjects=6, pixel_mm=1.6, prevalence=0.5, fractured=0.5, workers=1, seed=5
    )
    people = cohort.partition(cohort.read(str(folder / 'films')), seed=1, fractions=(0.5, 0.3, 0.2))
    patches.build(people, folder / 'patches.zarr', copies=1, size=16)
    return str(folder / 'patches.zarr')


def test_a_training_from_a_store_goes_on_with_the_same_bits_though_an_epoch_is_a_part(
    store, tmp_path
):
    recipe = replace(TINY, steps=3, epochs=4, batch=8)
    assert recipe.steps < int(training._sources(store, recipe, 0)[0].cardinality())

    def stop(row):
        if row['epoch'] == 2:
            raise KeyboardInterrupt

    whole = training.fit(network(), store, tmp_path / 'whole', recipe)
    with pytest.raises(KeyboardInterrupt):
        training.fit(network(), store, tmp_path / 'cut', recipe, watch=stop)
    same(
        tmp_path / 'cut',
        training.fit(network(), store, tmp_path / 'cut', recipe),
        (tmp_path / 'whole', whole),
    )


@pytest.mark.parametrize('shrink', [1, 2])
def test_no_pass_waits_for_a_thread_that_tunes_it(store, data, shrink):
    "TensorFlow 2.21: the end of a pass waits for its tuning thread, up to a minute."
    recipe = training.Recipe(shrink=shrink, batch=8)
    for source in (store, data):
        for stream in training._sources(source, recipe, 0)[:2]:
            assert stream.options().autotune.enabled is False


def test_the_share_of_an_epoch_spent_waiting_is_a_share(store, monkeypatch):
    monkeypatch.setattr(training, 'network', lambda data, recipe: network())
    assert 0 < training.waiting_share(store, batch=4, steps=3) < 1


def test_xla_gives_the_same_losses(data, tmp_path):
    plain, compiled = (
        training.fit(
            network(),
            data,
            tmp_path / str(jit),
            TINY,
            jit=jit,
            deterministic=False,
            dropout=0.0,
            epochs=2,
        )
        for jit in (False, True)
    )
    np.testing.assert_allclose(compiled.loss, plain.loss, rtol=1e-4)
    np.testing.assert_allclose(compiled.auc_pr, plain.auc_pr, atol=1e-3)


def test_xla_and_determinism_are_not_both_to_be_had():
    with pytest.raises(ValueError, match='deterministic=False'):
        replace(TINY, jit=True)


MEMORY = """
import gc, sys
sys.path.insert(0, sys.argv[1])
import test_training as t
data = [t.training.example_patches(n, 16, seed=s) for n, s in ((40, 1), (30, 2))]
for i in range(3):
    t.training.fit(t.network(), data, f"{sys.argv[2]}/{i}", t.TINY, epochs=1)
    gc.collect()
    print(sum(type(o).__name__ == "FuncGraph" for o in gc.get_objects()))
"""


def test_a_search_of_many_trainings_keeps_none_in_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, '-c', MEMORY, os.path.dirname(__file__), str(tmp_path)],
        capture_output=True,
        text=True,
    )
    graphs = [int(n) for n in done.stdout.split()]
    assert done.returncode == 0 and len(graphs) == 3 and graphs[0] == graphs[-1], done.stderr[
        -2000:
    ]


@pytest.mark.parametrize(
    'settings',
    [
        dict(pos_weight=0.14, aux_weight=0.3, label_smoothing=0.1),
        dict(pos_weight=2.0, aux_weight=0.0, label_smoothing=0.0),
    ],
)
def test_a_step_minimises_the_loss_that_the_recipe_says(settings):
    recipe = replace(TINY, dropout=0.0, **settings)
    model = network(norm=False, heads=True)
    trainer = training._Trainer(model, recipe, ())
    x, y = (
        np.random.default_rng(0).normal(size=(16, 16, 16, 1)).astype(np.float32),
        np.arange(16) % 3 == 0,
    )
    main, head = (np.asarray(z, float)[:, 0] for z in trainer.model(x, training=True))
    t = y * (1 - settings['label_smoothing']) + settings['label_smoothing'] / 2

    def each(z):
        return np.sum(
            settings['pos_weight'] * t * np.log1p(np.exp(-z)) + (1 - t) * np.log1p(np.exp(z))
        )

    assert float(
        trainer.step(tf.constant(x), tf.constant(y, tf.float32), tf.constant(16.0))
    ) == pytest.approx((each(main) + settings['aux_weight'] * each(head)) / 16, rel=1e-4)


@pytest.mark.parametrize('precision', ['mixed_bfloat16', 'mixed_float16', 'none'])
def test_precision_is_that_of_the_layers(precision):
    trainer = training._Trainer(network(), replace(TINY, precision=precision), ())
    assert (
        trainer.model.get_layer('conv').compute_dtype
        == precision.replace('mixed_', '').replace('none', 'float32')
        and trainer.model.get_layer('logit').compute_dtype == 'float32'
    )
    assert isinstance(trainer.optimizer, keras.optimizers.LossScaleOptimizer) == (
        precision == 'mixed_float16'
    )
    assert (
        trainer.step_on_one._jit_compile is False
        and training._Trainer(
            network(), replace(TINY, jit=True, deterministic=False), ()
        ).step_on_one._jit_compile
        is True
    )


def test_copies_are_used_where_the_recipe_says(store):
    some, all_ = (
        sum(len(y) for _, y in training._sources(store, replace(TINY, augmented=a), 0)[0])
        for a in (False, True)
    )
    assert all_ == 2 * some


def test_one_member_several_and_one_again_in_one_folder(data, tmp_path):
    def build(recipe):
        return network()

    for members in (1, 2, 1):
        history = training.ensemble(build, data, tmp_path, members, replace(TINY, epochs=1))
        assert (
            history.member.nunique() == members
            and len(training.predict(training.load_best(tmp_path), data[1][0])) == 50
        )
        if members == 2:
            assert not (tmp_path / 'last.safetensors').exists()


def test_a_kill_before_the_history_was_written_and_half_written_files_leave_no_trace(
    data, tmp_path
):
    whole = training.fit(network(), data, tmp_path, TINY, epochs=2)
    pd.DataFrame(whole.iloc[:1]).to_csv(tmp_path / 'history.csv', index=False)
    (tmp_path / '.best.keras.abc').mkdir()
    (tmp_path / '.best.keras.abc' / 'best.keras').write_bytes(b'half')
    training.fit(network(), data, tmp_path, TINY, epochs=2)
    assert len(pd.read_csv(tmp_path / 'history.csv')) == 2 and sorted(
        p.name for p in tmp_path.iterdir()
    ) == ['best.keras', 'history.csv', 'last.safetensors', 'previous.safetensors']


def test_determinism_is_timed_in_processes_of_its_own():
    code = """
from ocf_study import training
rates = training._rates_alone(2, 80, 'none', .1)
from tensorflow.python.framework import config
print(len(rates), min(rates) > 0, config.is_op_determinism_enabled())
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.split() == ['2', 'True', 'False'], done.stderr[
        -2000:
    ]


def test_a_finished_training_is_read_not_run(data, unbroken, monkeypatch):
    monkeypatch.setattr(training, '_Trainer', None)
    history = training.fit(network(), data, unbroken[0], TINY)
    pd.testing.assert_frame_equal(history, unbroken[1])


@pytest.mark.parametrize(
    'change,named',
    [
        (dict(seed=4), 'seed is 3 there, 4 now'),
        (dict(pos_weight=0.5), 'pos_weight is 1.0 there, 0.5 now'),
    ],
)
def test_another_recipe_in_the_same_folder_is_refused(change, named, data, unbroken):
    with pytest.raises(ValueError, match=named):
        training.fit(network(), data, unbroken[0], TINY, **change)


def test_other_patches_or_weights_in_the_same_folder_are_refused(data, unbroken):
    (x, y), validation = data
    with pytest.raises(ValueError, match='data is'):
        training.fit(network(), ((x, 1 - y), validation), unbroken[0], TINY)
    other = network()
    other.set_weights([w + 1 for w in other.get_weights()])
    with pytest.raises(ValueError, match='weights is'):
        training.fit(other, data, unbroken[0], TINY)


def scripted(areas, monkeypatch):
    areas = iter(areas)
    monkeypatch.setattr(
        training, '_validate', lambda *a: dict(validation_loss=1.0, auc_pr=next(areas), auc_roc=0.5)
    )


def test_patience_stops_and_the_best_epoch_is_kept(data, tmp_path, monkeypatch):
    with monkeypatch.context() as m:
        scripted([0.1, 0.5, 0.5, 0.4, 0.9], m)
        model = network()
        history = training.fit(model, data, tmp_path / 'a', TINY, epochs=9, patience=2)
    assert history.auc_pr.tolist() == [0.1, 0.5, 0.5, 0.4]
    with monkeypatch.context() as m:
        scripted([0.1, 0.5], m)
        second = network()
        training.fit(second, data, tmp_path / 'b', TINY, epochs=2)
    for a, b in zip(model.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_divergence_says_where_and_keeps_the_last_good_epoch(data, tmp_path, monkeypatch):
    original = training.rate
    monkeypatch.setattr(
        training,
        'rate',
        lambda step, steps, recipe: (
            float('nan') if step >= steps + 1 else original(step, steps, recipe)
        ),
    )
    with pytest.raises(training.Diverged, match=r'loss is nan at step 3 of epoch 2.*Epoch 1'):
        training.fit(network(), data, tmp_path, TINY)
    assert len(pd.read_csv(tmp_path / 'history.csv')) == 1
    assert all(np.isfinite(w).all() for w in training.load_best(tmp_path).get_weights())


def test_validation_of_one_label_is_refused_before_anything_runs(data, tmp_path):
    x, y = data[1]
    with pytest.raises(ValueError, match='0 label 1 of 10'):
        training.fit(network(), (data[0], (x[y == 0][:10], y[y == 0][:10])), tmp_path, TINY)
    assert not list(tmp_path.iterdir())


def test_no_patches_are_refused(data, tmp_path):
    with pytest.raises(ValueError, match='no training patches'):
        training.fit(network(), ((data[0][0][:0], data[0][1][:0]), data[1]), tmp_path, TINY)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.floats(-30, 30)), min_size=1, max_size=20),
    st.floats(0.01, 3),
    st.floats(0, 0.5),
)
def test_loss_is_the_weighted_cross_entropy(bodies, weight, smoothing):
    y, z = (np.array(v, float) for v in zip(*bodies, strict=True))
    t = y * (1 - smoothing) + smoothing / 2
    exact = np.sum(weight * t * np.logaddexp(0, -z) + (1 - t) * np.logaddexp(0, z))
    np.testing.assert_allclose(
        float(training.loss(y, z[:, None].astype(np.float32), weight, label_smoothing=smoothing)),
        exact,
        rtol=1e-4,
        atol=1e-5,
    )
    heads = [z[:, None].astype(np.float32)] * 3
    np.testing.assert_allclose(
        float(training.loss(y, heads, weight, 0.3, smoothing)), 1.6 * exact, rtol=1e-4, atol=1e-5
    )


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(training.SCHEDULES),
    st.floats(1, 10),
    st.integers(1, 20),
    st.integers(1, 9),
    st.integers(0, 30),
)
def test_the_rate_falls_from_one_end_to_the_other(schedule, decay, steps, epochs, warmup):
    r = replace(TINY, schedule=schedule, decay=decay, epochs=epochs, warmup=warmup)
    rates = np.array([training.rate(i, steps, r) for i in range(steps * epochs + 1)])
    assert (
        (np.diff(rates[warmup:]) <= 1e-12).all()
        and (rates <= r.learning_rate * (1 + 1e-9)).all()
        and (rates > 0).all()
    )
    if not warmup:
        np.testing.assert_allclose(
            rates[[0, -1]], [r.learning_rate, r.learning_rate / decay**epochs]
        )


@pytest.mark.parametrize('scale', [True, False])
@pytest.mark.parametrize('trainable', [True, False])
def test_fused_batch_normalisation_is_keras_own(scale, trainable):
    x = tf.constant(runtime.rng(0, 'x').normal(2, 3, (5, 7, 6, 4)).astype(np.float32))
    given, results = (
        [runtime.rng(0, 'w', i).uniform(0.5, 2, 4).astype(np.float32) for i in range(3 + scale)],
        [],
    )
    for cls in (L.BatchNormalization, training._FusedBatchNormalization):
        layer = cls(momentum=0.9, epsilon=1e-3, scale=scale, trainable=trainable)
        layer.build(x.shape)
        layer.set_weights(given)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            value = tf.reduce_sum(y**3)
        results.append([y, tape.gradient(value, x), *layer.get_weights(), layer(x, training=False)])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-3)
    assert trainable != np.array_equal(results[1][-2], given[-1])


def test_frozen_layers_stay_as_they_are(data, tmp_path):
    model = network()
    for name in ('conv', 'bn'):
        model.get_layer(name).trainable = False
    before = {n: model.get_layer(n).get_weights() for n in ('conv', 'bn', 'logit')}
    training.fit(model, data, tmp_path, TINY, epochs=1)
    for n, weights in before.items():
        moved = [
            not np.array_equal(a, b)
            for a, b in zip(weights, model.get_layer(n).get_weights(), strict=True)
        ]
        assert any(moved) == (n == 'logit')


@pytest.mark.parametrize('precision', training.PRECISIONS[1:])
def test_every_precision_trains_and_leaves_a_32_bit_network(precision, data, tmp_path):
    history = training.fit(network(heads=True), data, tmp_path, TINY, precision=precision, epochs=2)
    model = training.load_best(tmp_path)
    assert np.isfinite(history.loss).all() and {w.dtype for w in model.weights} == {'float32'}
    p = training.predict(model, data[1][0])
    assert (
        abs(metrics.auc_roc(data[1][1], p) - history.loc[history.auc_pr.idxmax(), 'auc_roc']) < 0.02
    )
    assert not tf.config.optimizer.get_experimental_options().get(
        'auto_mixed_precision_onednn_bfloat16'
    )


def test_dropout_and_order_follow_seed_and_epoch(data, tmp_path):
    losses = {
        s: training.fit(network(), data, tmp_path / str(s), TINY, seed=s, epochs=2).loss.tolist()
        for s in (3, 4)
    }
    assert losses[3] != losses[4]
    orders = [
        np.concatenate(
            [
                y.numpy()
                for _, y in training._stream(
                    np.zeros((40, 4, 4), np.uint16), np.arange(40), 8, seed, epoch
                )
            ]
        )
        for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))
    ]
    assert (
        (orders[0] == orders[1]).all()
        and (orders[0] != orders[2]).any()
        and (orders[0] != orders[3]).any()
    )
    assert all(sorted(o) == list(range(40)) for o in orders)


TWO = """
import sys
sys.path.insert(0, sys.argv[1])
from ocf_study import runtime
tf = runtime.tensorflow()
(cpu,) = tf.config.list_physical_devices('CPU')
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import numpy as np, test_training as t
both = ('CPU:0', 'CPU:1')
def fitted(name, model, data, devices=both, **options):
    out = f'{sys.argv[2]}/{name}'
    return t.training.fit(model, data, out, t.TINY, epochs=2, devices=devices, **options)
data = [t.training.example_patches(n, 16, seed=s) for n, s in ((70, 1), (50, 2))]
one = fitted('one', t.network(norm=False), data, (), dropout=0.)
two = fitted('two', t.network(norm=False), data, dropout=0.)
np.testing.assert_allclose(one.loss, two.loss, rtol=1e-4)
np.testing.assert_allclose(one.auc_pr, two.auc_pr, atol=1e-3)
normed = fitted('normed', t.network(), data)
assert np.isfinite(normed.loss).all() and normed.loss.iloc[1] < normed.loss.iloc[0]
# a last batch of one
odd = [t.training.example_patches(n, 16, seed=s) for n, s in ((65, 1), (50, 2))]
assert np.isfinite(fitted('odd', t.network(), odd).loss).all()
assert t.training._Trainer(t.network(), t.TINY, both).strategy.num_replicas_in_sync == 2
"""


def test_two_devices_give_what_one_gives(tmp_path):
    done = subprocess.run(
        [sys.executable, '-c', TWO, os.path.dirname(__file__), str(tmp_path)],
        stderr=subprocess.PIPE,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]


def test_grey_levels_and_z_scores_predict_the_same(data):
    model, (x, _) = network(), data[1]
    np.testing.assert_allclose(
        training.predict(model, x), training.predict(model, patches.standardise(x)), rtol=1e-5
    )
    assert training.predict(model, x[:0]).shape == (0,)


def test_a_network_of_averaged_patches_predicts_from_whole_ones(data, tmp_path):
    large = tuple((np.repeat(np.repeat(x, 2, 1), 2, 2), y) for x, y in data)
    history = training.fit(network(), large, tmp_path, TINY, shrink=2, epochs=1)
    p = training.predict(training.load_best(tmp_path), large[1][0])
    assert metrics.average_precision(large[1][1], p) == pytest.approx(
        history.auc_pr.max(), abs=1e-6
    )


def test_the_kept_state_runs_no_code(unbroken):
    head = (unbroken[0] / 'last.safetensors').read_bytes()
    about = json.loads(head[8 : 8 + int.from_bytes(head[:8], 'little')])
    assert json.loads(about['__metadata__']['settings'])['recipe']['seed'] == 3
    assert {v['dtype'] for k, v in about.items() if k != '__metadata__'} <= {'F32', 'I64'}


@pytest.mark.parametrize('bfloat16', [False, True])
def test_the_peer_in_pytorch_has_the_same_layers(bfloat16):
    torch = pytest.importorskip('torch')
    from ocf_study import googlenet

    step = training._torch_step(torch, 2, 80, bfloat16)
    model = dict(
        zip(step.__code__.co_freevars, (c.cell_contents for c in step.__closure__), strict=True)
    )['model']
    step()
    ours = sum(int(np.prod(w.shape)) for w in googlenet.build(size=80).trainable_weights)
    scales = sum(
        m.num_features for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)
    )  # torch's scale, which TF-Slim has not
    assert sum(p.numel() for p in model.parameters()) - scales == ours
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_a_timed_step_runs_in_the_precision_it_is_named_after(monkeypatch):
    seen = []

    class Trainer:
        def __init__(self, *_):
            pass

        def step(self, *_):
            seen.append(
                tf.config.optimizer.get_experimental_options().get(
                    'auto_mixed_precision_onednn_bfloat16'
                )
            )

    monkeypatch.setattr(training, '_Trainer', Trainer)
    for step in [training._own_step(2, 64, p) for p in ('bfloat16_onednn', 'none')]:
        step()
    assert seen == [True, False]


def two_layers(channels):
    "GoogLeNet's first layers in small: in deeper ones rounding grows from step to step"
    he = keras.initializers.HeNormal(seed=5)
    x = patch = keras.Input((32, 32, channels))
    for name, filters, side in (('conv1', 8, 7), ('conv2', 12, 3)):
        x = L.Conv2D(filters, side, 2, use_bias=False, kernel_initializer=he, name=f'{name}_conv')(
            x
        )
        x = L.ReLU()(L.BatchNormalization(momentum=0.9)(x))
    x = L.Dropout(0.2, name='dropout')(L.GlobalAveragePooling2D()(x))
    return keras.Model(patch, L.Dense(1, kernel_initializer=he, name='logit')(x))


@pytest.mark.parametrize('steps', [1, 6])
def test_a_folded_kernel_is_trained_as_its_three_copies_are(steps, tmp_path):
    "Steps of Adam give the weights of channels=3, to rounding; moved as one copy, a third as far"
    pair = [training.example_patches(n, size=32, seed=n) for n in (96, 24)]
    colour, folded, alone = two_layers(3), two_layers(1), two_layers(1)
    apart = 1e-6

    def first(model):
        return np.asarray(model.get_layer('conv1_conv').kernel).sum(2, keepdims=True)

    start = first(colour)
    for grey in (folded, alone):
        for mine, theirs in zip(grey.weights, colour.weights, strict=True):
            mine.assign(theirs if mine.shape == theirs.shape else start)
    recipe = training.Recipe(
        learning_rate=1e-3, batch=16, epochs=1, steps=steps, decay=1.0, pos_weight=1.0, seed=1
    )
    for name, model, copied in (('three', colour, 3), ('one', folded, 3), ('alone', alone, 1)):
        training.fit(model, pair, tmp_path / name, recipe, copied=copied)
    assert np.abs(first(colour) - start).mean() > 2e-3
    assert np.abs(first(folded) - first(colour)).max() < apart
    if steps == 1:  # afterwards it goes another way
        third = np.median(np.abs(first(colour) - start) / np.abs(first(alone) - start))
        assert third == pytest.approx(3, abs=1e-3)
    for mine, theirs in zip(folded.weights, colour.weights, strict=True):
        if mine.shape == theirs.shape:
            assert np.abs(np.asarray(mine) - np.asarray(theirs)).mean() < apart, mine.path
    p = [training.predict(model, pair[1][0]) for model in (colour, folded)]
    assert p[0] == pytest.approx(p[1], abs=10 * apart)


def test_googlenet_has_the_kernel_that_is_folded():
    for copied, channels, expected in ((3, 1, [3]), (1, 1, [1]), (3, 3, [])):
        model = training.googlenet.build(size=32, channels=channels, aux=False)
        times = training._times(model, copied)
        assert list(times.values()) == expected
        assert [model.trainable_variables[i].path for i in times] == ['conv1_conv/kernel'] * len(
            times
        )
    assert training._times(training.googlenet.build(size=32, freeze='conv1'), 3) == {}


def test_weight_decay_shrinks_kernels_alone(data, tmp_path):
    recipe = replace(TINY, epochs=1, steps=1, learning_rate=1e-2)
    networks = [network() for _ in range(2)]
    for decay, model in zip((0.0, 0.5), networks, strict=True):
        training.fit(model, data, tmp_path / str(decay), recipe, weight_decay=decay)
    start, (plain, decayed) = network(), networks
    for before, a, b in zip(start.weights, plain.weights, decayed.weights, strict=True):
        apart = np.asarray(a) - np.asarray(b)
        expected = 0.5e-2 * np.asarray(before) if before.name == 'kernel' else 0 * apart
        assert np.allclose(apart, expected, atol=2e-6), before.path
    with pytest.raises(ValueError, match='weight_decay -1 is negative'):
        training.Recipe(weight_decay=-1)


@pytest.mark.parametrize(
    'name, damage',
    [
        ('best.keras', 'gone'),
        ('best.keras', 'cut'),
        ('best.keras', 'changed'),
        ('last.safetensors', 'gone'),
        ('last.safetensors', 'cut'),
        ('last.safetensors', 'changed'),
        ('history.csv', 'gone'),
    ],
)
def test_a_damaged_file_of_a_training_is_made_again(name, damage, data, unbroken, tmp_path, capsys):
    "Of one that has ended, and of one that was stopped after an epoch that was not the best"
    for folder, epochs in (('ended', 0), ('stopped', len(unbroken[1]) - 1)):
        out = tmp_path / folder
        shutil.copytree(unbroken[0], out)
        if epochs:
            shutil.rmtree(out)

            def stop(row, last=epochs):
                if row['epoch'] == last:
                    raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                training.fit(network(), data, out, TINY, watch=stop)
        content = (out / name).read_bytes()
        (out / name).unlink()
        if damage == 'cut':
            (out / name).write_bytes(content[: len(content) // 2])
        elif damage == 'changed':
            middle = len(content) // 2
            (out / name).write_bytes(content[:middle] + bytes(64) + content[middle + 64 :])
        model, trained = network(), []
        capsys.readouterr()
        same(out, training.fit(model, data, out, TINY, watch=trained.append), unbroken)
        lost = name == 'last.safetensors'
        left = (epochs or len(unbroken[1])) - lost  # whole epochs
        assert [row['epoch'] for row in trained] == list(range(left + 1, len(unbroken[1]) + 1))
        said = f'{name} is damaged or gone: training resumes after epoch {left}.\n'
        assert capsys.readouterr().out == said * lost
        for a, b in zip(
            model.get_weights(), training.load_best(unbroken[0]).get_weights(), strict=True
        ):
            np.testing.assert_array_equal(a, b)


def test_a_training_without_a_whole_epoch_says_that_it_begins_anew(
    data, unbroken, tmp_path, capsys
):
    out = tmp_path / 'run'
    shutil.copytree(unbroken[0], out)
    for name in ('last.safetensors', 'previous.safetensors'):
        (out / name).write_bytes((out / name).read_bytes()[:1000])
    same(out, training.fit(network(), data, out, TINY), unbroken)
    said = 'No whole epoch is left in run: this training begins anew.\n'
    assert capsys.readouterr().out == said


def test_what_is_no_network_is_one_sentence_without_advice(data, tmp_path):
    import zipfile

    network().save(tmp_path / 'best.keras')
    training.load_best(tmp_path)
    with zipfile.ZipFile(tmp_path / 'best.keras') as z:
        parts = {n: z.read(n) for n in z.namelist()}
    parts['config.json'] = parts['config.json'].replace(b'"keras.layers"', b'"subprocess"', 1)
    with zipfile.ZipFile(tmp_path / 'best.keras', 'w') as z:
        for n, content in parts.items():
            z.writestr(n, content)
    for content in (None, b'', b'PK not a zip'):
        if content is not None:
            (tmp_path / 'best.keras').write_bytes(content)
        with pytest.raises(ValueError, match='is not a network of this package') as e:
            training.load_best(tmp_path)
        assert 'safe_mode' not in str(e.value) and e.value.__suppress_context__
