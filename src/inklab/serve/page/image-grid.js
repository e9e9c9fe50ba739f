// Images side by side, each with what the judge makes of it; choosing one has it judged by all pipelines.

import { el, tell } from "./dom.js";
import { toBytes, toLink } from "./images.js";
import { probability } from "./words.js";

export const SURE = 0.9; // from here on an image counts as recognised, as in the study

export class Grid {
  /** @param place a list; @param choose called with an image as it stands in links. */
  constructor(place, painter, choose) {
    Object.assign(this, { place, painter, choose, tiles: [] });
  }

  show({ images, recognised }) {
    while (this.tiles.length < images.length) this.tiles.push(this._tile());
    this.tiles.splice(images.length);
    this.place.replaceChildren(...this.tiles.map((tile) => tile.item));
    this.tiles.forEach((tile, i) => this._fill(tile, images[i], recognised[i], i));
  }

  _tile() {
    const canvas = el("canvas", { "aria-hidden": "true" });
    const word = el("span", { class: "word" });
    const tile = { canvas, word, image: "" };
    tile.button = el("button", { type: "button", class: "tile", onclick: () => this.choose(toLink(tile.image)) }, canvas, word);
    tile.item = el("li", {}, tile.button);
    return tile;
  }

  _fill(tile, image, judged, i) {
    tile.image = image;
    this.painter.paint(tile.canvas, toBytes(image, this.painter.bytes));
    const sure = Boolean(judged && judged.probability > SURE);
    tell(tile.word, judged ? judged.label : "");
    tile.button.classList.toggle("unsure", Boolean(judged) && !sure);
    const told = judged ? `, read as ${judged.label} with ${probability(judged.probability)}` : "";
    tile.button.setAttribute("aria-label", `Image ${i + 1}${told}. Judge it`);
    tile.button.title = judged ? `${judged.label}, ${probability(judged.probability)}` : "";
  }
}

/** How many of these the judge recognises, in a sentence. */
export function recognisedTold(recognised) {
  if (!recognised.length) return "";
  const sure = recognised.filter(({ probability: share }) => share > SURE).length;
  return `${sure} of ${recognised.length} are recognised with more than 90 %.`;
}
