// A pad to draw on: with a mouse, a pen, a finger, or the keyboard alone.
//
// A drawing is a list of strokes: the pen's width and points of the path, in shares of the side. So it can be
// undone, put into a link, and drawn at any size; pixels are computed only on request.

const GRID = 1024; // Steps a side of points: finer than a screen's pixels, short in a link.
const SPACING = 8 / GRID; // Least distance of two points; the curve through them stays smooth for its width.
const NUDGE = 1 / 32; // Step of an arrow key; a quarter of it with Shift.
const MIN_PEN = 0.01, MAX_PEN = 0.25, PEN_STEPS = 800; // Widths of pens, as shares of the side, in steps of 1/800.
const MAX_POINTS = 20_000; // Of a stroke, and of a drawing to which a stroke is added. A digit has some 200.
const VERSION = "1"; // First character of a drawing as text.
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const HELP = "Drawing pad. Draw with mouse, pen or finger; or move the pen with the arrow keys, put it down and lift it " +
  "with the space bar. Control Z undoes, Control Y redoes, Delete or Escape clears.";
// Width of lines as networks get them, as a share of the longer side of the whole drawing. Lines between are left as they are.
const MIN_LINE = 0.09, MAX_LINE = 0.14;

/** Where the keyboard's pen is, in words. */
export function describePen({ x, y, down }) {
  return `Pen ${down ? "down" : "up"}, ${Math.round(100 * x)}% from the left, ${Math.round(100 * y)}% from the top.`;
}

/** Dispatches "change" when the drawing has changed (once a frame while one draws), "strokeend" after each stroke,
 *  and "nib" when the keyboard has moved it, put it down or lifted it. */
export class Pad extends EventTarget {
  #canvas; #pen = 0;
  #erases = false; // Whether the pen takes ink away.
  #strokes = []; // Never changed in place, except for the stroke being drawn: so a former drawing is a former list.
  #history = []; // Former drawings, for undo; also those before they were cleared.
  #future = []; // Drawings that were undone, for redo.
  #pointer = null; // Id of the pointer that draws; others are ignored.
  #stroke = null; // The stroke that it draws.
  #nib = null; // Position of the keyboard's pen: {x, y, down}.
  #frame = 0; // Id of the scheduled animation frame.

  constructor(canvas, { pen = 0.08 } = {}) {
    super();
    this.#canvas = canvas;
    this.pen = pen;
    canvas.style.touchAction = "none"; // A finger draws; it neither scrolls nor zooms,
    canvas.style.userSelect = canvas.style.webkitUserSelect = "none"; // and selects nothing when it rests.
    if (!canvas.hasAttribute("tabindex")) canvas.tabIndex = 0;
    if (!canvas.hasAttribute("role")) canvas.setAttribute("role", "application"); // Arrow keys reach the pad.
    if (!canvas.hasAttribute("aria-label")) canvas.setAttribute("aria-label", HELP);
    canvas.addEventListener("pointerdown", (event) => this.#onPointerDown(event));
    canvas.addEventListener("pointermove", (event) => this.#onPointerMove(event));
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"])
      canvas.addEventListener(end, (event) => event.pointerId === this.#pointer && this.#endStroke());
    canvas.addEventListener("keydown", (event) => this.#onKey(event));
    canvas.addEventListener("blur", () => this.#hideNib());
    new ResizeObserver(() => this.redraw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  // ---- the drawing

  get strokes() { return this.#strokes; }
  get empty() { return this.#strokes.length === 0; }
  get pen() { return this.#pen; }
  set pen(share) { this.#pen = roundPen(share); }

  /** Whether the pen takes ink away instead of leaving it. */
  get erases() { return this.#erases; }
  set erases(on) {
    this.#cancelStroke();
    this.#erases = Boolean(on);
  }

  undo() { this.#step(this.#history, this.#future); }

  redo() { this.#step(this.#future, this.#history); }

  /** Go to the last drawing of one list; the present one becomes the last of the other. */
  #step(from, to) {
    this.#cancelStroke();
    if (!from.length) return;
    to.push(this.#strokes);
    this.#replace(from.pop());
  }

  /** Keep the present drawing for undo, before it changes. */
  #remember() {
    this.#history.push(this.#strokes);
    this.#future = [];
  }

  clear() { this.load([]); }

  load(strokes) {
    this.#cancelStroke();
    if (!this.empty) this.#remember();
    this.#replace(strokes.map(({ pen, points }) => ({ pen: roundPen(pen), points: points.map(([x, y]) => [snap(x), snap(y)]) })));
  }

  /** Short, and made of letters, digits, - and _ only, so that it fits into a link. */
  toText() {
    const bytes = [];
    for (const { pen, points } of this.#strokes) {
      writeNumber(bytes, Math.round(pen * PEN_STEPS));
      writeNumber(bytes, points.length);
      let before = [0, 0];
      for (const point of points) { // Relative to the point before: mostly one byte an axis.
        for (const axis of [0, 1]) writeNumber(bytes, zigzag(Math.round((point[axis] - before[axis]) * GRID)));
        before = point;
      }
    }
    const text = btoa(bytes.map((byte) => String.fromCharCode(byte)).join(""));
    return VERSION + text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  }

  /** Load a drawing from `toText`. Any other text leaves the pad empty: links may be damaged. */
  fromText(text) {
    let strokes = [];
    try { strokes = parseStrokes(String(text)); } catch { /* no drawing */ }
    this.load(strokes);
  }

  /** The ink of side x side pixels: 0 none, 255 full, whatever theme and screen.
   *  `balanced`: lines that are thin or thick for the size of the drawing get the width of a usual digit's. */
  raster(side, { balanced = false } = {}) {
    const canvas = new OffscreenCanvas(side, side);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    trace(context, balanced ? balanceLines(this.#strokes) : this.#strokes, side);
    const { data } = context.getImageData(0, 0, side, side), ink = new Uint8Array(side * side);
    for (let i = 0; i < ink.length; i++) ink[i] = data[4 * i + 3]; // Opaque pixels are ink.
    return ink;
  }

  /** Draw it on the canvas, in the canvas's CSS color, at the screen's resolution. */
  redraw() {
    const canvas = this.#canvas, side = Math.round(canvas.clientWidth * devicePixelRatio);
    if (!side) return; // It is hidden.
    if (canvas.width !== side || canvas.height !== side) canvas.width = canvas.height = side;
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, side, side);
    context.strokeStyle = getComputedStyle(canvas).color;
    trace(context, this.#strokes, side);
    if (this.#nib) this.#drawNib(context, side);
  }

  // ---- strokes while they are drawn

  #begin(point) {
    if (this.#erases) {
      this.#remember();
      this.#stroke = { pen: this.#pen, points: [] };
      return this.#extend(point);
    }
    if (this.#strokes.reduce((sum, { points }) => sum + points.length, 0) >= MAX_POINTS) return;
    this.#remember();
    this.#stroke = { pen: this.#pen, points: [point] };
    this.#strokes = [...this.#strokes, this.#stroke];
    this.#scheduleChange();
  }

  #extend(point) {
    const points = this.#stroke?.points;
    if (!points) return;
    if (this.#erases) {
      this.#strokes = this.#strokes.flatMap((stroke) => erase(stroke, points.at(-1) ?? point, point, this.#pen / 2));
      points.push(point);
      return this.#scheduleChange();
    }
    // The last point follows the pointer until it is far enough from the one before.
    if (points.length > 1 && distance(points.at(-2), points.at(-1)) < SPACING) points.pop();
    if (points.length < MAX_POINTS) points.push(point);
    this.#scheduleChange();
  }

  #endStroke() {
    this.#pointer = this.#stroke = null;
    this.#emitChange();
    this.dispatchEvent(new Event("strokeend"));
  }

  /** End a stroke that is being drawn when the drawing is replaced. */
  #cancelStroke() {
    this.#pointer = this.#stroke = null;
    if (this.#nib) this.#nib.down = false;
  }

  #replace(strokes) {
    this.#strokes = strokes;
    this.#emitChange();
  }

  #scheduleChange() { this.#frame ||= requestAnimationFrame(() => this.#emitChange()); }

  #emitChange() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.redraw();
    this.dispatchEvent(new Event("change"));
  }

  // ---- mouse, pen and finger

  #onPointerDown(event) {
    if (this.#pointer !== null || event.button !== 0) return;
    this.#hideNib();
    this.#canvas.setPointerCapture(event.pointerId); // The stroke continues outside of the canvas.
    this.#pointer = event.pointerId;
    this.#begin(this.#pointOf(event));
  }

  #onPointerMove(event) {
    if (event.pointerId !== this.#pointer) return;
    const all = event.getCoalescedEvents?.() ?? []; // All positions since the last frame, not the latest only.
    for (const moved of all.length ? all : [event]) this.#extend(this.#pointOf(moved));
  }

  #pointOf(event) {
    const canvas = this.#canvas, box = canvas.getBoundingClientRect();
    const x = (event.clientX - box.left - canvas.clientLeft) / canvas.clientWidth;
    const y = (event.clientY - box.top - canvas.clientTop) / canvas.clientHeight;
    return [snap(x), snap(y)];
  }

  // ---- the keyboard

  #onKey(event) {
    const { key } = event;
    const withControl = event.ctrlKey || event.metaKey, letter = key.toLowerCase();
    if (withControl && (letter === "y" || (letter === "z" && event.shiftKey))) this.redo();
    else if (withControl && letter === "z") this.undo();
    else if (event.ctrlKey || event.metaKey || event.altKey) return;
    else if (key === "Delete" || key === "Backspace" || key === "Escape") this.clear();
    else if (key in ARROWS) this.#nudge(ARROWS[key], event.shiftKey ? NUDGE / 4 : NUDGE);
    else if (key === " ") this.#toggle();
    else return;
    event.preventDefault();
  }

  #nudge([right, down], step) {
    if (this.#pointer !== null) return;
    this.#nib ??= { x: 0.5, y: 0.5, down: false };
    this.#nib.x = snap(this.#nib.x + right * step);
    this.#nib.y = snap(this.#nib.y + down * step);
    if (this.#nib.down) this.#extend([this.#nib.x, this.#nib.y]);
    this.#emitNib();
  }

  #toggle() {
    if (this.#pointer !== null) return;
    this.#nib ??= { x: 0.5, y: 0.5, down: false };
    this.#nib.down = !this.#nib.down;
    if (this.#nib.down) this.#begin([this.#nib.x, this.#nib.y]);
    else this.#endStroke();
    this.#emitNib();
  }

  #hideNib() {
    const drawing = this.#nib?.down;
    this.#nib = null;
    if (drawing) this.#endStroke();
    else this.redraw();
  }

  #emitNib() {
    this.redraw();
    this.dispatchEvent(new CustomEvent("nib", { detail: { ...this.#nib } }));
  }

  #drawNib(context, side) {
    const { x, y, down } = this.#nib, width = Math.max(side / 160, 1);
    context.lineWidth = width;
    context.globalCompositeOperation = "xor"; // Visible on ink, too.
    context.beginPath();
    context.arc(x * side, y * side, (this.#pen * side) / 2 + 2 * width, 0, 2 * Math.PI);
    context.setLineDash(down ? [] : [3 * width, 2 * width]); // Dashed while it is lifted.
    context.stroke();
    context.setLineDash([]);
    context.globalCompositeOperation = "source-over";
  }
}

/** Draw strokes as smooth curves: a point bends the line between the midpoints to its two neighbors. */
function trace(context, strokes, side) {
  context.lineCap = context.lineJoin = "round";
  for (const { pen, points } of strokes) {
    const at = points.map(([x, y]) => [x * side, y * side]), last = at.length - 1;
    context.lineWidth = pen * side;
    context.beginPath();
    context.moveTo(...at[0]);
    for (let i = 1; i < last; i++) {
      const [x, y] = at[i], [nextX, nextY] = at[i + 1];
      context.quadraticCurveTo(x, y, (x + nextX) / 2, (y + nextY) / 2);
    }
    context.lineTo(at[last][0] + 0.01, at[last][1]); // Offset: a line of length zero, such as a dot, would get no round caps.
    context.stroke();
  }
}

/** What is left of a stroke when an eraser of some radius goes from one point to another: parts of it, or itself. */
function erase(stroke, from, to, radius) {
  const reach = radius + stroke.pen / 2;
  const isNear = (point, i) => distanceOfLines(stroke.points[Math.max(0, i - 1)], point, from, to) < reach;
  if (!stroke.points.some(isNear)) return [stroke];
  const parts = [[]];
  for (const point of subdivide(stroke.points)) {
    if (distanceToLine(point, from, to) >= reach) parts.at(-1).push(point);
    else if (parts.at(-1).length) parts.push([]);
  }
  return parts.filter((points) => points.length > 1).map((points) => ({ pen: stroke.pen, points }));
}

/** Points of a path, with further ones between those that are far apart. */
function subdivide(points) {
  return points.flatMap((point, i) => {
    const before = points[i - 1] ?? point, steps = Math.max(1, Math.ceil(distance(before, point) / (2 * SPACING)));
    return Array.from({ length: steps }, (_, k) => [0, 1].map((axis) =>
      snap(before[axis] + ((k + 1) / steps) * (point[axis] - before[axis]))));
  });
}

function distanceToLine(point, from, to) {
  const [dx, dy] = [to[0] - from[0], to[1] - from[1]], length = dx * dx + dy * dy;
  const share = length ? clamp(0, ((point[0] - from[0]) * dx + (point[1] - from[1]) * dy) / length, 1) : 0;
  return distance(point, [from[0] + share * dx, from[1] + share * dy]);
}

/** The smallest distance between two lines, up to the spacing of points. */
function distanceOfLines(a, b, from, to) {
  return Math.min(...subdivide([a, b]).map((point) => distanceToLine(point, from, to)));
}

/** Strokes with pens that suit the drawing: a small drawing with a thick pen is a blob, a large one with a thin pen fades. */
export function balanceLines(strokes) {
  const points = strokes.flatMap((stroke) => stroke.points), lengths = strokes.map(({ points: path }) =>
    path.reduce((sum, point, i) => sum + (i ? distance(path[i - 1], point) : 0), 0));
  const length = lengths.reduce((sum, part) => sum + part, 0);
  if (!length) return strokes; // Dots.
  const pen = strokes.reduce((sum, stroke, i) => sum + stroke.pen * lengths[i], 0) / length;
  const extent = Math.max(...[0, 1].map((axis) => extentOf(points.map((point) => point[axis]))));
  const share = pen / (extent + pen); // Of the line's width in the longer side, as preprocessing sees it.
  const target = clamp(MIN_LINE, share, MAX_LINE);
  if (extent < pen || target === share) return strokes;
  const factor = (extent * target) / (1 - target) / pen;
  return strokes.map((stroke) => ({ ...stroke, pen: stroke.pen * factor }));
}

function extentOf(values) {
  let low = Infinity, high = -Infinity;
  for (const value of values) [low, high] = [Math.min(low, value), Math.max(high, value)];
  return high - low;
}

const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
const clamp = (min, value, max) => Math.min(Math.max(Number(value) || 0, min), max);
const snap = (share) => Math.round(clamp(0, share, 1) * GRID) / GRID;
const roundPen = (share) => Math.round(clamp(MIN_PEN, share, MAX_PEN) * PEN_STEPS) / PEN_STEPS;

// ---- numbers as bytes: seven bits each, the eighth is set if more follow; 0, -1, 1, -2, 2 ... become 0, 1, 2, 3, 4 ...

const zigzag = (number) => (number < 0 ? -2 * number - 1 : 2 * number);
const unzigzag = (number) => (number % 2 ? -(number + 1) / 2 : number / 2);

function writeNumber(bytes, number) {
  for (; number > 127; number >>= 7) bytes.push((number & 127) | 128);
  bytes.push(number);
}

/** Strokes from text; throws if it is none. */
function parseStrokes(text) {
  if (text[0] !== VERSION) throw new Error("another version, or no drawing");
  const raw = atob(text.slice(1).replaceAll("-", "+").replaceAll("_", "/"));
  let position = 0, total = 0;
  const next = () => {
    let number = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = raw.charCodeAt(position++); // NaN behind the end, which is rejected below.
      number |= (byte & 127) << shift;
      if (byte < 128) return number;
    }
    throw new Error("it is cut short, or a number is too long");
  };
  const strokes = [];
  while (position < raw.length) {
    const pen = next() / PEN_STEPS, points = [], count = next();
    total += count;
    if (!count || total > 2 * MAX_POINTS || pen !== roundPen(pen)) throw new Error("no such stroke");
    for (let x = 0, y = 0; points.length < count; points.push([x / GRID, y / GRID])) {
      [x, y] = [x + unzigzag(next()), y + unzigzag(next())];
      if (Math.min(x, y) < 0 || Math.max(x, y) > GRID) throw new Error("a point is outside");
    }
    strokes.push({ pen, points });
  }
  return strokes;
}
