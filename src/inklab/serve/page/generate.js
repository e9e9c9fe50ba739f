// The view of new images: from a sampler's codes, between four of them, and near one's own drawing.

import { LatestOnly } from "./api.js";
import { byId, el, keyedList, randomSeed, setText, wholeNumber } from "./dom.js";
import { percent } from "./format.js";
import { ImageGrid, summarizeLabels } from "./image-grid.js";
import { encodeBase64 } from "./images.js";
import { LatentGrid } from "./latent-grid.js";

const N_SAMPLES = 40, N_NEIGHBORS = 24;
const DEFAULT_SAMPLER = "mixture"; // if there is it

export class Generate {
  /** @param page {networks, state, painter, errors}; @param currentImage returns the bytes of the drawing, or null. */
  constructor(page, currentImage) {
    Object.assign(this, page, { currentImage, requested: "", requestedNeighbors: "" });
    this.decoders = new Map(this.networks.decoders.map((decoder) => [decoder.id, decoder]));
    const choose = (picture) => this.state.set({ view: "draw", picture }, { step: true });
    this.samples = new ImageGrid(byId("samples"), this.painter, choose);
    this.neighbors = new ImageGrid(byId("neighbors"), this.painter, choose);
    const onError = (name) => (error) => this.errors.show(this[name], error);
    this.sampling = new LatestOnly("api/generate", (response) => this._showSamples(response), onError("sampling"));
    this.perturbing = new LatestOnly("api/generate", (response) => this._showNeighbors(response), onError("perturbing"));
    this.latentGrid = new LatentGrid(page, () => this.source);
    this.studyShares = {};
    this.studySamples = 0;
    this._listen();
    this.state.addEventListener("change", () => this.show());
  }

  /** The chosen decoder, sampler and seed, as in requests. */
  get source() {
    const { decoder: id, sampler, samples: seed } = this.state.now;
    const decoder = this.decoders.get(id) ?? this.networks.decoders[0];
    const names = decoder.samplers.map((entry) => entry.id);
    const fallback = names.includes(DEFAULT_SAMPLER) ? DEFAULT_SAMPLER : names[0];
    return { decoder: decoder.id, sampler: names.includes(sampler) ? sampler : fallback, seed };
  }

  /** Bring the view to the state, if it is visible. */
  show() {
    if (this.state.now.view !== "generate") return;
    this._sync();
    const { source } = this;
    if (this.requested !== JSON.stringify(source)) {
      this.requested = JSON.stringify(source);
      this.sampling.request({ ...source, count: Math.min(N_SAMPLES, this.networks.limits.max_samples) });
    }
    this.latentGrid.show();
    this._requestNeighbors(source);
  }

  /** What the study measured of samplers: the share about which its classifier was confident. */
  showResults(results) {
    for (const experiment of Object.values(results?.experiments ?? {})) {
      if (experiment.kind !== "generation") continue;
      this.studySamples = experiment.samples;
      const shares = Object.entries(experiment.samplers).map(([name, { confident_share: share }]) => [name, share.mean]);
      this.studyShares = Object.fromEntries(shares);
    }
    this._summarizeSamples();
  }

  _requestNeighbors({ decoder, seed }) {
    const image = this.currentImage();
    byId("neighbors-empty").hidden = Boolean(image);
    byId("neighbors").hidden = byId("neighbors-note").hidden = !image;
    const count = Math.min(N_NEIGHBORS, this.networks.limits.max_samples);
    const body = image && { decoder, seed, neighbors_of: encodeBase64(image), sigma: this.state.now.sigma, count };
    if (this.requestedNeighbors === JSON.stringify(body)) return;
    this.requestedNeighbors = JSON.stringify(body);
    if (body) this.perturbing.request(body);
    else this.perturbing.cancel();
  }

  _listen() {
    const seed = byId("sample-seed");
    seed.addEventListener("input", () => wholeNumber(seed) !== null && this.state.set({ samples: wholeNumber(seed) }));
    seed.addEventListener("change", () => { seed.value = this.state.now.samples; });
    byId("new-samples").addEventListener("click", () => this.state.set({ samples: randomSeed() }));
    byId("sigma").addEventListener("input", (event) => this.state.set({ sigma: Number(event.target.value) }));
    byId("decoder").append(...[...this.decoders.keys()].map((id) => el("option", { value: id, text: id })));
    byId("decoder").addEventListener("change", (event) => this.state.set({ decoder: event.target.value }));
    byId("decoder-field").hidden = this.decoders.size < 2;
  }

  _sync() {
    const { decoder: id, sampler, seed } = this.source;
    const decoder = this.decoders.get(id);
    byId("decoder").value = id;
    keyedList(byId("samplers"), decoder.samplers, (entry) => `${id} ${entry.id}`, (entry) => el("label", {},
      el("input", { type: "radio", name: "sampler", value: entry.id, onchange: () => this.state.set({ sampler: entry.id }) }),
      el("span", {}, el("strong", { text: entry.id }), el("span", { class: "small", text: ` ${entry.description}` }))));
    for (const radio of byId("samplers").querySelectorAll("input")) radio.checked = radio.value === sampler;
    if (document.activeElement !== byId("sample-seed")) byId("sample-seed").value = seed;
    byId("sigma").value = this.state.now.sigma;
    setText(byId("sigma-value"), this.state.now.sigma.toFixed(2));
    setText(byId("latents-from"), decoder.latents_from === "samples"
      ? "Samplers are fitted to the run's stored samples, ten images of each class: the training images are not here." : "");
  }

  _showSamples(response) {
    this.samples.show(response);
    this.labels = response.labels;
    this._summarizeSamples();
  }

  _summarizeSamples() {
    if (!this.labels) return;
    const share = this.studyShares[this.source.sampler];
    const known = typeof share === "number";
    const study = known ? ` In the study: ${percent(share, 1)} of ${this.studySamples.toLocaleString("en")}.` : "";
    setText(byId("samples-note"), summarizeLabels(this.labels) + study);
  }

  _showNeighbors(response) {
    this.neighbors.show(response);
    setText(byId("neighbors-note"), summarizeLabels(response.labels));
  }
}
