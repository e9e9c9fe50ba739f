"""Slow tests report what they counted."""

import pytest


@pytest.fixture
def announce(request):
    """Writes a line on the terminal, also of a test that passes."""
    plugins = request.config.pluginmanager
    reporter, capture = plugins.get_plugin("terminalreporter"), plugins.get_plugin("capturemanager")

    def write(text):
        with capture.global_and_fixture_disabled():
            reporter.write_line(f"\n{text}")

    return write
