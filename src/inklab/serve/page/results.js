// Results of a study: its main numbers with their intervals, and its findings.

import { byId, el } from "./dom.js";
import { number, percent, setting } from "./format.js";

const HEADS = ["Experiment", "Metric", "Mean", "95% CI", "n"];
const CAPTION = "On the test set; the best setting was chosen by the validation set. n counts replicates; for a single one "
  + "the interval is over images.";
const FIRST_NUMERIC = 2; // column

/** Fill the table and the findings. */
export function showResults({ experiments, findings }) {
  const rows = Object.entries(experiments).flatMap(([name, experiment]) => rowsOf(name, experiment));
  const heads = HEADS.map((text, i) => el("th", { scope: "col", class: i >= FIRST_NUMERIC ? "n" : null, text }));
  byId("main-results").replaceChildren(
    el("caption", { text: CAPTION }),
    el("thead", {}, el("tr", {}, ...heads)),
    el("tbody", {}, ...rows.map(createRow)),
  );
  byId("findings").replaceChildren(...findings.map(createFinding));
}

function createRow([name, metric, estimate, format]) {
  const known = estimate.mean !== null;
  const bounds = intervalOf(estimate);
  const interval = bounds ? bounds.map((bound) => format(bound, { isBound: true })).join(" to ") : "";
  const numbers = [known ? format(estimate.mean) : "no value yet", interval, estimate.n];
  return el("tr", {},
    el("th", { scope: "row", text: name }), el("td", { text: metric.replace(/(?<=\de)-(?=\d)/, "\u2011") }), // 1e-4 in one line
    ...numbers.map((text) => el("td", { class: "n", text })));
}

/** Over replicates where they differ, else over images if there is one. */
function intervalOf({ values, ci95, ci95_images: overImages }) {
  return ci95 && new Set(values).size > 1 ? ci95 : overImages;
}

/** Student's interval may leave [0, 1]; the unit is written once, at the mean. */
function share(value, { isBound = false } = {}) {
  return isBound ? (100 * Math.min(1, Math.max(0, value))).toFixed(2) : percent(value, 2);
}
const loss = (value, { isBound = false } = {}) => (isBound && value < 0 ? "0" : value.toPrecision(4));

/** [experiment, metric, estimate, format] of what a reader wants to know first. */
function rowsOf(name, experiment) {
  if (experiment.kind === "training") return trainingRows(name, experiment);
  if (experiment.kind === "robustness") return robustnessRows(name, experiment);
  if (experiment.kind !== "generation") return [];
  return Object.entries(experiment.samplers).map(
    ([id, { confident_share: estimate }]) => [name, `confident share, ${id} codes`, estimate, share]);
}

/** Of the setting that the validation set chose. */
function trainingRows(name, { settings, grid, best_setting: best }) {
  if (best === null) return [];
  const chosen = settings.find(({ values }) => grid.every((key) => JSON.stringify(values[key]) === JSON.stringify(best[key])));
  const suffix = grid.length ? `, best ${setting(best)}` : "";
  const { test_accuracy: accuracy, test_bce: bce } = chosen.metrics;
  if (accuracy) return [[name, `accuracy${suffix}`, accuracy, share]];
  return bce ? [[name, `binary cross-entropy per pixel${suffix}`, bce, loss]] : [];
}

/** Mean recall halfway up the strengths, where pipelines differ. */
function robustnessRows(name, { strengths, pipelines }) {
  const half = Math.floor((strengths.length - 1) / 2);
  const at = number(strengths[half]);
  const metric = (id) => `mean recall of ${id} at strength ${at}`;
  return Object.entries(pipelines).map(([id, { recall }]) => [name, metric(id), recall[half], share]);
}

/** "experiment: question? answer" */
function createFinding(text) {
  const [, name, question, answer] = /^([\w-]+): (?:([^.]*\?) )?(.*)$/s.exec(text) ?? [null, null, null, text];
  const head = name ? [el("strong", { text: name }), question ? el("em", { text: ` ${question}` }) : null, " "] : [];
  return el("li", {}, ...head, answer);
}
