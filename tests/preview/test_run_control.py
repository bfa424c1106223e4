"""What a person asks of a run reaches the sampler's thread between two steps."""

import threading

import pytest
from safelight.preview.run_control import RunControl


class CancelledError(Exception):
    pass


def obey(control, index=3, check=lambda: None):
    reports = []
    end = control.obey(index, check, reports.append)
    return end and tuple(end), reports


def test_without_a_request_nothing_waits():
    assert not RunControl().is_waiting


@pytest.mark.parametrize(("step", "kept"), [(0, 3), (2, 2)])
def test_a_stop_names_the_step_to_keep_once(step, kept):
    control = RunControl()
    control.stop(step)
    assert control.is_waiting
    assert obey(control) == ((kept, False), [])
    assert not control.is_waiting
    assert obey(control) == (None, [])


@pytest.mark.parametrize(("end", "kept"), [(RunControl.go_on, None), (RunControl.stop, (3, False))])
def test_a_paused_run_waits_until_another_request(end, kept):
    control = RunControl()
    control.pause()
    checks = []

    def check():
        checks.append(control.paused)
        if len(checks) == 2:
            threading.Thread(target=end, args=[control]).start()

    assert obey(control, check=check) == (kept, [True, False])
    assert len(checks) >= 2
    assert not control.is_waiting


def test_a_request_that_is_taken_back_before_the_step_ends_has_no_effect():
    control = RunControl()
    control.pause()
    control.go_on()
    assert not control.is_waiting


def test_the_hosts_cancel_ends_the_wait():
    control = RunControl()
    control.pause()

    def check():
        raise CancelledError

    with pytest.raises(CancelledError):
        obey(control, check=check)
    threading.Thread(target=control.go_on).start()  # the lock is free again


def test_the_rule_stops_after_the_current_step():
    control = RunControl()
    control.stop_by_rule()
    assert control.is_waiting
    assert obey(control) == ((3, True), [])
    assert not control.is_waiting


@pytest.mark.parametrize("rule_first", [True, False])
def test_a_person_who_stops_decides_which_step_is_kept(rule_first):
    control = RunControl()
    requests = [control.stop_by_rule, lambda: control.stop(2)]
    for request in requests if rule_first else reversed(requests):
        request()
    assert obey(control) == ((2, False), [])


def test_the_rule_does_not_end_a_pause():
    control = RunControl()
    control.pause()
    control.stop_by_rule()
    checks = []

    def check():
        checks.append(control.paused)
        control.go_on()

    assert obey(control, check=check) == ((3, True), [True, False])
    assert checks == [True]
