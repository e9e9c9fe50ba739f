// The corruption of the image: which, how strong, drawn from which seed; and what the study measured at that strength.

import { byId, el, randomSeed, setText, wholeNumber } from "./dom.js";
import { number } from "./format.js";
import { RobustnessCurve } from "./robustness-curve.js";

export class Corruption {
  constructor(networks, state) {
    Object.assign(this, { state, curves: networks.robustness_curves });
    this.corruptions = new Map(networks.corruptions.map((corruption) => [corruption.id, corruption]));
    this.first = networks.corruptions[0]?.id ?? null;
    byId("corruption-part").hidden = !this.first;
    this.curve = this.curves ? new RobustnessCurve(byId("curve"), this.curves) : null;
    byId("curve").hidden = !this.curve;
    if (this.curve) {
      setText(byId("curve-note"), "Curves: mean recall on the study's test images, experiment "
        + `${this.curves.experiment}; bands are 95% confidence intervals.`);
    }
    byId("corruption-part").classList.toggle("with-curve", Boolean(this.curve));
    const options = networks.corruptions.map(({ id }) => el("option", { value: id, text: id.replaceAll("_", "-") }));
    byId("corruption").append(...options);
    byId("corruption-field").hidden = networks.corruptions.length < 2;
    this._listen();
    this.sync();
  }

  _listen() {
    const slider = byId("strength"), seed = byId("seed");
    slider.addEventListener("input", () => this.state.set({ strength: Number(slider.value) }));
    byId("corruption").addEventListener("change", (event) => this.state.set({ corruption: event.target.value, strength: 0 }));
    seed.addEventListener("input", () => wholeNumber(seed) !== null && this.state.set({ seed: wholeNumber(seed) }));
    seed.addEventListener("change", () => { seed.value = this.state.now.seed; });
    byId("new-noise").addEventListener("click", () => this.state.set({ seed: randomSeed() }));
  }

  /** The chosen corruption if it exists, else the study's. */
  get corruption() {
    return this.corruptions.get(this.state.now.corruption) ?? this.corruptions.get(this.first) ?? null;
  }

  get strength() {
    return Math.min(this.state.now.strength, this.corruption?.max_strength ?? 0);
  }

  /** As in requests; null for none. */
  get request() {
    if (!this.strength) return null;
    return { name: this.corruption.id, strength: this.strength, seed: this.state.now.seed };
  }

  /** Whether the study's curves are of this corruption. */
  get isMeasured() {
    return this.corruption !== null && this.corruption.id === this.curves?.corruption;
  }

  /** The strength at which the study's curves can be read; null if they are of another corruption. */
  get measuredStrength() {
    return this.isMeasured ? this.strength : null;
  }

  /** Bring controls and curve to the state. */
  sync() {
    const { corruption, strength } = this;
    if (!corruption) return;
    const slider = byId("strength");
    slider.max = corruption.max_strength;
    slider.step = corruption.max_strength / 100;
    slider.value = strength;
    slider.style.setProperty("--share", strength / corruption.max_strength);
    slider.setAttribute("aria-valuetext", `${number(strength)}, ${corruption.unit}`);
    byId("corruption").value = corruption.id;
    if (document.activeElement !== byId("seed")) byId("seed").value = this.state.now.seed;
    setText(byId("strength-value"), strength.toFixed(2));
    setText(byId("unit"), corruption.unit);
    this.curve?.figure.classList.toggle("dimmed", !this.isMeasured);
    this.curve?.move(strength, this.isMeasured);
  }
}
