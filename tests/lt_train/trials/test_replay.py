"""A step whose loss or gradient is not finite is kept, and can be taken again."""

import json

import pytest
import torch
from click.testing import CliRunner
from lt_cli.train import main

from lt_train.detectors import roi_heads
from lt_train.detectors.roi_heads import LongTailRoIHeads
from lt_train.detectors.second_head import SecondHead
from lt_train.engine.fit import fit
from lt_train.engine.losses import NotFinite
from tests.lt_train.engine.stepping import infinite, spoil, steep

OPTIONS = ("data.val=null", "optim.clip=null")


def replayed(folder):
    done = CliRunner().invoke(main, ["replay", str(folder)])
    # lines are broken at words for a terminal
    return done.exit_code, done.output.replace("\n  ", " ")


@pytest.mark.parametrize(("by", "what"), [(infinite, "loss_classifier"), (steep, "the gradient")])
def test_the_step_is_kept_and_named(tiny_recipe, tmp_path, monkeypatch, by, what):
    spoil(monkeypatch, {1}, by)
    with pytest.raises(NotFinite) as error:
        fit(tiny_recipe(*OPTIONS), tmp_path / "run")
    (line,) = error.value.problems
    folder = tmp_path / "run/debug/step-2"
    assert line.startswith("step 2 (last images ")
    assert f"): {what} is not finite; no weight was changed" in line
    assert line.endswith(f"; lt-train replay {folder} takes the step again and says where it begins")
    kept = json.loads((folder / "step.json").read_text())
    assert [kept[key] for key in ("step", "processes")] == [1, 1]
    assert [len(batch) for batch in kept["batches"]] == [2]
    monkeypatch.undo()
    assert replayed(folder) == (
        0,
        f"step 2, epoch 1, by 1 processes: {line.partition(';')[0]}\n2 images: all losses and gradients are finite "
        "here\n",
    )


def test_module_and_images_are_named(tiny_recipe, tmp_path, monkeypatch):
    """A fully connected layer overflows on one image."""
    chosen = []
    original = LongTailRoIHeads.embed

    def embed(self, pooled):
        # regions of an image whose first pixel is the chosen one's
        chosen.append(float(pooled[0].sum()))
        found = self.box_head.fc6(pooled.flatten(1)) * 1e38 * 1e38
        return original(self, pooled) + found.sum() * 0

    monkeypatch.setattr(LongTailRoIHeads, "embed", embed)
    with pytest.raises(NotFinite):
        fit(tiny_recipe(*OPTIONS), tmp_path / "run")
    code, said = replayed(tmp_path / "run/debug/step-1")
    assert code == 0
    assert "losses that are not finite: loss_classifier" in said
    assert "first module whose output is not finite: roi_heads.box_predictor.cls_score (its input was not)" in said
    assert "images that do so alone: 2 of 2" in said


def test_a_second_head_is_replayed_with_the_classes_that_were_drawn(softmax_run, tiny_recipe, tmp_path, monkeypatch):
    drawn, original, loss = [], roi_heads.balanced_regions, SecondHead.loss

    def noted(labels, targets, *key):
        drawn.append([target.get("only") for target in targets])
        return original(labels, targets, *key)

    monkeypatch.setattr(roi_heads, "balanced_regions", noted)
    second = ("sampler.name=bi-level", "train=calibrated", "second_head.kind=3fc-rand")
    monkeypatch.setattr(SecondHead, "loss", lambda *given: {name: infinite(v) for name, v in loss(*given).items()})
    with pytest.raises(NotFinite):
        fit(tiny_recipe(*OPTIONS, *second), tmp_path / "run", init_from=softmax_run.path)
    monkeypatch.setattr(SecondHead, "loss", loss)
    taken = drawn[0]
    assert len(taken) == 2
    assert all(taken)
    drawn.clear()
    assert replayed(tmp_path / "run/debug/step-1")[0] == 0
    assert drawn[0] == taken


def test_a_layer_with_an_infinite_output(tiny_recipe, tmp_path, monkeypatch):
    from lt_train.trials.replay import watching

    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2))
    with torch.no_grad():
        model[2].bias.fill_(torch.inf)
    with watching(model) as first:
        model(torch.ones(1, 2))
    assert first() == "2 (its input was finite)"


def test_what_is_no_kept_step(tmp_path):
    assert replayed(tmp_path) == (
        1, f"error: {tmp_path}/step.json: cannot be read (No such file or directory); give RUN/debug/step-N of a run "
        "that stopped\n",
    )  # fmt: skip
    (tmp_path / "step.json").write_text("{")
    code, said = replayed(tmp_path)
    assert code == 1
    assert "is not what a run keeps of a step" in said
