"""Kill a study in every stage, at random moments, during writes and in every way

`python tests/kills.py FOLDER` takes an hour or more on two cores and is no part of `make test`. It
can be stopped and given again: what was counted is in `FOLDER/kills.jsonl`. It prints a table of
kills by stage, and ends with 1 where a table differs from an undisturbed run's, a message is no
sentence, or a process or a half-written file is left.
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
from pathlib import Path

import pandas as pd
import psutil
import small

from ocf_study import ledger, study

SIGNALS = dict(SIGINT=signal.SIGINT, SIGTERM=signal.SIGTERM, SIGHUP=signal.SIGHUP)
WAYS = ['runner', 'runner', 'kernel', 'all', 'all', *SIGNALS]  # the first three by SIGKILL
TIMES = re.compile('training_hours|inference_per_patch')
STAGES = [s for s in study.stages() if s < '90']


def start(out, until):
    "The command as somebody gives it, in a process of its own"
    code = 'from ocf_study.commands import main; main()'
    given = [a for k, v in small.SETTINGS.items() for a in ('--set', f'{k}={v}')]
    options = ['run', '--profile', 'smoke', '--out', str(out), '--until', until, *given]
    log = out.parent / 'said'
    with open(log, 'w') as f:
        return subprocess.Popen(
            [sys.executable, '-c', code, *options],
            cwd=out.parent,
            stdout=f,
            stderr=f,
            start_new_session=True,
            preexec_fn=lambda: [signal.signal(s, signal.SIG_DFL) for s in SIGNALS.values()],
        ), log


def kill(process, way):
    "End the runner, its kernel or everything -> seconds until nothing of it is left"
    try:
        runner = psutil.Process(process.pid)
    except psutil.NoSuchProcess:  # it has just ended
        return process.wait()
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
    if way == 'kernel' and code != 1:
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


def half_written(folder):
    "Things that are being written, or were when their process was killed"
    return [
        os.path.join(here, name)
        for here, folders, files in os.walk(folder)
        for name in folders + files
        if re.fullmatch(r'\..+\.[a-z0-9_]{8}', name)
    ]


def left(folder):
    "Half-written things, temporary files and processes of a run that has ended"
    found = half_written(folder) + [str(p) for p in folder.glob('*/work/running/scratch')]
    for p in psutil.process_iter():
        try:
            found += [f'process {p.pid}'] if Path(p.cwd()).is_relative_to(folder) else []
        except (psutil.Error, OSError):
            pass
    return found


def begun(process, out, stage):
    "Wait until the stage runs, or until the command has ended"
    since, notebook = time.time(), out / 'work' / 'running' / f'{stage}.ipynb'
    while process.poll() is None:
        try:  # what a run that was killed has left is older
            if notebook.stat().st_mtime > since:
                return
        except FileNotFoundError:
            pass
        time.sleep(0.02)


def writes(process, out, seconds):
    "Wait until something is half written, not longer than so many seconds"
    end = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < end:
        if any('/work/running/' not in p for p in half_written(out)):
            return True
        time.sleep(0.005)
    return False


class Kills:
    "What was done so far, a line of a file each"

    def __init__(self, folder):
        self.path = folder.parent / 'kills.jsonl'
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        self.done = [json.loads(line) for line in lines]

    def add(self, **what):
        self.done.append(what)
        with open(self.path, 'a') as f:
            f.write(f'{json.dumps(what)}\n')
        print(*what.values(), flush=True)

    def of(self, stage, turn, what='kill'):
        return [k for k in self.done if (k['stage'], k['turn'], k['what']) == (stage, turn, what)]

    def table(self):
        "Kills by stage and way, those during a write, and how often a stage ended and was compared"
        done = pd.DataFrame(self.done)
        kills, ended = done[done.what == 'kill'], done[done.what == 'ended']
        by_way = pd.crosstab(kills.stage, kills.way)
        counted = dict(during_writes=kills.groupby('stage').writing.sum(), kills=by_way.sum(axis=1))
        of_stage = ended.groupby('stage')
        counted |= dict(ended=of_stage.size(), tables=of_stage.tables.max())
        return by_way.assign(**counted).fillna(0).astype(int)


def disturbed(folder, stage, turn, wanted, rng, kills):
    "Run one stage, killed so many times; each time it ends before that it is begun anew"
    out, kept = next(folder.glob('run*'), folder / 'run'), folder / 'kept'
    seconds = ledger.notes(folder / 'whole')[stage]['seconds']
    if not kept.exists():  # else a run of this script was stopped here
        with_nothing = folder / 'half'
        shutil.rmtree(with_nothing, ignore_errors=True)
        shutil.copytree(out, with_nothing, symlinks=True) if out.exists() else with_nothing.mkdir()
        with_nothing.rename(kept)
    whole = tables(folder / 'whole', stage)
    while True:
        enough = len(kills.of(stage, turn)) >= wanted
        process, log = start(out, stage)
        began = time.monotonic()
        begun(process, out, stage)
        pause, way = 1.1 * seconds * rng.random() ** 2, rng.choice(WAYS)  # the start is dear
        try:
            process.wait(None if enough else pause)
        except subprocess.TimeoutExpired:
            writing = rng.random() < 0.5 and writes(process, out, 15)
            took = kill(process, way)
            if process.returncode == 0 or log.read_text().splitlines()[-1:] == [f'Read {out.name}']:
                process.returncode = 0  # it has ended meanwhile
                print(f'{stage}: ended before {way}', flush=True)
            else:
                problem = unlike(way, process, log, took)
                about = dict(way=way, writing=writing, seconds=round(took, 1), problem=problem)
                kills.add(what='kill', stage=stage, turn=turn, at=round(pause, 1), **about)
                if len(kills.of(stage, turn)) % 5 == 0:  # a folder that was moved is the same run
                    out = out.rename(folder / f'run{rng.random():.6f}')
                continue
        if process.returncode:
            raise SystemExit(f'{stage} fails: {log.read_text()[-3000:]}')
        now = tables(out, stage)
        problem = ' '.join(f'{t} differs' for t in {*whole, *now} if whole.get(t) != now.get(t))
        about = dict(tables=len(now), problem=problem, seconds=round(time.monotonic() - began))
        kills.add(what='ended', stage=stage, turn=turn, **about)
        if enough:
            shutil.rmtree(kept)
            return kills.add(what='done', stage=stage, turn=turn, problem='')
        shutil.rmtree(out)
        shutil.copytree(kept, out, symlinks=True)


def main():
    of = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    of.add_argument('folder', type=Path, help='for the runs; a new one, or one to go on in')
    of.add_argument('--each', type=int, default=5, help='kills of each stage in a turn')
    of.add_argument('--turns', type=int, default=2, help='how often the study is run to its end')
    given = of.parse_args()
    folder = given.folder.resolve() / 'runs'
    folder.mkdir(parents=True, exist_ok=True)
    for p in psutil.process_iter():  # of a run of this script that was stopped
        try:
            p.kill() if Path(p.cwd()).is_relative_to(folder) else None
        except (psutil.Error, OSError):
            pass
    kills, rng = Kills(folder), random.Random()
    process, log = start(folder / 'whole', STAGES[-1])
    if process.wait():
        raise SystemExit(log.read_text())
    for turn in range(given.turns):
        if kills.of('all', turn, 'compared'):
            continue
        for stage in STAGES:
            if not kills.of(stage, turn, 'done'):
                disturbed(folder, stage, turn, given.each, rng, kills)
        out = next(folder.glob('run*'))
        one, other = tables(folder / 'whole'), tables(out)
        wrong = ' '.join(f'{t} differs' for t in {*one, *other} if one.get(t) != other.get(t))
        time.sleep(3)
        wrong += ' '.join(f'{p} is left' for p in left(folder))
        kills.add(what='compared', stage='all', turn=turn, tables=len(other), problem=wrong)
        if turn + 1 < given.turns:
            shutil.rmtree(out)
    wrong = [k['problem'] for k in kills.done if k['problem']]
    print(kills.table().to_string(), f'{len(wrong)} faults', *wrong, sep='\n')
    raise SystemExit(bool(wrong))


if __name__ == '__main__':
    os.environ.pop('OCF_RUN', None)
    main()
