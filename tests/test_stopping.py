"""Work that is asked to stop."""

import signal

import pytest

from llm2comp_apps.stopping import StopRequest, interrupt_on_sigterm


@pytest.fixture(autouse=True)
def _handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_asks_and_only_a_further_ctrl_c_interrupts(number):
    told = []
    with StopRequest(lambda: told.append(1)) as stop:
        assert not stop.asked()
        signal.raise_signal(number)
        signal.raise_signal(signal.SIGTERM)  # a service manager that asks again
        assert stop.asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert told == [1]


def test_handlers_come_back_and_a_late_signal_is_passed_on_to_them():
    seen = []
    signal.signal(signal.SIGTERM, lambda number, _: seen.append(number))
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert seen == []
    stop.pass_on()
    assert seen == [signal.SIGTERM]
    StopRequest().pass_on()
    assert seen == [signal.SIGTERM]


def test_sigterm_interrupts_unless_somebody_has_taken_it():
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    interrupt_on_sigterm()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    interrupt_on_sigterm()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
