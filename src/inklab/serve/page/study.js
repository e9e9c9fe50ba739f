// The view of a study while it runs, and of what came out.

import { ask } from "./api.js";
import { byId, el, keyed, svg, tell } from "./dom.js";
import { Multiples } from "./training.js";
import { showResults } from "./results.js";
import { duration, number } from "./words.js";

const AGAIN = 5000; // ms until a stream that has ended is opened once more
const ORDER = ["done", "diverged", "failed", "lost", "waiting"];

export class Study {
  /** @param page {state, complaints}; @param came called with the results when they are there. */
  constructor({ state, complaints }, came) {
    Object.assign(this, { state, complaints, came, stream: null, timer: 0, progress: null, resulted: false });
    this.multiples = new Multiples(byId("multiples"));
    for (const radio of byId("measure").querySelectorAll("input")) {
      radio.addEventListener("change", () => state.set({ measure: radio.value }));
    }
    state.addEventListener("change", () => this.show());
    document.addEventListener("visibilitychange", () => this.show());
    setInterval(() => this._clock(), 1000);
  }

  /** Listen while the view is on show, and no longer. */
  show() {
    const wanted = this.state.now.view === "study" && !document.hidden;
    if (!wanted) return this._close();
    if (!this.stream && !this.timer && this.progress?.state !== "finished") this._open();
    for (const radio of byId("measure").querySelectorAll("input")) radio.checked = radio.value === this.state.now.measure;
    if (this.progress) this.multiples.show(this.progress, this.state.now.measure);
  }

  /** Results that the page has asked for already. */
  given({ results, progress }) {
    if (progress) this._progress(progress);
    this._results(results);
  }

  _open() {
    const stream = (this.stream = new EventSource("/api/study/events"));
    stream.addEventListener("progress", (event) => {
      this.complaints.show(this, null);
      this._progress(JSON.parse(event.data));
    });
    stream.addEventListener("error", () => {
      // It has ended, because nothing drives the run any more, or because the server is gone.
      this._close();
      if (this.progress?.state !== "finished") this.timer = setTimeout(() => this.retry(), AGAIN);
      this._check();
    });
  }

  _close() {
    this.stream?.close();
    this.stream = null;
    clearTimeout(this.timer);
    this.timer = 0;
  }

  /** Listen again at once. */
  retry() {
    this._close();
    this.show();
  }

  async _check() {
    try {
      await ask("/health");
      this.complaints.show(this, null);
    } catch (error) {
      this.complaints.show(this, error);
    }
  }

  _progress(progress) {
    this.progress = progress;
    this.heard = Date.now();
    this._head();
    const jobs = keyed(byId("running"), progress.running, ({ job }) => job, () => new Running().element);
    jobs.forEach((item, i) => item.tell(progress.running[i]));
    byId("running-part").hidden = !progress.running.length;
    const chapters = progress.chapters.filter(({ total }) => total); // the others compute nothing
    const rows = keyed(byId("chapters"), chapters, ({ name }) => name, () => new Chapter().element);
    rows.forEach((item, i) => item.tell(chapters[i]));
    byId("curves-part").hidden = !progress.curves.length;
    this.multiples.show(progress, this.state.now.measure);
    if (progress.state === "finished") {
      this._close();
      if (!this.resulted) this._askResults();
    }
  }

  async _askResults() {
    try {
      const { results } = await ask("/api/study");
      this._results(results);
      if (!results) this.timer ||= setTimeout(() => { this.timer = 0; this._askResults(); }, AGAIN); // about to be written
    } catch (error) {
      this.complaints.show(this, error);
    }
  }

  _results(results) {
    byId("results-part").hidden = !results;
    if (!results) return;
    this.resulted = true;
    showResults(results);
    this.came(results);
  }

  _head() {
    const { state, done, total } = this.progress;
    const word = { running: "Running", finished: "Finished", stopped: "Stopped" }[state] ?? state;
    tell(byId("state"), `${word}: ${done} of ${total} done`);
    Object.assign(byId("done"), { max: Math.max(1, total), value: done });
    this._clock();
  }

  /** Time left, between two messages. */
  _clock() {
    if (!this.progress || document.hidden) return;
    const { state, seconds_left: left } = this.progress;
    const later = typeof left === "number" ? Math.max(0, left - (Date.now() - this.heard) / 1000) : null;
    const about = later === null ? "Time left is not known yet." : `About ${duration(later)} left.`;
    const told = { running: about, stopped: "Nothing drives it now. inklab resume goes on with it.", finished: "" }[state] ?? "";
    tell(byId("state-told"), told);
  }
}

/** What is being computed now. */
class Running {
  constructor() {
    this.label = el("span", { class: "what" });
    this.bar = el("progress", { max: 1, "aria-hidden": "true" });
    this.note = el("span", { class: "small" });
    this.element = el("li", {}, this.label, this.bar, this.note);
    this.element.tell = (told) => this.tell(told);
  }

  tell({ label, epoch, epochs, loss }) {
    tell(this.label, label);
    if (epochs) Object.assign(this.bar, { max: epochs, value: epoch ?? 0 });
    else this.bar.removeAttribute("value");
    const loss_ = typeof loss === "number" ? `, loss ${number(loss, 3)}` : "";
    tell(this.note, epochs ? `epoch ${epoch ?? 0} of ${epochs}${loss_}` : "");
  }
}

/** A chapter and what became of its trials. */
class Chapter {
  constructor() {
    this.title = el("span", { class: "what" });
    this.bar = svg("svg", { class: "outcomes", "aria-hidden": "true", preserveAspectRatio: "none", viewBox: "0 0 100 10" });
    this.note = el("span", { class: "small" });
    this.element = el("li", {}, this.title, this.bar, this.note);
    this.element.tell = (told) => this.tell(told);
  }

  tell({ title, outcomes, total }) {
    tell(this.title, title);
    const told = ORDER.filter((state) => outcomes[state]).map((state) => [state, outcomes[state]]);
    const words = told.map(([state, n]) => `${n} ${state}`).join(", ");
    if (this.note.textContent === words) return;
    tell(this.note, words);
    let from = 0;
    this.bar.replaceChildren(...told.map(([state, n]) => {
      const part = svg("rect", { class: state, x: from, y: 0, width: (100 * n) / total, height: 10 });
      from += (100 * n) / total;
      return part;
    }));
  }
}
