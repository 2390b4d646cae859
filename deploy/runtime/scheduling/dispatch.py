"""From waiting jobs to calls of the engine: by threads that wait for it, or by the engine calling back.

Calling back saves two changes of threads a request, which cost as much as a small network's layers; it needs an engine
that can (OpenVINO), and nothing that has to wait before a call (a quota, a delay). Knows neither admission nor limits.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple

from deploy.runtime.engines import CallsBack, Engine
from deploy.runtime.scheduling.batching import joined, parted, worth
from deploy.runtime.scheduling.errors import RESTART_S, Expired, Gone, Unavailable, fault
from deploy.runtime.scheduling.fair_queue import Answer, Job, Outcome, Turns
from deploy.runtime.scheduling.quota_pacer import Pacer
from toolchain.errors import LostDevice, ToolchainError
from toolchain.records.tensors import Array

STUCK_S = 120.0
Soon = Callable[..., None]


def at_once(work: Callable[..., None], *given: Any) -> None:
    work(*given)


class Plan(NamedTuple):
    """engine: for a request that is alone; crowd: for those among others, the same one where there is no other. costs:
    seconds of a call by its rows. delay_s: how long a job that is among others may wait for more. coming(): whether
    requests that were admitted are not queued yet. soon(): does work on the thread that most jobs come from: whatever
    two threads do of Python is done in turns, and each turn costs both a wait."""

    engine: Engine
    crowd: Engine
    costs: dict[int, float]
    pacer: Pacer
    delay_s: float
    turns: Turns
    coming: Callable[[], bool]
    hand: Callable[[Job, Outcome], None]
    learn: Callable[[float], None]
    lost: Callable[[str], None]
    soon: Soon

    def gathered(self, first: Job) -> list[Job]:
        """`first` and those that are worth answering with it."""
        jobs = [first]
        if len(self.costs) > 1 and self.turns.rows:
            size = worth(first.batch + self.turns.rows, self.costs, self.crowd.fills) - first.batch
            while size > 0 and (job := self.turns.pop(size)) is not None:
                jobs.append(job)
                size -= job.batch
        return jobs

    def fit(self, jobs: Sequence[Job], now: float) -> list[Job]:
        """Those that are still worth answering; the others are told."""
        found = []
        for job in jobs:
            refusal = self._late(job, now)
            if refusal is None:
                found.append(job)
            else:
                self.hand(job, refusal)
        return found

    def _late(self, job: Job, now: float) -> ToolchainError | None:
        if job.deadline is not None and now > job.deadline:
            return Expired(f"waited {(now - job.queued) * 1e3:.0f} ms in the queue, past its time; try again later")
        # a client that closed only its own half may still be reading: it is answered where nobody waits for that
        return Gone("the client left") if job.gone() and self.turns.rows else None

    def answers(self, jobs: Sequence[Job], engine: Engine, outputs: dict[str, Array], started: float) -> list[Outcome]:
        took, rows = time.perf_counter() - started, sum(job.batch for job in jobs)
        self.learn(took / rows / max(1, engine.requests))
        parts = parted(outputs, [job.batch for job in jobs]) if len(jobs) > 1 else [outputs]
        return [
            Answer(part, job.batch, started - job.queued, took, rows, number == 0)
            for number, (job, part) in enumerate(zip(jobs, parts, strict=True))
        ]

    def outcomes(self, jobs: Sequence[Job], engine: Engine) -> list[Outcome]:
        """Ask the engine and wait."""
        started = time.perf_counter()
        try:
            outputs = engine.infer(joined(jobs))
        except LostDevice as error:
            self.lost(str(error))
            return [Unavailable(str(error), "lost_device", RESTART_S)] * len(jobs)
        except Exception as error:  # whatever an engine throws, the worker must live and the client be told
            if len(jobs) > 1:  # one request's fault is not the others'
                return [outcome for job in jobs for outcome in self.outcomes([job], engine)]
            return [fault(error)]
        return self.answers(jobs, engine, outputs, started)


class Threads:
    """A thread for each call that the engine answers at once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._arrived: SimpleQueue[bool] = SimpleQueue()  # a True for each job in turns; False: end
        self._alone: SimpleQueue[Job | None] = SimpleQueue()
        works = [self._work] * max(1, plan.pacer.at_once(plan.crowd.requests))
        works += [self._work_alone] if plan.crowd is not plan.engine else []
        self._workers = [
            threading.Thread(target=work, name=f"infer-{number}", daemon=True) for number, work in enumerate(works)
        ]
        for worker in self._workers:
            worker.start()

    def put(self, job: Job, alone: bool) -> None:
        if alone and self._plan.crowd is not self._plan.engine:
            self._alone.put(job)
        else:
            self._plan.turns.put(job)
            self._arrived.put(True)

    def full(self) -> bool:
        return False

    def close(self) -> None:
        self._alone.put(None)
        for _ in self._workers:
            self._arrived.put(False)
        for worker in self._workers:
            worker.join()

    def _work_alone(self) -> None:
        while (job := self._alone.get()) is not None:
            self._answer([job], self._plan.engine)

    def _work(self) -> None:
        plan = self._plan
        while self._arrived.get():
            if (first := plan.turns.pop()) is not None:  # None: another worker took it along
                self._wait_for_more(first)
                self._answer(plan.gathered(first), plan.crowd)
        while (job := plan.turns.pop()) is not None:
            self._answer([job], plan.crowd)

    def _wait_for_more(self, first: Job) -> None:
        """While other requests are known to be on their way, at most the delay; never for one that is alone."""
        plan, seen = self._plan, list[bool]()
        limit = first.queued + plan.delay_s
        with suppress(Empty):
            while (left_s := limit - time.perf_counter()) > 0 and all(seen):
                if first.batch + plan.turns.rows >= max(plan.costs) or not plan.coming():
                    break
                seen.append(self._arrived.get(timeout=left_s))
        for one in seen:  # whoever is not taken along needs a worker still
            self._arrived.put(one)

    def _answer(self, jobs: Sequence[Job], engine: Engine) -> None:
        self._plan.pacer.wait()
        fit = self._plan.fit(jobs, time.perf_counter())
        if fit:
            for job, outcome in zip(fit, self._plan.outcomes(fit, engine), strict=True):
                self._plan.hand(job, outcome)


class Callbacks:
    """No threads of ours: the engine's own call back."""

    def __init__(self, plan: Plan, engine: CallsBack, crowd: CallsBack) -> None:
        self._plan, self._engine, self._crowd = plan, engine, crowd
        self._lock = threading.Lock()
        self._free = {id(engine): engine.held, id(crowd): crowd.held}
        self._again = ThreadPoolExecutor(1, thread_name_prefix="infer-again")
        self._idle = threading.Condition(self._lock)
        self._calls: dict[int, tuple[Sequence[Job], float]] = {}
        self._numbers = count()
        threading.Thread(target=self._watch, name="infer-watch", daemon=True).start()

    def put(self, job: Job, alone: bool) -> None:
        engine = self._engine if alone else self._crowd
        with self._lock:
            if not self._free[id(engine)]:
                if engine is self._crowd or not self._free[id(self._crowd)]:
                    self._plan.turns.put(job)
                    return
                engine = self._crowd
            self._free[id(engine)] -= 1
        self._start([job], engine)

    def full(self) -> bool:
        return not self._free[id(self._crowd)]

    def close(self) -> None:
        with self._idle:
            busy = self._engine.held + (self._crowd.held if self._crowd is not self._engine else 0)
            self._idle.wait_for(lambda: sum(self._free.values()) == busy and not self._plan.turns.rows)
        self._again.shutdown()

    def _start(self, jobs: Sequence[Job], engine: CallsBack) -> None:
        started, number = time.perf_counter(), next(self._numbers)
        self._calls[number] = jobs, started
        try:
            engine.start(joined(jobs), partial(self._plan.soon, self._ended, number, engine))
        except Exception as error:
            self._ended(number, engine, error)

    def _ended(self, number: int, engine: CallsBack, found: dict[str, Array] | Exception) -> None:
        """What waits is started first, so that the engine is not idle meanwhile."""
        jobs, started = self._calls.pop(number, ((), 0.0))
        self._next(engine)
        if not jobs:
            return  # given up
        if isinstance(found, Exception):
            self._failed(jobs, engine, found)
            return
        for job, outcome in zip(jobs, self._plan.answers(jobs, engine, found, started), strict=True):
            self._plan.hand(job, outcome)

    def _next(self, engine: CallsBack) -> None:
        fit: list[Job] = []
        while not fit:
            with self._idle:
                first = self._plan.turns.pop() if engine is self._crowd else None
                if first is None:
                    self._free[id(engine)] += 1
                    self._idle.notify_all()
                    return
                jobs = self._plan.gathered(first)
            fit = self._plan.fit(jobs, time.perf_counter())
        self._start(fit, engine)

    def _failed(self, jobs: Sequence[Job], engine: CallsBack, error: Exception) -> None:
        if len(jobs) == 1:
            self._plan.hand(jobs[0], fault(error))
            return
        for job in jobs:  # one request's fault is not the others'
            self._again.submit(self._ask_again, job, engine)

    def _ask_again(self, job: Job, engine: CallsBack) -> None:
        self._plan.hand(job, self._plan.outcomes([job], engine)[0])

    def _watch(self) -> None:
        """An engine that never calls back would hold its clients for ever: only a new process helps."""
        while True:
            time.sleep(STUCK_S / 10)
            now = time.perf_counter()
            for number, (_, started) in tuple(self._calls.items()):
                if now - started > STUCK_S and (given_up := self._calls.pop(number, None)):
                    why = f"the engine has not answered for {STUCK_S:g} s"
                    self._plan.lost(why)
                    for job in given_up[0]:
                        self._plan.hand(job, Unavailable(why, "lost_device", RESTART_S))


def dispatcher(plan: Plan) -> Threads | Callbacks:
    engine, crowd = plan.engine, plan.crowd
    waits = plan.pacer.paces or plan.delay_s > 0
    if isinstance(engine, CallsBack) and isinstance(crowd, CallsBack) and not waits:
        return Callbacks(plan, engine, crowd)
    return Threads(plan)
