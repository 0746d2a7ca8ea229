"""Kill a study in every stage, at random moments and in every way, and compare its tables.

`python tests/kills.py` takes an hour or more on two cores and is no part of `make test`. It prints
how often each stage was killed, and ends with 1 where a table differs from an undisturbed run's,
a message is no sentence, or a process or a half-written file is left.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import small

from ocf_study import ledger, study

SIGNALS = dict(SIGINT=signal.SIGINT, SIGTERM=signal.SIGTERM, SIGHUP=signal.SIGHUP)
WAYS = ['runner', 'runner', 'kernel', 'all', 'all', *SIGNALS]  # the first four by SIGKILL
TIMES = re.compile('training_hours|inference_per_patch')


def start(out, until):
    "The command as somebody gives it, in a process of its own"
    code = 'from ocf_study.study import main; main()'
    given = [a for k, v in small.SETTINGS.items() for a in ('--set', f'{k}={v}')]
    options = ['run', '--profile', 'smoke', '--out', str(out), '--until', until, *given]
    log = out.parent / 'said'
    with open(log, 'w') as f:
        return subprocess.Popen(
            [sys.executable, '-c', code, *options],
            stdout=f,
            stderr=f,
            start_new_session=True,
            preexec_fn=lambda: [signal.signal(s, signal.SIG_DFL) for s in SIGNALS.values()],
        ), log


def kill(process, way):
    "End the runner, its kernel or everything -> seconds until nothing of it is left"
    runner = psutil.Process(process.pid)
    below = runner.children(recursive=True)
    while way == 'kernel' and not below and process.poll() is None:  # it has yet to start
        time.sleep(0.05)
        below = runner.children(recursive=True) if runner.is_running() else []
    began = time.monotonic()
    if way in SIGNALS:
        process.send_signal(SIGNALS[way])
    else:
        for p in {'runner': [runner], 'kernel': below, 'all': [runner, *below]}[way]:
            try:
                p.kill()
            except psutil.NoSuchProcess:
                pass
    process.wait(600)
    if way != 'runner':  # what a runner leaves that was killed alone ends while the next one starts
        psutil.wait_procs(below, timeout=60)
    return time.monotonic() - began


def unlike(way, process, log, seconds):
    "What of an ended run is not as it should be"
    said, code = log.read_text(), process.returncode
    if 'Traceback' in said:
        return f'a traceback: {said[-2000:]}'
    if way in SIGNALS and (code != 128 + SIGNALS[way] or seconds > 5 or 'Stopped.' not in said):
        return f'{way}: exit {code} after {seconds:.1f} s: {said[-500:]}'
    if way == 'kernel' and code not in (0, 1):
        return f'kernel: exit {code}: {said[-500:]}'
    return ''


def tables(out, stage=''):
    "Tables of one stage or of all, without the lines that hold times"
    notes = map(ledger.noted, (out / 'work' / 'artefacts').glob('*.json'))
    return {
        f: [line for line in (out / f).read_text().splitlines() if not TIMES.search(line)]
        for note in notes
        if stage in ('', note['stage'])
        for f in note['files']
        if f.endswith('.csv') and note['name'] != 'backends'
    }


def left(folder):
    "Half-written things, temporary files and processes of a run that has ended"
    found = [str(p) for p in folder.rglob('.*') if re.search(r'\.[a-z0-9_]{8}$', p.name)]
    found += [str(p) for p in folder.glob('*/work/running/scratch')]
    for p in psutil.process_iter():
        try:
            found += [f'process {p.pid}'] if Path(p.cwd()).is_relative_to(folder) else []
        except (psutil.Error, OSError):
            pass
    return found


def disturbed(folder, stage, seconds, kills, rng, wrong):
    "Run one stage, killed so many times, each time it ends before that begun anew -> kills by way"
    out, kept = next(folder.glob('run*'), folder / 'run'), folder / 'kept'
    shutil.rmtree(kept, ignore_errors=True)
    if out.exists():
        shutil.copytree(out, kept, symlinks=True)
    done, ended, late = Counter(), 0, stage == max(s for s in study.stages() if s < '90')
    whole = tables(folder / 'whole', stage)
    while True:
        began, running = time.time(), out / 'work' / 'running' / f'{stage}.ipynb'
        process, log = start(out, stage)
        while process.poll() is None and not (
            running.exists() and running.stat().st_mtime > began
        ):  # what a run that was killed has left is older
            time.sleep(0.02)
        pause = rng.uniform(0, 1.1 * seconds + 2 * late)
        enough = done.total() >= kills
        try:
            process.wait(None if enough else pause)
        except subprocess.TimeoutExpired:
            way = rng.choice(WAYS)
            took = kill(process, way)
            done[way] += 1
            print(f'{stage} {done.total()}: {way} after {pause:.1f} s', flush=True)
            if problem := unlike(way, process, log, took):
                wrong.append(f'{stage}, {problem}')
            if done.total() % 5 == 0:  # a folder that was moved is the same run
                out = out.rename(folder / f'run{rng.random():.6f}')
            continue
        ended += 1
        if process.returncode:
            raise SystemExit(f'{stage} fails after {dict(done)}: {log.read_text()[-3000:]}')
        now = tables(out, stage)
        wrong += [f'{stage}, {t} differs' for t in {*whole, *now} if whole.get(t) != now.get(t)]
        if enough:
            return done, ended
        shutil.rmtree(out)
        if kept.exists():
            shutil.copytree(kept, out, symlinks=True)


def main():
    of = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    of.add_argument('folder', type=Path, help='for the runs, new')
    of.add_argument('--each', type=int, default=11, help='kills of each stage')
    of.add_argument('--seed', type=int, default=7)
    of.add_argument('--stages', nargs='*', default=[s for s in study.stages() if s < '90'])
    given = of.parse_args()
    folder, rng = given.folder.resolve(), random.Random(given.seed)
    (folder / 'runs').mkdir(parents=True, exist_ok=True)
    folder /= 'runs'
    if not (folder / 'whole').exists():
        process, log = start(folder / 'whole', given.stages[-1])
        if process.wait():
            raise SystemExit(log.read_text())
    wrong, counts = [], {}
    for stage in given.stages:
        took = ledger.notes(folder / 'whole')[stage]['seconds']
        done, ended = disturbed(folder, stage, took, given.each, rng, wrong)
        counts[stage] = dict(kills=done.total(), ended=ended, **done)
        print(stage, json.dumps(counts[stage]), *wrong, flush=True)
    out = next(folder.glob('run*'))
    one, other = tables(folder / 'whole'), tables(out)
    wrong += [f'{t} differs' for t in other if one.get(t) != other[t]]
    shutil.rmtree(folder / 'kept', ignore_errors=True)
    time.sleep(3)
    wrong += [f'{p} is left' for p in left(folder)]
    total = sum(c['kills'] for c in counts.values())
    print(f'{total} kills, {len(other)} tables compared, {len(wrong)} faults', *wrong, sep='\n')
    raise SystemExit(bool(wrong))


if __name__ == '__main__':
    os.environ.pop('OCF_RUN', None)
    main()
