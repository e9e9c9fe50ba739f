// The table of trials: sorted by a column, filtered by words, saved as CSV; a trial's button marks its learning curve.

import { byId, el, keyedList, setText } from "./dom.js";
import { number, percent, setting } from "./format.js";
import { keyOf } from "./training-curves.js";

const last = (values) => values?.findLast(Number.isFinite);
/** Of each column: heading, the value that sorts and goes into the CSV, its text, whether it is a number. */
const COLUMNS = [
  { key: "experiment", title: "Experiment", value: ({ experiment }) => experiment },
  { key: "setting", title: "Setting", value: (curve) => setting(curve.setting) },
  { key: "replicate", title: "Replicate", value: ({ replicate }) => replicate, numeric: true },
  { key: "state", title: "State", value: ({ finished }) => (finished ? "ended" : "running") },
  { key: "epochs", title: "Epochs", value: ({ epoch }) => epoch.at(-1), numeric: true },
  {
    key: "train_loss", title: "Training loss", value: (curve) => last(curve.train_loss), format: (x) => number(x), numeric: true,
  },
  {
    key: "validation_loss", title: "Validation loss", value: (curve) => last(curve.validation_loss), format: (x) => number(x),
    numeric: true,
  },
  {
    key: "validation_accuracy", title: "Validation accuracy", value: (curve) => last(curve.validation_accuracy),
    format: (x) => percent(x, 2), numeric: true,
  },
];
const MISSING = "–";

export class TrialsTable {
  /** @param onChoose called with the trial's curve whose button is pressed, or null. */
  constructor(onChoose) {
    Object.assign(this, { onChoose, curves: [], sortedBy: null, ascending: true, chosen: null });
    this.filter = byId("trial-filter");
    this.filter.addEventListener("input", () => this._draw());
    byId("trials-csv").addEventListener("click", () => this._save());
    this.heads = COLUMNS.map((column) => el("th", { scope: "col", class: column.numeric ? "n" : null },
      el("button", { type: "button", class: "sort", text: column.title, onclick: () => this._sortBy(column) })));
    this.body = el("tbody");
    byId("trials").replaceChildren(el("thead", {}, el("tr", {}, ...this.heads)), this.body);
  }

  show(curves) {
    this.curves = curves;
    this._draw();
  }

  /** Numbers begin with the largest only at the second press, as in the report's tables. */
  _sortBy(column) {
    this.ascending = this.sortedBy === column ? !this.ascending : true;
    this.sortedBy = column;
    this._draw();
  }

  /** What the table has now: all words of the filter occur in a row; missing values come last. */
  _rows() {
    const words = this.filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const texts = (curve) => COLUMNS.map((column) => textOf(column, curve)).join(" ").toLowerCase();
    const rows = this.curves.filter((curve) => words.every((word) => texts(curve).includes(word)));
    if (!this.sortedBy) return rows;
    const { value } = this.sortedBy, sign = this.ascending ? 1 : -1;
    const compare = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true }));
    return rows.sort((first, second) => {
      const a = value(first) ?? null, b = value(second) ?? null;
      return a === null || b === null ? (a === null) - (b === null) : sign * compare(a, b);
    });
  }

  _draw() {
    const rows = this._rows();
    setText(byId("trials-count"), `${rows.length} of ${this.curves.length} trials`);
    this.heads.forEach((head, i) => {
      if (COLUMNS[i] === this.sortedBy) head.setAttribute("aria-sort", this.ascending ? "ascending" : "descending");
      else head.removeAttribute("aria-sort");
    });
    const elements = keyedList(this.body, rows, keyOf, () => createRow());
    elements.forEach((row, i) => this._update(row, rows[i]));
  }

  _update(row, curve) {
    const button = row.querySelector("button");
    COLUMNS.forEach((column, i) => setText(i ? row.children[i] : button, textOf(column, curve)));
    const values = setting(curve.setting);
    const name = `${curve.experiment}${values && `, ${values}`}, replicate ${curve.replicate}`;
    button.setAttribute("aria-label", `${name}: mark its curve`);
    button.setAttribute("aria-pressed", String(keyOf(curve) === this.chosen));
    button.onclick = () => this._choose(curve);
  }

  _choose(curve) {
    this.chosen = this.chosen === keyOf(curve) ? null : keyOf(curve);
    this._draw();
    this.onChoose(this.chosen && curve);
  }

  _save() {
    const url = URL.createObjectURL(new Blob([toCsv(this._rows())], { type: "text/csv" }));
    el("a", { href: url, download: "trials.csv" }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000); // the download has begun by then
  }
}

function createRow() {
  const head = el("th", { scope: "row" }, el("button", { type: "button", class: "trial" }));
  return el("tr", {}, head, ...COLUMNS.slice(1).map(({ numeric }) => el("td", { class: numeric ? "n" : null })));
}

function textOf({ value, format = String }, curve) {
  const known = value(curve) ?? null;
  return known === null ? MISSING : format(known);
}

/** Numbers with all their digits; fields with a comma, a quotation mark or a new line are quoted (RFC 4180). */
function toCsv(rows) {
  const quote = (text) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = rows.map((curve) => [curve.trial, ...COLUMNS.map(({ value }) => value(curve) ?? "")]);
  const head = ["trial", ...COLUMNS.map(({ key }) => key)];
  return [head, ...lines].map((line) => `${line.map(String).map(quote).join(",")}\r\n`).join("");
}
