"""A run with everything that changes images, stopped and gone on with, and loaded by another number of processes."""

import pytest

from lt_train.engine.fit import fit
from tests.lt_train.engine.reading_runs import losses, weights
from tests.lt_train.engine.stepping import assert_same, interrupt_in_step

OPTIONS = (
    *("data.augment.scale=[0.5,2]", "data.augment.crop=[0.6,1]", "data.augment.contrast=0.3", "data.val=null"),
    *("data.augment.saturation=0.3", "data.augment.paste.objects=3", "schedule.iterations=4", "trackers=[]"),
)


def test_it_goes_on_as_if_never_stopped(tiny_recipe, tmp_path, monkeypatch):
    """Equal bits: the straight run loads in its own process, the other one in two."""
    straight = fit(tiny_recipe(*OPTIONS), tmp_path / "straight")
    monkeypatch.setattr("lt_train.engine.fit._save_every", lambda _: 1)
    go_on = interrupt_in_step(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny_recipe(*OPTIONS, "data.workers=2"), tmp_path / "run")
    go_on()
    run = fit(tiny_recipe(*OPTIONS, "data.workers=2"), tmp_path / "run", resume=True)
    assert losses(run) == losses(straight)
    assert_same(weights(run), weights(straight))
    log = straight.log.read_text()
    assert "copy-paste: 0 to 3 objects an image" in log
    plain = fit(tiny_recipe(*OPTIONS[3:4], *OPTIONS[-2:]), tmp_path / "plain")
    assert losses(plain) != losses(straight)
    assert "copy-paste" not in plain.log.read_text()
