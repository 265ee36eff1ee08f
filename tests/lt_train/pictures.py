"""Pictures of runs, which take longer to draw than most runs of tests take to train."""


def leave_out_pictures(patch):
    """Runs draw nothing from now on; ``report/`` holds tables alone."""
    for module in ("fit", "calibrate"):
        patch.setattr(f"lt_train.engine.{module}.draw_run_report", lambda *_, **__: None)


def leave_out_evaluations(patch):
    """``lt-train eval`` draws nothing from now on."""
    patch.setattr("lt_train.report.run_report.draw_evaluation", lambda *_: None)
