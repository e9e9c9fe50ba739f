"""Mistakes that only planning can see, told by chapter before anything is trained."""

import pytest
from plan_builder import NET, planned

from inklab.errors import ConfigError, InklabError
from inklab.study.load import check_names, parse_study, read_study

NOISE = {"kind": "noise", "pipelines": ["net"], "alone": "net"}
DRAWN = {"kind": "generator", "decoder": "auto", "judge": "net"}
AUTO = {"model": "autoencoder", "recipe": "denoise", "replicates": 2}
SWEEP = {**NET, "vary": {"recipe.l2": [0.0, 0.1]}}


def vary(key, *values):
    return {"net": {**NET, "vary": {key: list(values)}}}


def noise(*pipelines, **more):
    return {"n": {**NOISE, "pipelines": list(pipelines or ["net"]), **more}}


def drawn(**more):
    return {"g": {**DRAWN, **more}}


def recipe(**more):
    return {"o": {**NET, "recipe": more}}


def shown(name, strength):
    return recipe(corruption={"name": name, "strength": strength})


NEEDS_DENOISER = "'net' trains a classifier, but stands where a denoiser is needed"
NEEDS_CLASSIFIER = "'auto' trains a denoiser, but stands where a classifier is needed"


@pytest.mark.parametrize(
    ("chapters", "says"),
    [
        ({"net": {**NET, "model": "mpl"}}, "chapter 'net': no model is called 'mpl'. Did you mean 'mlp'?"),
        (
            {"net": {**NET, "model": {"name": "mlp", "hiden": [3]}}},
            "no setting 'hiden'. Did you mean 'hidden'?",
        ),
        (
            vary("recipe.rat", 1),
            "chapter 'net': vary names 'recipe.rat'. Did you mean 'rate'? Allowed there: ",
        ),
        (vary("recip.rate", 1), "vary names 'recip.rate', but the chapter has no table 'recip'"),
        (vary("recipe.rate", 0.1, -1), "vary gives (-1,), which the chapter can't have: recipe.rate"),
        (vary("model.hiden", [3]), "has no setting 'hiden'. Did you mean 'hidden'?"),
        (vary("replicate", 3), "vary names 'replicate'. Did you mean 'replicates'?"),
        (noise(alone="cnn"), "chapter 'n': 'cnn' is what other pipelines are compared with"),
        (noise("net", "median"), "pipeline 'median' must end in a classifier"),
        (noise("net", "median+nett"), "Did you mean 'net'?"),
        (noise("net", ""), "pipeline '' must end in a classifier"),
        (
            {"net": SWEEP, **noise()},
            "chapter 'n': chapter 'net' has 2 settings, so it can't be part of",
        ),
        (drawn(), "chapter 'g': no train chapter is called 'auto'"),
        ({"net": SWEEP, "auto": AUTO, **drawn()}, "chapter 'net' has 2 settings"),
        ({**noise(), **drawn(decoder="n")}, "no train chapter is called 'n'"),
    ],
)
def test_the_plan_refuses(chapters, says):
    with pytest.raises(ConfigError) as caught:
        planned({"net": NET, **chapters})
    assert says in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("chapters", "says"),
    [
        (noise("net", "medain+net"), "filter is called 'medain'. Did you mean 'median'?"),
        (noise(corruption="salt"), "no corruption is called 'salt'"),
        (noise(strengths=[0, 2]), "strength 2 of 'salt_and_pepper' is out of range; allowed: 0 to 1"),
        (drawn(samplers=["gausian"]), "no sampler is called 'gausian'. Did you mean 'gaussian'?"),
        (drawn(decoder="net", judge="net"), NEEDS_DENOISER),
        (drawn(judge="auto"), NEEDS_CLASSIFIER),
        (noise("net", "auto"), NEEDS_CLASSIFIER),
        (noise("net", "net+net"), NEEDS_DENOISER),
        ({"median": NET}, "'median' is a filter in pipelines, so no train chapter may be called so"),
        (recipe(objective="clasify"), "no objective is called 'clasify'. Did you mean 'classify'?"),
        (shown("shott", 0.1), "no corruption is called 'shott'"),
        (shown("shot", [0, 9]), "strength 9 of 'shot' is out of range"),
    ],
)
def test_names_that_only_torchs_side_knows_are_checked_too(chapters, says):
    spec = parse_study({"name": "s", "chapters": {"net": NET, "auto": AUTO, **chapters}}, "s")
    with pytest.raises(InklabError) as caught:
        check_names(spec)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_sound_studies_pass_the_check():
    check_names(read_study("digits")[0])
    check_names(
        parse_study(
            {
                "name": "s",
                "chapters": {"net": NET, "auto": AUTO, **noise("net", "auto+net", "median+net"), **drawn()},
            },
            "s",
        )
    )
