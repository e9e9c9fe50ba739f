// Learning curves, a small chart for each experiment: every trial is a line, settings differ in color.

import { axes, path, scale, series, ticks } from "./chart.js";
import { el, keyedList, svg } from "./dom.js";
import { number, percent, setting } from "./format.js";

const WIDTH = 300, HEIGHT = 170, LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 24;
const METRICS = {
  loss: { solid: "validation_loss", dotted: "train_loss", format: (value) => number(value, 3), unit: "", factor: 1 },
  accuracy: { solid: "validation_accuracy", dotted: null, format: (value) => percent(value, 1), unit: "%", factor: 100 },
};
const MAX_SETTINGS = 6; // that have a color each
const OUTLIER = 4; // times the median: a value above it does not stretch the axis, since its training diverges

export class TrainingCurves {
  constructor(element) {
    this.element = element;
  }

  show({ experiments, curves }, metric) {
    const { solid, dotted } = METRICS[metric];
    const hasMetric = (curve) => [solid, dotted].some((key) => key && curve[key]?.length);
    const charts = experiments
      .map(({ name, title }) => ({
        name, title: title || name, curves: curves.filter((curve) => curve.experiment === name && hasMetric(curve)),
      }))
      .filter((chart) => chart.curves.length);
    const create = ({ title }) => el("figure", {}, el("figcaption", { text: title }));
    const figures = keyedList(this.element, charts, ({ name }) => name, create);
    charts.forEach((chart, i) => this._draw(figures[i], chart, metric));
  }

  _draw(figure, chart, metric) {
    const content = JSON.stringify([metric, chart.curves]);
    if (figure.content === content) return; // nothing has changed
    figure.content = content;
    figure.replaceChildren(figure.querySelector("figcaption"), createChart(chart, metric), ...createLegend(chart));
  }
}

function createChart({ title, curves }, metric) {
  const { solid, dotted, unit, factor } = METRICS[metric];
  const keys = [dotted, solid].filter(Boolean);
  const values = curves.flatMap((curve) => keys.flatMap((key) => curve[key] ?? [])).filter(Number.isFinite);
  const [low, high] = rangeOf(values);
  const last = Math.max(2, ...curves.map(({ epoch }) => epoch.at(-1)));
  const x = scale(1, last, LEFT, WIDTH - RIGHT), y = scale(low, high, HEIGHT - BOTTOM, TOP);
  const chart = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": describe(title, curves, metric) });
  const epochs = [1, ...ticks(1, last, 5).filter((epoch) => Number.isInteger(epoch) && epoch > 1 + 0.15 * (last - 1))];
  const levels = ticks(low, high, 6);
  const digits = Math.max(0, Math.ceil(-Math.log10(factor * (levels[1] - levels[0] || 1)) - 1e-9)); // so that labels differ
  const formatY = (value) => `${(factor * value).toFixed(digits)}${unit}`;
  chart.append(axes({ x, y, left: LEFT, right: WIDTH - RIGHT, bottom: HEIGHT - BOTTOM, xs: epochs, ys: levels, formatY }));
  const colorOf = colorsOf(curves);
  const yOf = (value) => (Number.isFinite(value) ? y(Math.min(value, high)) : NaN);
  for (const key of keys) {
    for (const curve of curves) {
      const points = (curve[key] ?? []).map((value, i) => [x(curve.epoch[i]), yOf(value)]);
      const style = `${key === dotted ? "dotted" : "solid"}${curve.finished ? "" : " live"} ${colorOf(curve)}`;
      chart.append(...createLine(points, style, curve.finished));
    }
  }
  return chart;
}

/** A line, and a dot at its end if it still grows or has one point only. */
function createLine(points, style, finished) {
  const line = svg("path", { class: `line ${style}`, d: path(points) });
  const single = points.length === 1;
  if (!single && (finished || !points.length)) return [line];
  const [cx, cy] = points.at(-1);
  const tip = svg("circle", { class: `tip ${style}${single ? " single" : ""}`, cx, cy, r: 2.5 });
  return Number.isFinite(cy) ? [line, tip] : [line];
}

function rangeOf(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const median = sorted[Math.floor(sorted.length / 2)];
  const low = sorted[0], high = Math.min(sorted.at(-1), OUTLIER * Math.abs(median) || sorted.at(-1));
  const margin = 0.05 * (high - low || Math.abs(high) || 1);
  return [low - margin, high + margin];
}

const settingsOf = (curves) => [...new Set(curves.map((curve) => setting(curve.setting)))];

function colorsOf(curves) {
  const settings = settingsOf(curves);
  return (curve) => (settings.length > MAX_SETTINGS ? "c1" : series(settings.indexOf(setting(curve.setting))).color);
}

function createLegend({ curves }) {
  const settings = settingsOf(curves);
  if (settings.length < 2) return [];
  if (settings.length > MAX_SETTINGS) return [el("p", { class: "small", text: `${settings.length} settings` })];
  return [el("ul", { class: "legend" }, ...settings.map((name, i) => el("li", {},
    el("span", { class: `dot ${series(i).color}`, "aria-hidden": "true" }), name)))];
}

function describe(title, curves, metric) {
  const { solid, format } = METRICS[metric];
  const last = curves.map((curve) => curve[solid]?.at(-1)).filter(Number.isFinite).sort((a, b) => a - b);
  const range = last.length ? `, last validation ${metric} between ${format(last[0])} and ${format(last.at(-1))}` : "";
  return `${title}: ${curves.length} trial${curves.length > 1 ? "s" : ""}${range}`;
}
