// Inside the network: which parts of the image count, filters of the first layer, and what every layer computes.

import { LatestOnly } from "./api.js";
import { byId, el, setText } from "./dom.js";
import { decodeFloats } from "./images.js";
import { largestOf, paintSigned, paintUnits } from "./maps.js";

const WAIT = 200; // ms without a change before the server is asked: a hand that draws waits for predictions, not for this
const CELL = 0.5; // rem, side of a dense layer's unit

export class Inside {
  /** @param page {networks, state, painter, errors}. */
  constructor({ networks, state, painter, errors }) {
    Object.assign(this, { state, painter, body: null, response: null, timer: 0 });
    this.ids = networks.pipelines.map(({ id }) => id);
    this.details = byId("inside");
    this.select = byId("inside-pipeline");
    this.select.append(...this.ids.map((id) => el("option", { value: id, text: id })));
    this.inspecting = new LatestOnly("api/inspect", (response) => this._show(response),
      (error) => errors.show(this.inspecting, error));
    this.details.addEventListener("toggle", () => this._onToggle());
    this.select.addEventListener("change", () => state.set({ inside: this.select.value }));
    new MutationObserver(() => this._paint()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    this.sync();
  }

  /** The pipeline to look inside; null while this part is closed. */
  get pipeline() {
    const { inside } = this.state.now;
    if (!inside) return null;
    return this.ids.includes(inside) ? inside : this.ids[0];
  }

  /** Bring the controls to the state. */
  sync() {
    this.details.open = this.pipeline !== null;
    if (this.pipeline) this.select.value = this.pipeline;
  }

  /** Look inside for another image. @param body images and corruption of the request; null where nothing is drawn. */
  request(body) {
    this.body = body;
    clearTimeout(this.timer);
    if (!body || !this.pipeline) {
      this.inspecting.cancel();
      if (!body) this._show(null);
      return;
    }
    this.timer = setTimeout(() => this.inspecting.request({ ...this.body, pipeline: this.pipeline }), WAIT);
  }

  _onToggle() {
    if (this.details.open !== (this.pipeline !== null)) {
      this.state.set({ inside: this.details.open ? this.select.value : "" });
    }
  }

  _show(response) {
    this.response = response;
    this._paint();
  }

  _paint() {
    const { response } = this;
    setText(byId("inside-note"), response ? response.notes.join(" ") : "Nothing is drawn yet.");
    byId("inside-parts").replaceChildren(...(response ? this._parts(response) : []));
  }

  _parts({ pipeline, label, denoised, removed, occlusion, filters, layers }) {
    const images = el("div", { class: "inside-images" });
    if (occlusion) images.append(this._occlusion(denoised, occlusion, label));
    if (removed) images.append(this._removed(removed, pipeline));
    const parts = [images];
    if (filters) {
      const note = `for the ${filters.units.length} most active units of ${layers[0].name}`;
      parts.push(mapFigure("First-layer filters", note, filters));
    }
    return [...parts, ...layers.map(layerFigure)];
  }

  /** The image that reaches the classifier, under the parts that speak for and against its class. */
  _occlusion(image, occlusion, label) {
    const below = el("canvas", { "aria-hidden": "true" }), above = el("canvas", { "aria-hidden": "true" });
    this.painter.paint(below, this.painter.decode(image));
    const { maps: [map] } = decodeMaps(occlusion), largest = largestOf(map.values);
    paintSigned(above, map, largest);
    const points = `${(100 * largest).toFixed(largest < 0.1 ? 1 : 0)} points`;
    const text = `The probability of ${label} falls where a square is blank, by up to ${points}; orange: it rises.`;
    return figure("Occlusion", text, el("div", { class: "overlay", role: "img", "aria-label": text }, below, above));
  }

  _removed(removed, pipeline) {
    const { maps: [map] } = decodeMaps(removed), canvas = el("canvas");
    paintSigned(canvas, map, 1);
    const remover = pipeline.slice(0, pipeline.lastIndexOf("+"));
    const text = `Corrupted minus denoised: blue was taken away by ${remover}, orange was added.`;
    return figure("Removed", text, el("div", { class: "overlay", role: "img", "aria-label": text }, canvas));
  }
}

/** A layer: the maps of its most active units, or all units of a dense layer. */
function layerFigure({ name, types, output_shape: shape, maps }) {
  const title = `${name}: ${types.join(", ")}`, [, , height, width] = maps.shape;
  if (height * width > 1) {
    const size = `${shape.length === 3 ? shape[0] : 1} maps of ${shape.slice(-2).join(" × ")}`;
    const order = maps.units.length < shape[0] ? `the ${maps.units.length} most active ones first` : "the most active ones first";
    return mapFigure(title, `${size}, ${order}`, maps);
  }
  const values = decodeFloats(maps.values), canvas = el("canvas", { "aria-hidden": "true" });
  const perRow = paintUnits(canvas, values, largestOf(values));
  canvas.style.width = `${CELL * perRow}rem`;
  const active = values.filter((value) => value !== 0).length;
  const count = values.length < shape[0] ? `the first ${values.length} of ${shape[0]}` : shape[0];
  const range = `from ${short(Math.min(...values))} to ${short(Math.max(...values))}`;
  const text = `${count} units, ${active} of them not 0, ${range}`;
  return figure(title, text, el("div", { class: "units", role: "img", "aria-label": `${title}: ${text}` }, canvas));
}

/** Maps side by side, each with the number of its unit; all have one scale. */
function mapFigure(title, text, encoded) {
  const { maps, largest } = decodeMaps(encoded);
  const list = el("div", { class: "maps", role: "img", "aria-label": `${title}: ${text}` }, ...maps.map((map, i) => {
    const canvas = el("canvas", { "aria-hidden": "true" });
    paintSigned(canvas, map, largest);
    return el("span", { "aria-hidden": "true" }, canvas, el("span", { text: String(encoded.units[i]) }));
  }));
  return figure(title, `${text}; full color: ${short(largest)}`, list);
}

function figure(title, text, content) {
  return el("figure", {}, el("figcaption", {}, el("strong", { text: title }), ` ${text}`), content);
}

const short = (value) => String(Number(value.toPrecision(3)));

/** The maps of a response, each {values, width, height}; of colors, the mean over channels. */
function decodeMaps({ shape: [count, channels, height, width], values }) {
  const all = decodeFloats(values), size = height * width;
  const maps = Array.from({ length: count }, (_, i) => {
    const map = new Float32Array(size);
    for (let k = 0; k < channels * size; k++) map[k % size] += all[i * channels * size + k] / channels;
    return { values: map, width, height };
  });
  return { maps, largest: Math.max(...maps.map((map) => largestOf(map.values))) };
}
