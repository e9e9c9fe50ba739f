// The view of new images: drawn from a sampler's codes, on a walk between four of them, and around one's own drawing.

import { Newest } from "./api.js";
import { byId, el, freshSeed, keyed, tell, wholeNumber } from "./dom.js";
import { Grid, recognisedTold } from "./grid.js";
import { toText } from "./images.js";
import { Walk } from "./walk.js";
import { percent } from "./words.js";

const COUNT = 40, AROUND = 24;
const USUAL = "mixture"; // the sampler that is shown first, if there is it

export class NewImages {
  /** @param page {networks, state, painter, complaints}; @param drawn tells the bytes of what is drawn, or null. */
  constructor(page, drawn) {
    Object.assign(this, page, { drawn, asked: "", askedNear: "" });
    this.decoders = new Map(this.networks.decoders.map((each) => [each.id, each]));
    const choose = (picture) => this.state.set({ view: "draw", picture }, { going: true });
    this.grid = new Grid(byId("grid"), this.painter, choose);
    this.near = new Grid(byId("near"), this.painter, choose);
    const failed = (who) => (error) => this.complaints.show(this[who], error);
    this.drawing = new Newest("/api/generate", (answer) => this._drawn(answer), failed("drawing"));
    this.moving = new Newest("/api/generate", (answer) => this._around(answer), failed("moving"));
    this.walk = new Walk(page, () => this.source);
    this.shares = {};
    this.samples = 0;
    this._listen();
    this.state.addEventListener("change", () => this.show());
  }

  /** Which decoder, sampler and seed are chosen, as the server is asked. */
  get source() {
    const { decoder, sampler, codes } = this.state.now;
    const of = this.decoders.get(decoder) ?? this.networks.decoders[0];
    const names = of.samplers.map(({ id }) => id);
    const usual = names.includes(USUAL) ? USUAL : names[0];
    return { decoder: of.id, sampler: names.includes(sampler) ? sampler : usual, seed: codes };
  }

  /** Bring the view to the state, if it is on show. */
  show() {
    if (this.state.now.view !== "new") return;
    this._sync();
    const { source } = this;
    if (this.asked !== JSON.stringify(source)) {
      this.asked = JSON.stringify(source);
      this.drawing.ask({ ...source, count: Math.min(COUNT, this.networks.limits.draws) });
    }
    this.walk.show();
    this._askNear(source);
  }

  /** What the study measured of samplers, by name: shares recognised. */
  measured(results) {
    for (const chapter of Object.values(results?.chapters ?? {})) {
      if (chapter.kind !== "generator") continue;
      this.samples = chapter.samples;
      this.shares = Object.fromEntries(Object.entries(chapter.samplers).map(([name, told]) => [name, told.recognised]));
    }
    this._tell();
  }

  _askNear({ decoder, seed }) {
    const image = this.drawn();
    byId("near-empty").hidden = Boolean(image);
    byId("near").hidden = byId("near-told").hidden = !image;
    const count = Math.min(AROUND, this.networks.limits.draws);
    const question = image && { decoder, seed, near: toText(image), spread: this.state.now.spread, count };
    if (this.askedNear === JSON.stringify(question)) return;
    this.askedNear = JSON.stringify(question);
    if (question) this.moving.ask(question);
    else this.moving.cancel();
  }

  _listen() {
    const seed = byId("new-seed");
    seed.addEventListener("input", () => wholeNumber(seed) !== null && this.state.set({ codes: wholeNumber(seed) }));
    seed.addEventListener("change", () => { seed.value = this.state.now.codes; });
    byId("new-again").addEventListener("click", () => this.state.set({ codes: freshSeed() }));
    byId("spread").addEventListener("input", (event) => this.state.set({ spread: Number(event.target.value) }));
    byId("decoder").append(...[...this.decoders.keys()].map((id) => el("option", { value: id, text: id })));
    byId("decoder").addEventListener("change", (event) => this.state.set({ decoder: event.target.value }));
    byId("decoder-field").hidden = this.decoders.size < 2;
  }

  _sync() {
    const { decoder, sampler, seed } = this.source;
    const of = this.decoders.get(decoder);
    byId("decoder").value = decoder;
    keyed(byId("samplers"), of.samplers, ({ id }) => `${decoder} ${id}`, (each) => el("label", {},
      el("input", { type: "radio", name: "sampler", value: each.id, onchange: () => this.state.set({ sampler: each.id }) }),
      el("span", {}, el("strong", { text: each.id }), el("span", { class: "small", text: ` ${each.description}` }))));
    for (const radio of byId("samplers").querySelectorAll("input")) radio.checked = radio.value === sampler;
    if (document.activeElement !== byId("new-seed")) byId("new-seed").value = seed;
    byId("spread").value = this.state.now.spread;
    tell(byId("spread-told"), this.state.now.spread.toFixed(2));
    tell(byId("codes-from"), of.codes_from === "samples"
      ? "Codes are learnt from the run's kept samples, ten images of each class: the training images are not here." : "");
  }

  _drawn(answer) {
    this.grid.show(answer);
    this.recognised = answer.recognised;
    this._tell();
  }

  _tell() {
    if (!this.recognised) return;
    const share = this.shares[this.source.sampler];
    const study = share ? ` In the study it was ${percent(share.mean, 1)} of ${this.samples.toLocaleString("en")}.` : "";
    tell(byId("grid-told"), recognisedTold(this.recognised) + study);
  }

  _around(answer) {
    this.near.show(answer);
    tell(byId("near-told"), recognisedTold(answer.recognised));
  }
}
