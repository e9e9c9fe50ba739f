// The page: which view is on show, and what all views share.

import { Complaints, Trouble, ask } from "./api.js";
import { byId, el, tell } from "./dom.js";
import { Draw } from "./draw.js";
import { Painter } from "./images.js";
import { NewImages } from "./new.js";
import { State } from "./state.js";
import { Study } from "./study.js";
import { areDigits } from "./words.js";

const VIEWS = ["draw", "new", "study"];
const WAIT = 3000; // ms until a server that did not answer at first is asked again
const OFTEN = 4000; // ms between two looks for networks, while some may come
const LATE = 60_000; // ms after the end of a run in which its last ones may come

class Page {
  constructor() {
    this.state = new State();
    const line = el("span"), button = el("button", { type: "button", text: "Try now" });
    byId("trouble").append(line, button);
    this.complaints = new Complaints(byId("trouble"), button);
    byId("skip").addEventListener("click", () => byId("main").focus());
    byId("reload").addEventListener("click", () => {
      this.state.flush();
      location.reload();
    });
    byId("copy").addEventListener("click", () => this._copy());
    for (const link of document.querySelectorAll('a[href^="#view="]')) {
      link.addEventListener("click", (event) => this._go(event, new URLSearchParams(link.hash.slice(1)).get("view")));
    }
  }

  /** Ask what there is to show, as often as it takes, and show it. */
  async begin() {
    try {
      this.networks = await ask("/api/networks");
      this.complaints.show(this, null);
    } catch (error) {
      if (!(error instanceof Trouble)) throw error;
      this.complaints.show(this, error);
      this.timer = setTimeout(() => this.begin(), WAIT);
      return;
    }
    this._furnish();
    this._colophon();
    this.state.addEventListener("change", () => this._view());
    this._view();
  }

  /** From the button beside a trouble. */
  retry() {
    clearTimeout(this.timer);
    this.begin();
  }

  _furnish() {
    const { networks } = this;
    const of = networks.profile ? `inklab · profile ${networks.profile}` : "inklab";
    tell(byId("kicker"), of);
    tell(byId("title"), networks.title);
    document.title = `${networks.title} · inklab`;
    const some = areDigits(networks.labels) ? "New digits" : "New images";
    tell(document.querySelector('[data-view="new"]'), some);
    byId("new").setAttribute("aria-label", some);
    this._networks();
    document.querySelector('[data-view="study"]').hidden = networks.kind !== "run";
    if (networks.kind === "run") {
      this.study = new Study(this, (results) => this.new?.measured(results));
      setInterval(() => this._lookForNetworks(), OFTEN);
      this._askStudy();
    }
  }

  /** The views that need networks, once there are some. */
  _networks() {
    const { networks } = this;
    const some = networks.pipelines.length > 0;
    byId("draw").classList.toggle("bare", !some);
    byId("no-networks").hidden = some;
    if (!some) return;
    this.painter = new Painter(networks.image, networks.framing);
    this.draw = new Draw(this);
    document.querySelector('[data-view="new"]').hidden = !networks.decoders.length;
    if (networks.decoders.length) this.new = new NewImages(this, () => this.draw.current());
  }

  async _colophon() {
    const health = await ask("/health").catch(() => null);
    const version = health ? ` ${health.inklab}` : "";
    tell(byId("colophon"), `inklab${version}. What you draw is judged by the server that this page came from, and not kept.`);
  }

  async _askStudy() {
    try {
      this.study.given(await ask("/api/study"));
    } catch (error) {
      this.complaints.show(this.study, error);
    }
  }

  /** Whether networks may still come: the run is at work, was until a minute ago, or there are none yet. */
  get _awaits() {
    const { progress } = this.study;
    if (progress?.state === "running") this.ran = Date.now();
    return !document.hidden && (!this.draw || Date.now() - (this.ran ?? 0) < LATE);
  }

  async _lookForNetworks() {
    if (this.looking || !this._awaits) return;
    this.looking = true;
    const networks = await ask("/api/networks").catch(() => null); // the views tell of trouble
    this.looking = false;
    if (!networks) return;
    if (this.draw) byId("more").hidden = networks.pipelines.length <= this.networks.pipelines.length;
    else {
      this.networks = networks;
      this._networks();
    }
  }

  /** The view that the state asks for, if there is it. */
  get view() {
    const open = { draw: true, new: Boolean(this.new), study: Boolean(this.study) };
    const first = this.draw || !this.study ? "draw" : "study";
    return open[this.state.now.view] ? this.state.now.view : first;
  }

  _view() {
    const { view } = this;
    if (this.state.now.view !== view) {
      this.state.now.view = view; // not a step of its own
      this.state.flush();
    }
    for (const each of VIEWS) {
      byId(each).hidden = each !== view;
      const link = document.querySelector(`[data-view="${each}"]`);
      if (each === view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    if (view === "new") this.new.show();
    this.study?.show();
  }

  _go(event, view) {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return; // into a tab of its own
    event.preventDefault();
    this.state.set({ view }, { going: true });
    scrollTo({ top: 0 });
  }

  async _copy() {
    this.state.flush();
    const button = byId("copy");
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Copy it from the address bar"; // no clipboard without a secure address
    }
    tell(byId("said"), button.textContent);
    setTimeout(() => { button.textContent = "Copy link"; }, 2500);
  }
}

new Page().begin();
