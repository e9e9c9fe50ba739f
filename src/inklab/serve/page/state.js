// What the page shows, and its form in the address: a lesson can be a link, and the browser's Back works.

const WAIT = 400; // ms between two changes of the address: browsers refuse more than some hundred in half a minute
const MAX_DRAWING = 100_000, MAX_PICTURE = 16_000; // characters: some 2,000 strokes; browsers take longer addresses

const id = (text) => (/^[\w.+:-]{1,200}$/.test(text) ? text : undefined);
const between = (low, high) => (text) => {
  const number = Number(text);
  return text.trim() !== "" && number >= low && number <= high ? number : undefined;
};
const seed = (text) => (/^\d{1,10}$/.test(text) && Number(text) < 2 ** 31 ? Number(text) : undefined);
const oneOf = (...known) => (text) => (known.includes(text) ? text : undefined);
const text = (max) => (value) => (value.length <= max && /^[\w.~!*()+/=:;,-]*$/.test(value) ? value : undefined);
const position = (value) => {
  const both = value.split(",").map(between(0, 1));
  return both.length === 2 && !both.includes(undefined) ? both : undefined;
};
const ids = (value) => {
  const all = value.split(",").map(id);
  return all.includes(undefined) || all.length > 24 ? undefined : all;
};

/** Every part of the state: its initial value, and how it is parsed from a link; undefined: it is ignored. */
const PARTS = {
  view: ["", oneOf("draw", "generate", "study")],
  drawing: ["", text(MAX_DRAWING)],
  picture: ["", text(MAX_PICTURE)],
  pen: [0.08, between(0.01, 0.3)],
  strength: [0, between(0, 1e6)],
  corruption: ["", id],
  seed: [0, seed],
  pipelines: [null, ids],
  inside: ["", id],
  decoder: ["", id],
  sampler: ["", id],
  samples: [1, seed],
  position: [[0.5, 0.5], position],
  sigma: [0.5, between(0, 2)],
  metric: ["loss", oneOf("loss", "accuracy")],
  scale: ["linear", oneOf("linear", "log")],
};

export const INITIAL = Object.freeze(Object.fromEntries(Object.entries(PARTS).map(([key, [first]]) => [key, first])));

/** The state in an address. What can't be parsed has its initial value. */
export function parse(fragment) {
  const parameters = new URLSearchParams(fragment.replace(/^#/, "").replaceAll("+", "%2B")); // a plus typed by hand is one
  const state = { ...INITIAL };
  for (const [key, [, parsePart]] of Object.entries(PARTS)) {
    const value = parameters.has(key) ? parsePart(parameters.get(key)) : undefined;
    if (value !== undefined) state[key] = value;
  }
  return state;
}

/** The address of a state: only what differs from the initial state, so that links stay short, and what can be parsed. */
export function format(state) {
  const parameters = new URLSearchParams();
  for (const [key, [first, parsePart]] of Object.entries(PARTS)) {
    const value = String(state[key] ?? "");
    if (value !== String(first ?? "") && parsePart(value) !== undefined) parameters.set(key, value);
  }
  return `#${String(parameters).replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%7E", "~")}`;
}

/** Whether a state has a drawing that is too long for a link. */
export const isTooLong = ({ drawing }) => drawing.length > MAX_DRAWING;

/** The state, with an event "change": `event.keys` changed, `event.restored`: by a link. */
export class State extends EventTarget {
  constructor() {
    super();
    this.now = parse(location.hash);
    this.timer = 0;
    addEventListener("hashchange", () => this._restore());
    addEventListener("pagehide", () => this.flush());
  }

  /** Change parts of it; `step`: one that the browser's Back undoes. */
  set(changes, { step = false } = {}) {
    const keys = Object.keys(changes).filter((key) => String(changes[key]) !== String(this.now[key]));
    if (!keys.length) return;
    if (step) this.flush();
    this.now = { ...this.now, ...changes };
    if (step) history.pushState(null, "", format(this.now));
    else this.timer ||= setTimeout(() => this.flush(), WAIT);
    this._notify(keys, false);
  }

  /** Update the address now. */
  flush() {
    clearTimeout(this.timer);
    this.timer = 0;
    if (location.hash !== format(this.now)) history.replaceState(null, "", format(this.now));
  }

  _restore() {
    clearTimeout(this.timer);
    this.timer = 0;
    const before = this.now;
    this.now = parse(location.hash);
    this._notify(Object.keys(this.now).filter((key) => String(before[key]) !== String(this.now[key])), true);
  }

  _notify(keys, restored) {
    if (keys.length) this.dispatchEvent(Object.assign(new Event("change"), { keys: new Set(keys), restored }));
  }
}
