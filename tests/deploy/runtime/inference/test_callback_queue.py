"""Work that other threads hand to the event loop's thread."""

import asyncio
import threading

from deploy.runtime.inference.callback_queue import CallbackQueue


def landed(count: int, threads: int, fails: int | None = None) -> tuple[list[tuple[int, int]], set[int], list[str]]:
    """(thread, number) of each work in the order in which it was done, on which threads, and what the loop was told."""
    done, where, told = list[tuple[int, int]](), set[int](), list[str]()

    def work(thread: int, number: int) -> None:
        where.add(threading.get_ident())
        done.append((thread, number))
        if number == fails:
            raise RuntimeError("this one fails")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(repr(context["exception"])))
        landing = CallbackQueue(loop)
        senders = [
            threading.Thread(target=lambda one=one: [landing.call_soon(work, one, number) for number in range(count)])
            for one in range(threads)
        ]
        for sender in senders:
            sender.start()
        while len(done) < count * threads:
            await asyncio.sleep(0)
        for sender in senders:
            sender.join()

    asyncio.run(asyncio.wait_for(main(), 30.0))
    return done, where, told


def test_all_work_is_done_once_on_the_loops_thread_and_each_threads_in_its_order() -> None:
    done, where, _ = landed(count=500, threads=4)
    assert where == {threading.get_ident()}
    assert len(set(done)) == len(done) == 2000
    for thread in range(4):
        assert [number for one, number in done if one == thread] == list(range(500))


def test_work_that_fails_is_told_and_does_not_keep_the_rest_from_being_done() -> None:
    done, _, told = landed(count=10, threads=1, fails=3)
    assert [number for _, number in done] == list(range(10))
    assert told == ["RuntimeError('this one fails')"]
