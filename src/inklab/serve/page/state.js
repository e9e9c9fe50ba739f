// What is on show, and its form in the address: so a lesson is a link, and going back works.

const WAIT = 400; // ms between two changes of the address: browsers refuse more than some hundred in half a minute
const LONGEST_INK = 20000, LONGEST_PICTURE = 16000; // letters; what a link may reasonably hold

const id = (text) => (/^[\w.+:-]{1,200}$/.test(text) ? text : undefined);
const between = (low, high) => (text) => {
  const number = Number(text);
  return text.trim() !== "" && number >= low && number <= high ? number : undefined;
};
const seed = (text) => (/^\d{1,10}$/.test(text) && Number(text) < 2 ** 31 ? Number(text) : undefined);
const oneOf = (...known) => (text) => (known.includes(text) ? text : undefined);
const text = (longest) => (value) => (value.length <= longest && /^[\w.~!*()+/=:;,-]*$/.test(value) ? value : undefined);
const place = (value) => {
  const both = value.split(",").map(between(0, 1));
  return both.length === 2 && !both.includes(undefined) ? both : undefined;
};
const ids = (value) => {
  const all = value.split(",").map(id);
  return all.includes(undefined) || all.length > 24 ? undefined : all;
};

/** Every part of the state: what it is at first, and how it is read from a link; undefined: it is ignored. */
const PARTS = {
  view: ["", oneOf("draw", "new", "study")],
  ink: ["", text(LONGEST_INK)],
  picture: ["", text(LONGEST_PICTURE)],
  pen: [0.08, between(0.01, 0.3)],
  noise: [0, between(0, 1e6)],
  corruption: ["", id],
  seed: [0, seed],
  pipelines: [null, ids],
  decoder: ["", id],
  sampler: ["", id],
  codes: [1, seed],
  walk: [[0.5, 0.5], place],
  spread: [0.5, between(0, 2)],
  measure: ["loss", oneOf("loss", "accuracy")],
};

export const START = Object.freeze(Object.fromEntries(Object.entries(PARTS).map(([key, [first]]) => [key, first])));

/** The state that an address holds. What can't be read there is as at first. */
export function read(fragment) {
  const given = new URLSearchParams(fragment.replace(/^#/, ""));
  const found = { ...START };
  for (const [key, [, sound]] of Object.entries(PARTS)) {
    const value = given.has(key) ? sound(given.get(key)) : undefined;
    if (value !== undefined) found[key] = value;
  }
  return found;
}

/** The address of a state: only what is not as at first, so that links stay short, and what can be read again. */
export function write(state) {
  const kept = new URLSearchParams();
  for (const [key, [first, sound]] of Object.entries(PARTS)) {
    const value = String(state[key] ?? "");
    if (value !== String(first ?? "") && sound(value) !== undefined) kept.set(key, value);
  }
  return `#${String(kept).replaceAll("%2C", ",").replaceAll("%3A", ":").replaceAll("%7E", "~")}`;
}

/** The state, with an event "change" for whom it concerns: `event.keys` changed, `event.restored`: by a link. */
export class State extends EventTarget {
  constructor() {
    super();
    this.now = read(location.hash);
    this.timer = 0;
    addEventListener("hashchange", () => this._restore());
    addEventListener("pagehide", () => this.flush());
  }

  /** Change parts of it; `going`: a step that the browser's Back takes back. */
  set(changes, { going = false } = {}) {
    const keys = Object.keys(changes).filter((key) => String(changes[key]) !== String(this.now[key]));
    if (!keys.length) return;
    if (going) this.flush();
    this.now = { ...this.now, ...changes };
    if (going) history.pushState(null, "", write(this.now));
    else this.timer ||= setTimeout(() => this.flush(), WAIT);
    this._tell(keys, false);
  }

  /** Bring the address up to date now. */
  flush() {
    clearTimeout(this.timer);
    this.timer = 0;
    if (location.hash !== write(this.now)) history.replaceState(null, "", write(this.now));
  }

  _restore() {
    clearTimeout(this.timer);
    this.timer = 0;
    const before = this.now;
    this.now = read(location.hash);
    this._tell(Object.keys(this.now).filter((key) => String(before[key]) !== String(this.now[key])), true);
  }

  _tell(keys, restored) {
    if (keys.length) this.dispatchEvent(Object.assign(new Event("change"), { keys: new Set(keys), restored }));
  }
}
