"""Proofs say what they counted."""

import pytest


@pytest.fixture
def tell(request):
    """Writes a line on the terminal, also of a test that passes."""
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    return lambda text: reporter.write_line(f"\n{text}")
