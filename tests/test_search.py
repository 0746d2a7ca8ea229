"The search: what a kill costs, what machines share, what a round leaves"

import logging
import os
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import optuna
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocf_study import manifest, runtime, search

optuna.logging.set_verbosity(optuna.logging.ERROR)


def goal(values, watch):
    return -abs(values['dropout'] - 0.3)


def drawn(study):
    return search.rounds_table(study)[['round', *search.space()]]


def test_draws_lie_in_table_5_and_are_spread_as_it_says(tmp_path):
    table = search.rounds_table(search.run(goal, tmp_path / 's.log', 200, workers=0))
    for row in manifest.published('table5').itertuples():
        u = table[row.hyperparameter]
        u = (
            np.log(u / row.low) / np.log(row.high / row.low)
            if row.scale == 'log'
            else (u - row.low) / (row.high - row.low)
        )
        assert u.between(0, 1).all()
        assert np.abs(np.sort(u) - (np.arange(200) + 0.5) / 200).max() < 1.63 / np.sqrt(
            200
        )  # Kolmogorov-Smirnov, 1 %


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 5))
def test_seed_and_number_decide_a_draw(seed, number):
    def draw(before):
        study = optuna.create_study(sampler=search.sampler('random', seed))
        for _ in range(before):
            study.tell(study.ask(), 0.0)
        return study.ask(search.space()).params

    assert draw(number) == draw(number)
    assert draw(number) != draw(number + 1)


def test_first_rounds_are_the_ones_given_and_stand_once(tmp_path):
    first = dict(learning_rate=1e-3, decay=1.5, dropout=0.2, pos_weight=1.0)
    for _ in range(2):
        study = search.run(goal, tmp_path / 's.log', 3, first=[first])
    assert len(study.trials) == 3 and study.trials[0].params == first


def test_two_searches_in_one_database_do_not_meet(tmp_path):
    where = f'sqlite:///{tmp_path / "s.db"}'
    a, b = (search.run(goal, where, 4, name=n, seed=s) for n, s in (('a', 1), ('b', 2)))
    assert len(a.trials) == len(b.trials) == 4 and a.trials[0].params != b.trials[0].params


KILLED = """
import os, signal, subprocess, sys, time
from ocf_study import search
def goal(values, watch):
    done = len(search.rounds_table(search.open_study(sys.argv[1])))
    if done == int(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)
    return values['dropout']
search.run(goal, sys.argv[1], 6)
"""


def test_after_kills_the_rounds_are_those_of_an_unbroken_search(tmp_path):
    for at in (3, 5):
        assert (
            subprocess.run(
                [sys.executable, '-c', KILLED, str(tmp_path / 'killed.log'), str(at)]
            ).returncode
            == -signal.SIGKILL
        )

    def goal(values, watch):
        return values['dropout']

    killed, whole = (search.run(goal, tmp_path / f'{n}.log', 6) for n in ('killed', 'whole'))
    pd.testing.assert_frame_equal(
        search.rounds_table(killed).drop(columns='seconds'),
        search.rounds_table(whole).drop(columns='seconds'),
    )
    assert [t.user_attrs.get('error') for t in killed.trials].count(search.LOST) == 2


def test_a_round_is_lost_with_its_process_or_after_a_long_silence(tmp_path):
    study = search.open_study(tmp_path / 's.log')
    mine, other, silent = (study.ask(search.space()) for _ in range(3))
    import socket

    import psutil

    for trial, host, beat in (
        (mine, socket.gethostname(), 0.0),
        (other, 'elsewhere', time.time()),
        (silent, 'elsewhere', time.time() - 20),
    ):
        for k, v in dict(
            host=host,
            pid=os.getpid() if host != 'elsewhere' else 2**22 + 1,
            born=psutil.Process().create_time(),
            beat=beat,
        ).items():
            trial.set_user_attr(k, v)
    search._recover(study, 30)
    assert [t.state.name for t in study.trials] == ['RUNNING'] * 3
    search._recover(study, 10)
    assert [t.state.name for t in study.trials] == ['RUNNING', 'RUNNING', 'FAIL', 'WAITING']
    assert (
        study.trials[3].system_attrs['fixed_params'] == silent.params
        and study.trials[3].user_attrs['round'] == 2
    )
    mine.set_user_attr('born', 0.0)  # the number went to another process since
    search._recover(study, 10)
    assert [t.state.name for t in study.trials] == ['FAIL', 'RUNNING', 'FAIL', 'WAITING', 'WAITING']


def test_each_epoch_is_a_sign_of_life(tmp_path):
    def between_two_epochs(values, watch):
        beats = []
        for epoch in (1, 2):
            time.sleep(0.01)
            watch(dict(epoch=epoch, auc_pr=0.5))
            beats.append(search.open_study(tmp_path / 's.log').trials[0].user_attrs['beat'])
        return beats[1] - beats[0]

    assert search.run(between_two_epochs, tmp_path / 's.log', 1).best_value > 0


def test_a_search_waits_for_the_last_round_of_another_machine(tmp_path):
    study = search.open_study(tmp_path / 's.log')
    elsewhere = study.ask(search.space())
    for k, v in dict(host='elsewhere', pid=1, born=0.0, beat=time.time()).items():
        elsewhere.set_user_attr(k, v)
    table = search.rounds_table(search.run(goal, tmp_path / 's.log', 2, lost_after=2))
    assert table.state.tolist() == ['complete'] * 2
    pd.testing.assert_frame_equal(drawn(study), drawn(search.run(goal, tmp_path / 'whole.log', 2)))


def test_an_interrupted_round_is_repeated_in_the_same_process(tmp_path):
    def interrupted(values, watch):
        if len(search.rounds_table(search.open_study(tmp_path / 's.log'))) == 3:
            raise KeyboardInterrupt
        return goal(values, watch)

    with pytest.raises(KeyboardInterrupt):
        search.run(interrupted, tmp_path / 's.log', 5)
    found = search.run(goal, tmp_path / 's.log', 5)
    assert [t.user_attrs.get('error') for t in found.trials].count(search.LOST) == 1
    assert 'running' not in set(search.rounds_table(found).state)
    pd.testing.assert_frame_equal(drawn(found), drawn(search.run(goal, tmp_path / 'whole.log', 5)))


def test_a_round_that_is_stopped_is_lost_and_queued(tmp_path):
    def stop(values, watch):
        raise SystemExit

    def opener():
        return search.open_study(tmp_path / 's.log')

    with pytest.raises(SystemExit):
        search._one_round(0, opener, 3, stop, search.space(), [], 60)
    assert [t.state.name for t in opener().trials] == ['FAIL', 'WAITING'] and opener().trials[
        0
    ].user_attrs['error'] == search.LOST


def dies_once(values, watch, flag):
    if values['dropout'] == 0.3 and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return values['dropout']


@pytest.fixture(scope='module')
def scheduler():
    "Address of a scheduler that somebody started, with two workers"
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=':0', silence_logs=logging.ERROR
    ) as cluster:
        yield cluster.scheduler_address


@pytest.mark.parametrize('where', ['processes', 'scheduler'])
def test_a_worker_killed_in_the_last_round_costs_nothing(where, scheduler, tmp_path):
    first = [
        dict(learning_rate=1e-3, decay=1.5, dropout=d, pos_weight=1.0) for d in (0.1, 0.2, 0.3)
    ]
    options = dict(workers=2) if where == 'processes' else dict(scheduler=scheduler)
    found = search.run(
        partial(dies_once, flag=tmp_path / 'died'), tmp_path / 's.log', 3, first=first, **options
    )
    table = search.rounds_table(found)
    assert (
        (tmp_path / 'died').exists()
        and table.state.tolist() == ['complete'] * 3
        and table.dropout.tolist() == [0.1, 0.2, 0.3]
    )
    assert [t.user_attrs.get('error') for t in found.trials].count(search.LOST) == 1


def test_a_search_on_a_scheduler_draws_the_same_rounds_and_leaves_it_running(scheduler, tmp_path):
    alone = drawn(search.run(goal, tmp_path / 'alone.log', 8))
    for name in ('first', 'second'):
        study = search.run(goal, tmp_path / f'{name}.log', 8, scheduler=scheduler)
        pd.testing.assert_frame_equal(drawn(study), alone)
        assert os.getpid() not in {t.user_attrs['pid'] for t in study.trials}


ON_A_SCHEDULER = """
import sys, time
from ocf_study import search
def goal(values, watch):
    time.sleep(.6)
    return values['dropout']
search.run(goal, sys.argv[1], 8, scheduler=sys.argv[2])
"""


def test_a_search_that_is_killed_beside_its_scheduler_goes_on_to_the_same_rounds(
    scheduler, tmp_path
):
    where = tmp_path / 's.log'
    process = subprocess.Popen([sys.executable, '-c', ON_A_SCHEDULER, str(where), scheduler])

    def done():
        return [t.params for t in search.open_study(where).trials if t.state.name == 'COMPLETE']

    while not (where.exists() and len(done()) >= 2) and process.poll() is None:
        time.sleep(0.1)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    kept, found = done(), search.run(goal, where, 8, scheduler=scheduler)
    assert len(kept) < 8 and all(
        params in [t.params for t in found.trials if t.state.name == 'COMPLETE'] for params in kept
    )
    assert [t.user_attrs.get('error') for t in found.trials].count(search.LOST) <= 2
    pd.testing.assert_frame_equal(drawn(found), drawn(search.run(goal, tmp_path / 'whole.log', 8)))


@pytest.mark.parametrize('where', ['work/s.log', 'sqlite:///s.db'])
def test_workers_that_run_elsewhere_share_a_storage_that_is_named_from_here(
    where, scheduler, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert len(search.rounds_table(search.run(goal, where, 3, scheduler=scheduler))) == 3
    assert (tmp_path / where.removeprefix('sqlite:///')).exists()


def test_two_machines_that_start_together_run_the_first_rounds_once(tmp_path):
    code = """
import sys
from ocf_study import search
first = dict(learning_rate=1e-3, decay=1.5, dropout=.2, pos_weight=1.)
search.run(lambda v, w: v['dropout'], sys.argv[1], 4, first=[first])
"""
    two = [
        subprocess.Popen([sys.executable, '-c', code, str(tmp_path / 's.log')]) for _ in range(2)
    ]
    assert [p.wait() for p in two] == [0, 0]
    table = search.rounds_table(search.open_study(tmp_path / 's.log'))
    assert (
        (table.dropout == 0.2).sum() == 1
        and table.dropout[0] == 0.2
        and 4 <= len(table) <= 5
        and set(table.state) == {'complete'}
    )


def test_a_search_in_which_all_fails_says_so(tmp_path):
    def fails(values, watch):
        raise MemoryError('no room')

    found = search.run(fails, tmp_path / 's.log', 2)
    table = search.rounds_table(found)
    message = 'none of the 2 rounds gave a validation AUC-PR; the first error: MemoryError: no room'
    for show in (
        lambda: search.table5(found),
        lambda: search.plot_slices(table),
        lambda: search.plot_parallel(table),
        lambda: search.plot_progress(table),
    ):
        with pytest.raises(ValueError, match=message):
            show()


def test_a_round_that_fails_counts_and_says_why(tmp_path):
    def sometimes(values, watch):
        if values['decay'] > 5:
            raise FloatingPointError('loss is nan')
        return values['dropout']

    table = search.rounds_table(search.run(sometimes, tmp_path / 's.log', 12))
    failed = table[table.state == 'fail']
    assert len(table) == 12 and 0 < len(failed) < 12
    assert (
        failed.error.eq('FloatingPointError: loss is nan').all()
        and failed.auc_pr.isna().all()
        and (failed.decay > 5).all()
    )


def test_a_goal_that_is_no_number_fails_the_round(tmp_path):
    table = search.rounds_table(search.run(lambda v, w: float('nan'), tmp_path / 's.log', 2))
    assert table.state.tolist() == ['fail'] * 2 and table.error.str.contains('nan').all()


def test_pruning_is_off_unless_asked_for(tmp_path):
    def falling(values, watch):
        for epoch in range(1, 6):
            watch(dict(epoch=epoch, auc_pr=values['dropout'] / epoch))
        return values['dropout']

    states = {
        p: search.rounds_table(search.run(falling, tmp_path / f's{p}.log', 20, pruner=p)).state
        for p in ('', 'median')
    }
    assert set(states['']) == {'complete'} and 'pruned' in set(states['median'])


def test_workers_share_the_file(tmp_path):
    study = search.run(goal, tmp_path / 's.log', 8, workers=2)
    alone = search.run(goal, tmp_path / 'alone.log', 8)
    pd.testing.assert_frame_equal(drawn(study), drawn(alone))
    assert len({t.user_attrs['pid'] for t in study.trials}) <= 2 and os.getpid() not in {
        t.user_attrs['pid'] for t in study.trials
    }


@pytest.mark.parametrize(
    'given, found',
    [
        ('0,1', ['0', '1']),
        ('GPU-a, MIG-b', ['GPU-a', 'MIG-b']),
        ('', []),
        ('-1', []),
        ('1,-1,0', ['1']),
    ],
)
def test_gpus_that_somebody_named_stand(given, found, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', given)
    assert runtime.gpus() == found


SMI = """#!/bin/sh
echo "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)"
echo "  MIG 1g.5gb      Device  0: (UUID: MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f)"
echo "GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-0c757cd7-e942-5726-a0b8-0e8fb7067135)"
"""


def test_gpus_are_those_that_the_driver_lists(monkeypatch, tmp_path):
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.setenv('PATH', str(tmp_path))
    assert runtime.gpus() == []
    (tmp_path / 'nvidia-smi').write_text(SMI)
    (tmp_path / 'nvidia-smi').chmod(0o755)
    assert runtime.gpus() == [
        'GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77',
        'GPU-0c757cd7-e942-5726-a0b8-0e8fb7067135',
    ]
    (tmp_path / 'nvidia-smi').write_text(
        '#!/bin/sh\n'
        'echo "NVIDIA-SMI has failed because it couldn\'t communicate with the NVIDIA driver."\n'
        'exit 9\n'
    )
    assert runtime.gpus() == []


def test_each_worker_sees_one_gpu_before_tensorflow_is_there(monkeypatch):
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)

    def sees():
        return (os.environ.get('CUDA_VISIBLE_DEVICES'), 'tensorflow' in sys.modules)

    with runtime.client(workers=2, devices=['GPU-a', 'GPU-b']) as client:
        assert sorted(client.run(sees).values()) == [('GPU-a', False), ('GPU-b', False)]
    assert 'CUDA_VISIBLE_DEVICES' not in os.environ


def seen(values, watch):
    return float(os.environ['CUDA_VISIBLE_DEVICES'])


def test_rounds_run_on_one_gpu_each(tmp_path, monkeypatch):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '3,5')
    study = search.run(seen, tmp_path / 's.log', 6, workers=2)
    by_process = {(t.user_attrs['pid'], t.value) for t in study.trials}
    assert {value for _, value in by_process} <= {3.0, 5.0} and len(by_process) == len(
        {pid for pid, _ in by_process}
    ) <= 2


@pytest.mark.parametrize('wrong', [dict(sampler_name='grid'), dict(pruner='best')])
def test_unknown_names_are_refused(tmp_path, wrong):
    with pytest.raises(ValueError, match='is none of'):
        search.run(goal, tmp_path / 's.log', 1, **wrong)


@pytest.mark.parametrize('name', ['tpe', 'qmc'])
def test_other_samplers_by_name(name, tmp_path):
    table = search.rounds_table(search.run(goal, tmp_path / 's.log', 12, sampler_name=name))
    for n, d in search.space().items():
        assert (
            table[n].between(d.low, d.high).all()
            and table[n].nunique() > 10
            and table[n].min() > d.low
        )


def test_a_pruned_round_is_no_result(tmp_path):
    def cut(values, watch):
        watch(dict(epoch=1, auc_pr=0.99))
        raise optuna.TrialPruned

    study = search.run(cut, tmp_path / 's.log', 2)
    with pytest.raises(ValueError, match='none of the 2 rounds'):
        search.table5(study)
    with pytest.raises(ValueError, match='none of the 2 rounds'):
        search.plot_progress(search.rounds_table(study))


def test_a_learning_sampler_draws_the_same_again_and_apart_on_machines_that_draw_at_once(tmp_path):
    a, b = (
        drawn(search.run(goal, tmp_path / f'{n}.log', 14, sampler_name='tpe', seed=3)) for n in 'ab'
    )
    pd.testing.assert_frame_equal(a, b)
    together = [search.open_study(tmp_path / 'c.log', sampler_name='tpe', seed=3) for _ in range(2)]
    here, there = (
        trial.params for trial in [search._next(study, search.space(), []) for study in together]
    )
    assert all(here[name] != there[name] for name in search.space())
    u = [(here[name] - d.low) / (d.high - d.low) for name, d in search.space().items() if not d.log]
    assert len({round(v, 6) for v in u}) == len(u), 'one number for all hyper-parameters'


@pytest.mark.parametrize('name, needs', [('gp', 'torch'), ('cmaes', 'cmaes')])
def test_a_sampler_whose_package_is_missing_says_so(name, needs, monkeypatch):
    monkeypatch.setattr(search, 'find_spec', lambda package: None)
    with pytest.raises(ValueError, match=f'{name}.*{needs}'):
        search.sampler(name)


def test_trainings_at_the_optimum_differ_in_their_seed_alone(tmp_path):
    from ocf_study import training

    data = tuple(training.example_patches(n, 32, seed=s) for n, s in ((40, 1), (30, 2)))
    objective = search.Objective(
        data, training.Recipe(batch=20, epochs=1, seed=5), network=dict(size=32, aux=False)
    )
    at = dict(learning_rate=0.002, decay=1.5, dropout=0.2, pos_weight=1.0)
    found = search.rerun(objective, tmp_path / 's.log', at, 2)
    assert len(found) == 2 and np.isfinite(found).all() and found[0] != found[1]
    assert np.array_equal(search.rerun(objective, tmp_path / 's.log', at, 2), found), (
        'done trainings are not repeated'
    )


@pytest.mark.parametrize(
    'cut, added', [(0, b'{"op_code":4,"wor'), (7, b''), (0, b'{"op_code":4,"wo{"op_code":99}\n')]
)
def test_half_a_line_in_the_journal_costs_that_line_alone(tmp_path, cut, added, monkeypatch):
    "Of a full disk or a power cut; a writer that knew nothing of it may have written behind it"
    log = tmp_path / 's.log'
    search.run(goal, log, 3)
    whole = log.read_bytes()
    log.write_bytes(whole[: len(whole) - cut] + added)
    if b'99' in added:  # a line behind the half one is kept
        assert search._whole_line(added) == b'{"op_code":99}\n'
        log.write_bytes(whole[:-1] + b'\n{"op_code":4,"wo' + whole.splitlines(True)[-1])
    monkeypatch.setattr(search, '_gone', lambda *_: True)  # as of a process that was killed
    again = search.rounds_table(search.run(goal, log, 5)).drop(columns='seconds')
    unbroken = search.rounds_table(search.run(goal, tmp_path / 'other.log', 5))
    pd.testing.assert_frame_equal(again, unbroken.drop(columns='seconds'))


def test_a_disk_that_is_full_for_a_while_leaves_a_journal_that_can_be_read(tmp_path, monkeypatch):
    log = tmp_path / 's.log'
    search.run(goal, log, 2)
    backend = search._Journal(log)

    def half(self, logs):
        with open(self.where, 'ab') as f:
            f.write(b'{"op_code":4,"tri')
        raise OSError(28, 'No space left on device')

    with monkeypatch.context() as m:
        m.setattr(optuna.storages.journal.JournalFileBackend, 'append_logs', half)
        with pytest.raises(OSError, match='No space left'):
            backend.append_logs([{}])
    assert len(search.rounds_table(search.run(goal, log, 4))) == 4
