import re

from toolchain.job.milestones import begin_stage, count_stages


def test_stages_are_numbered_and_timed_over_a_call_within_a_call(messages: list[str]) -> None:
    with count_stages(3):
        with count_stages(2):
            begin_stage("data")
            begin_stage("model")
        begin_stage("image")
    shown = [re.sub(r"\d+\.\d s", "0 s", line) for line in messages]
    assert shown == [
        "[1 of 3] data",
        "[2 of 3] model (1 took 0 s)",
        "[3 of 3] image (2 took 0 s)",
        "done: 3 of 3 stages, 0 s",
    ]


def test_what_nobody_counts_is_not_shown(messages: list[str]) -> None:
    begin_stage("data")
    assert messages == []
