"""Ctrl-C ends what is under way, wherever it strikes."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from streamnorm.interrupts import Interrupts
from streamnorm.threads import in_order, spread

SCRIPT = """
import signal, sys, threading
from concurrent.futures import _base, thread
import numpy as np
import streamnorm as sn
from streamnorm.kernels import crew
from streamnorm.threads import in_order, spread

HOLDS_LOCKS = {{module.__file__ for module in (threading, _base, thread)}}
TABLE = np.ones((2**20, 1), np.float32)


def new_crew():
    crew._crew().close()
    crew._crew.cache_clear()
    crew._crew()._boxes = crew.WORTH_HELPERS


def interrupt_at(position):
    left = position

    def trace(frame, event, argument):
        nonlocal left
        if frame.f_code.co_filename not in HOLDS_LOCKS:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            left -= 1
            if left == 0:
                signal.raise_signal(signal.SIGINT)
        return trace

    sys.settrace(trace)
    try:
        {work}
        came = False
    except KeyboardInterrupt:
        came = True
    finally:
        sys.settrace(None)
    if came != (left <= 0):
        sys.exit(f"interrupt {{position}} was lost, or came from nowhere")
    return came


new_crew()
position, unreached = 1, 0
while unreached < 3:
    unreached += not interrupt_at(position)
    for left in threading.enumerate():
        if "compute" in left.name:
            left.join(10)
            if left.is_alive():
                sys.exit(f"interrupt {{position}} left a thread behind")
    {after}
    position += {step}
print("all ended after more than 99" if position > 99 else position)
"""


@pytest.mark.parametrize(
    ("work", "after", "step"),
    [
        ("assert sum(in_order(abs, range(11), 2)) == 55", "pass", 5),
        ("spread(lambda: None, 2)", "pass", 1),
        ("sn.measure(TABLE, threads=2)", "new_crew()", 1),
    ],
)
def test_an_interrupt_between_any_two_steps_of_what_holds_locks_ends_the_work(
    work, after, step, untraced
):
    script = textwrap.dedent(SCRIPT).format(work=work, after=after, step=step)
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, timeout=60, check=False, env=untraced,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("all ended after more than 99\n", "")


def interrupted(times):
    """Interrupt as often in one block; yield after each."""
    with Interrupts():
        for count in range(1, times + 1):
            signal.raise_signal(signal.SIGINT)
            yield count


@pytest.mark.parametrize("times", [1, 3])
def test_the_first_interrupt_waits_for_the_end_of_the_block_but_not_a_second(times):
    block = interrupted(times)
    assert next(block) == 1
    with pytest.raises(KeyboardInterrupt):
        next(block)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_after_a_second_interrupt_others_are_held_back_again():
    for times in (3, 1):
        block = interrupted(times)
        assert next(block) == 1
        with pytest.raises(KeyboardInterrupt):
            next(block)


def test_a_child_that_another_thread_forks_can_be_interrupted():
    with Interrupts():
        child = os.fork()
        if child == 0:
            handler = signal.getsignal(signal.SIGINT)
            os._exit(0 if handler is signal.default_int_handler else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_an_interrupt_is_raised_once():
    held = Interrupts()
    with pytest.raises(KeyboardInterrupt), held:
        signal.raise_signal(signal.SIGINT)
    with held:
        pass
    assert held.came


def test_a_handler_of_the_program_is_called_at_once():
    calls = []
    before = signal.signal(signal.SIGINT, lambda *_: calls.append("called"))
    try:
        with Interrupts() as held:
            signal.raise_signal(signal.SIGINT)
            assert calls == ["called"]
    finally:
        signal.signal(signal.SIGINT, before)
    assert not held.came


def test_other_threads_read_as_they_did():
    results = []
    thread = threading.Thread(target=lambda: results.extend(in_order(abs, range(-9, 0), 2)))
    thread.start()
    thread.join()
    assert results == [9, 8, 7, 6, 5, 4, 3, 2, 1]


def test_no_item_is_begun_after_an_interrupt():
    begun, all_handed_over = [], threading.Event()

    def items():
        yield from range(100)
        all_handed_over.set()

    def work(item):
        begun.append(item)
        if item == 0:
            all_handed_over.wait()
            while (handler := signal.getsignal(signal.SIGINT)) is signal.default_int_handler:
                time.sleep(0.001)
            # The main thread waits for this very group. One before its wait it would hear after it.
            while not handler.__self__.came:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        list(in_order(work, items(), 2, group=100))
    assert begun == [0]


def test_an_interrupted_spread_waits_for_its_threads():
    ended = []

    def work():
        if threading.current_thread() is threading.main_thread():
            signal.raise_signal(signal.SIGINT)
        ended.append(1)

    with pytest.raises(KeyboardInterrupt):
        spread(work, 2)
    assert 1 <= len(ended) <= 2
