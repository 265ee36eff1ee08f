"""What a long call says of itself."""


class Told:
    """Keeps every step and count; ``on_step`` is called with each step."""

    def __init__(self, on_step=lambda _: None):
        self.steps, self.counts, self.on_step = [], [], on_step

    def step(self, what):
        self.steps.append(what)
        self.on_step(what)

    def __call__(self, done, total):
        self.counts.append((done, total))
