"""Files with objects beside the tensors: the tensors are read, nothing is executed."""

import argparse
import builtins
import os
import pathlib
import pickle
import sys
import types
from collections import OrderedDict, defaultdict, deque

import numpy as np
import pytest
import torch

from lt_data.errors import DataError
from lt_train.detectors.foreign.objects import Inert, load_inert, object_names
from lt_train.detectors.foreign.torchvision import had_zero_eps
from lt_train.detectors.trunks.norm import fold_zero_eps
from lt_train.detectors.weight_files import read_weights
from tests.lt_train.detectors.scenes import small

STATE = {
    "a.weight": torch.arange(2.0),
    "a.running_var": torch.full((2,), 1e-5),
    # a ResNet's: torchvision's MobileNets have another eps
    "backbone.body.layer1.0.conv1.weight": torch.zeros(1),
}


class Calls:
    """Pickles into a call of a function."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Grown(Calls):
    """Pickles into a call, and a state for what it returns."""

    def __reduce__(self):
        return (*self.call, {"x": [1, 2]})


@pytest.fixture
def foreign_classes(monkeypatch):
    """Classes of packages that are not installed when the file is read."""
    module = types.ModuleType("mmengine_of_tests")

    class HistoryBuffer:
        def __init__(self):
            self.values = np.arange(3.0)

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    module.HistoryBuffer = HistoryBuffer
    monkeypatch.setitem(sys.modules, module.__name__, module)
    yield module
    assert module.__name__ not in sys.modules


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_beside_objects_are_read(tmp_path, foreign_classes, monkeypatch, zipped):
    content = {
        "state_dict": OrderedDict(STATE),
        "message_hub": {"loss": foreign_classes.HistoryBuffer()},
        "hyper_parameters": {"lr": 0.1, "path": pathlib.PurePosixPath("/tmp")},
        "args": argparse.Namespace(lr=0.02, device="cuda"),
        "best": np.float64(0.5),
        "classes": {foreign_classes.HistoryBuffer: {"epoch": 1}},
    }
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    monkeypatch.delitem(sys.modules, foreign_classes.__name__)
    found = read_weights(tmp_path / "a.pth")
    assert found.state.keys() == STATE.keys()
    assert all(torch.equal(value, STATE[key]) for key, value in found.state.items())
    everything = load_inert(tmp_path / "a.pth")
    assert isinstance(everything["args"], Inert)
    assert everything["args"].state == {"lr": 0.02, "device": "cuda"}
    assert "mmengine_of_tests.HistoryBuffer" in object_names(tmp_path / "a.pth")
    # the next file meets PyTorch's own list again
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "a.pth", weights_only=True)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", [Calls, Grown])
@pytest.mark.parametrize("function", ["print", "exec", "eval", "getattr", "__import__", "open", "system", "mkdir"])
def test_nothing_is_executed(tmp_path, capsys, monkeypatch, zipped, kind, function):
    monkeypatch.chdir(tmp_path)
    call = {
        "print": (print, "executed"),
        "exec": (exec, "print('executed')"),
        "eval": (eval, "print('executed')"),
        "getattr": (getattr, "x", "upper"),
        "__import__": (builtins.__import__, "antigravity"),
        "open": (open, "made", "w"),
        "system": (os.system, "echo executed > made"),
        "mkdir": (os.mkdir, "made"),
    }[function]
    harmful = kind(*call)
    torch.save({"model": STATE, "args": harmful}, tmp_path / "beside.pth", _use_new_zipfile_serialization=zipped)
    torch.save({"model": STATE | {"b": harmful}}, tmp_path / "among.pth", _use_new_zipfile_serialization=zipped)
    torch.save({"model": harmful}, tmp_path / "whole.pth", _use_new_zipfile_serialization=zipped)
    for name in ("among.pth", "whole.pth"):
        with pytest.raises(DataError, match=f"{name} is no file of tensors"):
            read_weights(tmp_path / name)
    if function in ("system", "mkdir"):
        # PyTorch has modules that no list can allow
        with pytest.raises(DataError, match="beside.pth is no file of tensors"):
            read_weights(tmp_path / "beside.pth")
    else:
        assert read_weights(tmp_path / "beside.pth").state.keys() == STATE.keys()
    assert "executed" not in capsys.readouterr().out
    assert not (tmp_path / "made").exists()
    assert "antigravity" not in sys.modules


def test_what_neither_reader_knows_is_one_line(tmp_path):
    """Lists and dicts of other kinds."""
    for odd in (deque([1]), defaultdict(list, a=[1])):
        torch.save({"model": STATE, "odd": odd}, tmp_path / "a.pth")
        with pytest.raises(DataError) as error:
            read_weights(tmp_path / "a.pth")
        (line,) = error.value.problems
        assert "is no file of tensors" in line


def test_cut_files_are_one_line(tmp_path):
    """Wherever a file with objects in it ends, in both formats of PyTorch."""
    for zipped in (True, False):
        content = {"model": STATE, "args": argparse.Namespace(lr=0.1)}
        torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        whole = (tmp_path / "a.pth").read_bytes()
        for length in range(0, len(whole) - 1, len(whole) // 40):
            (tmp_path / "cut.pth").write_bytes(whole[:length])
            with pytest.raises(DataError) as error:
                read_weights(tmp_path / "cut.pth")
            assert len(error.value.problems) == 1


@pytest.mark.parametrize(
    ("args", "zero"),
    [
        ({"weights": "COCO_V1"}, True),
        ({"weights": "FasterRCNN_ResNet50_FPN_Weights.COCO_V1"}, True),
        ({"weights": "DEFAULT"}, True),
        ({"pretrained": True}, True),
        ({"weights": None, "weights_backbone": "IMAGENET1K_V1"}, False),
        ({"weights": "IMAGENET1K_V1"}, False),
        ({"pretrained": False}, False),
        ({"weights": 3}, False),
        ({}, False),
    ],
)
def test_references_that_started_from_coco_keep_their_eps(tmp_path, args, zero):
    """torchvision runs its COCO weights with eps 0, and what its script trains from them."""
    torch.save({"model": STATE, "args": argparse.Namespace(**args), "epoch": 25}, tmp_path / "model_25.pth")
    found = read_weights(tmp_path / "model_25.pth")
    expected = fold_zero_eps(STATE)["a.weight"] if zero else STATE["a.weight"]
    assert torch.equal(found.state["a.weight"], expected)
    assert len(found.notes) == zero
    assert had_zero_eps({"args": args}) is zero
    assert not had_zero_eps({"args": [1]})


def test_a_checkpoint_of_the_references_gives_the_same_model(tmp_path):
    source, target = small(seed=0), small(seed=1)
    content = {"model": source.state_dict(), "optimizer": {}, "args": argparse.Namespace(weights=None), "epoch": 3}
    torch.save(content, tmp_path / "checkpoint.pth")
    built = small(seed=2, weights=tmp_path / "checkpoint.pth")
    assert built.load_report.reinitialised == ()
    for key, value in source.state_dict().items():
        assert torch.equal(value, built.state_dict()[key]), key
        assert value.shape == target.state_dict()[key].shape
