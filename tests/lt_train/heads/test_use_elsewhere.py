"""The examples of docs/use-elsewhere.md, run; other frameworks are stand-ins that call as they do."""

import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

from lt_train.heads import make_head, make_head_with_background_last

torch.set_num_threads(1)

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "use-elsewhere.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^## (.+?)$.*?^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
COUNTS = [5, 50, 500, 5000]
LABELS = torch.tensor([4, 0, 1, 2, 3, 4, 4, 1])


def features(seed=0):
    return torch.randn(len(LABELS), 16, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def module(monkeypatch):
    """Puts a module of these names in place."""

    def add(name, **content):
        path = name.split(".")
        for i in range(1, len(path) + 1):
            monkeypatch.setitem(sys.modules, ".".join(path[:i]), ModuleType(".".join(path[:i])))
        vars(sys.modules[name]).update(content)

    return add


def run(title, **names):
    exec(EXAMPLES[title], names)
    return names


def test_every_example_is_short():
    assert set(EXAMPLES) == {"A plain loop", "A Lightning module", "mmdetection 3", "detectron2"}
    assert all(len([line for line in text.splitlines() if line]) <= 20 for text in EXAMPLES.values())


def test_a_plain_loop():
    names = run("A plain loop", counts=COUNTS, num_features=16, batches=[(features(), LABELS)] * 60)
    assert names["scores"].shape == (8, 5)
    assert torch.equal(names["scores"].argmax(dim=1), LABELS)


@pytest.mark.parametrize("name", ["softmax", "bags", "focal"])
def test_a_lightning_module(module, name):
    module("lightning", LightningModule=nn.Module)
    model = run("A Lightning module")["Classifier"](name, 16, COUNTS)
    optimizer = model.configure_optimizers()
    losses = []
    for step in range(20):
        loss = model.training_step((features(), LABELS), step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert any(key.startswith("head.") for key in model.state_dict())


def test_a_lightning_module_in_lightnings_own_trainer():
    lightning = pytest.importorskip("lightning", reason="no dependency; without it the stand-in above runs")
    model = run("A Lightning module")["Classifier"]("seesaw", 16, COUNTS)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_steps=40, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(model, torch.utils.data.DataLoader([(features(), LABELS)] * 40, batch_size=None))
    assert model.head.scores(model.classifier(features())).argmax(dim=1).tolist() == LABELS.tolist()
    assert model.state_dict()["head.head.seen"].tolist() == [40, 80, 40, 40]


class Registry:
    """What mmdetection registers classes with."""

    def __init__(self):
        self.classes = {}

    def register_module(self):
        def add(kind):
            self.classes[kind.__name__] = kind
            return kind

        return add


class BBoxHead:
    """Asks its loss what mmdetection's box heads ask theirs, in the order of version 3.3.0."""

    def __init__(self, loss, num_classes):
        self.loss_cls = loss
        assert loss.custom_cls_channels
        self.fc_cls = nn.Linear(16, loss.get_cls_channels(num_classes))

    def loss(self, cls_score, labels):
        losses = {}
        found = self.loss_cls(cls_score, labels, torch.ones(len(labels)), avg_factor=8.0, reduction_override=None)
        assert isinstance(found, dict)
        losses.update(found)
        assert self.loss_cls.custom_activation
        losses.update(self.loss_cls.get_accuracy(cls_score, labels))
        return losses

    def predict(self, cls_score):
        return self.loss_cls.get_activation(cls_score)


def test_mmdetection(module):
    registry = Registry()
    module("mmdet.registry", MODELS=registry)
    run("mmdetection 3")
    loss = registry.classes["LongTailLoss"](name="bags", instance_counts=COUNTS)
    head = BBoxHead(loss, len(COUNTS))
    logits = head.fc_cls(features())
    own = make_head("bags", instance_counts=COUNTS, others_ratio=float("inf"))
    loss.head.head = own
    ours = torch.where(LABELS == 4, 0, LABELS + 1)
    torch.testing.assert_close(head.loss(logits, LABELS), own.loss(logits, ours))
    scores = own.scores(logits)
    torch.testing.assert_close(head.predict(logits), torch.cat([scores[:, 1:], scores[:, :1]], dim=1))


class FastRCNNOutputLayers(nn.Module):
    """The parts of detectron2's that are called and replaced."""

    def __init__(self, num_classes):
        super().__init__()
        self.num_classes = num_classes
        self.cls_score = nn.Linear(16, num_classes + 1)
        self.bbox_pred = nn.Linear(16, 4 * num_classes)

    def forward(self, x):
        return self.cls_score(x), self.bbox_pred(x)

    def losses(self, predictions, proposals):
        scores, deltas = predictions
        labels = torch.cat([p.gt_classes for p in proposals])
        assert scores.shape == (len(labels), self.num_classes + 1)
        return {"loss_cls": nn.functional.cross_entropy(scores, labels), "loss_box_reg": deltas.abs().mean()}


class Proposals(SimpleNamespace):
    def __len__(self):
        return len(self.gt_classes)


def test_detectron2(module):
    module("detectron2.modeling.roi_heads.fast_rcnn", FastRCNNOutputLayers=FastRCNNOutputLayers)
    layers = run("detectron2")["LongTailOutputLayers"](len(COUNTS))
    head = make_head_with_background_last("bags", instance_counts=COUNTS, others_ratio=float("inf"))
    layers.use(head)
    proposals = [Proposals(gt_classes=LABELS[:3]), Proposals(gt_classes=LABELS[3:])]
    predictions = layers(features())
    losses = layers.losses(predictions, proposals)
    assert set(losses) == {"loss_box_reg", *head.loss(predictions[0], LABELS)}
    sum(losses.values()).backward()
    assert layers.cls_score.weight.grad.abs().sum() > 0
    found = layers.predict_probs(predictions, proposals)
    assert [tuple(part.shape) for part in found] == [(3, 5), (5, 5)]
    torch.testing.assert_close(torch.cat(found), head.scores(predictions[0]))


def test_detectron2_builds_on_the_device_before_the_head_is_there(module):
    """The new classifier and the head's buffers go where the model is."""
    module("detectron2.modeling.roi_heads.fast_rcnn", FastRCNNOutputLayers=FastRCNNOutputLayers)
    layers = run("detectron2")["LongTailOutputLayers"](len(COUNTS)).to("meta")
    layers.use(make_head_with_background_last("bags", instance_counts=COUNTS))
    assert {value.device.type for value in (*layers.parameters(), *layers.buffers())} == {"meta"}
