// A column for each pipeline: the input of its classifier, the predicted class, and the probability of every class.

import { swatch } from "./chart.js";
import { el, keyedList, setText } from "./dom.js";
import { capitalize, count, number, percent, probability } from "./format.js";

const MAX_BARS = 12; // classes that all have a bar
const MAX_SORTED_BARS = 10; // of more classes the most probable ones have one
const MAX_SHORT_LABEL = 4; // characters of a class name that fits beside its bar

const REASONS = { empty: "nothing can be seen", ood: "unlike the training images" };

export class Predictions {
  constructor(element, networks, painter, curve) {
    Object.assign(this, { element, networks, painter, curve, columns: new Map() });
    this.pipelines = new Map(networks.pipelines.map((pipeline) => [pipeline.id, pipeline]));
  }

  /** Show a column for each of these pipelines. */
  show(ids) {
    keyedList(this.element, ids, (id) => id, (id) => {
      const column = new Column(this.pipelines.get(id), this);
      this.columns.set(id, column);
      return column.element;
    });
    for (const id of [...this.columns.keys()]) if (!ids.includes(id)) this.columns.delete(id);
  }

  /** @param predictions of the server, or null where nothing is drawn. */
  update(predictions) {
    for (const [id, column] of this.columns) column.update(predictions?.find(({ pipeline }) => pipeline === id) ?? null);
  }

  /** @param strength at which the study's recall is shown; null: it measured another corruption. */
  showRecall(strength) {
    for (const column of this.columns.values()) column.showRecall(strength);
  }
}

class Column {
  constructor(pipeline, { networks, painter, curve }) {
    Object.assign(this, { pipeline, painter, curve });
    this.labels = networks.labels;
    const style = curve?.style(pipeline.id);
    this.image = el("canvas", { role: "img", "aria-label": `Input of ${pipeline.parts.at(-1)}` });
    this.label = el("p", { class: "label" });
    this.reason = el("p", { class: "reason small" });
    this.recall = el("p", { class: "recall small" });
    this.bars = el("ul", { class: "bars", "aria-label": `Probabilities, ${pipeline.id}` });
    this.sorted = this.labels.length > MAX_BARS;
    this.rows = this.labels.slice(0, this.sorted ? MAX_SORTED_BARS : MAX_BARS).map(() => new Bar(this.bars));
    if (this.labels.some((label) => label.length > MAX_SHORT_LABEL)) this.bars.classList.add("long");
    const accuracy = pipeline.accuracy_text && `Test accuracy ${pipeline.accuracy_text.replaceAll(" = ", "\u00a0=\u00a0")}`;
    this.element = el("article", { class: `prediction ${style?.color ?? "c6"}`, "aria-label": pipeline.id },
      el("h3", {}, style ? swatch(style) : null, el("span", { text: pipeline.id })),
      el("div", { class: "face" }, this.image, el("div", {}, this.label, this.reason)), this.bars,
      el("p", { class: "small", text: accuracy }), this.recall);
    this.update(null);
  }

  update(prediction) {
    const abstained = prediction ? prediction.abstained : "empty";
    this.painter.paint(this.image, prediction && this.painter.decode(prediction.denoised));
    const label = prediction?.label ?? (abstained === "ood" ? "?" : "–");
    setText(this.label, label);
    this.label.dataset.length = label.length <= 2 ? "short" : label.length <= 10 ? "word" : "words";
    const reason = prediction ? REASONS[abstained] ?? abstained : "nothing is drawn";
    setText(this.reason, abstained ? capitalize(reason) : "");
    this.element.classList.toggle("abstained", Boolean(abstained));
    this._updateBars(prediction?.probabilities ?? null);
  }

  showRecall(strength) {
    const recall = strength === null ? null : this.curve?.recallAt(this.pipeline.id, strength);
    const known = typeof recall === "number";
    setText(this.recall, known ? `Mean recall in the study at strength ${number(strength)}: ${percent(recall, 1)}` : "");
  }

  _updateBars(probabilities) {
    const classes = this.labels.map((label, i) => ({ label, probability: probabilities?.[i] ?? null }));
    const largest = probabilities ? Math.max(...probabilities) : null;
    if (this.sorted && probabilities) classes.sort((a, b) => b.probability - a.probability);
    this.rows.forEach((row, i) => row.update(classes[i], largest !== null && classes[i].probability === largest));
  }
}

class Bar {
  constructor(list) {
    this.name = el("span", { class: "name" });
    this.fill = el("span", { class: "fill" });
    this.share = el("span", { class: "share" });
    this.row = el("li", {}, this.name, el("span", { class: "track" }, this.fill), this.share);
    list.append(this.row);
  }

  update({ label, probability: share }, best) {
    setText(this.name, label);
    this.row.title = label.length > MAX_SHORT_LABEL ? label : "";
    setText(this.share, share === null ? "" : probability(share));
    this.fill.style.transform = `scaleX(${share ?? 0})`;
    this.row.classList.toggle("best", best);
  }
}

/** All predictions in a sentence. */
export function summarize(predictions) {
  if (!predictions?.length) return "Nothing is drawn yet.";
  const groups = new Map();
  for (const row of predictions) groups.set(row.label, [...(groups.get(row.label) ?? []), row]);
  const abstained = groups.get(null) ?? [];
  if (abstained.length === predictions.length) {
    const isEmpty = abstained.every((row) => row.abstained === "empty");
    return isEmpty ? "Nothing can be seen on this picture." : "Unlike the training images: no prediction.";
  }
  const byLabel = [...groups].filter(([label]) => label !== null).sort((a, b) => b[1].length - a[1].length);
  const [[label, first]] = byLabel;
  const start = `${first[0].pipeline} predicts ${label}`;
  if (predictions.length === 1) return `${start}, with ${probability(Math.max(...first[0].probabilities))}.`;
  if (first.length === 2 && predictions.length === 2) return `Both predict ${label}.`;
  if (first.length === predictions.length) return `All ${count(first.length)} predict ${label}.`;
  const others = byLabel.slice(1, 4).map(([other, group]) => `${names(group)} predict${group.length > 1 ? "" : "s"} ${other}`);
  if (abstained.length) others.push(`${names(abstained)} abstain${abstained.length > 1 ? "" : "s"}`);
  const several = `${capitalize(count(first.length))} of ${count(predictions.length)} predict ${label}`;
  const head = first.length === 1 ? start : several;
  return `${head}; ${others.join("; ")}.`;
}

const names = (predictions) => predictions.map(({ pipeline }) => pipeline).join(" and ");
