// A walk between four images: a square in which every place is a mixture of the codes at its corners.

import { Newest } from "./api.js";
import { byId, perFrame, tell } from "./dom.js";
import { toBytes } from "./images.js";
import { probability } from "./words.js";

const MOST_TILES = 9; // images a side on the map
const STEP = 0.02, STRIDE = 0.1; // what an arrow key moves by, and with Shift or a page key
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Walk {
  /** @param page {networks, state, painter, complaints}; @param source tells {decoder, sampler, seed}. */
  constructor({ networks, state, painter, complaints }, source) {
    Object.assign(this, { state, painter, source, mapped: "", stood: "" });
    this.tiles = Math.min(MOST_TILES, Math.floor(Math.sqrt(networks.limits.draws)));
    const failed = (who) => (error) => complaints.show(this[who], error);
    this.mapping = new Newest("/api/generate", (answer) => this._map(answer), failed("mapping"));
    this.going = new Newest("/api/generate", (answer) => this._here(answer), failed("going"));
    this._listen(byId("map"), byId("ring"));
  }

  /** Bring map and image to the state. */
  show() {
    const source = this.source();
    const { walk: [x, y] } = this.state.now;
    if (this.mapped !== JSON.stringify(source)) {
      this.mapped = JSON.stringify(source);
      this.mapping.ask({ ...source, at: lattice(this.tiles) });
    }
    if (this.stood !== JSON.stringify([source, x, y])) {
      this.stood = JSON.stringify([source, x, y]);
      this.going.ask({ ...source, at: [[x, y]] });
    }
    const ring = byId("ring");
    // The map's outermost images have their centres half an image from its edge: there lie 0 and 1.
    const along = (share) => `${(100 * (share * (this.tiles - 1) + 0.5)) / this.tiles}%`;
    ring.style.left = along(x);
    ring.style.top = along(y);
    ring.setAttribute("aria-valuenow", Math.round(100 * x));
  }

  _listen(map, ring) {
    let to = null;
    const move = perFrame(() => to && this.state.set({ walk: to }));
    const follow = (event) => {
      const box = map.getBoundingClientRect();
      const share = (at, from, size) => clamp(((at - from) / size) * this.tiles - 0.5, this.tiles - 1) / (this.tiles - 1);
      to = [share(event.clientX, box.left, box.width), share(event.clientY, box.top, box.height)].map(short);
      move();
    };
    map.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      map.setPointerCapture(event.pointerId);
      ring.focus({ preventScroll: true });
      follow(event);
    });
    map.addEventListener("pointermove", (event) => map.hasPointerCapture(event.pointerId) && follow(event));
    ring.addEventListener("keydown", (event) => this._key(event));
  }

  _key(event) {
    const [x, y] = this.state.now.walk;
    const stride = event.shiftKey ? STRIDE : STEP;
    const [right, down] = KEYS[event.key] ?? [0, 0];
    let to = [x + right * stride, y + down * stride];
    if (event.key === "Home") to = [0, 0];
    else if (event.key === "End") to = [1, 1];
    else if (!(event.key in KEYS)) return;
    event.preventDefault();
    this.state.set({ walk: to.map((share) => short(clamp(share, 1))) });
  }

  _map({ images, recognised }) {
    this.painter.paintMany(byId("map-images"), images.map((text) => toBytes(text, this.painter.bytes)), this.tiles);
    const corners = [0, this.tiles - 1, this.tiles * (this.tiles - 1), this.tiles ** 2 - 1];
    if (!recognised.length) return;
    const [a, b, c, d] = corners.map((i) => recognised[i].label);
    byId("map-images").setAttribute("aria-label", `Mixtures between ${a} and ${b} above, ${c} and ${d} below`);
    tell(byId("walk-told"), `The judge reads the corners as ${a} and ${b} above, ${c} and ${d} below.`);
  }

  _here({ images: [image], recognised: [judged] }) {
    this.painter.paint(byId("here"), toBytes(image, this.painter.bytes));
    const [x, y] = this.state.now.walk;
    const told = judged ? `${judged.label}, ${probability(judged.probability)}` : "";
    tell(byId("here-told"), told);
    byId("here").setAttribute("aria-label", `The image at this place${told ? `: read as ${told}` : ""}`);
    const place = `${Math.round(100 * x)} % across, ${Math.round(100 * y)} % down`;
    byId("ring").setAttribute("aria-valuetext", told ? `${place}: ${told}` : place);
  }
}

const clamp = (value, most) => Math.min(most, Math.max(0, value));
const short = (share) => Math.round(1000 * share) / 1000;

/** Places on the square, row by row. */
function lattice(side) {
  return Array.from({ length: side * side }, (_, i) => [(i % side) / (side - 1), Math.floor(i / side) / (side - 1)]);
}
