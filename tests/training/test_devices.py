import jax

from convtl.training.devices import device_line, use_all_cores


def test_devices_are_taken_as_they_are_once_jax_is_used() -> None:
    before = jax.local_devices()
    use_all_cores()
    assert jax.local_devices() == before
    assert device_line() == f"{len(before)} x {before[0].device_kind}"
