// The drawing pad of the report: a drawing is preprocessed, corrupted, denoised and classified, all in this page.

import { Pad } from "./drawing.js";
import { preprocess } from "./preprocessing.js";
import { largestOf, paintSigned, paintUnits } from "./maps.js";
import { activations, decodeBase64, decodeNetwork, filterOf, forward } from "./network.js";
import { corrupt } from "./noise.js";

const RASTER = 280; // Pixels a side of a drawing before preprocessing.
const CONFIDENT = 0.5; // Probability from which a class is named without "perhaps".
const PAUSE = 600; // Milliseconds without a change before a screen reader gets the text.
const FILTERS = 12; // Units of the first layer whose weights are drawn: the most active ones.
const CELL = 0.5; // Side of a unit, in rem.

const data = JSON.parse(document.getElementById("pad-data").textContent);
const { labels, preprocessing, ood_threshold: oodThreshold } = data;
const classifier = decodeNetwork(data.classifier), denoiser = decodeNetwork(data.denoiser);
const examples = data.examples.map(({ label, image }) => ({ label, image: decodeBase64(image) }));

/** Everything about an image of height x width bytes: corrupted, denoised, and the predictions for both. */
function predict(image, { strength = 0, seed = 1 } = {}) {
  const pixels = toPixels(image), corrupted = corrupt(pixels, strength, seed);
  const denoised = denoiser && forward(denoiser, corrupted);
  return {
    corrupted, denoised,
    probabilities: forward(classifier, corrupted),
    denoisedProbabilities: denoised && forward(classifier, denoised),
    isOod: oodThreshold !== null && reconstructionError(pixels) > oodThreshold,
  };
}

/** Sum of squared differences between a clean image and the denoiser's output: small for images like its training images. */
function reconstructionError(pixels) {
  return forward(denoiser, pixels).reduce((sum, denoised, i) => sum + (denoised - pixels[i]) ** 2, 0);
}

function toPixels(image) {
  return Array.from(image, (byte) => byte / 255);
}

// ---- the page

const root = document.getElementById("pad"), part = (name) => root.querySelector(`[data-part="${name}"]`);
root.hidden = false;
document.getElementById("pad-missing").hidden = true;
const [strength, width] = ["strength", "width"].map(part);
const pad = new Pad(part("drawing"), { pen: width.value / 100 });
let example = null, seed = 1, announcement = 0, penDown = false;

pad.addEventListener("change", () => { example = null; render(); }); // Drawing replaces the example.
pad.addEventListener("nib", ({ detail: { x, y, down } }) => {
  const position = `${Math.round(100 * x)}% from the left, ${Math.round(100 * y)}% from the top`;
  announce(`Pen ${down ? "down" : "up"}, ${position}. ${penDown && !down ? part("prediction").textContent : ""}`);
  penDown = down;
});
part("undo").addEventListener("click", () => pad.undo());
part("clear").addEventListener("click", () => pad.clear());
width.addEventListener("input", () => { pad.pen = width.value / 100; });
strength.addEventListener("input", render);
part("resample").addEventListener("click", () => { seed += 1; render(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", render);

for (const { label, image } of examples) {
  const button = document.createElement("button"), canvas = document.createElement("canvas");
  button.type = "button";
  button.setAttribute("aria-label", `Put an example of ${label} on the pad`);
  button.append(canvas);
  part("examples").append(button);
  button.addEventListener("click", () => { pad.clear(); example = image; render(); });
}

part("inside").addEventListener("toggle", render);
part("layers").append(...classifier.layers.map(() => {
  const row = document.createElement("div"), canvas = document.createElement("canvas");
  canvas.setAttribute("role", "img");
  row.append(document.createElement("p"), canvas);
  return row;
}));

/** Draw the images, the bars and the text anew. */
function render() {
  const image = example ?? preprocess(pad.raster(RASTER, { balanced: true }), RASTER, preprocessing);
  const result = image && predict(image, { strength: Number(strength.value), seed });
  part("resample").disabled = strength.value === "0"; // There is no noise to draw anew.
  part("strength-value").textContent = Number(strength.value).toFixed(2);
  paint(part("example"), example && toPixels(example));
  paint(part("input"), image && toPixels(image));
  paint(part("corrupted"), result?.corrupted);
  if (denoiser) paint(part("denoised"), result?.denoised);
  examples.forEach(({ image }, i) => paint(part("examples").children[i].firstChild, toPixels(image)));
  root.classList.toggle("ood", Boolean(result?.isOod));
  setBars("direct", result?.probabilities);
  if (denoiser) setBars("after-denoising", result?.denoisedProbabilities);
  showInside(result);
  const text = describe(result);
  part("prediction").textContent = text;
  announce(text);
}

/** Inside the classifier, once its part is open: what each layer computes, and the weights behind the first one. */
function showInside(result) {
  if (!part("inside").open) return;
  const layers = result && activations(classifier, result.corrupted);
  part("layers").hidden = part("filters").hidden = !result;
  if (!result) return;
  layers.forEach((values, i) => {
    const [caption, canvas] = part("layers").children[i].children;
    canvas.style.width = `${CELL * paintUnits(canvas, values, largestOf(values))}rem`;
    const active = values.filter((value) => value !== 0).length;
    const counts = `${values.length} units, ${active} of them not 0`;
    const text = `Layer ${i + 1}: ${counts}, up to ${Number(Math.max(...values).toPrecision(3))}`;
    caption.textContent = text;
    canvas.setAttribute("aria-label", text);
  });
  const { width, height } = preprocessing, first = layers[0].map(Math.abs);
  const order = first.map((_, unit) => unit).sort((a, b) => first[b] - first[a]).slice(0, FILTERS);
  const filters = order.map((unit) => filterOf(classifier, unit)), largest = Math.max(...filters.map(largestOf));
  part("filters").replaceChildren(...order.map((unit, i) => {
    const tile = document.createElement("div"), canvas = document.createElement("canvas"), caption = document.createElement("p");
    paintSigned(canvas, { values: filters[i], width, height }, largest);
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Weights of unit ${unit}`);
    caption.textContent = unit;
    tile.append(canvas, caption);
    return tile;
  }));
}

function describe(result) {
  if (!result) return root.dataset.prompt;
  const top = (probabilities) => {
    const largest = Math.max(...probabilities), name = labels[probabilities.indexOf(largest)];
    return `${largest < CONFIDENT ? "perhaps " : ""}${name}, ${formatPercent(largest)}`;
  };
  const lines = [denoiser ? `As it is: ${top(result.probabilities)}.` : `${top(result.probabilities)}.`];
  if (denoiser) lines.push(`Denoised first: ${top(result.denoisedProbabilities)}.`);
  return [...(result.isOod ? [root.dataset.ood] : []), ...lines].join("\n");
}

function formatPercent(share) {
  if (share > 0.999 && share < 1) return ">99.9%";
  return `${(100 * share).toFixed(share > 0.995 || share < 0.0995 ? 1 : 0)}%`;
}

function setBars(column, probabilities) {
  const largest = probabilities && Math.max(...probabilities);
  root.querySelectorAll(`td.${column}`).forEach((cell, i) => {
    const share = probabilities?.[i] ?? 0;
    cell.querySelector(".bar-fill").style.width = `${100 * share}%`;
    cell.querySelector(".value").textContent = probabilities ? formatPercent(share) : "";
    cell.classList.toggle("top", Boolean(probabilities) && share === largest);
  });
}

/** An image as ink on the page's ground; in gray where preprocessing only resizes, because there is no ink then. */
function paint(canvas, pixels) {
  const { width, height } = preprocessing, context = canvas.getContext("2d");
  canvas.width = width, canvas.height = height;
  if (!pixels) return;
  const picture = context.createImageData(width, height), isInk = preprocessing.center !== "none";
  const [red, green, blue] = getComputedStyle(canvas).color.match(/\d+/g).map(Number);
  pixels.forEach((value, i) => {
    const gray = 255 * value, opacity = preprocessing.light_on_dark ? gray : 255 - gray;
    picture.data.set(isInk ? [red, green, blue, opacity] : [gray, gray, gray, 255], 4 * i);
  });
  context.putImageData(picture, 0, 0);
}

/** Give a screen reader the latest text, once it stays. */
function announce(text) {
  clearTimeout(announcement);
  announcement = setTimeout(() => { part("status").textContent = text; }, PAUSE);
}

render();
globalThis.inklab = { pad, predict, examples, classifier, denoiser, forward, activations, corrupt, preprocess, preprocessing, labels };
