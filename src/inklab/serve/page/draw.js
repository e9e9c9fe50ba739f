// The view where one draws: what the network sees of it, what noise and cleaning do to that, and how it is judged.

import { Newest, Trouble, ask } from "./api.js";
import { byId, el, perFrame, tell } from "./dom.js";
import { Pad } from "./drawing.js";
import { frame } from "./framing.js";
import { fileText, fromLink, toBytes, toLink, toText } from "./images.js";
import { Judges, verdictOf } from "./judge.js";
import { Noise } from "./noise.js";
import { preview, takePictures } from "./pictures.js";
import { number } from "./words.js";

const FINE = 10; // pad pixels for each pixel of an image: enough for strokes to be as smooth as the training images'
const MOST = 560; // pad pixels a side
const QUIET = 900; // ms without a change before a screen reader is told
const FEW = 4; // pipelines shown at first where the study compares none

export class Draw {
  /** @param page {networks, state, painter, complaints}. */
  constructor(page) {
    Object.assign(this, page);
    this.pad = new Pad(byId("pad"), { pen: this.state.now.pen });
    this.noise = new Noise(this.networks, this.state);
    this.judges = new Judges(byId("judges"), this.networks, this.painter, this.noise.curve);
    this.stages = new Stages(byId("stages"), this.networks, this.painter);
    this.known = this.networks.pipelines.map(({ id }) => id);
    const failed = (who) => (error) => this.complaints.show(this[who], error);
    this.predicting = new Newest("/api/predict", (answer) => this._judged(answer), failed("predicting"));
    this.denoising = new Newest("/api/denoise", (answer) => this.stages.cleaned(answer), failed("denoising"));
    this.picture = null; // bytes of a picture that is judged in place of the drawing
    this.look = perFrame(() => this._look());
    this._tools();
    this._chips();
    this.state.addEventListener("change", (event) => this._changed(event));
    this._restore();
  }

  /** The pipelines on show: those chosen that exist, else those that the study compares. */
  get shown() {
    const chosen = this.state.now.pipelines?.filter((id) => this.known.includes(id)) ?? [];
    if (chosen.length) return chosen;
    const compared = Object.keys(this.networks.curves?.pipelines ?? {}).filter((id) => this.known.includes(id));
    return compared.length ? compared : this.known.slice(0, FEW);
  }

  // ---- what is drawn

  _tools() {
    const { pad, state } = this;
    pad.addEventListener("change", () => {
      state.set({ ink: pad.empty ? "" : pad.toText() });
      this._invite();
      this.look();
    });
    byId("undo").addEventListener("click", () => pad.undo());
    byId("clear").addEventListener("click", () => {
      pad.clear();
      state.set({ picture: "" });
    });
    byId("pen").value = pad.pen;
    byId("pen").addEventListener("input", (event) => state.set({ pen: Number(event.target.value) }));
    byId("off").addEventListener("click", () => {
      state.set({ picture: "" });
      byId("pad").focus();
    });
    const parts = { button: byId("open"), input: byId("file"), area: byId("paper") };
    takePictures(parts, this.networks.limits, () => !byId("draw").hidden, (file) => this._take(file),
      (line) => this.complaints.show("picture", new Trouble(line)));
  }

  async _take(file) {
    this.complaints.show("picture", null);
    try {
      const question = { picture: await fileText(file), pipelines: this.shown.slice(0, 1) };
      const { images: [{ image }] } = await ask("/api/predict", question);
      this.state.set({ picture: toLink(image) });
      if (await preview(byId("over"), file)) byId("over").setAttribute("aria-label", `The picture that is judged: ${file.name}`);
    } catch (error) {
      this.complaints.show("picture", error instanceof Trouble ? error : new Trouble(`'${file.name}' can't be read.`));
    }
  }

  _setPicture() {
    const text = this.state.now.picture;
    this.picture = text ? toBytes(fromLink(text), this.painter.bytes) : null;
    const over = byId("over");
    over.hidden = byId("off").hidden = !this.picture;
    if (this.picture) {
      this.painter.paint(over, this.picture);
      over.setAttribute("aria-label", "The picture that is judged");
    }
    for (const id of ["undo", "pen"]) byId(id).disabled = Boolean(this.picture);
    this._invite();
  }

  _invite() {
    byId("invitation").hidden = Boolean(this.picture) || !this.pad.empty;
  }

  /** Bytes of what is judged, as the network sees it: the picture, or the drawing; null where there is neither. */
  current() {
    if (this.picture || this.pad.empty) return this.picture;
    const { height, width } = this.painter.image;
    const side = Math.min(MOST, Math.max(280, FINE * Math.max(height, width)));
    return frame(this.pad.raster(side), side, this.networks.framing);
  }

  // ---- what is asked and answered

  /** Look at what is there now, and have it judged. */
  _look() {
    const image = this.current();
    this.stages.seen(image);
    if (!image) {
      this.predicting.cancel();
      this.denoising.cancel();
      this.stages.answered(null);
      this._say(null);
      return;
    }
    const question = { images: [toText(image)], noise: this.noise.question };
    this.predicting.ask({ ...question, pipelines: this.shown });
    if (this.stages.needsDenoiser(this.shown)) this.denoising.ask({ ...question, denoiser: this.networks.denoisers[0] });
  }

  _judged({ images: [answer] }) {
    this.stages.answered(answer);
    this._say(answer.judgements);
  }

  _say(judgements) {
    this.judges.tell(judgements);
    const verdict = verdictOf(judgements);
    tell(byId("verdict"), verdict);
    clearTimeout(this.saying);
    this.saying = setTimeout(() => tell(byId("said"), verdict), QUIET);
  }

  // ---- what is chosen

  _chips() {
    const choose = byId("choose");
    choose.hidden = this.known.length < 2;
    addEventListener("pointerdown", (event) => { choose.open &&= choose.contains(event.target); });
    choose.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !choose.open) return;
      choose.open = false;
      choose.querySelector("summary").focus();
    });
    byId("chips").append(...this.known.map((id) => el("label", {},
      el("input", { type: "checkbox", value: id, onchange: () => this._choose() }), el("span", { text: id }))));
  }

  _choose() {
    const boxes = [...byId("chips").querySelectorAll("input")];
    const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
    if (chosen.length) this.state.set({ pipelines: chosen });
    else this._sync(); // one is the least
  }

  _changed({ keys, restored }) {
    if (restored && keys.has("ink")) this.pad.fromText(this.state.now.ink);
    if (keys.has("picture")) this._setPicture();
    this._sync();
    if (["picture", "noise", "corruption", "seed", "pipelines"].some((key) => keys.has(key))) this.look();
  }

  _restore() {
    if (this.state.now.ink) this.pad.fromText(this.state.now.ink);
    this._setPicture();
    this._sync();
    this.look();
  }

  _sync() {
    this.pad.pen = this.state.now.pen;
    byId("pen").value = this.state.now.pen;
    this.noise.sync();
    this.judges.show(this.shown);
    this.judges.measured(this.noise.measured);
    this.stages.strength(this.noise.strength);
    for (const box of byId("chips").querySelectorAll("input")) box.checked = this.shown.includes(box.value);
  }
}

/** The image on its way: as framed, with noise, cleaned. */
class Stages {
  constructor(place, { denoisers, pipelines, corruptions }, painter) {
    Object.assign(this, { painter, denoiser: denoisers[0] ?? null });
    this.parts = new Map(pipelines.map(({ id, parts }) => [id, parts]));
    const { height, width } = painter.image;
    this.first = stage(place, "What the network sees", `${height} × ${width}`);
    this.noisy = corruptions.length ? stage(place, "With noise", "none yet") : null;
    this.clean = this.denoiser ? stage(place, "Cleaned", `by the ${this.denoiser}`) : null;
  }

  seen(image) {
    this.painter.paint(this.first.canvas, image);
  }

  strength(strength) {
    if (this.noisy) tell(this.noisy.note, strength ? `strength ${number(strength)}` : "none yet");
  }

  /** What the server said, or null for nothing drawn. */
  answered(answer) {
    const paint = (part, text) => part && this.painter.paint(part.canvas, text ? toBytes(text, this.painter.bytes) : null);
    paint(this.noisy, answer?.shown);
    const through = answer?.judgements.find(({ pipeline }) => this.parts.get(pipeline)[0] === this.denoiser);
    if (through || !answer) paint(this.clean, through?.seen);
  }

  /** Whether no pipeline among these tells what the denoiser makes of it. */
  needsDenoiser(ids) {
    return this.denoiser !== null && !ids.some((id) => this.parts.get(id)[0] === this.denoiser);
  }

  cleaned({ images: [{ cleaned }] }) {
    this.painter.paint(this.clean.canvas, toBytes(cleaned, this.painter.bytes));
  }
}

function stage(place, title, said) {
  const canvas = el("canvas", { role: "img", "aria-label": title });
  const note = el("span", { class: "small", text: said });
  place.append(el("li", {}, canvas, el("p", {}, el("strong", { text: title }), " ", note)));
  return { canvas, note };
}
