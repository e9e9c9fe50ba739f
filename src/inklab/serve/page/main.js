// The page: which view is visible, and what all views share.

import { ApiError, ErrorList, request } from "./api.js";
import { byId, el, setText } from "./dom.js";
import { Draw } from "./draw.js";
import { areDigits } from "./format.js";
import { Generate } from "./generate.js";
import { Painter } from "./images.js";
import { State, isTooLong } from "./state.js";
import { Study } from "./study.js";
import { setUpThemeSwitch } from "./theme-switch.js";

const VIEWS = ["draw", "generate", "study"];
const RETRY_DELAY = 3000; // ms until a server that did not answer at first is asked again
const POLL_INTERVAL = 4000; // ms between two requests for new networks, while some may appear
const AFTER_END = 60_000; // ms after the end of a run in which its last ones may appear

class Page {
  constructor() {
    this.state = new State();
    this.scrolls = {}; // vertical position by view, for the browser's Back
    addEventListener("scroll", () => { this.scrolls[this.shown] = scrollY; }, { passive: true });
    const line = el("span"), button = el("button", { type: "button", text: "Try now" });
    byId("error").append(line, button);
    this.errors = new ErrorList(byId("error"), button);
    byId("skip").addEventListener("click", () => byId("main").focus());
    byId("reload").addEventListener("click", () => {
      this.state.flush();
      location.reload();
    });
    byId("copy").addEventListener("click", () => this._copyLink());
    for (const link of document.querySelectorAll('a[href^="#view="]')) {
      link.addEventListener("click", (event) => this._go(event, new URLSearchParams(link.hash.slice(1)).get("view")));
    }
  }

  /** Load what there is to show, with retries, and show it. */
  async start() {
    try {
      this.networks = await request("api/networks");
      this.errors.show(this, null);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.errors.show(this, error);
      this.timer = setTimeout(() => this.start(), RETRY_DELAY);
      return;
    }
    this._setUp();
    this._showVersion();
    this.state.addEventListener("change", ({ keys, restored }) => {
      this._showView();
      if (restored && keys.has("view")) scrollTo({ top: this.scrolls[this.view] ?? 0 });
    });
    this._showView();
  }

  /** From the button beside an error. */
  retry() {
    clearTimeout(this.timer);
    this.start();
  }

  _setUp() {
    const { networks } = this;
    setText(byId("kicker"), networks.profile ? `inklab · profile ${networks.profile}` : "inklab");
    setText(byId("title"), networks.title);
    const name = areDigits(networks.labels) ? "New digits" : "New images";
    setText(document.querySelector('[data-view="generate"]'), name);
    byId("generate").setAttribute("aria-label", name);
    this._setUpNetworks();
    setUpThemeSwitch(byId("theme"), () => this.draw?.pad.redraw());
    document.querySelector('[data-view="study"]').hidden = networks.kind !== "run";
    if (networks.kind === "run") {
      this.study = new Study(this, (results) => this.generate?.showResults(results));
      setInterval(() => this._pollNetworks(), POLL_INTERVAL);
      this.study.load();
    }
  }

  /** The views that need networks, once there are some. */
  _setUpNetworks() {
    const { networks } = this;
    const available = networks.pipelines.length > 0;
    byId("draw").classList.toggle("without-networks", !available);
    byId("no-networks").hidden = available;
    if (!available) return;
    this.painter = new Painter(networks.image, networks.preprocessing);
    this.draw = new Draw(this);
    document.querySelector('[data-view="generate"]').hidden = !networks.decoders.length;
    if (networks.decoders.length) this.generate = new Generate(this, () => this.draw.current());
  }

  async _showVersion() {
    const health = await request("health").catch(() => null);
    const version = health ? ` ${health.inklab}` : "";
    setText(byId("colophon"), `inklab${version}. Drawings are classified by the server of this page, and not stored.`);
  }

  /** Whether networks may still appear: the run is running, was until a minute ago, or there are none yet. */
  get _expectsNetworks() {
    const { progress } = this.study;
    if (progress?.state === "running") this.lastRunning = Date.now();
    return !document.hidden && (!this.draw || Date.now() - (this.lastRunning ?? 0) < AFTER_END);
  }

  async _pollNetworks() {
    if (this.polling || !this._expectsNetworks) return;
    this.polling = true;
    const networks = await request("api/networks").catch(() => null); // the views show errors
    this.polling = false;
    if (!networks) return;
    if (this.draw) byId("more").hidden = networks.pipelines.length <= this.networks.pipelines.length;
    else {
      this.networks = networks;
      this._setUpNetworks();
    }
  }

  /** The view of the state, if it is available. */
  get view() {
    const available = { draw: true, generate: Boolean(this.generate), study: Boolean(this.study) };
    const first = this.draw || !this.study ? "draw" : "study";
    return available[this.state.now.view] ? this.state.now.view : first;
  }

  _showView() {
    const { view } = this;
    if (this.state.now.view !== view) {
      this.state.now.view = view; // not a step of its own
      this.state.flush();
    }
    const { scrolls } = this, position = scrolls[view];
    for (const name of VIEWS) {
      byId(name).hidden = name !== view;
      const link = document.querySelector(`[data-view="${name}"]`);
      if (name === view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = `${byId(view).getAttribute("aria-label")} · ${this.networks.title} · inklab`;
    if (this.shown !== view && position !== undefined) scrolls[view] = position; // hiding a view scrolls
    this.shown = view;
    if (view === "generate") this.generate.show();
    this.study?.show();
  }

  _go(event, view) {
    if (event.metaKey || event.ctrlKey || event.shiftKey) return; // into a tab of its own
    event.preventDefault();
    this.state.set({ view }, { step: true });
    scrollTo({ top: 0 });
  }

  async _copyLink() {
    this.state.flush();
    const button = byId("copy");
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = isTooLong(this.state.now) ? "Copied without the drawing: it is too long" : "Copied";
    } catch {
      button.textContent = "Copy it from the address bar"; // no clipboard without a secure address
    }
    setText(byId("announcement"), button.textContent);
    setTimeout(() => { button.textContent = "Copy link"; }, 2500);
  }
}

new Page().start();
