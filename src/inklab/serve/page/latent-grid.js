// Between four images: a square in which every position is a mixture of the latent codes at its corners.

import { LatestOnly } from "./api.js";
import { byId, perFrame, setText } from "./dom.js";
import { probability } from "./format.js";

const MAX_TILES = 9; // images a side of the map
const STEP = 0.02, LARGE_STEP = 0.1; // of an arrow key, and with Shift
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class LatentGrid {
  /** @param page {networks, state, painter, errors}; @param source returns {decoder, sampler, seed}. */
  constructor({ networks, state, painter, errors }, source) {
    Object.assign(this, { state, painter, source, requestedMap: "", requestedImage: "" });
    this.tiles = Math.min(MAX_TILES, Math.floor(Math.sqrt(networks.limits.max_samples)));
    const onError = (name) => (error) => errors.show(this[name], error);
    this.mapping = new LatestOnly("api/generate", (response) => this._showMap(response), onError("mapping"));
    this.moving = new LatestOnly("api/generate", (response) => this._showImage(response), onError("moving"));
    this._listen(byId("map"), byId("ring"));
  }

  /** Bring map and image to the state. */
  show() {
    const source = this.source();
    const { position: [x, y] } = this.state.now;
    if (this.requestedMap !== JSON.stringify(source)) {
      this.requestedMap = JSON.stringify(source);
      this.mapping.request({ ...source, positions: lattice(this.tiles) });
    }
    if (this.requestedImage !== JSON.stringify([source, x, y])) {
      this.requestedImage = JSON.stringify([source, x, y]);
      this.moving.request({ ...source, positions: [[x, y]] });
    }
    const ring = byId("ring");
    // The centers of the map's outermost images are half an image from its edge: 0 and 1 are there.
    const offset = (share) => `${(100 * (share * (this.tiles - 1) + 0.5)) / this.tiles}%`;
    ring.style.left = offset(x);
    ring.style.top = offset(y);
    ring.setAttribute("aria-valuenow", Math.round(100 * x));
  }

  _listen(map, ring) {
    let target = null;
    const move = perFrame(() => target && this.state.set({ position: target }));
    const follow = (event) => {
      const box = map.getBoundingClientRect();
      const share = (at, from, size) => clamp(((at - from) / size) * this.tiles - 0.5, this.tiles - 1) / (this.tiles - 1);
      target = [share(event.clientX, box.left, box.width), share(event.clientY, box.top, box.height)].map(round);
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
    ring.addEventListener("keydown", (event) => this._onKey(event));
  }

  _onKey(event) {
    const [x, y] = this.state.now.position;
    const step = event.shiftKey ? LARGE_STEP : STEP;
    const [right, down] = KEYS[event.key] ?? [0, 0];
    let target = [x + right * step, y + down * step];
    if (event.key === "Home") target = [0, 0];
    else if (event.key === "End") target = [1, 1];
    else if (!(event.key in KEYS)) return;
    event.preventDefault();
    this.state.set({ position: target.map((share) => round(clamp(share, 1))) });
  }

  _showMap({ images, labels }) {
    this.painter.paintMany(byId("map-images"), images.map((text) => this.painter.decode(text)), this.tiles);
    const corners = [0, this.tiles - 1, this.tiles * (this.tiles - 1), this.tiles ** 2 - 1];
    if (!labels.length) return;
    const [a, b, c, d] = corners.map((i) => labels[i].label);
    byId("map-images").setAttribute("aria-label", `Mixtures between ${a} and ${b} above, ${c} and ${d} below`);
    setText(byId("between-note"), `The classifier predicts ${a} and ${b} at the top corners, ${c} and ${d} at the bottom.`);
  }

  _showImage({ images: [image], labels: [predicted] }) {
    this.painter.paint(byId("here"), this.painter.decode(image));
    const [x, y] = this.state.now.position;
    const text = predicted ? `${predicted.label}, ${probability(predicted.probability)}` : "";
    setText(byId("here-note"), text);
    byId("here").setAttribute("aria-label", `The image at this position${text ? `: classified as ${text}` : ""}`);
    const position = `${Math.round(100 * x)}% across, ${Math.round(100 * y)}% down`;
    byId("ring").setAttribute("aria-valuetext", text ? `${position}: ${text}` : position);
  }
}

const clamp = (value, max) => Math.min(max, Math.max(0, value));
const round = (share) => Math.round(1000 * share) / 1000;

/** Positions in the square, row by row. */
function lattice(side) {
  return Array.from({ length: side * side }, (_, i) => [(i % side) / (side - 1), Math.floor(i / side) / (side - 1)]);
}
