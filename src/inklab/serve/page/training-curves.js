// Learning curves, a small chart for each experiment: every trial is a line; settings differ in color, dashes and marker.

import { axes, marker, path, scale, series, swatch, ticks } from "./chart.js";
import { EpochReader } from "./epoch-reader.js";
import { el, keyedList, svg } from "./dom.js";
import { number, percent, setting } from "./format.js";

const WIDTH = 300, HEIGHT = 196, LEFT = 46, RIGHT = 8, TOP = 22, BOTTOM = 38;
const METRICS = {
  loss: {
    title: "Loss", solid: "validation_loss", faint: "train_loss", format: (value) => number(value, 3), unit: "", factor: 1,
  },
  accuracy: {
    title: "Validation accuracy", solid: "validation_accuracy", faint: null, format: (value) => percent(value, 1),
    unit: "%", factor: 100,
  },
};
const MAX_SETTINGS = 6; // that have a color each
const OUTLIER = 4; // times the median: a value above it does not stretch the axis, since its training diverges

/** Two experiments may share a trial, so its id alone is no key. */
export const keyOf = ({ experiment, trial }) => `${experiment} ${trial}`;

export class TrainingCurves {
  constructor(element) {
    this.element = element;
    this.marked = null; // key of the curve that stands out
  }

  /** @param progress of the study; @param view {metric, scale}: "linear" or, of losses, "log". */
  show({ experiments, curves }, { metric, scale: axisScale }) {
    const isLog = axisScale === "log" && metric === "loss";
    const { solid, faint } = METRICS[metric];
    const hasMetric = (curve) => [solid, faint].some((key) => key && curve[key]?.length);
    const charts = experiments
      .map(({ name, title }) => ({
        name, title: title || name, curves: curves.filter((curve) => curve.experiment === name && hasMetric(curve)),
      }))
      .filter((chart) => chart.curves.length);
    const create = ({ title }) => el("figure", {}, el("figcaption", { text: title }));
    const figures = keyedList(this.element, charts, ({ name }) => name, create);
    charts.forEach((chart, i) => this._draw(figures[i], chart, metric, isLog));
  }

  _draw(figure, chart, metric, isLog) {
    const marked = chart.curves.some((curve) => keyOf(curve) === this.marked) ? this.marked : null;
    const content = JSON.stringify([metric, isLog, marked, chart.curves]);
    if (figure.content === content) return; // nothing has changed
    figure.content = content;
    figure.reader ??= new EpochReader();
    const { drawing, x, lastEpoch, isCut } = createChart(chart, metric, isLog, marked);
    const marks = { x, left: LEFT, right: WIDTH - RIGHT, top: TOP, bottom: HEIGHT - BOTTOM, width: WIDTH };
    figure.reader.show(drawing, marks, lastEpoch, (epoch) => describeEpoch(chart, metric, epoch));
    const note = isCut ? el("p", { class: "small", text: "Larger values are cut off at the upper edge." }) : null;
    const parts = [figure.querySelector("figcaption"), figure.reader.element, ...createLegend(chart), note].filter(Boolean);
    if (figure.children.length === parts.length && figure.children[1] === parts[1]) { // the reader keeps its focus
      parts.slice(2).forEach((part, i) => figure.children[i + 2].replaceWith(part));
    } else figure.replaceChildren(...parts);
  }
}

function createChart({ title, curves }, metric, isLog, marked) {
  const { title: metricTitle, solid, faint, unit, factor } = METRICS[metric];
  const keys = [faint, solid].filter(Boolean);
  const isDrawn = (value) => Number.isFinite(value) && (!isLog || value > 0);
  const values = curves.flatMap((curve) => keys.flatMap((key) => curve[key] ?? [])).filter(isDrawn);
  const [low, high] = isLog ? logRangeOf(values) : rangeOf(values);
  const last = Math.max(2, ...curves.map(({ epoch }) => epoch.at(-1)));
  const x = scale(1, last, LEFT, WIDTH - RIGHT);
  const y = (isLog ? logScale : scale)(low, high, HEIGHT - BOTTOM, TOP);
  const chart = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": describe(title, curves, metric) });
  const epochs = [1, ...ticks(1, last, 5).filter((epoch) => Number.isInteger(epoch) && epoch > 1 + 0.15 * (last - 1))];
  const levels = isLog ? logTicks(low, high) : ticks(low, high, 6);
  const digits = Math.max(0, Math.ceil(-Math.log10(factor * (levels[1] - levels[0] || 1)) - 1e-9)); // so that labels differ
  const formatY = (value) => (isLog ? number(value, 6) : `${(factor * value).toFixed(digits)}${unit}`);
  chart.append(axes({ x, y, left: LEFT, right: WIDTH - RIGHT, bottom: HEIGHT - BOTTOM, xs: epochs, ys: levels, formatY }));
  chart.append(
    svg("text", { class: "axis-title", x: 0, y: 11, text: isLog ? `${metricTitle} (log scale)` : metricTitle }),
    svg("text", { class: "axis-title", x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4, "text-anchor": "middle", text: "Epoch" }),
  );
  const styleOf = stylesOf(curves);
  const yOf = (value) => (isDrawn(value) ? y(Math.min(value, high)) : NaN);
  for (const key of keys) {
    for (const curve of curves) {
      const points = (curve[key] ?? []).map((value, i) => [x(curve.epoch[i]), yOf(value)]);
      const style = styleOf(curve), isMarked = keyOf(curve) === marked;
      const name = `${key === faint ? "faint" : "solid"}${curve.finished ? "" : " live"}${isMarked ? " marked" : ""}`;
      chart.append(...createLine(points, name, style, curve.finished));
    }
  }
  return { drawing: chart, x, lastEpoch: last, isCut: values.some((value) => value > high) };
}

/** A line, and at its end the marker of its setting; a dot for training images, if it still grows or has one point only. */
function createLine(points, name, style, finished) {
  const line = svg("path", { class: `line ${name} ${style.color}`, d: path(points), "stroke-dasharray": style.dash });
  const [cx, cy] = points.at(-1) ?? [];
  if (!Number.isFinite(cy)) return [line];
  if (name.startsWith("solid")) return [line, marker(style, cx, cy)];
  if (finished && points.length > 1) return [line];
  return [line, svg("circle", { class: `tip ${name} ${style.color}`, cx, cy, r: 2.5 })];
}

function rangeOf(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)];
  const low = sorted[0], high = Math.min(sorted.at(-1), OUTLIER * Math.abs(median) || sorted.at(-1));
  const margin = 0.05 * (high - low || Math.abs(high) || 1);
  return [low - margin, high + margin];
}

/** All of the positive values, with a twentieth of the decades on either side. */
function logRangeOf(values) {
  const low = Math.min(...values), high = Math.max(...values);
  const margin = (high / low) ** 0.05;
  return low < high ? [low / margin, high * margin] : values.length ? [low / 2, low * 2] : [0.1, 1];
}

function logScale(low, high, from, to) {
  const position = scale(Math.log(low), Math.log(high), from, to);
  return (value) => position(Math.log(value));
}

/** Powers of ten; with their doubles and fivefolds, if there are few; within less than a factor of 2, round numbers. */
function logTicks(low, high) {
  const powers = Array.from({ length: Math.ceil(Math.log10(high / low)) + 2 }, (_, i) => Math.floor(Math.log10(low)) + i);
  for (const factors of [[1], [1, 2, 5]]) {
    const values = powers.flatMap((power) => factors.map((factor) => Number(`${factor}e${power}`)));
    const within = values.filter((value) => value >= low && value <= high);
    if (within.length >= 3) return within;
  }
  return ticks(low, high, 5).filter((value) => value > 0);
}

const settingsOf = (curves) => [...new Set(curves.map((curve) => setting(curve.setting)))];

function stylesOf(curves) {
  const settings = settingsOf(curves);
  return (curve) => series(settings.length > MAX_SETTINGS ? 0 : settings.indexOf(setting(curve.setting)));
}

/** The values of an epoch in words: of each setting the smallest and the largest over its trials. */
function describeEpoch({ curves }, metric, epoch) {
  const { solid, faint, format } = METRICS[metric], settings = settingsOf(curves);
  const valuesOf = (key, name) => curves.filter((curve) => settings.length > MAX_SETTINGS || setting(curve.setting) === name)
    .map((curve) => curve[key]?.[curve.epoch.indexOf(epoch)]).filter(Number.isFinite);
  const range = (values) => [...new Set([Math.min(...values), Math.max(...values)].map(format))].join(" to ");
  const parts = (settings.length > MAX_SETTINGS ? [""] : settings).map((name) => {
    const texts = [["validation", solid], ["training", faint]].filter(([, key]) => key && valuesOf(key, name).length)
      .map(([images, key]) => `${images} ${range(valuesOf(key, name))}`);
    return texts.length ? `${settings.length > 1 && name ? `${name}: ` : ""}${texts.join(", ")}` : "";
  });
  return `Epoch ${epoch}. ${parts.filter(Boolean).join("; ") || "No values."}`;
}

function createLegend({ curves }) {
  const settings = settingsOf(curves);
  if (settings.length < 2) return [];
  if (settings.length > MAX_SETTINGS) return [el("p", { class: "small", text: `${settings.length} settings` })];
  return [el("ul", { class: "legend" }, ...settings.map((name, i) => el("li", {}, swatch(series(i)), name)))];
}

function describe(title, curves, metric) {
  const { solid, format } = METRICS[metric];
  const last = curves.map((curve) => curve[solid]?.at(-1)).filter(Number.isFinite).sort((a, b) => a - b);
  const range = last.length ? `, last validation ${metric} between ${format(last[0])} and ${format(last.at(-1))}` : "";
  return `${title}: ${curves.length} trial${curves.length > 1 ? "s" : ""}${range}`;
}
