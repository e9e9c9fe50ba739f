// Images side by side, each with the class that a classifier predicts; a click has it classified by all pipelines.

import { el, setText } from "./dom.js";
import { probability } from "./format.js";
import { toUrlSafe } from "./images.js";

const CONFIDENT = 0.9; // probability above which the classifier is confident about an image, as in the study

export class ImageGrid {
  /** @param list where images go; @param choose called with an image as links contain it. */
  constructor(list, painter, choose) {
    Object.assign(this, { list, painter, choose, tiles: [] });
  }

  show({ images, labels }) {
    while (this.tiles.length < images.length) this.tiles.push(this._createTile());
    this.tiles.splice(images.length);
    this.list.replaceChildren(...this.tiles.map((tile) => tile.item));
    this.tiles.forEach((tile, i) => this._fill(tile, images[i], labels[i], i));
  }

  _createTile() {
    const canvas = el("canvas", { "aria-hidden": "true" });
    const label = el("span", { class: "tile-label" });
    const tile = { canvas, label, image: "" };
    const onclick = () => this.choose(toUrlSafe(tile.image));
    tile.button = el("button", { type: "button", class: "tile", onclick }, canvas, label);
    tile.item = el("li", {}, tile.button);
    return tile;
  }

  _fill(tile, image, predicted, i) {
    tile.image = image;
    this.painter.paint(tile.canvas, this.painter.decode(image));
    const text = predicted ? `${predicted.label}, ${probability(predicted.probability)}` : "";
    setText(tile.label, predicted ? predicted.label : "");
    tile.button.classList.toggle("uncertain", Boolean(predicted) && !isConfident(predicted));
    tile.button.setAttribute("aria-label", `Image ${i + 1}${text ? `, classified as ${text}` : ""}. Show all predictions`);
    tile.button.title = text;
  }
}

const isConfident = ({ probability: share }) => share > CONFIDENT;

/** In a sentence, about how many images the classifier is confident. */
export function summarizeLabels(labels) {
  if (!labels.length) return "";
  return `The classifier is confident (above 90%) about ${labels.filter(isConfident).length} of ${labels.length}.`;
}
