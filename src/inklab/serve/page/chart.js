// What the page's charts share: scales, ticks, lines, and series that differ in more than color.

import { svg } from "./dom.js";

/** Color, dashes and marker of each series, in the report's order. */
export const SERIES = [
  { color: "c1", dash: null, marker: "circle" },
  { color: "c2", dash: "7 2.5", marker: "square" },
  { color: "c3", dash: "2 2.5", marker: "triangle" },
  { color: "c4", dash: "8 2.5 2 2.5", marker: "diamond" },
  { color: "c5", dash: "4 1.6", marker: "down" },
  { color: "c6", dash: "10 3", marker: "plus" },
];
export const series = (index) => SERIES[index % SERIES.length];

const MARKERS = {
  circle: "M-3.5 0a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0z",
  square: "M-3.2 -3.2h6.4v6.4h-6.4z",
  triangle: "M0 -4.2L4 3.2H-4z",
  diamond: "M0 -4.6L4.6 0L0 4.6L-4.6 0z",
  down: "M0 4.2L4 -3.2H-4z",
  plus: "M-1.4 -4h2.8v2.6h2.6v2.8h-2.6v2.6h-2.8v-2.6h-2.6v-2.8h2.6z",
};

export const marker = (style, x, y) =>
  svg("path", { d: MARKERS[style.marker], transform: `translate(${x} ${y})`, class: `mark ${style.color}` });

/** A short line in the style of a series, for legends. */
export function swatch(style) {
  const drawing = svg("svg", { viewBox: "0 0 28 12", width: 28, height: 12, class: "swatch", "aria-hidden": "true" });
  drawing.append(
    svg("line", { x1: 0, x2: 28, y1: 6, y2: 6, class: `line ${style.color}`, "stroke-dasharray": style.dash }),
    marker(style, 14, 6),
  );
  return drawing;
}

/** A function from values to positions. */
export const scale = (low, high, from, to) => {
  const range = high - low || 1;
  return (value) => from + ((value - low) / range) * (to - from);
};

/** Round numbers from low to high, about so many. */
export function ticks(low, high, about) {
  const raw = (high - low || 1) / about;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * 0.999);
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) values.push(Number((i * step).toPrecision(12)));
  return values;
}

/** A line through points; a gap where a value is missing. */
export function path(points) {
  let text = "", pen = "M";
  for (const [x, y] of points) {
    if (!Number.isFinite(x) || !Number.isFinite(y)) { pen = "M"; continue; }
    text += `${pen}${x.toFixed(1)} ${y.toFixed(1)}`;
    pen = "L";
  }
  return text;
}

/** The area between two lines over the same positions. */
export const area = (upper, lower) => `${path(upper)}${path([...lower].reverse()).replace("M", "L")}Z`;

/** A series' value at a position, interpolated linearly. */
export function interpolate(positions, values, at) {
  if (at <= positions[0]) return values[0];
  for (let i = 1; i < positions.length; i++) {
    if (at > positions[i]) continue;
    const share = (at - positions[i - 1]) / (positions[i] - positions[i - 1]);
    return values[i - 1] + share * (values[i] - values[i - 1]);
  }
  return values.at(-1);
}

/** Horizontal lines and labels at the ticks of y, and the labels of x below. */
export function axes({ x, y, left, right, bottom, xs, ys, formatY = String, formatX = String }) {
  const group = svg("g", { class: "axis" });
  for (const value of ys) {
    group.append(
      svg("line", { x1: left, x2: right, y1: y(value), y2: y(value), class: "rule" }),
      svg("text", { x: left - 6, y: y(value) + 4, "text-anchor": "end", text: formatY(value) }),
    );
  }
  group.append(svg("line", { x1: left, x2: right, y1: bottom, y2: bottom, class: "base" }));
  for (const value of xs) {
    group.append(svg("text", { x: x(value), y: bottom + 16, "text-anchor": "middle", text: formatX(value) }));
  }
  return group;
}
