// The study's noise curve: each pipeline's true-positive rate over the strength, and a mark where the slider stands.

import { area, between, grid, marker, path, scale, series, ticks } from "./chart.js";
import { svg } from "./dom.js";
import { number, percent } from "./words.js";

const HEIGHT = 210, TOP = 14, BOTTOM = 24, RIGHT = 12;
export const LEFT = 44; // where the slider's way begins, so that it is the curve's axis
const LETTER = 6.9; // what a letter of a name takes, in the style sheet's size
const STEP = 4; // between two points of a line when places for names are looked for
const ASIDE = 9; // of a name's middle from its line
const TIGHT = 7.5, ROOMY = 15; // of a name's middle from other lines: at least, and from where on more is no better

/** A rate; one that the study doesn't have leaves a gap. */
const known = (rate) => rate ?? NaN;

export class Curve {
  constructor(figure, curves) {
    Object.assign(this, { figure, curves, strength: 0, shown: true, width: 0 });
    this.names = Object.keys(curves.pipelines);
    this.largest = curves.strengths.at(-1);
    new ResizeObserver(() => this.draw()).observe(figure);
  }

  /** The look of a pipeline's line; null if the study has none of it. */
  look(pipeline) {
    const place = this.names.indexOf(pipeline);
    return place < 0 ? null : series(place);
  }

  /** What the study measured at a strength. */
  at(pipeline, strength) {
    const told = this.curves.pipelines[pipeline];
    const rate = told && strength <= this.largest ? between(this.curves.strengths, told.tpr.map(known), strength) : NaN;
    return Number.isFinite(rate) ? rate : null;
  }

  draw() {
    const width = this.figure.clientWidth;
    if (!width || width === this.width) return;
    this.width = width;
    const { pipelines } = this.curves;
    const bottom = HEIGHT - BOTTOM, right = width - RIGHT;
    this.x = scale(0, this.largest, LEFT, right);
    this.y = scale(0, 1, bottom, TOP);
    const size = { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}` };
    const drawing = svg("svg", { ...size, role: "img", "aria-label": this._words() });
    drawing.append(grid({
      x: this.x, y: this.y, left: LEFT, right, bottom,
      xs: ticks(0, this.largest, 5), ys: [0, 0.25, 0.5, 0.75, 1], word: (value) => percent(value),
    }));
    const lines = Object.values(pipelines).map(({ tpr }) => this._line(tpr));
    const places = Object.values(pipelines);
    places.forEach(({ low, high }, i) => {
      if (!low || !high) return;
      drawing.append(svg("path", { class: `band ${series(i).colour}`, d: area(this._line(high), this._line(low)) }));
    });
    lines.forEach((line, i) => {
      const { colour, dash } = series(i);
      drawing.append(svg("path", { class: `line ${colour}`, d: path(line), "stroke-dasharray": dash }));
    });
    for (const { name, index, x, y, slope } of placedNames(this.names, lines, [LEFT, right, 2, bottom])) {
      // As steep as its line there, so that it fits between its neighbours; straight, so that it can be read.
      const turned = { x, y, dy: "0.35em", "text-anchor": "middle", transform: `rotate(${slope} ${x} ${y})` };
      drawing.append(svg("text", { ...turned, class: `name ${series(index).colour}`, text: name }));
    }
    this.mark = svg("g", { class: "here" });
    drawing.append(this.mark);
    this.figure.replaceChildren(drawing);
    this.move(this.strength, this.shown);
  }

  /** Put the mark at a strength; `shown`: whether the curve is about this corruption. */
  move(strength, shown) {
    Object.assign(this, { strength, shown });
    if (!this.mark) return;
    this.mark.replaceChildren();
    if (!shown || strength > this.largest) return;
    const x = this.x(strength);
    this.mark.append(svg("line", { x1: x, x2: x, y1: TOP - 6, y2: HEIGHT - BOTTOM, class: "marker" }));
    this.names.forEach((name, i) => {
      const rate = this.at(name, strength);
      if (rate !== null) this.mark.append(marker(series(i), x, this.y(rate)));
    });
  }

  _line(values) {
    return this.curves.strengths.map((each, i) => [this.x(each), this.y(known(values[i]))]);
  }

  /** The curve for those who can't see it: what each pipeline gets at a few strengths. */
  _words() {
    const few = ticks(0, this.largest, 4);
    const told = this.names.map((name) => {
      const rates = few.filter((at) => this.at(name, at) !== null).map((at) => `${percent(this.at(name, at))} at ${number(at)}`);
      return `${name}: ${rates.join(", ") || "not known"}`;
    });
    return `Mean true-positive rate against the strength of the noise. ${told.join(". ")}.`;
  }
}

/**
 * A place beside each line where its name can be written, on the side and where the other lines are farthest.
 *
 * @returns for each name that has room {name, index, x, y: its middle, slope: in degrees}.
 */
function placedNames(names, lines, [left, right, top, bottom]) {
  const dense = lines.map((line) => stepped(line.filter(([, y]) => Number.isFinite(y)))), taken = [];
  return names.flatMap((name, index) => {
    const line = dense[index], steps = Math.ceil((name.length * LETTER) / STEP);
    let best = null;
    for (let start = 2; start + steps < line.length; start += 2) {
      for (const below of [false, true]) {
        const band = beside(line, start, steps, below);
        if (band.some(([x, y]) => x < left || x > right || y < top || y > bottom)) continue;
        const free = nearest(band, [...dense.filter((_, i) => i !== index), ...taken]);
        const steep = Math.abs(line[start + steps][1] - line[start][1]) / (steps * STEP);
        const score = Math.min(free, ROOMY) - 4 * steep;
        if (free >= TIGHT && (!best || score > best.score)) best = { band, score };
      }
    }
    if (!best) return [];
    const [[x0, y0], [x1, y1]] = [best.band[0], best.band.at(-1)];
    const letter = LETTER / (Math.hypot(x1 - x0, y1 - y0) || 1), [aside, down] = [letter * (x1 - x0), letter * (y1 - y0)];
    taken.push([[x0 - aside, y0 - down], ...best.band, [x1 + aside, y1 + down]]); // and a letter's space at both ends
    return [{ name, index, x: (x0 + x1) / 2, y: (y0 + y1) / 2, slope: (Math.atan2(y1 - y0, x1 - x0) * 180) / Math.PI }];
  });
}

/** A line as points at equal distances along it. */
function stepped(line) {
  if (!line.length) return [];
  const points = [line[0]];
  let over = 0;
  for (let i = 1; i < line.length; i++) {
    const [[x0, y0], [x1, y1]] = [line[i - 1], line[i]];
    const length = Math.hypot(x1 - x0, y1 - y0);
    let at = STEP - over;
    for (; at <= length; at += STEP) points.push([x0 + ((x1 - x0) * at) / length, y0 + ((y1 - y0) * at) / length]);
    over = length - (at - STEP);
  }
  return points;
}

/** Where a name's middle would run: straight, beside a stretch of a line and clear of where that bulges. */
function beside(line, start, steps, below) {
  const stretch = line.slice(start, start + steps + 1), [[x0, y0], [x1, y1]] = [stretch[0], stretch.at(-1)];
  const length = Math.hypot(x1 - x0, y1 - y0) || 1, side = below ? 1 : -1;
  const [aside, down] = [(-side * (y1 - y0)) / length, (side * (x1 - x0)) / length]; // one pixel away from the line
  const away = ASIDE + Math.max(...stretch.map(([x, y]) => (x - x0) * aside + (y - y0) * down));
  return stretch.map((_, i) => {
    const share = i / steps;
    return [x0 + share * (x1 - x0) + away * aside, y0 + share * (y1 - y0) + away * down];
  });
}

/** The smallest distance between a name's middle and other lines. */
function nearest(band, lines) {
  let least = Infinity;
  for (const [x, y] of lines.flat()) for (const [u, v] of band) least = Math.min(least, Math.hypot(x - u, y - v));
  return least;
}
