// A pad to draw on: with a mouse, a pen, a finger, or the keyboard alone.
//
// A drawing is a list of strokes, each a pen's width and the points that it went through, in shares of the side.
// So it can be undone, put into a link, and drawn again at any size; pixels are made of it only when asked for.

const GRID = 1024; // Points lie on so many steps a side: finer than a screen shows, short in a link.
const SPACING = 8 / GRID; // Between two points that are kept. The curve through them is as smooth as the pen is wide.
const NUDGE = 1 / 32; // What an arrow key moves the nib by; a quarter of it with Shift.
const THINNEST = 0.01, WIDEST = 0.25, PENS = 800; // Pens, as shares of the side, in steps of 1/800.
const MOST_POINTS = 20_000; // Of a stroke, and of a drawing to which another is added. A digit has some 200.
const VERSION = "1"; // First character of a drawing as text.
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
const HELP = "Drawing pad. Draw with mouse, pen or finger; or move the nib with the arrow keys, put it down and lift it " +
  "with the space bar. Control Z takes back, Delete clears.";

/** Dispatches "change" when the drawing has changed (once a frame while one draws), "strokeend" after each stroke,
 *  and "nib" when the keyboard has moved it, put it down or lifted it. */
export class Pad extends EventTarget {
  #canvas; #pen = 0;
  #strokes = []; // Never changed in place but for the one that is being drawn: so a former drawing is a former list.
  #past = []; // Former drawings, for undo: also what was cleared.
  #pointer = null; // The finger that draws; others are ignored.
  #stroke = null; // What it draws.
  #nib = null; // Where the keyboard draws: {x, y, down}.
  #frame = 0; // The animation frame that is waited for.

  constructor(canvas, { pen = 0.08 } = {}) {
    super();
    this.#canvas = canvas;
    this.pen = pen;
    canvas.style.touchAction = "none"; // A finger draws; it does not scroll or zoom,
    canvas.style.userSelect = canvas.style.webkitUserSelect = "none"; // and selects nothing when it rests.
    if (!canvas.hasAttribute("tabindex")) canvas.tabIndex = 0;
    if (!canvas.hasAttribute("role")) canvas.setAttribute("role", "application"); // Arrow keys are for us.
    if (!canvas.hasAttribute("aria-label")) canvas.setAttribute("aria-label", HELP);
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel", "lostpointercapture"])
      canvas.addEventListener(end, (event) => event.pointerId === this.#pointer && this.#lift());
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("blur", () => this.#hideNib());
    new ResizeObserver(() => this.redraw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  // ---- the drawing

  get strokes() { return this.#strokes; }
  get empty() { return this.#strokes.length === 0; }
  get pen() { return this.#pen; }
  set pen(share) { this.#pen = penOf(share); }

  undo() {
    this.#drop();
    if (this.#past.length) this.#become(this.#past.pop());
  }

  clear() { this.load([]); }

  load(strokes) {
    this.#drop();
    if (!this.empty) this.#past.push(this.#strokes);
    this.#become(strokes.map(({ pen, points }) => ({ pen: penOf(pen), points: points.map(([x, y]) => [onGrid(x), onGrid(y)]) })));
  }

  /** Short, and made of letters, digits, - and _ only, so that it fits into a link. */
  toText() {
    const bytes = [];
    for (const { pen, points } of this.#strokes) {
      putNumber(bytes, Math.round(pen * PENS));
      putNumber(bytes, points.length);
      let before = [0, 0];
      for (const point of points) { // Where a point lies from the one before: mostly one byte each way.
        for (const axis of [0, 1]) putNumber(bytes, folded(Math.round((point[axis] - before[axis]) * GRID)));
        before = point;
      }
    }
    const text = btoa(bytes.map((byte) => String.fromCharCode(byte)).join(""));
    return VERSION + text.replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  }

  /** The drawing that `toText` told. Anything else leaves the pad empty: a link may say what it wants. */
  fromText(text) {
    let strokes = [];
    try { strokes = strokesOf(String(text)); } catch { /* it was none */ }
    this.load(strokes);
  }

  /** How much ink lies on each of side x side pixels: 0 none, 255 full. Whatever theme and screen. */
  raster(side) {
    const canvas = new OffscreenCanvas(side, side);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    trace(context, this.#strokes, side);
    const { data } = context.getImageData(0, 0, side, side), ink = new Uint8Array(side * side);
    for (let i = 0; i < ink.length; i++) ink[i] = data[4 * i + 3]; // What is opaque is ink.
    return ink;
  }

  /** Draw it on the canvas, in the canvas's own CSS colour and as finely as the screen can. */
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

  // ---- strokes as they come

  #begin(point) {
    if (this.#strokes.reduce((sum, { points }) => sum + points.length, 0) >= MOST_POINTS) return;
    this.#past.push(this.#strokes);
    this.#stroke = { pen: this.#pen, points: [point] };
    this.#strokes = [...this.#strokes, this.#stroke];
    this.#soon();
  }

  #go(point) {
    const points = this.#stroke?.points;
    if (!points) return;
    // The last point follows the pointer, and stays where it is once it is far enough from the one before.
    if (points.length > 1 && distance(points.at(-2), points.at(-1)) < SPACING) points.pop();
    if (points.length < MOST_POINTS) points.push(point);
    this.#soon();
  }

  #lift() {
    this.#pointer = this.#stroke = null;
    this.#now();
    this.dispatchEvent(new Event("strokeend"));
  }

  /** A stroke that is being drawn when the drawing is replaced ends there. */
  #drop() {
    this.#pointer = this.#stroke = null;
    if (this.#nib) this.#nib.down = false;
  }

  #become(strokes) {
    this.#strokes = strokes;
    this.#now();
  }

  #soon() { this.#frame ||= requestAnimationFrame(() => this.#now()); }

  #now() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.redraw();
    this.dispatchEvent(new Event("change"));
  }

  // ---- mouse, pen and finger

  #down(event) {
    if (this.#pointer !== null || event.button !== 0) return;
    this.#hideNib();
    this.#canvas.setPointerCapture(event.pointerId); // The stroke goes on when the pointer leaves the canvas.
    this.#pointer = event.pointerId;
    this.#begin(this.#place(event));
  }

  #move(event) {
    if (event.pointerId !== this.#pointer) return;
    const all = event.getCoalescedEvents?.() ?? []; // All places since the last frame, not the latest only.
    for (const each of all.length ? all : [event]) this.#go(this.#place(each));
  }

  #place(event) {
    const canvas = this.#canvas, box = canvas.getBoundingClientRect();
    const x = (event.clientX - box.left - canvas.clientLeft) / canvas.clientWidth;
    const y = (event.clientY - box.top - canvas.clientTop) / canvas.clientHeight;
    return [onGrid(x), onGrid(y)];
  }

  // ---- the keyboard

  #key(event) {
    const { key } = event;
    if ((event.ctrlKey || event.metaKey) && key.toLowerCase() === "z") this.undo();
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
    this.#nib.x = onGrid(this.#nib.x + right * step);
    this.#nib.y = onGrid(this.#nib.y + down * step);
    if (this.#nib.down) this.#go([this.#nib.x, this.#nib.y]);
    this.#tellNib();
  }

  #toggle() {
    if (this.#pointer !== null) return;
    this.#nib ??= { x: 0.5, y: 0.5, down: false };
    this.#nib.down = !this.#nib.down;
    if (this.#nib.down) this.#begin([this.#nib.x, this.#nib.y]);
    else this.#lift();
    this.#tellNib();
  }

  #hideNib() {
    const drawing = this.#nib?.down;
    this.#nib = null;
    if (drawing) this.#lift();
    else this.redraw();
  }

  #tellNib() {
    this.redraw();
    this.dispatchEvent(new CustomEvent("nib", { detail: { ...this.#nib } }));
  }

  #drawNib(context, side) {
    const { x, y, down } = this.#nib, width = Math.max(side / 160, 1);
    context.lineWidth = width;
    context.globalCompositeOperation = "xor"; // Cut out where there is ink already.
    context.beginPath();
    context.arc(x * side, y * side, (this.#pen * side) / 2 + 2 * width, 0, 2 * Math.PI);
    context.setLineDash(down ? [] : [3 * width, 2 * width]); // Dashed: it is in the air.
    context.stroke();
    context.setLineDash([]);
    context.globalCompositeOperation = "source-over";
  }
}

/** Strokes on a canvas, as smooth curves: each point bends the line between the middles of its two neighbours. */
function trace(context, strokes, side) {
  context.lineCap = context.lineJoin = "round";
  for (const { pen, points } of strokes) {
    const at = points.map(([x, y]) => [x * side, y * side]), last = at.length - 1;
    context.lineWidth = pen * side;
    context.beginPath();
    context.moveTo(...at[0]);
    for (let i = 1; i < last; i++) context.quadraticCurveTo(...at[i], (at[i][0] + at[i + 1][0]) / 2, (at[i][1] + at[i + 1][1]) / 2);
    context.lineTo(at[last][0] + 0.01, at[last][1]); // Not quite there: a line without length has no ends, and a dot is one.
    context.stroke();
  }
}

const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
const within = (least, value, most) => Math.min(Math.max(Number(value) || 0, least), most);
const onGrid = (share) => Math.round(within(0, share, 1) * GRID) / GRID;
const penOf = (share) => Math.round(within(THINNEST, share, WIDEST) * PENS) / PENS;

// ---- numbers as bytes: seven bits each, the eighth says that more follow; 0, -1, 1, -2, 2 ... become 0, 1, 2, 3, 4 ...

const folded = (number) => (number < 0 ? -2 * number - 1 : 2 * number);
const unfolded = (number) => (number % 2 ? -(number + 1) / 2 : number / 2);

function putNumber(bytes, number) {
  for (; number > 127; number >>= 7) bytes.push((number & 127) | 128);
  bytes.push(number);
}

/** The strokes that a text tells, or an error. */
function strokesOf(text) {
  if (text[0] !== VERSION) throw new Error("another version, or no drawing");
  const raw = atob(text.slice(1).replaceAll("-", "+").replaceAll("_", "/"));
  let place = 0, total = 0;
  const next = () => {
    let number = 0;
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = raw.charCodeAt(place++); // Behind the end it is no number at all, and is found out below.
      number |= (byte & 127) << shift;
      if (byte < 128) return number;
    }
    throw new Error("it is cut short, or a number is too long");
  };
  const strokes = [];
  while (place < raw.length) {
    const pen = next() / PENS, points = [], count = next();
    total += count;
    if (!count || total > 2 * MOST_POINTS || pen !== penOf(pen)) throw new Error("no such stroke");
    for (let x = 0, y = 0; points.length < count; points.push([x / GRID, y / GRID])) {
      [x, y] = [x + unfolded(next()), y + unfolded(next())];
      if (Math.min(x, y) < 0 || Math.max(x, y) > GRID) throw new Error("a point is outside");
    }
    strokes.push({ pen, points });
  }
  return strokes;
}
