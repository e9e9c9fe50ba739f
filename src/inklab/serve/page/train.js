// A network is trained in the page: play, pause, step; its loss and weights as they change.

import { request } from "./api.js";
import { axes, path, scale, ticks } from "./chart.js";
import { epochOrder, evaluate, initialLayers, trainStep } from "./dense-training.js";
import { byId, el, setText, svg, wholeNumber } from "./dom.js";
import { number, percent } from "./format.js";
import { decodeBase64 } from "./images.js";
import { largestOf, paintSigned } from "./maps.js";
import { corrupt } from "./noise.js";
import { setUpThemeSwitch } from "./theme-switch.js";

const HIDDEN = [64, 64], BATCH = 32;
const RATES = [0.003, 0.01, 0.03, 0.1, 0.3, 1, 3];
const FRAME = 12; // ms of training between two frames: the page stays responsive
const AVERAGED = 25; // steps of a point of the curve
const HEIGHT = 220, LEFT = 44, TOP = 12, RIGHT = 12, BOTTOM = 26; // of the curve, pixels

/** The settings in an address; what can't be parsed has its initial value. */
export function parseSettings(fragment) {
  const parameters = new URLSearchParams(fragment.replace(/^#/, "")), settings = { rate: 0.1, noise: 0, seed: 1 };
  const rate = Number(parameters.get("rate")), noise = Number(parameters.get("noise")), seed = Number(parameters.get("seed"));
  if (RATES.includes(rate)) settings.rate = rate;
  if (noise > 0 && noise <= 1) settings.noise = noise;
  if (parameters.has("seed") && Number.isInteger(seed) && seed >= 0 && seed < 2 ** 31) settings.seed = seed;
  return settings;
}

class Training {
  constructor({ images, labels, n_train: count, height, width }) {
    const pixels = Float32Array.from(decodeBase64(images), (byte) => byte / 255), size = height * width;
    Object.assign(this, { size, height, width, count, pixels, labels });
    this.test = { images: pixels.subarray(count * size), labels: labels.slice(count) };
    this.settings = parseSettings(location.hash);
    this._listen();
    this.restart();
  }

  restart() {
    this.layers = initialLayers([this.size, ...HIDDEN, 1 + Math.max(...this.labels)], this.settings.seed);
    Object.assign(this, { steps: 0, order: [], losses: [], points: [], tests: [] });
    this._measure();
    this.show();
  }

  /** A batch of training images in random order, each once an epoch, with noise; then a step of gradient descent. */
  step() {
    const { noise, rate } = this.settings;
    const images = new Float32Array(BATCH * this.size), labels = [];
    for (let row = 0; row < BATCH; row++) {
      const drawn = this.steps * BATCH + row, epoch = Math.floor(drawn / this.count); // images so far, and epochs
      if (drawn % this.count === 0) this.order = epochOrder(this.count, this.settings.seed, epoch);
      const index = this.order[drawn % this.count], start = index * this.size;
      const pixels = this.pixels.subarray(start, start + this.size);
      images.set(noise ? corrupt(pixels, noise, drawn) : pixels, row * this.size);
      labels.push(this.labels[index]);
    }
    this.losses.push(trainStep(this.layers, images, labels, rate));
    this.steps += 1;
    if (this.losses.length < AVERAGED) return;
    this.points.push([this.steps, this.losses.reduce((sum, loss) => sum + loss, 0) / AVERAGED]);
    this.losses = [];
    this._measure();
  }

  _measure() {
    this.result = evaluate(this.layers, this.test.images, this.test.labels);
    this.tests.push([this.steps, this.result.loss]);
  }

  // ---- controls

  _listen() {
    byId("rate").append(...RATES.map((rate) => el("option", { value: String(rate), text: String(rate) })));
    byId("play").addEventListener("click", () => this._play(!this.playing));
    byId("one-step").addEventListener("click", () => { this._play(false); this.step(); this.show(); });
    byId("restart").addEventListener("click", () => this.restart());
    byId("rate").addEventListener("change", (event) => this._set({ rate: Number(event.target.value) }));
    byId("noise").addEventListener("input", (event) => this._set({ noise: Number(event.target.value) }));
    byId("seed").addEventListener("change", (event) => {
      if (wholeNumber(event.target) !== null) this._set({ seed: wholeNumber(event.target) });
      this.restart();
    });
    addEventListener("hashchange", () => { this.settings = parseSettings(location.hash); this.restart(); });
    setUpThemeSwitch(byId("theme"), () => this.show());
    new ResizeObserver(() => this.show()).observe(byId("loss-curve"));
  }

  _set(changes) {
    Object.assign(this.settings, changes);
    history.replaceState(null, "", `#${new URLSearchParams(this.settings)}`);
    this.show();
  }

  _play(on) {
    this.playing = on;
    setText(byId("play"), on ? "Pause" : "Play");
    if (on) requestAnimationFrame(() => this._advance());
  }

  _advance() {
    if (!this.playing) return;
    const end = performance.now() + FRAME;
    do this.step(); while (performance.now() < end);
    this.show();
    requestAnimationFrame(() => this._advance());
  }

  // ---- display

  show() {
    const { settings, result } = this;
    for (const [id, value] of Object.entries(settings)) byId(id).value = String(value);
    setText(byId("noise-value"), settings.noise.toFixed(2));
    const epochs = ((this.steps * BATCH) / this.count).toFixed(1);
    const count = this.test.labels.length, loss = number(result.loss, 3);
    const quality = `accuracy ${percent(result.accuracy, 1)} on ${count} other digits, loss ${loss}`;
    setText(byId("reading"), `Step ${this.steps}, ${epochs} epochs: ${quality}`);
    this._drawCurve();
    this._drawWeights();
  }

  _drawCurve() {
    const figure = byId("loss-curve"), right = figure.clientWidth - RIGHT, bottom = HEIGHT - BOTTOM;
    const all = [...this.points, ...this.tests].map(([, loss]) => loss).filter(Number.isFinite);
    const x = scale(0, Math.max(100, this.steps), LEFT, right), highest = Math.min(5, Math.max(0.1, ...all));
    const y = scale(0, highest, bottom, TOP);
    const line = (points) => path(points.map(([at, loss]) => [x(at), y(Math.min(loss, highest))]));
    const size = { width: figure.clientWidth, height: HEIGHT, viewBox: `0 0 ${figure.clientWidth} ${HEIGHT}` };
    const label = `Loss against steps; of other digits now ${number(this.result.loss, 3)}`;
    const drawing = svg("svg", { ...size, role: "img", "aria-label": label });
    const xs = ticks(0, Math.max(100, this.steps), 5), ys = ticks(0, highest, 4);
    drawing.append(
      axes({ x, y, left: LEFT, right, bottom, xs, ys }),
      svg("path", { class: "line c1", d: line(this.points) }),
      svg("path", { class: "line c2", d: line(this.tests), "stroke-dasharray": "7 2.5" }),
    );
    figure.replaceChildren(drawing);
  }

  _drawWeights() {
    const list = byId("weights"), { weights, outputs } = this.layers[0], largest = largestOf(weights);
    while (list.children.length < outputs) list.append(el("canvas", { "aria-hidden": "true" }));
    [...list.children].forEach((canvas, unit) => {
      const values = weights.subarray(unit * this.size, (unit + 1) * this.size);
      paintSigned(canvas, { values, width: this.width, height: this.height }, largest);
    });
  }
}

try {
  globalThis.training = new Training(await request("../api/digits"));
} catch (error) {
  setText(byId("reading"), error.message);
  throw error;
}
