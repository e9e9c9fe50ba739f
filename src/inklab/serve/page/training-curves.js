// Learning curves, a small drawing a chapter: every trial a line, what differs in settings by colour.

import { grid, path, scale, series, ticks } from "./chart.js";
import { el, keyed, svg } from "./dom.js";
import { number, percent, setting } from "./words.js";

const WIDTH = 300, HEIGHT = 170, LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 24;
const MEASURES = {
  loss: { solid: "validation_loss", dotted: "train_loss", word: (value) => number(value, 3), unit: "", of: 1 },
  accuracy: { solid: "validation_accuracy", dotted: null, word: (value) => percent(value, 1), unit: " %", of: 100 },
};
const MOST_SETTINGS = 6; // told apart by colour
const OUTLIER = 4; // a value above so many times the median does not stretch the axis: it diverges

export class Multiples {
  constructor(place) {
    this.place = place;
  }

  show({ chapters, curves }, measure) {
    const { solid, dotted } = MEASURES[measure];
    const has = (curve) => [solid, dotted].some((key) => key && curve[key]?.length);
    const told = chapters
      .map(({ name, title }) => ({ name, title, curves: curves.filter((curve) => curve.chapter === name && has(curve)) }))
      .filter((chapter) => chapter.curves.length);
    const begun = ({ title }) => el("figure", {}, el("figcaption", { text: title }));
    const figures = keyed(this.place, told, ({ name }) => name, begun);
    told.forEach((chapter, i) => this._draw(figures[i], chapter, measure));
  }

  _draw(figure, chapter, measure) {
    const state = JSON.stringify([measure, chapter.curves]);
    if (figure.state === state) return; // nothing has moved
    figure.state = state;
    figure.replaceChildren(figure.querySelector("figcaption"), drawing(chapter, measure), ...legend(chapter));
  }
}

function drawing({ title, curves }, measure) {
  const { solid, dotted, unit, of } = MEASURES[measure];
  const keys = [dotted, solid].filter(Boolean);
  const values = curves.flatMap((curve) => keys.flatMap((key) => curve[key] ?? [])).filter(Number.isFinite);
  const [low, high] = range(values);
  const last = Math.max(2, ...curves.map(({ epoch }) => epoch.at(-1)));
  const x = scale(1, last, LEFT, WIDTH - RIGHT), y = scale(low, high, HEIGHT - BOTTOM, TOP);
  const made = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": words(title, curves, measure) });
  const whole = [1, ...ticks(1, last, 5).filter((epoch) => Number.isInteger(epoch) && epoch > 1 + 0.15 * (last - 1))];
  const levels = ticks(low, high, 4);
  const digits = Math.max(0, Math.ceil(-Math.log10(of * (levels[1] - levels[0] || 1)) - 1e-9)); // so that no two look alike
  const word = (value) => `${(of * value).toFixed(digits)}${unit}`;
  made.append(grid({ x, y, left: LEFT, right: WIDTH - RIGHT, bottom: HEIGHT - BOTTOM, xs: whole, ys: levels, word }));
  const looks = lookOf(curves);
  const dot = (look, [cx, cy]) => svg("circle", { class: `tip ${look}`, cx, cy, r: 2.5 });
  for (const key of keys) {
    for (const curve of curves) {
      const height = (value) => (Number.isFinite(value) ? y(Math.min(value, high)) : NaN);
      const points = (curve[key] ?? []).map((value, i) => [x(curve.epoch[i]), height(value)]);
      const look = `${key === dotted ? "dotted" : "solid"}${curve.finished ? "" : " live"} ${looks(curve)}`;
      made.append(svg("path", { class: `line ${look}`, d: path(points) }));
      const alone = points.length === 1; // a line of one point is none
      if (alone || (!curve.finished && points.length)) made.append(dot(`${look} ${alone ? "alone" : ""}`, points.at(-1)));
    }
  }
  return made;
}

function range(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted[Math.floor(sorted.length / 2)];
  const low = sorted[0], high = Math.min(sorted.at(-1), OUTLIER * Math.abs(middle) || sorted.at(-1));
  const room = 0.05 * (high - low || Math.abs(high) || 1);
  return [low - room, high + room];
}

const nameOf = (curve) => Object.entries(curve.setting).map(([key, value]) => `${key} = ${setting(value)}`).join(", ");
const settingsOf = (curves) => [...new Set(curves.map(nameOf))];

function lookOf(curves) {
  const settings = settingsOf(curves);
  return (curve) => (settings.length > MOST_SETTINGS ? "c1" : series(settings.indexOf(nameOf(curve))).colour);
}

function legend({ curves }) {
  const settings = settingsOf(curves);
  if (settings.length < 2) return [];
  if (settings.length > MOST_SETTINGS) return [el("p", { class: "small", text: `${settings.length} settings` })];
  const look = lookOf(curves);
  return [el("ul", { class: "legend" }, ...settings.map((name) => el("li", {},
    el("span", { class: `dot ${look(curves.find((curve) => nameOf(curve) === name))}`, "aria-hidden": "true" }), name)))];
}

function words(title, curves, measure) {
  const { solid, word } = MEASURES[measure];
  const ends = curves.map((curve) => curve[solid]?.at(-1)).filter(Number.isFinite).sort((a, b) => a - b);
  const told = ends.length ? `, validation ${measure} last between ${word(ends[0])} and ${word(ends.at(-1))}` : "";
  return `${title}: ${curves.length} trial${curves.length > 1 ? "s" : ""}${told}`;
}
