// The study's robustness curves: each pipeline's mean recall over the strength, and a mark where the slider is.

import { area, axes, interpolate, marker, path, scale, series, ticks } from "./chart.js";
import { svg } from "./dom.js";
import { number, percent } from "./format.js";

const HEIGHT = 210, TOP = 14, BOTTOM = 24, RIGHT = 12;
const LEFT = 44; // where the axis starts; the style sheet has the slider start there too
const LETTER_WIDTH = 6.9; // of a name, in the style sheet's size
const STEP = 4; // between two points of a line when a position for its name is searched
const NAME_OFFSET = 9; // of a name's middle from its line
const MIN_CLEARANCE = 7.5, MAX_CLEARANCE = 15; // of a name's middle from other lines: at least, and what is ample

/** A recall; one that the study doesn't have leaves a gap. */
const orGap = (recall) => recall ?? NaN;

export class RobustnessCurve {
  constructor(figure, curves) {
    Object.assign(this, { figure, curves, strength: 0, active: true, width: 0 });
    this.names = Object.keys(curves.pipelines);
    this.maxStrength = curves.strengths.at(-1);
    new ResizeObserver(() => this.draw()).observe(figure);
  }

  /** The style of a pipeline's line; null if the study has none. */
  style(pipeline) {
    const index = this.names.indexOf(pipeline);
    return index < 0 ? null : series(index);
  }

  /** The recall that the study measured at a strength; null if it is not known. */
  recallAt(pipeline, strength) {
    const curve = this.curves.pipelines[pipeline];
    if (!curve || strength > this.maxStrength) return null;
    const recall = interpolate(this.curves.strengths, curve.recall.map(orGap), strength);
    return Number.isFinite(recall) ? recall : null;
  }

  draw() {
    const width = this.figure.clientWidth;
    if (!width || width === this.width) return;
    this.width = width;
    const curves = Object.values(this.curves.pipelines);
    const bottom = HEIGHT - BOTTOM, right = width - RIGHT;
    this.x = scale(0, this.maxStrength, LEFT, right);
    this.y = scale(0, 1, bottom, TOP);
    const size = { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}` };
    const drawing = svg("svg", { ...size, role: "img", "aria-label": this._describe() });
    drawing.append(axes({
      x: this.x, y: this.y, left: LEFT, right, bottom,
      xs: ticks(0, this.maxStrength, 5), ys: [0, 0.25, 0.5, 0.75, 1], formatY: (value) => percent(value),
    }));
    const lines = curves.map(({ recall }) => this._line(recall));
    curves.forEach(({ low, high }, i) => {
      if (!low || !high) return;
      drawing.append(svg("path", { class: `band ${series(i).color}`, d: area(this._line(high), this._line(low)) }));
    });
    lines.forEach((line, i) => {
      const { color, dash } = series(i);
      drawing.append(svg("path", { class: `line ${color}`, d: path(line), "stroke-dasharray": dash }));
    });
    for (const { name, index, x, y, slope } of placeNames(this.names, lines, [LEFT, right, 2, bottom])) {
      // As steep as its line, so that it fits between its neighbors; straight, so that it is legible.
      const rotated = { x, y, dy: "0.35em", "text-anchor": "middle", transform: `rotate(${slope} ${x} ${y})` };
      drawing.append(svg("text", { ...rotated, class: `name ${series(index).color}`, text: name }));
    }
    this.mark = svg("g", { class: "current" });
    drawing.append(this.mark);
    this.figure.replaceChildren(drawing);
    this.move(this.strength, this.active);
  }

  /** Move the mark to a strength; `active`: whether the curves are of the chosen corruption. */
  move(strength, active) {
    Object.assign(this, { strength, active });
    if (!this.mark) return;
    this.mark.replaceChildren();
    if (!active || strength > this.maxStrength) return;
    const x = this.x(strength);
    this.mark.append(svg("line", { x1: x, x2: x, y1: TOP - 6, y2: HEIGHT - BOTTOM, class: "marker" }));
    this.names.forEach((name, i) => {
      const recall = this.recallAt(name, strength);
      if (recall !== null) this.mark.append(marker(series(i), x, this.y(recall)));
    });
  }

  _line(values) {
    return this.curves.strengths.map((strength, i) => [this.x(strength), this.y(orGap(values[i]))]);
  }

  /** The curves for screen readers: the recall of each pipeline at a few strengths. */
  _describe() {
    const strengths = ticks(0, this.maxStrength, 4);
    const curves = this.names.map((name) => {
      const known = strengths.filter((at) => this.recallAt(name, at) !== null);
      const recalls = known.map((at) => `${percent(this.recallAt(name, at))} at ${number(at)}`);
      return `${name}: ${recalls.join(", ") || "not known"}`;
    });
    return `Mean recall against the strength of the corruption. ${curves.join(". ")}.`;
  }
}

/**
 * A position beside each line for its name, on the side and where the other lines are farthest.
 *
 * @returns for each name that has room {name, index, x, y: its middle, slope: in degrees}.
 */
function placeNames(names, lines, [left, right, top, bottom]) {
  const dense = lines.map((line) => resample(line.filter(([, y]) => Number.isFinite(y)))), taken = [];
  return names.flatMap((name, index) => {
    const line = dense[index], steps = Math.ceil((name.length * LETTER_WIDTH) / STEP);
    let best = null;
    for (let start = 2; start + steps < line.length; start += 2) {
      for (const below of [false, true]) {
        const band = offsetBand(line, start, steps, below);
        if (band.some(([x, y]) => x < left || x > right || y < top || y > bottom)) continue;
        const clearance = minDistance(band, [...dense.filter((_, i) => i !== index), ...taken]);
        const steepness = Math.abs(line[start + steps][1] - line[start][1]) / (steps * STEP);
        const score = Math.min(clearance, MAX_CLEARANCE) - 4 * steepness;
        if (clearance >= MIN_CLEARANCE && (!best || score > best.score)) best = { band, score };
      }
    }
    if (!best) return [];
    const [[x0, y0], [x1, y1]] = [best.band[0], best.band.at(-1)];
    const letter = LETTER_WIDTH / (Math.hypot(x1 - x0, y1 - y0) || 1), [dx, dy] = [letter * (x1 - x0), letter * (y1 - y0)];
    taken.push([[x0 - dx, y0 - dy], ...best.band, [x1 + dx, y1 + dy]]); // and the width of a letter at both ends
    return [{ name, index, x: (x0 + x1) / 2, y: (y0 + y1) / 2, slope: (Math.atan2(y1 - y0, x1 - x0) * 180) / Math.PI }];
  });
}

/** A line as points at equal distances along it. */
function resample(line) {
  if (!line.length) return [];
  const points = [line[0]];
  let rest = 0;
  for (let i = 1; i < line.length; i++) {
    const [[x0, y0], [x1, y1]] = [line[i - 1], line[i]];
    const length = Math.hypot(x1 - x0, y1 - y0);
    let at = STEP - rest;
    for (; at <= length; at += STEP) points.push([x0 + ((x1 - x0) * at) / length, y0 + ((y1 - y0) * at) / length]);
    rest = length - (at - STEP);
  }
  return points;
}

/** The middle line of a name: straight, beside a stretch of a line and clear of where that bulges. */
function offsetBand(line, start, steps, below) {
  const stretch = line.slice(start, start + steps + 1), [[x0, y0], [x1, y1]] = [stretch[0], stretch.at(-1)];
  const length = Math.hypot(x1 - x0, y1 - y0) || 1, side = below ? 1 : -1;
  const [dx, dy] = [(-side * (y1 - y0)) / length, (side * (x1 - x0)) / length]; // one pixel away from the line
  const distance = NAME_OFFSET + Math.max(...stretch.map(([x, y]) => (x - x0) * dx + (y - y0) * dy));
  return stretch.map((_, i) => {
    const share = i / steps;
    return [x0 + share * (x1 - x0) + distance * dx, y0 + share * (y1 - y0) + distance * dy];
  });
}

/** The smallest distance between a name's middle line and other lines. */
function minDistance(band, lines) {
  let smallest = Infinity;
  for (const [x, y] of lines.flat()) for (const [u, v] of band) smallest = Math.min(smallest, Math.hypot(x - u, y - v));
  return smallest;
}
