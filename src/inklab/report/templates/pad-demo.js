// The pad of the report: what one draws is framed, spoiled, cleaned and judged, all in this page.

import { Pad } from "./drawing.js";
import { frame } from "./framing.js";
import { bytes, forward, opened, spoiled } from "./network.js";

const RASTER = 280; // Pixels a side of a drawing before it is framed.
const SURE = 0.5; // Probability from which a class is named without a "perhaps".
const PAUSE = 600; // Milliseconds without a change, after which a screen reader is told.

const told = JSON.parse(document.getElementById("pad-data").textContent);
const { labels, framing, familiar } = told;
const classifier = opened(told.classifier), denoiser = opened(told.denoiser);
const examples = told.examples.map(({ label, image }) => ({ label, image: bytes(image) }));

/** Everything about an image of height x width bytes: with noise, cleaned, and what the classifier makes of both. */
function judge(image, { noise = 0, seed = 1 } = {}) {
  const pixels = Array.from(image, (byte) => byte / 255);
  const shown = spoiled(pixels, noise, seed), cleaned = denoiser && forward(denoiser, shown);
  return {
    shown, cleaned,
    probabilities: forward(classifier, shown),
    ofCleaned: cleaned && forward(classifier, cleaned),
    unfamiliar: familiar !== null && departure(pixels) > familiar,
  };
}

/** How far a picture without noise departs from what the denoiser makes of it: little if it is of a kind that it knows. */
function departure(pixels) {
  return forward(denoiser, pixels).reduce((sum, cleaned, i) => sum + (cleaned - pixels[i]) ** 2, 0);
}

// ---- the page

const desk = document.getElementById("pad"), part = (name) => desk.querySelector(`[data-part="${name}"]`);
desk.hidden = false;
document.getElementById("pad-missing").hidden = true;
const [noise, width] = ["noise", "width"].map(part);
const pad = new Pad(part("drawing"), { pen: width.value / 100 });
let example = null, seed = 1, speaking = 0, nibDown = false;

pad.addEventListener("change", () => { example = null; show(); }); // Whoever draws puts the example away.
pad.addEventListener("nib", ({ detail: { x, y, down } }) => {
  const place = `${Math.round(100 * x)} % from the left, ${Math.round(100 * y)} % from the top`;
  say(`Nib ${down ? "down" : "up"}, ${place}. ${nibDown && !down ? part("verdict").textContent : ""}`);
  nibDown = down;
});
part("undo").addEventListener("click", () => pad.undo());
part("clear").addEventListener("click", () => pad.clear());
width.addEventListener("input", () => { pad.pen = width.value / 100; });
noise.addEventListener("input", show);
part("again").addEventListener("click", () => { seed += 1; show(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);

for (const { label, image } of examples) {
  const button = document.createElement("button"), picture = document.createElement("canvas");
  button.type = "button";
  button.setAttribute("aria-label", `Put an example of ${label} on the pad`);
  button.append(picture);
  part("examples").append(button);
  button.addEventListener("click", () => { pad.clear(); example = image; show(); });
}

/** Everything anew: the images, the bars, the words. */
function show() {
  const image = example ?? frame(pad.raster(RASTER), RASTER, framing);
  const judged = image && judge(image, { noise: Number(noise.value), seed });
  part("again").disabled = noise.value === "0"; // There is none to draw anew.
  part("strength").textContent = Number(noise.value).toFixed(2);
  paint(part("example"), example && Array.from(example, (byte) => byte / 255));
  paint(part("framed"), image && Array.from(image, (byte) => byte / 255));
  paint(part("shown"), judged?.shown);
  if (denoiser) paint(part("cleaned"), judged?.cleaned);
  examples.forEach((each, i) => paint(part("examples").children[i].firstChild, Array.from(each.image, (byte) => byte / 255)));
  desk.classList.toggle("doubtful", Boolean(judged?.unfamiliar));
  bars("noisy", judged?.probabilities);
  if (denoiser) bars("tidy", judged?.ofCleaned);
  const words = verdict(judged);
  part("verdict").textContent = words;
  say(words);
}

function verdict(judged) {
  if (!judged) return desk.dataset.ask;
  const named = (probabilities) => {
    const largest = Math.max(...probabilities), name = labels[probabilities.indexOf(largest)];
    return `${largest < SURE ? "perhaps " : ""}${name}, ${percent(largest)}`;
  };
  const lines = [denoiser ? `As it is: ${named(judged.probabilities)}.` : `${named(judged.probabilities)}.`];
  if (denoiser) lines.push(`Cleaned first: ${named(judged.ofCleaned)}.`);
  return [...(judged.unfamiliar ? [desk.dataset.foreign] : []), ...lines].join("\n");
}

function percent(share) {
  return share > 0.999 && share < 1 ? ">\u202f99.9\u202f%" : `${(100 * share).toFixed(share > 0.995 || share < 0.0995 ? 1 : 0)}\u202f%`;
}

function bars(column, probabilities) {
  const largest = probabilities && Math.max(...probabilities);
  desk.querySelectorAll(`td.${column}`).forEach((cell, i) => {
    const share = probabilities?.[i] ?? 0;
    cell.querySelector(".share").style.width = `${100 * share}%`;
    cell.querySelector(".figure").textContent = probabilities ? percent(share) : "";
    cell.classList.toggle("most", Boolean(probabilities) && share === largest);
  });
}

/** An image as ink on the page's own paper; where training images are no ink, in grey as they are. */
function paint(canvas, pixels) {
  const { width: across, height } = framing, context = canvas.getContext("2d");
  canvas.width = across, canvas.height = height;
  if (!pixels) return;
  const picture = context.createImageData(across, height), ink = framing.centre !== "none";
  const [red, green, blue] = getComputedStyle(canvas).color.match(/\d+/g).map(Number);
  pixels.forEach((value, i) => {
    const grey = 255 * value, opacity = framing.light_on_dark ? grey : 255 - grey;
    picture.data.set(ink ? [red, green, blue, opacity] : [grey, grey, grey, 255], 4 * i);
  });
  context.putImageData(picture, 0, 0);
}

/** For those who hear the page: the latest words, once they stay. */
function say(words) {
  clearTimeout(speaking);
  speaking = setTimeout(() => { part("spoken").textContent = words; }, PAUSE);
}

show();
globalThis.inklab = { pad, judge, examples, classifier, denoiser, forward, spoiled, frame, framing, labels };
