// A column a pipeline: the image as it reached the classifier, what it says, and how sure it is of every class.

import { swatch } from "./chart.js";
import { el, keyed, tell } from "./dom.js";
import { toBytes } from "./images.js";
import { capital, count, number, percent, probability } from "./words.js";

const MOST_BARS = 10; // of more classes the most probable are shown
const ALL_BARS = 12;
const SHORT = 4; // letters of a class name that fits beside its bar

const WHY = { empty: "nothing is drawn", unfamiliar: "looks like nothing it knows" };

export class Judges {
  constructor(place, networks, painter, curve) {
    Object.assign(this, { place, networks, painter, curve, columns: new Map() });
    this.known = new Map(networks.pipelines.map((pipeline) => [pipeline.id, pipeline]));
  }

  /** Have a column for each of these pipelines. */
  show(ids) {
    keyed(this.place, ids, (id) => id, (id) => {
      const column = new Column(this.known.get(id), this);
      this.columns.set(id, column);
      return column.element;
    });
    for (const id of [...this.columns.keys()]) if (!ids.includes(id)) this.columns.delete(id);
  }

  /** What the server said, or null for nothing drawn. */
  tell(judgements) {
    for (const [id, column] of this.columns) column.tell(judgements?.find((each) => each.pipeline === id) ?? null);
  }

  /** What the study measured at this strength of this corruption; null: it says nothing about it. */
  measured(strength) {
    for (const column of this.columns.values()) column.measured(strength);
  }
}

class Column {
  constructor(pipeline, { networks, painter, curve }) {
    Object.assign(this, { pipeline, painter, curve });
    this.labels = networks.labels;
    const look = curve?.look(pipeline.id);
    this.image = el("canvas", { role: "img", "aria-label": `As it reached ${pipeline.parts.at(-1)}` });
    this.label = el("p", { class: "label" });
    this.why = el("p", { class: "why small" });
    this.at = el("p", { class: "at small" });
    this.bars = el("ul", { class: "bars", "aria-label": `Probabilities, ${pipeline.id}` });
    this.rows = this.labels.slice(0, this.labels.length > ALL_BARS ? MOST_BARS : ALL_BARS).map(() => new Bar(this.bars));
    if (this.labels.some((label) => label.length > SHORT)) this.bars.classList.add("long");
    this.element = el("article", { class: `judge ${look?.colour ?? "c6"}`, "aria-label": pipeline.id },
      el("h3", {}, look ? swatch(look) : null, el("span", { text: pipeline.id })),
      el("div", { class: "face" }, this.image, el("div", {}, this.label, this.why)), this.bars,
      el("p", { class: "small", text: accuracyTold(pipeline.accuracy) }), this.at);
    this.tell(null);
  }

  tell(judgement) {
    const abstains = judgement ? judgement.abstains : "empty";
    const seen = judgement && toBytes(judgement.seen, this.painter.bytes);
    this.painter.paint(this.image, seen);
    const said = judgement?.label ?? (abstains === "unfamiliar" ? "?" : "–");
    tell(this.label, said);
    this.label.dataset.length = said.length <= 2 ? "short" : said.length <= 10 ? "word" : "words";
    tell(this.why, abstains ? capital(WHY[abstains] ?? abstains) : "");
    this.element.classList.toggle("abstains", Boolean(abstains));
    this._bars(judgement?.probabilities ?? null);
  }

  measured(strength) {
    const share = strength === null ? null : this.curve?.at(this.pipeline.id, strength);
    tell(this.at, typeof share === "number" ? `In the study, at strength ${number(strength)}: ${percent(share, 1)}` : "");
  }

  _bars(probabilities) {
    const order = this.labels.map((label, i) => ({ label, share: probabilities?.[i] ?? null }));
    const best = probabilities ? Math.max(...probabilities) : null;
    if (order.length > ALL_BARS && probabilities) order.sort((a, b) => b.share - a.share);
    this.rows.forEach((row, i) => row.tell(order[i].label, order[i].share, order[i].share === best && best !== null));
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

  tell(label, share, best) {
    tell(this.name, label);
    this.row.title = label.length > SHORT ? label : "";
    tell(this.share, share === null ? "" : probability(share));
    this.fill.style.transform = `scaleX(${share ?? 0})`;
    this.row.classList.toggle("best", best);
  }
}

function accuracyTold(accuracy) {
  if (!accuracy) return "";
  const told = `Right on ${percent(accuracy.mean, 2)} of test images`;
  const interval = typeof accuracy.low === "number" && typeof accuracy.high === "number";
  if (!interval) return told;
  return `${told} (95 % CI ${(100 * accuracy.low).toFixed(2)} to ${(100 * accuracy.high).toFixed(2)}, n = ${accuracy.n})`;
}

/** All judgements in a sentence. */
export function verdictOf(judgements) {
  if (!judgements?.length) return "Nothing is drawn yet.";
  const groups = Map.groupBy ? Map.groupBy(judgements, (each) => each.label) : grouped(judgements);
  const unsure = groups.get(null)?.length ?? 0;
  if (unsure === judgements.length) return `This looks like nothing ${unsure === 1 ? "it knows" : "they know"}.`;
  const said = [...groups].filter(([label]) => label !== null).sort((a, b) => b[1].length - a[1].length);
  const [[label, who]] = said;
  const first = `${who[0].pipeline} reads ${label}`;
  if (judgements.length === 1) return `${first}, with ${probability(Math.max(...who[0].probabilities))}.`;
  if (who.length === judgements.length) return `${who.length === 2 ? "Both" : `All ${count(who.length)}`} read ${label}.`;
  const others = said.slice(1, 4).map(([other, by]) => `${names(by)} ${by.length > 1 ? "read" : "reads"} ${other}`);
  if (unsure) others.push(`${names(groups.get(null))} ${unsure > 1 ? "abstain" : "abstains"}`);
  const head = who.length === 1 ? first : `${capital(count(who.length))} of ${count(judgements.length)} read ${label}`;
  return `${head}; ${others.join("; ")}.`;
}

const names = (judgements) => judgements.map((each) => each.pipeline).join(" and ");

function grouped(judgements) {
  const groups = new Map();
  for (const each of judgements) groups.set(each.label, [...(groups.get(each.label) ?? []), each]);
  return groups;
}

