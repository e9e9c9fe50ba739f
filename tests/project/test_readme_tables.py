"""The tables of the README and of docs/results: current, and with the numbers of the results."""

from types import ModuleType

import pytest
from source_tree import load_script
from synthetic_run import synthetic_run

from inklab.records.results import Results

MAX_LINE = 160


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load_script("build_readme_tables")


def rows(table: str) -> dict[str, str]:
    return {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("| `")}


def test_the_tables_and_the_schema_are_current(script):
    for path, page in script.render_pages().items():
        assert path.read_text(encoding="utf-8") == page, "run scripts/build_readme_tables.py"
        assert max(map(len, page.splitlines())) <= MAX_LINE
    assert load_script("build_results_schema").main(["--check"]) == 0


def test_stored_results_have_the_seconds_and_parameters_that_the_page_shows(script):
    results = Results.read(script.RESULTS)
    table = rows(script.render_timings(results))
    assert table.keys() == {f"`{name}`" for name in results.timings.experiments}
    assert "| 150 trials | 545,810 | 963 |" in table["`l2-sweep`"]
    assert "| 12 evaluations | |" in table["`robustness`"]


def test_a_row_has_the_estimate_and_the_reference(script):
    results = synthetic_run().results
    table = rows(script.render_results(results))
    assert len(table) == len(results.experiments) - 1, "all but the data"
    estimate = results.training["mlp-64-64"].best.metrics["test_accuracy"].format("test_accuracy")
    assert f"| {estimate} | student report 11.35%; Keras, inputs scaled once 97.20% |" in table["`mlp-64-64`"]
    assert "diagnosis `inputs-scaled-twice` in 1 of 1" in table["`scaled-twice`"]
    assert "best by validation: l2 = 1e-5, " in table["`l2-sweep`"]
    assert "significantly different: 1e-6, 1e-3" in table["`l2-sweep`"]
    assert "| BCE 0.11" in table["`denoiser`"] and "perturbed 80.00%, gaussian" in table["`generation`"]
    best = results.experiments["robustness"].denoising.best.difference.format("recall")
    assert f"from strength 0.1; recall at 0.5: {best}" in table["`robustness`"]


def test_a_row_says_what_is_not_done(script):
    run = synthetic_run()
    run.fail("cnn-0-1")
    del run.outcomes["scaled-twice-0-0"]
    for k in range(6):
        for index in range(3):
            run.fail(f"l2-sweep-{index}-{k}")
    table = rows(script.render_results(run.results))
    assert "2 of 3 trials done, 1 diverged" in table["`cnn`"]
    assert "no value yet; 0 of 1 trial done, 1 waiting" in table["`scaled-twice`"]
    assert "no value yet; 0 of 18 trials done" in table["`l2-sweep`"]


def test_a_table_goes_between_its_markers_and_nowhere_else(script):
    page = script.README.read_text(encoding="utf-8")
    before, after = page.split("<!-- speed -->")[0], page.split("<!-- /speed -->")[1]
    filled = script.fill_page(page, "speed", "| new |")
    assert filled.startswith(before) and filled.endswith(after) and "| new |" in filled
    assert script.fill_page(filled, "speed", "| new |") == filled
    with pytest.raises(ValueError):
        script.fill_page("no markers", "speed", "| new |")
