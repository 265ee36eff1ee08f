"""Training in several processes: the steps of one process, whatever their number."""

import itertools
import json
import os
import time
from functools import partial

import pytest
import torch
from torch.nn import functional as F

import lt_train.runs.model as run_model
from lt_data.errors import RecipeError
from lt_data.machine import processor
from lt_train.data.plan import Plan
from lt_train.data.share import check_shareable, own_part
from lt_train.engine import fit as engine
from lt_train.engine.fit import fit
from lt_train.engine.step import Draws
from lt_train.engine.together import describe_processes
from lt_train.global_batch import sharing, summed
from lt_train.heads.shared.base import micro_batch_sum
from lt_train.heads.shared.counts import TrainingCounts
from lt_train.heads.softmax.options import SoftmaxOptions
from lt_train.heads.softmax.plain import SoftmaxHead
from lt_train.inference.evaluate_run import evaluate_run
from lt_train.processes import Processes, run_together
from lt_train.runs.checkpoint import load_checkpoint
from lt_train.runs.data import load_run_data
from lt_train.runs.directory import RunDir
from tests.lt_train.engine.stepping import Stepper, assert_same, infinite, interrupt_in_step, spoil
from tests.lt_train.several import start

STEPS = 3
# one padded size, rounds of 12
COMMON = (
    *("optim.batch=12", "optim.base_batch=12", "optim.clip=1.0", f"schedule.iterations={STEPS}"),
    *("schedule.decay=[]", "schedule.warmup=0", "data.val=null"),
)
# of 12 images: the second step of an epoch has two micro-batches, one process of three has none
UNEVEN = ("optim.batch=6", "optim.base_batch=6", "optim.micro_batch=1", "head.name=bags", "eval.every=2")
SYSTEMS = {
    "softmax": ("method=softmax",),
    "BAGS": ("head.name=bags", "optim.micro_batch=2", "optim.accumulate=2", "optim.base_batch=24"),
    "BAGS, divisors of the batch": ("head.name=bags", "optim.micro_batch=2", "optim.divisors=batch"),
}


def finished(recipe, out, *, resume=False, interrupted=None, slow=0.0, spoilt=None):
    """A run in several processes.

    In one of them a signal may come in the third step, or the loss of the second one be infinite; process 0 may be slow
    to write checkpoints.
    """

    def work():
        rank = os.environ["RANK"]
        if rank == "0" and slow:
            write = engine.save_checkpoint
            engine.save_checkpoint = lambda *args, **options: (time.sleep(slow), write(*args, **options))
        if spoilt is not None and rank == str(spoilt):
            spoil(pytest.MonkeyPatch(), {1}, infinite)
        if interrupted is not None and os.environ["RANK"] == str(interrupted):
            interrupt_in_step(pytest.MonkeyPatch(), 3)
        try:
            done = fit(recipe, out, resume=resume)
        finally:
            # what a launcher that ends all processes at this moment would leave
            out.with_name(f"seen-by-{rank}").write_text(" ".join(sorted(p.name for p in out.glob("checkpoints/*.pt"))))
        return done and done.path.name

    return work()


def train(recipes, out):
    """Losses and weights of each system after a few steps; written by process 0."""

    def work(processes):
        for number, recipe in enumerate(recipes):
            stepper = Stepper(recipe, processes, stored=True)
            losses = [stepper.step().read() for _ in range(STEPS)]
            if processes.is_first:
                buffers = dict(stepper.state.model.named_buffers())
                content = {"losses": losses, "weights": stepper.weights(), "buffers": buffers}
                torch.save(content, out / f"{processes.world}-{number}.pt")
        return "done"

    return run_together(work)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, make_tiny_recipe):
    """The folder with what 1, 2 and 3 processes trained."""
    out = tmp_path_factory.mktemp("together")
    recipes = [make_tiny_recipe(*COMMON, *system) for system in SYSTEMS.values()]
    for world in (1, 2, 3):
        assert start(world, partial(train, recipes, out)) == ["'done'"] + ["None"] * (world - 1)
    return out


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("number", range(len(SYSTEMS)), ids=SYSTEMS)
def test_steps_are_those_of_one_process(trained, world, number):
    one, several = (torch.load(trained / f"{w}-{number}.pt") for w in (1, world))
    torch.testing.assert_close(several["losses"][0], one["losses"][0], rtol=1e-5, atol=1e-6)
    for name, weight in one["weights"].items():
        torch.testing.assert_close(several["weights"][name], weight, rtol=1e-4, atol=1e-5, msg=name)


def test_divisors_and_micro_batches_are_not_the_same(trained):
    """The comparison above would notice a head that ignores them."""
    first = [torch.load(trained / f"1-{number}.pt")["losses"][0] for number in range(len(SYSTEMS))]
    assert len({json.dumps(losses, sort_keys=True) for losses in first}) == len(SYSTEMS)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, make_tiny_recipe):
    """The recipe and folder of runs that 1, 2 and 3 processes took from start to end."""
    out = tmp_path_factory.mktemp("undisturbed")
    recipe = make_tiny_recipe(*UNEVEN, "schedule.iterations=5", "schedule.decay=[4]", "schedule.warmup=1")
    for world in (1, 2, 3):
        assert start(world, partial(finished, recipe, out / str(world)))[0] == repr(str(world))
    return recipe, out


def weights(run):
    return load_checkpoint(RunDir(run).last)["model"]


@pytest.mark.parametrize(("world", "where"), [(2, 1), (3, 0)])
def test_a_signal_to_one_process_stops_all_and_the_run_goes_on_bit_by_bit(undisturbed, tmp_path, world, where):
    recipe, whole = undisturbed
    ended = start(world, partial(finished, recipe, tmp_path / "run", interrupted=where))
    wanted = "interrupted: after step 3 of 5; continue with --resume, from the checkpoint of step 3"
    assert ended == [wanted] * world
    assert start(world, partial(finished, recipe, tmp_path / "run", resume=True))[0] == "'run'"
    assert_same(weights(tmp_path / "run"), weights(whole / str(world)))
    metrics = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in metrics if "loss" in line] == [1, 2, 3, 4, 5]


def test_no_process_leaves_before_the_first_has_saved(tiny_recipe, tmp_path):
    """Launchers kill the others when one is gone."""
    recipe, run = tiny_recipe("data.val=null", "schedule.iterations=30", "schedule.decay=[]"), tmp_path / "run"
    start(2, partial(finished, recipe, run, interrupted=1, slow=2.0))
    assert [(tmp_path / f"seen-by-{rank}").read_text() for rank in (0, 1)] == ["last.pt"] * 2


def test_the_model_that_is_evaluated_is_the_one_that_is_saved(undisturbed, tmp_path):
    """Batch norms have statistics of their own in each process."""
    _, whole = undisturbed
    evaluate_run(whole / "2", out=tmp_path / "alone")
    for name in ("metrics.json", "predictions.json"):
        assert (whole / "2/eval" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_a_run_says_what_makes_it_another_one(undisturbed):
    _, whole = undisturbed
    alone, two = ((whole / world / "train.log").read_text() for world in "12")
    assert "processes: 2, which share the 6 images of a forward pass" in two
    assert "is not the same run: batch norms take the statistics of each process's own images\n" in two
    assert "processes: " not in alone


@pytest.mark.parametrize(("head", "said"), [("seesaw", True), ("softmax", False)])
def test_what_a_head_carries_moves_once_a_pass(tiny_recipe, head, said):
    recipe = tiny_recipe(f"head={head}", "optim.accumulate=2", "data.val=null")
    state = Stepper(recipe).state
    # nothing is sent: the lines go by the number alone
    state.processes = Processes(world=2)
    line = describe_processes(recipe, load_run_data(recipe), state)[1]
    assert "each of the 2 forward passes of a step has divisors of its own" in line
    assert ("what head seesaw carries from batch to batch moves at each of them, not once a step" in line) is said


def test_a_loss_that_is_infinite_in_one_process_stops_all_after_the_same_step(tiny_recipe, tmp_path):
    run = tmp_path / "run"
    said = start(2, partial(finished, tiny_recipe("data.val=null", "optim.batch=4"), run, spoilt=1))
    assert said[1] == "None"
    assert said[0].startswith("error: step 2 (last images ")
    assert said[0].endswith(f"; lt-train replay {run}/debug/step-2 takes the step again and says where it begins")
    kept = json.loads((run / "debug/step-2/step.json").read_text())
    assert (kept["processes"], [len(batch) for batch in kept["batches"]]) == (2, [4])


def looked_around():
    """What two processes say that see different files, and the sum of a count that floats cannot hold."""

    def work(processes):
        processes.compare({"files": "the same"})
        with sharing(2):
            total = int(summed(torch.tensor(2**24 + 1)))
        if total != 2**25 + 2:
            return total
        return processes.compare({"recipe": "the same", "files": str(processes.rank)})

    return run_together(work)


def test_processes_that_see_other_files_are_refused():
    said = start(2, looked_around)
    assert said[0] == "None"
    assert said[1].startswith("error: process 1 of 2 sees other things than process 0: files; all processes need")


def test_another_number_of_processes_goes_on_with_the_same_run(undisturbed, tmp_path):
    recipe, whole = undisturbed
    start(3, partial(finished, recipe, tmp_path / "run", interrupted=0))
    start(2, partial(finished, recipe, tmp_path / "run", resume=True))
    environment = json.loads((tmp_path / "run/environment.json").read_text())
    assert (environment["processes"], environment["processor"]) == (2, processor())
    seen = [(folder / "report/seen.csv").read_text() for folder in (tmp_path / "run", whole / "1")]
    assert seen[0] == seen[1]


def test_a_process_without_images_takes_part(undisturbed):
    """The losses of its steps are those of one process but for batch norms, which see fewer images each."""
    _, whole = undisturbed
    plan = Plan(0, 8, 6, 1, epochs=1)
    assert [len(batch) for batch in Draws(plan, 0, Processes(2, 3), 1)] == [2, 0]
    first, last = (json.loads((whole / w / "metrics.jsonl").read_text().splitlines()[-1]) for w in ("1", "3"))
    assert first.keys() == last.keys()


def test_every_image_is_one_process_s_in_whole_micro_batches():
    for world, unit, count in itertools.product((1, 2, 3, 5), (1, 2, 3), range(14)):
        parts = [own_part(range(count), rank=rank, world=world, unit=unit) for rank in range(world)]
        assert [i for part in parts for i in part] == list(range(count))
        assert all(part[0] % unit == 0 for part in parts if len(part))
        sizes = [-(-len(part) // unit) for part in parts]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(
    ("batch", "unit", "world", "allowed"),
    [(16, 2, 3, "multiples of 6, such as 12 and 18, or start 2 processes"), (2, 1, 4, "such as 4, or start 2"),
     (7, 7, 2, "multiples of 14, such as 14$")],
)  # fmt: skip
def test_a_batch_that_cannot_be_dealt_out(batch, unit, world, allowed):
    with pytest.raises(RecipeError, match=allowed):
        check_shareable(batch, unit, world)
    check_shareable(batch * world * unit, unit, world)


def test_a_head_that_samples_in_the_batch_needs_micro_batches(make_tiny_recipe, tmp_path):
    recipe = make_tiny_recipe("head.name=bags", "data.val=null")
    said = start(2, partial(finished, recipe, tmp_path / "run"))
    assert sorted(text.partition(":")[0] for text in said) == ["None", "error"]
    assert "optim.micro_batch: is null, and head bags draws regions" in "".join(said)


class CountingHead(SoftmaxHead):
    """A head with a state: it counts what it has seen, in all processes, and weighs classes by it at once."""

    def __init__(self, counts, options):
        super().__init__(counts, options)
        self.register_buffer("seen", torch.ones(self.num_logits))

    def _losses(self, logits, labels, around):
        self.seen += summed(labels.bincount(minlength=self.num_logits).float())
        losses = F.cross_entropy(logits, labels, reduction="none") / self.seen.log1p()[labels]
        return {"loss_classifier": micro_batch_sum(losses, around.micro_batch)}


def with_counting_head(work, *arguments, **options):
    pytest.MonkeyPatch().setattr(run_model, "make_head", lambda _, instance_counts, **__: CountingHead(
        TrainingCounts.checked(instance_counts), SoftmaxOptions()))  # fmt: skip
    return work(*arguments, **options)


def test_the_state_of_a_head_is_that_of_one_process(make_tiny_recipe, tmp_path):
    recipe = make_tiny_recipe(*COMMON)
    for world in (1, 2):
        start(world, partial(with_counting_head, train, [recipe], tmp_path))
    one, two = (torch.load(tmp_path / f"{world}-0.pt") for world in (1, 2))
    torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-4, atol=1e-5)
    assert one["buffers"]["roi_heads.head.seen"].sum() > 5 * 12
    assert torch.equal(one["buffers"]["roi_heads.head.seen"], two["buffers"]["roi_heads.head.seen"])


def test_the_state_of_a_head_goes_on(make_tiny_recipe, tmp_path):
    recipe = make_tiny_recipe("data.val=null", "schedule.iterations=5", "schedule.decay=[]", "schedule.warmup=1")
    start(2, partial(with_counting_head, finished, recipe, tmp_path / "whole"))
    start(2, partial(with_counting_head, finished, recipe, tmp_path / "run", interrupted=1))
    start(2, partial(with_counting_head, finished, recipe, tmp_path / "run", resume=True))
    assert weights(tmp_path / "run")["roi_heads.head.seen"].sum() > 100
    assert_same(weights(tmp_path / "run"), weights(tmp_path / "whole"))
