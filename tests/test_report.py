import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from synthetic_report import MadeUp, digits_plan, made_up_run

from inklab.report import build_report, write_report
from inklab.report.figures.training_plots import learning_curves
from inklab.report.page import MAX_CSV
from inklab.report.sections import TEMPLATES, known_answers, robustness_tables
from inklab.study.load import read_study

VOID = {"meta", "link", "br", "img", "hr", "input"}
HOSTILE = '<script>alert("1")</script>'


class Outline(HTMLParser):
    """Collects what the tests ask about a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    note = "MNIST can't be had here; this is mnist-5k."
    return made_up_run(tmp_path_factory.mktemp("run") / "abc123", digits_plan("full", note=note, test=400))


@pytest.fixture(scope="module")
def page(run):
    return write_report(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def outline(page):
    return Outline(page)


def words(page: str) -> str:
    """A page's text without tags, spaces made plain."""
    body = re.sub(r"<(style|svg)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", body))


def small(run_path, **chapter) -> MadeUp:
    """A run of somebody's own study: one chapter, two classes, nothing done."""
    data = {"source": "mine", "sha256": "f" * 64, "train": 60, "validation": 20, "test": 20, "note": None}
    data |= {"shape": [3, 8, 8], "labels": ["tick & cross", "none"], "counts": {}}
    settings = {"model": {"name": "my_net.py:Net"}, "recipe": {"objective": "classify"}, "precision": "fp32"}
    one = {"name": "Mine/1", "kind": "train", "title": "Mine", "question": "?", "answers": [], "vary": []}
    one |= {"settings": [{"values": {}, "settings": settings, "trials": ["t0"]}]}
    plan = {"format": 1, "study": "mine", "title": "Mine", "profile": "plain", "seed": 3, "data": data}
    return MadeUp(run_path, plan | {"how": {}, "chapters": [one | chapter], "trials": {}, "groups": []})


def test_the_page_asks_for_nothing_from_outside(page, outline):
    assert "script" not in {
        tag for tag, _ in outline.tags
    }  # this run has no bundles, so no pad: test_report_pad.py
    assert not {"link", "iframe", "object", "embed", "form"} & {tag for tag, _ in outline.tags}
    for _, attributes in outline.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), attributes
        assert not [name for name in attributes if name.startswith("on")]
    assert "@import" not in page and not re.search(r"url\((?!#|[\"']?data:)", page)
    policy = next(
        one["content"] for one in outline.all("meta") if one.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy


def test_a_full_run_stays_small(page):
    assert len(page.encode()) < 3_000_000


def test_tags_are_closed_in_order(page):
    class Nesting(HTMLParser):
        def __init__(self):
            super().__init__()
            self.open = []

        def handle_starttag(self, tag, attrs):
            if tag not in VOID:
                self.open.append(tag)

        def handle_startendtag(self, tag, attrs):
            pass

        def handle_endtag(self, tag):
            assert self.open.pop() == tag

    nesting = Nesting()
    nesting.feed(page)
    assert not nesting.open


def test_landmarks_headings_and_links(page, outline):
    assert all(len(outline.all(tag)) == 1 for tag in ("header", "nav", "main", "footer", "h1"))
    levels = [int(tag[1]) for tag, _ in outline.tags if re.fullmatch(r"h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))
    ids = [one["id"] for _, one in outline.tags if one.get("id")]
    assert len(ids) == len(set(ids))
    targets = {one["href"][1:] for one in outline.all("a") if str(one.get("href")).startswith("#")}
    assert targets <= set(ids) and len(targets) > 10
    assert '<html lang="en">' in page


def test_tables_and_figures_speak_to_those_who_cannot_see(page, outline):
    assert len(outline.all("caption")) == len(outline.all("table")) > 10
    assert all(one.get("scope") in ("col", "row") for one in outline.all("th"))
    pictures = [one for one in outline.all("svg")]
    assert len(pictures) == len(outline.all("figcaption")) > 10
    assert all(one.get("role") == "img" and len(str(one.get("aria-label"))) > 20 for one in pictures)


def test_every_figure_carries_its_data(outline):
    links = [one for one in outline.all("a") if "download" in one]
    assert len(links) == len(outline.all("figure"))
    assert all(str(one["href"]).startswith("data:text/csv") for one in links)


def test_data_that_would_swell_the_page_stay_in_the_folder(run):
    figure = learning_curves(run, run.chapter("cnn"))
    rows = figure.rows * (2 * MAX_CSV // len(figure.csv()))
    text = build_report(run, {"cnn": [replace(figure, rows=rows)]})
    assert f"too much for this page: <code>figures/{figure.name}.csv</code>, {len(rows)} rows" in text
    assert "data:text/csv" not in text and len(text) < MAX_CSV


def test_a_sweep_alone_needs_no_headline(tmp_path):
    plan = digits_plan("quick", test=400)
    plan["chapters"] = [chapter for chapter in plan["chapters"] if chapter["name"] == "l2-sweep"]
    assert "No chapter is finished yet." not in words(build_report(made_up_run(tmp_path, plan)))


def test_equal_replicates_are_starred_with_the_interval_over_images(tmp_path):
    plan = digits_plan("full", test=400)
    plan["chapters"] = [each for each in plan["chapters"] if each["name"] in ("mlp-64-64", "noise")]
    run = made_up_run(tmp_path, plan)
    for trial in run.chapter("mlp-64-64")["settings"][0]["trials"]:
        run.outcomes[trial]["scores"]["test_accuracy"] = 0.1135
    for planned in run.chapter("noise")["evaluations"]:
        run.evaluations[planned["id"]]["tpr"][-1] = 0.1
    text = words(build_report(run.summarise())).replace("\u202f", " ")
    low, high = run.results["chapters"]["mlp-64-64"]["test_accuracy"]["ci95_images"]
    assert f"{100 * low:.2f} to {100 * high:.2f} %*" in text
    assert "* Over test or validation images (Wilson), for all replicates gave the same." in text
    low, high = run.results["chapters"]["noise"]["pipelines"]["cnn"]["tpr"][-1]["ci95_images"]
    assert f"10.0 ({100 * low:.1f} to {100 * high:.1f})*" in text
    assert "* All replicates gave the same, so the interval is over test images (Wilson)" in text
    assert "over test images also where all replicates gave the same" in text


def test_the_note_about_the_data_comes_first(page):
    text = words(page)
    assert "MNIST can’t be had here" in text
    assert text.index("MNIST can’t be had here") < text.index("Contents") < text.index("Summary")


def test_every_chapter_tells_question_method_and_numbers(run, page):
    text = words(page)
    for chapter in run.plan["chapters"][:-1]:
        assert chapter["title"] in text
    score = run.results["chapters"]["mlp-64-64"]["test_accuracy"]
    assert f"{100 * score['mean']:.2f}\u202f%" in page
    assert "Network mlp (hidden 64-64); SGD, rate 0.1; batches of 128; 10 epochs; cross-entropy" in text
    assert "5 replicates" in text and "bf16" in text


def test_the_verdict_is_a_callout_with_evidence_and_advice(page):
    callout = re.search(r"<aside.*?</aside>", page, flags=re.DOTALL)[0]
    text = words(callout)
    assert "inputs-scaled-twice" in text and "largest input" in text and "0.0039216" in text
    assert "What to do: Divide the images by 255 once" in text


def test_failed_trials_are_counted_and_named(tmp_path):
    run = made_up_run(tmp_path, digits_plan("quick", test=400))
    trial = run.chapter("l2-sweep")["settings"][4]["trials"][2]
    run.outcomes[trial] |= {"state": "diverged", "scores": None, "reason": "the loss became NaN in epoch 2"}
    text = words(build_report(run.summarise(), {}))
    assert "14 of 15, 1 diverged" in text
    assert "l2 = 1e-3, replicate 2: diverged; the loss became NaN in epoch 2." in text.replace("\xa0", " ")


def test_a_chapter_whose_trials_all_diverged_says_so(tmp_path):
    run = made_up_run(tmp_path, digits_plan("quick", test=400))
    for trial in run.chapter("cnn")["settings"][0]["trials"]:
        run.outcomes[trial] |= {"state": "diverged", "scores": None, "reason": "NaN", "history": None}
    for planned in run.chapter("noise")["evaluations"]:
        run.evaluations[planned["id"]] |= {
            "state": "failed",
            "reason": "no cnn",
            "tpr": [],
            "tpr_per_class": [],
        }
    text = words(build_report(run.summarise(), {}))
    assert "There is nothing to average." in text and "0 of 1, 1 diverged" in text
    assert "cnn, replicate 0: failed; no cnn." in text


def test_a_run_without_anything_done_is_still_a_report(tmp_path):
    run = MadeUp(tmp_path, digits_plan("quick"))
    text = words(build_report(run))
    assert "No chapter is finished yet." in text
    assert text.count("Nothing of this chapter has been run yet.") == 9


def test_somebodys_own_study_with_colour_images(tmp_path):
    run = small(tmp_path)
    run.outcomes["t0"] = {
        "id": "t0",
        "replicate": 0,
        "state": "done",
        "parameters": 7,
        "seconds": 1.0,
        "reason": None,
    }
    run.outcomes["t0"] |= {"scores": {"test_accuracy": 0.5, "test_loss": 1.0}, "verdicts": [], "history": {}}
    run.pixels, run.labels = np.full((4, 3, 8, 8), 200, np.uint8), np.array([0, 1, 0, 1])
    page = build_report(run.summarise())
    assert "50.00\u202f%" in page and 'id="mine-1"' in page and "my_net.py:Net" in page


@pytest.mark.parametrize(
    "place", ["title", "question", "reason", "label", "note", "sentence", "finding", "verdict"]
)
def test_nothing_from_a_study_becomes_markup(tmp_path, place):
    run = small(tmp_path, **({place: HOSTILE} if place == "question" else {}))
    failed = {
        "id": "t0",
        "replicate": 0,
        "state": "failed",
        "reason": HOSTILE,
        "verdicts": [],
        "scores": None,
    }
    run.outcomes["t0"] = failed | {"seconds": 0.0}
    run.plan["title"] = HOSTILE
    run.plan["data"] |= {"note": HOSTILE, "labels": [HOSTILE, "b"], "counts": {"train": [3, 4]}}
    run.plan["chapters"].insert(
        0, {"name": "data", "kind": "data", "title": HOSTILE, "question": "", "answers": []}
    )
    run.outcomes["t0"]["verdicts"] = [
        {"name": HOSTILE, "finding": HOSTILE, "advice": HOSTILE, "evidence": {HOSTILE: HOSTILE}}
    ]
    run.results = {"chapters": {"findings": [HOSTILE]}, "environment": {HOSTILE: HOSTILE}}
    run.sentences = {"Mine/1": HOSTILE}
    page = build_report(run)
    assert "<script" not in page and page.count("&lt;script&gt;") > 8


def test_answers_are_well_formed_and_those_of_the_built_in_study_exist():
    wanted = {"relu", "softmax", "cross-entropy", "convolution", "pooling", "dropout", "l2", "preprocessing"}
    assert known_answers() == wanted | {"denoising", "generation", "replicates", "test-set"}
    for name in known_answers():
        text = (TEMPLATES / "answers" / f"{name}.html").read_text(encoding="utf-8").replace("&nbsp;", "\xa0")
        answer = ElementTree.fromstring(f"<div>{text}</div>")
        assert answer[0].tag == "h3" and len("".join(answer.itertext())) > 400
    spec, _ = read_study("digits")
    named = {answer for chapter in spec.chapters.values() for answer in chapter.answers}
    assert named == known_answers(), "every written answer has its place in the study"


def test_an_answer_that_is_not_there_is_left_out(tmp_path):
    assert "../../secret" not in build_report(small(tmp_path, answers=["../../secret", "relu"]))


def test_a_table_is_shown_once(run, page):
    layers = re.findall(r"Layers of the network", page)
    assert len(layers) == 1  # all made-up networks have the same layers


def test_files_are_written(run, page):
    assert (run.path / "figures" / "noise-curves.svg").is_file()
    assert (run.path / "figures" / "noise-curves.csv").is_file()
    assert (
        json.dumps(run.path.name).strip('"') in page and f"inklab report runs/digits/{run.path.name}" in page
    )


def test_the_page_is_the_same_every_time(run):
    assert build_report(run, {}) == build_report(run, {})


def test_intervals_of_many_pipelines_stand_below_their_means(run, tmp_path):
    """Beside them they would run out of the page, and be cut off in print."""
    pipelines = ["cnn", "denoiser+cnn", "median+cnn", "noise-trained-cnn", "median+denoiser+cnn"]
    plan = digits_plan("quick", (f"noise.pipelines={pipelines}",), test=400)
    plan["chapters"] = [each for each in plan["chapters"] if each["kind"] in ("train", "noise")]
    many = made_up_run(tmp_path, plan)
    (few_rates, *_), (many_rates, *_) = (
        robustness_tables(each, each.chapter("noise")) for each in (run, many)
    )
    assert len(few_rates.head) == 5 and len(many_rates.head) == 6
    assert not any("\n" in cell for row in few_rates.rows for cell in row)
    assert all(cell.count("\n(") == 1 for row in many_rates.rows for cell in row[1:])
