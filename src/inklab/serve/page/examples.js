// Test images to start with, instead of a drawing of one's own.

import { request } from "./api.js";
import { byId, el } from "./dom.js";
import { toUrlSafe } from "./images.js";

/** Show the run's test images when the list is opened; `choose` gets one in the form that links contain. */
export function setUpExamples(painter, choose) {
  const list = byId("examples");
  list.hidden = false;
  list.addEventListener("toggle", async () => {
    if (!list.open || byId("example-images").children.length) return;
    const { images } = await request("api/examples").catch(() => ({ images: [] }));
    list.hidden = !images.length;
    byId("example-images").replaceChildren(...images.map(({ image, label }) => {
      const canvas = el("canvas", { "aria-hidden": "true" });
      painter.paint(canvas, painter.decode(image));
      const onclick = () => choose(toUrlSafe(image));
      return el("li", {}, el("button", { type: "button", class: "tile", "aria-label": `Test image of class ${label}`, onclick },
        canvas, el("span", { class: "tile-label", text: label })));
    }));
  });
}
