from typing import Any

from deploy.images.timestamps import EPOCH, normalize_configuration


def configuration(created: str, **config: str) -> dict[str, Any]:
    """As an engine writes it."""
    return {
        "created": created,
        "architecture": "amd64",
        "docker_version": "20.10.24",
        "container": created,
        "config": {"Env": ["A=1"], "Labels": {"b": "2"}, **config},
        "history": [{"created": created, "comment": "Imported from -"}, {"created": created, "created_by": "COPY"}],
        "rootfs": {"type": "layers", "diff_ids": ["sha256:1", "sha256:2"]},
    }


def test_two_builds_at_two_times_have_one_configuration() -> None:
    one = normalize_configuration(configuration("2026-11-23T08:00:00Z", Hostname="a1"))
    other = normalize_configuration(configuration("2026-11-24T09:30:00.5Z", Hostname="b2"))
    assert one == other
    assert one["created"] == EPOCH == "1970-01-01T00:00:00Z"
    assert {step["created"] for step in one["history"]} == {EPOCH}


def test_what_is_in_the_image_stays() -> None:
    before = configuration("2026-11-23T08:00:00Z")
    after = normalize_configuration(before)
    assert (after["rootfs"], after["config"], after["architecture"]) == (
        before["rootfs"],
        before["config"],
        before["architecture"],
    )
    assert normalize_configuration(after) == after
