// The noise that is put on the image: which, how much, drawn from which seed; and what the study measured at that strength.

import { Curve } from "./curve.js";
import { byId, el, freshSeed, tell, wholeNumber } from "./dom.js";
import { number } from "./words.js";

export class Noise {
  constructor(networks, state) {
    Object.assign(this, { networks, state });
    this.corruptions = new Map(networks.corruptions.map((each) => [each.id, each]));
    this.first = networks.corruptions[0]?.id ?? null;
    byId("noise").hidden = !this.first;
    this.curve = networks.curves ? new Curve(byId("curve"), networks.curves) : null;
    byId("curve").hidden = !this.curve;
    if (this.curve) {
      tell(byId("curve-told"), "Curve: mean true-positive rate over classes on the study's test images, chapter "
        + `${networks.curves.chapter}; bands are 95 % intervals.`);
    }
    byId("noise").classList.toggle("with-curve", Boolean(this.curve));
    const names = networks.corruptions.map(({ id }) => el("option", { value: id, text: id.replaceAll("_", "-") }));
    byId("corruption").append(...names);
    byId("corruption-field").hidden = networks.corruptions.length < 2;
    this._listen();
    this.sync();
  }

  _listen() {
    const slider = byId("strength"), seed = byId("seed");
    slider.addEventListener("input", () => this.state.set({ noise: Number(slider.value) }));
    byId("corruption").addEventListener("change", (event) => this.state.set({ corruption: event.target.value, noise: 0 }));
    seed.addEventListener("input", () => wholeNumber(seed) !== null && this.state.set({ seed: wholeNumber(seed) }));
    seed.addEventListener("change", () => { seed.value = this.state.now.seed; });
    byId("again").addEventListener("click", () => this.state.set({ seed: freshSeed() }));
  }

  /** The corruption that is chosen: a known one, else the study's. */
  get corruption() {
    return this.corruptions.get(this.state.now.corruption) ?? this.corruptions.get(this.first) ?? null;
  }

  get strength() {
    return Math.min(this.state.now.noise, this.corruption?.largest ?? 0);
  }

  /** As the server is asked; null for none. */
  get question() {
    if (!this.strength) return null;
    return { corruption: this.corruption.id, strength: this.strength, seed: this.state.now.seed };
  }

  /** The strength at which the study's curve can be read; null if it is about another corruption. */
  get measured() {
    return this.corruption && this.corruption.id === this.networks.curves?.corruption ? this.strength : null;
  }

  /** Bring controls and curve to the state. */
  sync() {
    const { corruption, strength } = this;
    if (!corruption) return;
    const slider = byId("strength");
    slider.max = corruption.largest;
    slider.step = corruption.largest / 100;
    slider.value = strength;
    slider.style.setProperty("--share", strength / corruption.largest);
    slider.setAttribute("aria-valuetext", `${number(strength)}, ${corruption.unit}`);
    byId("corruption").value = corruption.id;
    if (document.activeElement !== byId("seed")) byId("seed").value = this.state.now.seed;
    tell(byId("strength-told"), strength.toFixed(2));
    tell(byId("unit"), corruption.unit);
    const same = corruption.id === this.networks.curves?.corruption;
    this.curve?.figure.classList.toggle("aside", !same);
    this.curve?.move(strength, same);
  }
}
