"""Commands of studies in this process: each that is started imports PyTorch."""

from dataclasses import dataclass

from click.testing import CliRunner
from lt_cli.data import main as lt_data
from lt_cli.train import main as lt_train


@dataclass
class Ended:
    """A command that has ended as soon as it is started; see ``lt_train.studies.commands.Running``."""

    code: int | None
    processor_seconds: float = 0.0

    def poll(self):
        return self.code

    def end(self):
        self.code = 75 if self.code is None else self.code

    def kill(self):
        self.end()


def in_this_process(words, log, place=0, **_):
    """Runs the words of a command; see ``lt_train.studies.commands.Start``."""
    done = CliRunner().invoke({"lt-train": lt_train, "lt-data": lt_data}[words[0]], [*words[1:]])
    log.write_text(done.output)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Ended(done.exit_code)
