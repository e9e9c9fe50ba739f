// The view for drawing: the image that the networks get, corrupted and denoised, and the predictions for it.

import { ApiError, LatestOnly, request } from "./api.js";
import { Corruption } from "./corruption.js";
import { byId, el, perFrame, setText } from "./dom.js";
import { Pad, describePen } from "./drawing.js";
import { setUpExamples } from "./examples.js";
import { number } from "./format.js";
import { encodeBase64, encodeFile, fromUrlSafe, toUrlSafe } from "./images.js";
import { Inside } from "./inside.js";
import { preview, takePictures } from "./pictures.js";
import { Predictions, summarize } from "./predictions.js";
import { preprocess } from "./preprocessing.js";

const RASTER_SCALE = 10; // pad pixels for each pixel of an image: strokes are then as smooth as those of training images
const MIN_RASTER = 280, MAX_RASTER = 560; // pad pixels a side
const QUIET_DELAY = 900; // ms without a change before a screen reader announces the predictions
const DEFAULT_PIPELINES = 4; // shown at first where the study compares none

export class Draw {
  /** @param page {networks, state, painter, errors}. */
  constructor(page) {
    Object.assign(this, page);
    this.pad = new Pad(byId("pad"), { pen: this.state.now.pen });
    this.corruption = new Corruption(this.networks, this.state);
    this.predictions = new Predictions(byId("predictions"), this.networks, this.painter, this.corruption.curve);
    this.stages = new Stages(byId("stages"), this.networks, this.painter);
    this.inside = new Inside(this);
    this.available = this.networks.pipelines.map(({ id }) => id);
    const onError = (name) => (error) => this._showError(this[name], error);
    this.predicting = new LatestOnly("api/predict", (response) => this._onPredicted(response), onError("predicting"));
    this.denoising = new LatestOnly("api/denoise", (response) => this.stages.showDenoised(response), onError("denoising"));
    this.picture = null; // bytes of a picture that is classified instead of the drawing
    this.refresh = perFrame(() => this._refresh());
    this._setUpTools();
    this._setUpChips();
    setUpExamples(this.painter, (picture) => this.state.set({ picture }));
    this.state.addEventListener("change", (event) => this._onChange(event));
    this._restore();
  }

  /** The pipelines with a column: the chosen ones that exist, else those that the study compares. */
  get pipelines() {
    const chosen = this.state.now.pipelines?.filter((id) => this.available.includes(id)) ?? [];
    if (chosen.length) return chosen;
    const compared = Object.keys(this.networks.robustness_curves?.pipelines ?? {});
    const usable = compared.filter((id) => this.available.includes(id));
    return usable.length ? usable : this.available.slice(0, DEFAULT_PIPELINES);
  }

  // ---- the drawing or picture

  _setUpTools() {
    const { pad, state } = this;
    pad.addEventListener("change", () => {
      state.set({ drawing: pad.empty ? "" : pad.toText() });
      this._showInvitation();
      this.refresh();
    });
    pad.addEventListener("nib", ({ detail }) => setText(byId("announcement"), describePen(detail)));
    byId("undo").addEventListener("click", () => pad.undo());
    byId("redo").addEventListener("click", () => pad.redo());
    byId("erase").addEventListener("click", () => this._erase(!pad.erases));
    addEventListener("keydown", (event) => this._onKey(event));
    byId("clear").addEventListener("click", () => {
      pad.clear();
      this._erase(false);
      state.set({ picture: "" });
    });
    byId("pen").value = pad.pen;
    byId("pen").addEventListener("input", (event) => state.set({ pen: Number(event.target.value) }));
    byId("remove-picture").addEventListener("click", () => {
      state.set({ picture: "" });
      byId("pad").focus();
    });
    const parts = { button: byId("open"), input: byId("file"), area: byId("paper") };
    takePictures(parts, this.networks.limits, () => !byId("draw").hidden, (file) => this._take(file),
      (message) => this.errors.show("picture", new ApiError(message)));
  }

  _erase(on) {
    this.pad.erases = on;
    byId("erase").setAttribute("aria-pressed", String(on));
    byId("paper").classList.toggle("erasing", on);
  }

  /** Undo and redo wherever the focus is in this view; the pad has its own keys. */
  _onKey(event) {
    const isElsewhere = byId("draw").hidden || event.defaultPrevented || event.target.closest?.("input[type=number], select");
    if (isElsewhere || this.picture || !(event.ctrlKey || event.metaKey) || event.altKey) return;
    const key = event.key.toLowerCase();
    if (key === "y" || (key === "z" && event.shiftKey)) this.pad.redo();
    else if (key === "z") this.pad.undo();
    else return;
    event.preventDefault();
  }

  async _take(file) {
    this.errors.show("picture", null);
    try {
      const body = { picture: await encodeFile(file), pipelines: this.pipelines.slice(0, 1) };
      const { images: [{ input }] } = await request("api/predict", body);
      this.state.set({ picture: toUrlSafe(input) });
      const canvas = byId("picture");
      if (await preview(canvas, file)) canvas.setAttribute("aria-label", `The picture to classify: ${file.name}`);
    } catch (error) {
      this.errors.show("picture", error instanceof ApiError ? error : new ApiError(`'${file.name}' can't be read.`));
    }
  }

  _showPicture() {
    const text = this.state.now.picture;
    this.picture = text ? this.painter.decode(fromUrlSafe(text)) : null;
    const canvas = byId("picture");
    canvas.hidden = byId("remove-picture").hidden = !this.picture;
    if (this.picture) {
      this.painter.paint(canvas, this.picture);
      canvas.setAttribute("aria-label", "The picture to classify");
    }
    for (const id of ["undo", "redo", "erase", "pen"]) byId(id).disabled = Boolean(this.picture);
    this._showInvitation();
  }

  _showInvitation() {
    byId("invitation").hidden = Boolean(this.picture) || !this.pad.empty;
  }

  /** Bytes of the image to classify: of the picture or the drawing; null where there is neither. */
  current() {
    if (this.picture || this.pad.empty) return this.picture;
    const { height, width } = this.painter.image;
    const side = Math.min(MAX_RASTER, Math.max(MIN_RASTER, RASTER_SCALE * Math.max(height, width)));
    return preprocess(this.pad.raster(side, { balanced: true }), side, this.networks.preprocessing);
  }

  // ---- requests and responses

  /** Show the current image and request predictions for it. */
  _refresh() {
    const image = this.current();
    this.stages.showInput(image);
    if (!image) {
      this.predicting.cancel();
      this.denoising.cancel();
      this.stages.show(null);
      this._showPredictions(null);
      this.inside.request(null);
      return;
    }
    const body = { images: [encodeBase64(image)], corruption: this.corruption.request };
    this.predicting.request({ ...body, pipelines: this.pipelines });
    if (this.stages.needDenoiser(this.pipelines)) this.denoising.request({ ...body, denoiser: this.networks.denoisers[0] });
    this.inside.request(body);
  }

  /** While the server doesn't answer, the predictions of an earlier drawing are dimmed. */
  _showError(source, error) {
    this.errors.show(source, error);
    if (source !== this.predicting) return;
    byId("draw").classList.toggle("stale", Boolean(error));
    if (error) this._summarize("No prediction for this drawing yet.");
  }

  _onPredicted({ images: [image] }) {
    this.stages.show(image);
    this._showPredictions(image.predictions);
  }

  _showPredictions(predictions) {
    byId("draw").classList.remove("stale");
    this.predictions.update(predictions);
    this._summarize(summarize(predictions));
  }

  _summarize(summary) {
    setText(byId("summary"), summary);
    clearTimeout(this.announcing);
    this.announcing = setTimeout(() => setText(byId("announcement"), summary), QUIET_DELAY);
  }

  // ---- choices

  _setUpChips() {
    const choose = byId("choose");
    choose.hidden = this.available.length < 2;
    addEventListener("pointerdown", (event) => { choose.open &&= choose.contains(event.target); });
    choose.addEventListener("keydown", (event) => {
      if (event.key !== "Escape" || !choose.open) return;
      choose.open = false;
      choose.querySelector("summary").focus();
    });
    byId("chips").append(...this.available.map((id) => el("label", {},
      el("input", { type: "checkbox", value: id, onchange: () => this._choose() }), el("span", { text: id }))));
  }

  _choose() {
    const boxes = [...byId("chips").querySelectorAll("input")];
    const chosen = boxes.filter((box) => box.checked).map((box) => box.value);
    if (chosen.length) this.state.set({ pipelines: chosen });
    else this._sync(); // at least one stays
  }

  _onChange({ keys, restored }) {
    if (restored && keys.has("drawing")) this.pad.fromText(this.state.now.drawing);
    if (keys.has("picture")) this._showPicture();
    this._sync();
    if (["picture", "strength", "corruption", "seed", "pipelines", "inside"].some((key) => keys.has(key))) this.refresh();
  }

  _restore() {
    if (this.state.now.drawing) this.pad.fromText(this.state.now.drawing);
    this._showPicture();
    this._sync();
    this.refresh();
  }

  _sync() {
    this.pad.pen = this.state.now.pen;
    byId("pen").value = this.state.now.pen;
    this.corruption.sync();
    this.predictions.show(this.pipelines);
    this.predictions.showRecall(this.corruption.measuredStrength);
    this.stages.showStrength(this.corruption.strength);
    this.inside.sync();
    for (const box of byId("chips").querySelectorAll("input")) box.checked = this.pipelines.includes(box.value);
  }
}

/** The image on its way through a pipeline: input, corrupted, denoised. */
class Stages {
  constructor(list, { denoisers, pipelines, corruptions }, painter) {
    Object.assign(this, { painter, denoiser: denoisers[0] ?? null });
    this.parts = new Map(pipelines.map(({ id, parts }) => [id, parts]));
    const { height, width } = painter.image;
    this.input = addStage(list, "Input", `${height} × ${width} pixels`);
    this.corrupted = corruptions.length ? addStage(list, "Corrupted", "not yet") : null;
    this.denoised = this.denoiser ? addStage(list, "Denoised", `by ${this.denoiser}`) : null;
  }

  showInput(image) {
    this.painter.paint(this.input.canvas, image);
  }

  showStrength(strength) {
    if (this.corrupted) setText(this.corrupted.note, strength ? `strength ${number(strength)}` : "not yet");
  }

  /** @param image what the server responded, or null where nothing is drawn. */
  show(image) {
    this._paint(this.corrupted, image?.corrupted);
    const own = image?.predictions.find(({ pipeline }) => this._startsWithDenoiser(pipeline));
    if (own || !image) this._paint(this.denoised, own?.denoised);
  }

  showDenoised({ images: [{ denoised }] }) {
    this._paint(this.denoised, denoised);
  }

  /** Whether none of these pipelines contains what the denoiser makes of the image. */
  needDenoiser(ids) {
    return this.denoiser !== null && !ids.some((id) => this._startsWithDenoiser(id));
  }

  _startsWithDenoiser(id) {
    const parts = this.parts.get(id);
    return parts[0] === this.denoiser && parts.length === 2;
  }

  _paint(stage, text) {
    if (stage) this.painter.paint(stage.canvas, text ? this.painter.decode(text) : null);
  }
}

function addStage(list, title, text) {
  const canvas = el("canvas", { role: "img", "aria-label": title });
  const note = el("span", { class: "small", text });
  list.append(el("li", {}, canvas, el("p", {}, el("strong", { text: title }), " ", note)));
  return { canvas, note };
}
