"""A generator chapter in numbers: how good each sampler's drawings are, beside a floor."""

from collections.abc import Sequence

from inklab.study.summaries.tally import Json, Records, counts, done, mean_vectors, score_of

FLOOR = "floor"


def summarise_generator(chapter: Json, evaluations: Records, data: Json) -> Json:
    """The numbers of a chapter of kind "generator".

    Args:
        chapter: from `plan.json`.
        evaluations: evaluation id -> `outcome.json`.
        data: the plan's "data": the floor's rates are over its test images.
    """
    finished = {name: _finished(chapter, name, evaluations) for name in [FLOOR, *chapter["samplers"]]}
    floor, test = finished[FLOOR], data["test"]
    told: Json = {"kind": "generator", "decoder": chapter["decoder"], "judge": chapter["judge"]}
    told["outcomes"] = counts((each["id"] for each in chapter["evaluations"]), evaluations)
    told |= {"samples": chapter["samples"], "test_images": test}
    told["floor"] = score_of(each.get("frechet") for each in floor).to_json()
    told["recognised_test"] = score_of((each.get("recognised") for each in floor), test).to_json()
    told["reconstructed"] = score_of((each.get("reconstructed") for each in floor), test).to_json()
    return told | {"samplers": {name: _sampler(chapter, finished[name]) for name in chapter["samplers"]}}


def _finished(chapter: Json, sampler: str, evaluations: Records) -> list[Json]:
    ids = [each["id"] for each in chapter["evaluations"] if each["sampler"] == sampler]
    return done(ids, evaluations)


def _sampler(chapter: Json, finished: Sequence[Json]) -> Json:
    told: Json = {"classes": mean_vectors([each.get("classes") for each in finished])}
    told["recognised"] = score_of((each["recognised"] for each in finished), chapter["samples"]).to_json()
    for name in ("frechet", "nearest"):
        told[name] = score_of(each.get(name) for each in finished).to_json()
    return told
