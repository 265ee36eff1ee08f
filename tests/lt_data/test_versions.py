"""What is said to be typed for an optional part."""

from importlib import metadata

import pytest

from lt_data import versions


def test_in_a_checkout_it_is_the_checkout():
    command = versions.install_command("train")
    assert command.startswith("pip install -e '/")
    assert command.endswith("[train]'")


@pytest.mark.parametrize(
    ("url", "what"), [("file://{}", "{}"), ("https://x/y.whl", "lt-detection"), (None, "lt-detection")]
)
def test_elsewhere_it_is_where_it_was_installed_from(monkeypatch, tmp_path, url, what):
    monkeypatch.setattr(versions, "__file__", str(tmp_path / "site-packages/lt_data/versions.py"))

    class Installed:
        def read_text(self, name):
            assert name == "direct_url.json"
            return None if url is None else '{"url": "%s"}' % url.format(tmp_path)

    monkeypatch.setattr(metadata, "distribution", lambda name: Installed())
    assert versions.install_command("eval") == f"pip install '{what.format(tmp_path)}[eval]'"
