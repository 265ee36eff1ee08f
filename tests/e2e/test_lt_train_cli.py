"""``lt-train`` as people type it."""

import argparse
import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from lt_cli.data import main as lt_data
from lt_cli.train import main
from PIL import Image

from lt_data import read_annotations
from lt_data.counts.categories import count_categories
from lt_data.errors import DataError
from lt_train.recipe.methods import METHODS
from tests.lt_train.pictures import leave_out_evaluations, leave_out_pictures

pytestmark = pytest.mark.usefixtures("narrow_detectors")

ROOT = Path(__file__).resolve().parents[2]
LT_TRAIN = Path(sys.executable).with_name("lt-train")


def lt_train(*arguments, cwd, command=main):
    """In this process, as what is tested here does not depend on it: each one that starts imports PyTorch."""
    with contextlib.chdir(cwd):
        run = CliRunner().invoke(command, [str(argument) for argument in arguments])
    # whatever else it raises would be a traceback
    assert run.exception is None or isinstance(run.exception, SystemExit), run.exception
    return run


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory):
    """The whole job on less data, and so with smaller groups; pictures are of both runs together."""
    folder = tmp_path_factory.mktemp("quickstart")
    sizes = {"POOL_IMAGES": 150, "SCALE": "0.015", "EDGES": (3, 8, 25), "VAL_IMAGES": 24, "VAL_LEAST": 1}
    with pytest.MonkeyPatch.context() as patch:
        leave_out_pictures(patch)
        for name, value in sizes.items():
            patch.setattr(f"lt_train.quickstart.{name}", value)
        run = lt_train("quickstart", "--iterations", "10", cwd=folder)
    assert run.exit_code == 0, run.output
    return folder / "runs/quickstart", run


def test_quickstart_prints_one_table_and_writes_its_pictures(quickstart):
    out, run = quickstart
    lines = run.stdout.splitlines()
    assert lines[0].split() == ["bbox", "classes", "softmax", "BAGS", "change"]
    assert [line.split("  ")[0] for line in lines[1:7]] == [
        "AP",
        "AP50",
        "(0, 3)",
        "[3, 8)",
        "[8, 25)",
        "[25, ~)",
    ]
    assert lines[-1] == "written: runs/quickstart"
    pictures = [out / "data/alignment.png", *(out / "report").iterdir()]
    assert {p.name for p in pictures} == {
        "alignment.png", "loss_curves.png", "group_ap_bbox.png", "group_ap_segm.png", "predictions.png",
    }  # fmt: skip
    for path in pictures:
        with Image.open(path) as image:
            assert min(image.size) > 300
    assert (out / "comparison.txt").read_text() in run.stdout


@pytest.mark.slow
def test_quickstart_data_is_what_its_recipe_states(tmp_path, monkeypatch):
    """In its real size; training is left out."""

    def trained(*_):
        raise DataError("enough")

    monkeypatch.setattr("lt_train.quickstart.fit", trained)
    run = lt_train("quickstart", cwd=tmp_path)
    assert (run.exit_code, run.stderr.splitlines()[-1]) == (1, "error: enough")
    out = tmp_path / "runs/quickstart"
    stats = json.loads(lt_train("group-stats", "data", "--format", "json", cwd=out, command=lt_data).stdout)
    assert [g["name"] for g in stats["groups"]] == ["(0, 10)", "[10, 30)", "[30, 100)", "[100, ~)"]
    assert all(g["categories"] > 0 for g in stats["groups"])
    counts = count_categories(read_annotations(out / "data/annotations.json"))
    assert 20 <= len(counts.category_ids) <= 30
    assert min(counts.instances) >= 1
    val = json.loads((out / "val/annotations.json").read_text())
    assert len(val["images"]) >= 150
    per_class = [sum(a["category_id"] == c for a in val["annotations"]) for c in counts.category_ids]
    assert min(per_class) >= 10
    assert max(per_class) <= 20


def test_files_of_groups_and_factors_are_trained_with(quickstart, tmp_path, monkeypatch):
    leave_out_pictures(monkeypatch)
    out, _ = quickstart
    places = {"data": out / "data", "pool": out / "pool"}
    for name, *command in (
        ("groups.json", "group-stats", places["data"], "--by", "frequency", "--write", "groups.json"),
        ("factors.csv", "repeat-factors", places["data"], "--threshold", "0.5", "--out", "factors.csv"),
    ):
        run = lt_train(*command, cwd=tmp_path, command=lt_data)
        assert run.exit_code == 0, run.output
        assert (tmp_path / name).is_file()
    asked = (
        *(f"data.train.annotations={places['data']}", f"data.train.images={places['pool'] / 'images'}"),
        *("data.val=null", "method=bags", "train=all", "sampler=repeat-factor", "schedule.iterations=2"),
        *("schedule.decay=[]", "schedule.warmup=0"),
    )
    ours = ("data.groups=groups.json", "sampler.factors=factors.csv")
    run = lt_train("fit", "quickstart", *asked, *ours, "--out", "run", cwd=tmp_path)
    assert run.exit_code == 0, run.stderr
    log = (tmp_path / "run/train.log").read_text()
    assert f"from data.groups={tmp_path}/groups.json, which beats {places['data'] / 'groups.json'}" in log
    assert f"from sampler.factors={tmp_path}/factors.csv, which beats {places['data'] / 'repeat_factors.csv'}" in log
    record = json.loads((tmp_path / "run/data.json").read_text())
    assert [*record["groups"]] == ["rare", "common", "frequent"]

    (tmp_path / "factors.csv").write_text("image_id,repeat_factor\n1,0\n")
    run = lt_train("fit", "quickstart", *asked, *ours, "--out", "other", cwd=tmp_path)
    assert run.exit_code == 1
    lines = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert any("factors.csv: repeat_factor: got line 2 '0'" in line for line in lines)
    assert not (tmp_path / "other").exists()


def test_stage_two_starts_from_the_baseline(quickstart):
    out, _ = quickstart
    log = (out / "bags/train.log").read_text()
    assert "train=classifier" in log
    assert "weights from runs/quickstart/softmax; newly initialised: roi_heads.box_predictor.cls_score" in log


def test_weights_from_elsewhere(quickstart, tmp_path):
    """A checkpoint as Lightning writes it trains on; one that another model needs is a line."""
    out, _ = quickstart
    state = torch.load(out / "softmax/checkpoints/last.pt", weights_only=True)["model"]
    own = {f"model.{key}": value for key, value in state.items()} | {"criterion.weight": torch.ones(2)}
    torch.save({"state_dict": own, "hyper_parameters": {"args": argparse.Namespace(lr=0.1)}}, tmp_path / "a.ckpt")
    start = ("fit", out / "softmax/recipe.yaml", "--dry-run")
    run = lt_train(*start, f"model.weights={tmp_path / 'a.ckpt'}", cwd=out.parents[1])
    assert run.exit_code == 0, run.stderr
    said = " ".join((run.stdout + run.stderr).split())
    assert "newly initialised: nothing" in said
    assert "weights under model.*; left aside: criterion.weight" in said
    torch.save({"state_dict": {"neck.lateral_convs.0.conv.weight": torch.ones(2)}, "meta": {}}, tmp_path / "b.pth")
    run = lt_train(*start, f"model.weights={tmp_path / 'b.pth'}", cwd=out.parents[1])
    assert run.exit_code == 1
    assert "they are mmdetection's, of another detector" in " ".join(run.stderr.split())


def test_eval_of_a_checkpoint_elsewhere(quickstart, monkeypatch):
    """Paths of the recipe are relative to where the run was started, which the run has noted."""
    leave_out_evaluations(monkeypatch)
    out, _ = quickstart
    files = ("--annotations", "val/annotations.json", "--images", "val/images")
    for more, name in (((), "noted"), (files, "again")):
        run = lt_train("eval", "softmax", "--checkpoint", "best", "--out", name, *more, cwd=out)
        assert run.exit_code == 0, run.stderr
    assert (out / "again/metrics.json").read_bytes() == (out / "noted/metrics.json").read_bytes()
    again = json.loads((out / "again/metrics.json").read_text())
    assert again == json.loads((out / "softmax/eval/metrics.json").read_text())


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("fit", "nonsense", "--out", "x"), 1, "no such shipped recipe"),
        (("fit", "quickstart"), 2, "Missing option '--out'"),
        (("fit", "quickstart", "optim.lrr=1", "--out", "x"), 1, "did you mean 'optim.lr'?"),
        (("fit", "quickstart", "--out", "x"), 1, "runs/quickstart/data"),
        (("fit", "quickstart", "--out", "x", "--resume", "--force"), 2, "exclude each other"),
        (("fit", "quickstart", "--out", "x", "--init-from", "none"), 1, "runs/quickstart/data"),
        (("fit", "quickstart", "--out", "x", "--resume", "seed=1"), 1, "x/checkpoints/last.pt: no such checkpoint"),
        (("fit", "--resume", "quickstart", "--out", "x"), 1, "x/checkpoints/last.pt: no such checkpoint"),
        (("fit", "quickstart", "--out", "x", "--resume=y"), 2, "leave out --out"),
        (("fit", "quickstart", "--dry-run", "--resume"), 2, "leave out --resume and --force"),
        (("fit", "quickstart", "--dry-run", "--out", "x", "--force"), 2, "leave out --resume and --force"),
        (("train", "quickstart"), 2, "Did you mean 'fit'?"),
        (("Test", "x"), 2, "Did you mean 'eval'?"),
        (("fit", "quickstart", "--lr", "0.1", "--out", "x"), 2, "No such option '--lr'; write optim.lr=VALUE."),
        (("fit", "quickstart", "--batch-size=2", "--out", "x"), 2, "write optim.batch=VALUE."),
        (("fit", "quickstart", "--ouut", "x"), 2, "No such option '--ouut'"),
        (("fit", "method=bags", "--out", "x"), 1, "the first word is the recipe"),
        (("fit", "quickstart", "data.groups=100,5", "--out", "x"), 1, "data.groups: got 100,5; "),
        (("eval", "none"), 1, "not a run directory"),
        (("eval", "none", "--annotations", "a.json"), 2, "give both or neither"),
        (("quickstart", "--out", "."), 1, "never overwrites"),
    ],
)
def test_mistakes(tmp_path, arguments, code, says):
    run = lt_train(*arguments, cwd=tmp_path)
    assert run.exit_code == code, run.stderr
    assert says in run.stderr
    assert list(tmp_path.iterdir()) == []


def test_methods_are_listed(tmp_path):
    run = lt_train("methods", cwd=tmp_path)
    assert run.exit_code == 0
    heading, kinds = "", {}
    for line in run.stdout.splitlines():
        if line and line[0] not in " *":
            heading = line
        elif line[:3].strip():
            kinds[line.split()[0]] = heading.split(":")[0].split(" (")[0]
    assert {*METHODS} <= {*kinds}
    examples = {"softmax": "Baselines", "rfs": "Samplers", "focal": "Whole network", "bags-tune-all": "Whole network"}
    examples |= {"bags": "Classifier only", "crt": "Classifier only", "lws": "Classifier only", "tau-norm": "Post-hoc"}
    assert {name: kinds[name] for name in examples} == examples
    for name, method in METHODS.items():
        assert kinds[name].split()[0].lower().startswith(method.kind.split()[0]), name
        assert re.search(rf"^  {name} +{re.escape('* ') * method.starts_from_run}[A-Z(]", run.stdout, re.MULTILINE), (
            name
        )


def test_a_method_is_shown(tmp_path):
    run = lt_train("methods", "bags", cwd=tmp_path)
    facts = dict(line.split(maxsplit=1) for line in run.stdout.splitlines()[2:] if line[:1].strip())
    assert (facts["kind"], facts["trains"]) == ("classifier only", "the classifier")
    assert facts["needs"] == "--init-from RUN, a softmax baseline"
    assert "lvis-v0.5 25.96, coco-lt 22.5" in " ".join(run.stdout.split())
    assert "variant=code and variant=text fill" in run.stdout
    run = lt_train("methods", "irfs", cwd=tmp_path)
    assert "nothing in the tables of BAGS; docs/more-methods.md has" in " ".join(run.stdout.split())
    assert "variant" not in run.stdout
    run = lt_train("methods", "baggs", cwd=tmp_path)
    assert run.exit_code == 2
    assert "'baggs' is not one of 'softmax'" in run.stderr


def test_lists_fit_a_terminal_and_help_has_whole_sentences(tmp_path):
    """Alone a path or a word that is longer stays whole."""
    for arguments in (
        ("methods",),
        ("methods", "bags"),
        ("config", "show", "mask_rcnn_r50_fpn_coco_lt"),
        ("--help",),
        ("fit", "--help"),
    ):
        lines = lt_train(*arguments, cwd=tmp_path).stdout.splitlines()
        long = [line for line in lines if len(line) > 80]
        assert len(long) <= (2 if "show" in arguments else 0), long
        assert not [line for line in lines if line.endswith("...") and "help" in arguments[-1] and "Usage" not in line]


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_leaves_one_table(quickstart, tmp_path):
    """The screen of a terminal of 80 columns after the run has ended, as far as that takes lines up and down."""
    code, screen = typed_ctrl_c(["fit", "quickstart", *ENDLESS, "--out", tmp_path / "run"], quickstart[0].parents[1])
    assert code == 75
    assert len([line for line in screen if line.startswith("step ")]) == 1
    assert ": interrupted after step " in [line for line in screen if line.strip()][-1]
    assert not [line for line in screen if "error" in line]


def typed_ctrl_c(arguments, folder):
    """Exit code and screen of a command in a terminal, into which Ctrl-C is typed at its first step."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ |= {"TERM": "xterm", "COLUMNS": "80", "LINES": "50"}
        os.execv(LT_TRAIN, [str(LT_TRAIN), *map(str, arguments)])
    shown, asked = b"", False
    with contextlib.suppress(OSError):  # a terminal whose process has ended
        while part := os.read(terminal, 65536):
            shown += part
            if not asked and re.search(rb"loss  +\d", shown):
                os.write(terminal, b"\x03")
                asked = True
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), on_screen(shown.decode())


def on_screen(text):
    """Lines that a terminal shows after control sequences that move up and erase lines."""
    lines, row, column = [""], 0, 0
    for token in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", text):
        if token == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif token == "\r":
            column = 0
        elif token == "\x1b[2K":
            lines[row] = ""
        elif token.startswith("\x1b"):
            row -= int(token[2:-1] or 1) if token.endswith("A") else 0
        else:
            lines[row] = lines[row].ljust(column)[:column] + token + lines[row][column + len(token) :]
            column += len(token)
    return lines


@pytest.mark.parametrize("command", ["data", "train"])
def test_an_interrupt_of_the_first_imports_is_no_traceback(command):
    """It comes while the package is imported, before there is a command to answer it."""
    code = (
        "import sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'click': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        f"import lt_cli.{command}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert done.stderr == "interrupted\n"


def test_calibrate(quickstart, tmp_path, monkeypatch):
    """As the documentation shows it: a search, a comparison with the baseline, and one line for each mistake."""
    leave_out_pictures(monkeypatch)
    runs = quickstart[0]
    options = ("--method", "tau-norm-select", "--search", "tau=0,1", "--out", tmp_path / "tau")
    run = lt_train("calibrate", runs / "softmax", *options, cwd=quickstart[0].parents[1])
    assert run.exit_code == 0, run.stderr
    assert run.stdout == f"written: {tmp_path / 'tau'}\n"
    assert "warning: seen: search: on " in run.stderr
    assert "best: tau=" in run.stderr
    again = lt_train("calibrate", runs / "softmax", *options, cwd=quickstart[0].parents[1])
    assert again.exit_code == 1
    assert "replace it with --force" in again.stderr
    compared = lt_train("compare", runs / "softmax", tmp_path / "tau", "--resamples", "10", cwd=runs.parents[1])
    assert compared.exit_code == 0, compared.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--method", "bags"), 2, "--method: got 'bags'; allowed are ncm-fc, ncm-conv, tau-norm, tau-norm-select"),
        (("--method", "tau-norm", "--search", "tau"), 1, "write OPTION=FIRST:LAST:STEP"),
        (("--method", "tau-norm", "--annotations", "a.json"), 2, "--annotations and --images belong together"),
        (("--method", "tau-norm", "calibration.tau=-1"), 1, "calibration.tau: got -1"),
        ((), 2, "Missing option '--method'"),
    ],
)
def test_calibrate_refuses(quickstart, tmp_path, arguments, code, says):
    out = ("--out", tmp_path / "run")
    run = lt_train("calibrate", quickstart[0] / "softmax", *arguments, *out, cwd=quickstart[0].parents[1])
    assert run.exit_code == code
    assert says in run.stderr
    assert not (tmp_path / "run").exists()


def test_recipes_are_listed(tmp_path):
    run = lt_train("recipes", "r_rcnn_r50_fpn_lvis_v1", cwd=tmp_path)
    assert run.stdout.split() == ["faster_rcnn_r50_fpn_lvis_v1"]
    run = lt_train("recipes", "zzz", cwd=tmp_path)
    assert (run.exit_code, run.stdout) == (1, "")
    assert run.stderr == "error: recipes: none of 16 has 'zzz' in its name; lt-train recipes lists all\n"


def test_a_complete_recipe_of_any_method_is_a_recipe(tmp_path):
    shown = ("config", "show", "mask_rcnn_r50_fpn_coco_lt")
    run = lt_train(*shown, "--method", "bags", "optim.lr=0.02", "--yaml", cwd=tmp_path)
    assert run.exit_code == 0, run.stderr
    (tmp_path / "bags.yaml").write_text(run.stdout)
    again = lt_train("config", "show", "bags.yaml", "--yaml", cwd=tmp_path)
    assert again.stdout == run.stdout
    assert lt_train(*shown, "method=bags", "optim.lr=0.02", "--yaml", cwd=tmp_path).stdout == run.stdout
    both = lt_train(*shown, "method=bags", "--method", "bags", cwd=tmp_path)
    assert both.exit_code == 2
    assert "--method and method= are the same" in both.stderr


def test_config_shows_where_values_come_from(tmp_path):
    shown = "config", "show", "faster_rcnn_r50_fpn_lvis_v0.5"
    run = lt_train(*shown, "head.beta=0.9", "head=focal", "method=focal-cls", "data.classes_below=null", cwd=tmp_path)
    assert run.exit_code == 0, run.stderr
    lines = {line.split()[0]: line.split()[1:] for line in run.stdout.splitlines()}
    assert lines["head.name"] == ["focal", "command", "line"]
    assert lines["head.beta"] == ["0.9", "command", "line"]
    assert lines["head.gamma"] == ["2.0", "default"]
    assert lines["train"] == ["classifier", "method", "focal-cls"]
    assert lines["data.classes_below"] == ["null", "command", "line"]
    # one line where the options of the old head are left over
    (tmp_path / "c.yaml").write_text(lt_train(*shown, "method=bags", "--yaml", cwd=tmp_path).stdout)
    run = lt_train("config", "show", "c.yaml", "head.name=softmax", cwd=tmp_path)
    assert run.exit_code == 1
    assert len(run.stderr.splitlines()) == 1
    assert "set head=softmax to replace the whole section" in run.stderr
    # a file of one's own: what another method drops is said
    (tmp_path / "r.yaml").write_text(
        "method: bags\nhead: {others_ratio: 3}\ndata: {train: {annotations: a.json, images: i}}\n"
    )
    run = lt_train("config", "show", "r.yaml", "method=focal", cwd=tmp_path)
    assert run.exit_code == 0
    assert run.stderr == "note: method=focal has head=focal; dropped from the recipe: head.others_ratio=3\n"
    run = lt_train("config", "show", "r.yaml", "method=bags", "head.gate=false", "head.merge=softmax", cwd=tmp_path)
    assert run.stderr.startswith("error: r.yaml: head: merge is softmax, which needs the gate")


ENDLESS = ("schedule.iterations=100000", "schedule.decay=[]", "log_every=1", "data.val=null", "trackers=[]")
# more than loader processes have ready: a step that was begun needs them to live on
SEVERAL_BATCHES = ("data.workers=1", "optim.accumulate=6", "optim.batch=1", "optim.base_batch=6")


def start_endless(folder, out, *options):
    """A run in a process group of its own, in which it has logged its first step."""
    run = subprocess.Popen(
        [LT_TRAIN, "fit", "quickstart", *ENDLESS, *options, "--out", out],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        # a parent that ignores the signal would hand that down
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    lines = []
    while not lines or "step 1/" not in lines[-1]:
        lines.append(run.stderr.readline())
        assert lines[-1], lines
    return run


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_to_all_processes_of_a_run_leaves_it_resumable(quickstart, tmp_path, number):
    """As a terminal and a scheduler send it: the loader processes get it too."""
    folder = quickstart[0].parents[1]
    run = start_endless(folder, tmp_path / "run", *SEVERAL_BATCHES)
    os.killpg(run.pid, number)
    _, rest = run.communicate()
    assert run.returncode == 75, rest
    line = rest.splitlines()[-1]
    pattern = r"interrupted after step (\d+) of 100000; continue with --resume, from the checkpoint of step (\d+)"
    found = re.fullmatch(f"{tmp_path}/run: {pattern}", line)
    assert found, rest
    assert found[1] == found[2]
    assert "Traceback" not in rest
    log = (tmp_path / "run/train.log").read_text()
    assert log.rstrip().endswith(line.removeprefix(f"{tmp_path}/run: interrupted "))
    assert f"step {found[1]}/" in log
    assert f"step {int(found[1]) + 1}/" not in log


@pytest.mark.parametrize(("files", "force"), [((), True), (("last.pt",), False), (("best.pt",), False)])
def test_resume_auto_replaces_what_has_no_checkpoint(tmp_path, monkeypatch, files, force):
    """A job that was stopped before its first checkpoint is started by the same command again."""
    called = {}
    fitted = lambda recipe, out, processes, **options: called.update(options)  # noqa: E731
    monkeypatch.setattr("lt_train.engine.fit.fit_together", fitted)
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    for name in files:
        (tmp_path / "run/checkpoints" / name).touch()
    done = CliRunner().invoke(main, ["fit", "quickstart", "--out", str(tmp_path / "run"), "--resume", "auto"])
    assert done.exit_code == 0, done.output
    assert (called["force"], called["resume"]) == (force, files != ())


@pytest.mark.parametrize(("files", "code"), [((), 1), (("last.pt",), 75)])
def test_an_interrupt_while_starting(tmp_path, monkeypatch, files, code):
    """A run with a checkpoint can be resumed, however early the second start was interrupted."""
    import lt_train.recipe.load

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(lt_train.recipe.load, "load_noted", interrupted)
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    for name in files:
        (tmp_path / "run/checkpoints" / name).touch()
    done = CliRunner().invoke(main, ["fit", "quickstart", "--out", str(tmp_path / "run"), "--resume", "auto"])
    assert done.exit_code == code, done.output


@pytest.mark.parametrize("value", ["", "never", "some-run"])
@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_value_of_resume_is_a_run_and_replaces_nothing(tmp_path, monkeypatch, value, force):
    """A job script whose variable is empty must not train over the run that it wanted to go on with."""
    import lt_train.engine.start as engine

    called = []
    monkeypatch.setattr(engine, "start_or_resume", lambda *args, **options: called.append((args, options)))
    out = ("--out", str(tmp_path / "run"))
    done = CliRunner().invoke(main, ["fit", "quickstart", *out, f"--resume={value}", *force])
    assert done.exit_code == 2, done.output
    assert called == []
    done = CliRunner().invoke(main, ["fit", "quickstart", f"--resume={value}"])
    if value:
        ((_, _, directory), options) = called[0]
        assert (str(directory), options["resume"], options["force"]) == (value, "always", False)
    else:
        assert done.exit_code == 2
        assert called == []


def test_a_full_standard_output_is_named():
    command = [sys.executable, "-m", "cli.train", "methods"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (1, "error: standard output: No space left on device\n")
