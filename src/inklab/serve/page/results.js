// What came out of a study: its headline numbers with their intervals, and its findings.

import { byId, el } from "./dom.js";
import { number, setting } from "./words.js";

const HEADS = ["Chapter", "What", "Mean", "95 % CI", "n"];
const CAPTION = "On the test images, the validation images having chosen. n counts replicates; of a single one the "
  + "interval is over images.";

/** Fill the table and the findings. */
export function showResults({ chapters }) {
  const rows = Object.entries(chapters).flatMap(([name, chapter]) => rowsOf(name, chapter));
  const heads = HEADS.map((text, i) => el("th", { scope: "col", class: i > 1 ? "n" : null, text }));
  byId("headline").replaceChildren(
    el("caption", { text: CAPTION }),
    el("thead", {}, el("tr", {}, ...heads)),
    el("tbody", {}, ...rows.map(row)),
  );
  byId("findings").replaceChildren(...(chapters.findings ?? []).map(finding));
}

function row([name, what, score, word]) {
  const interval = score.ci95 ?? score.ci95_images;
  const told = interval ? `${word(interval[0], "")} to ${word(interval[1], "")}` : "";
  return el("tr", {},
    el("th", { scope: "row", text: name }), el("td", { text: what }),
    ...[word(score.mean), told, score.n].map((text) => el("td", { class: "n", text })));
}

const share = (value, unit = " %") => `${(100 * value).toFixed(2)}${unit}`;
const loss = (value) => value.toPrecision(4);

/** [chapter, what, score, how it is written] of what a reader wants to know first. */
function rowsOf(name, chapter) {
  if (chapter.kind === "train") {
    const best = chapter.settings ? bestOf(chapter) : { told: "", scores: chapter };
    if (!best) return [];
    const { test_accuracy: accuracy, test_bce: bce } = best.scores;
    if (accuracy) return [[name, `accuracy${best.told}`, accuracy, share]];
    return bce ? [[name, `cross-entropy a pixel${best.told}`, bce, loss]] : [];
  }
  if (chapter.kind === "noise") return noiseRows(name, chapter);
  if (chapter.kind !== "generator") return [];
  return Object.entries(chapter.samplers).map(([id, { recognised }]) => [name, `recognised, codes ${id}`, recognised, share]);
}

/** The setting that validation chose, of several. */
function bestOf({ settings, vary, best }) {
  const wanted = typeof best === "object" && best !== null ? best : { [vary[0]]: best };
  const found = settings.find((setting) => vary.every((key) => String(setting[key]) === String(wanted[key])));
  return found && { told: `, best ${vary.map((key) => `${key} = ${setting(found[key])}`).join(", ")}`, scores: found };
}

/** True-positive rates half-way up the strengths, where the pipelines differ. */
function noiseRows(name, { strengths, pipelines }) {
  const half = Math.floor((strengths.length - 1) / 2);
  const at = number(strengths[half]);
  return Object.entries(pipelines).map(([id, { tpr }]) => [name, `${id} at strength ${at}`, tpr[half], share]);
}

/** "chapter: what was asked? what came out" */
function finding(text) {
  const [, chapter, asked, came] = /^([\w-]+): (?:([^.]*\?) )?(.*)$/s.exec(text) ?? [null, null, null, text];
  const head = chapter ? [el("strong", { text: chapter }), asked ? el("em", { text: ` ${asked}` }) : null, " "] : [];
  return el("li", {}, ...head, came);
}
