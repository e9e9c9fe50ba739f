// The view of a study: its progress while it runs, and its results.

import { request } from "./api.js";
import { byId, el, keyedList, setText, svg } from "./dom.js";
import { duration, number } from "./format.js";
import { showResults } from "./results.js";
import { keyOf, TrainingCurves } from "./training-curves.js";
import { TrialsTable } from "./trials-table.js";

const RECONNECT_DELAY = 5000; // ms until a stream that has ended is opened again
const STATES = ["done", "diverged", "failed", "lost", "waiting"];

export class Study {
  /** @param page {state, errors}; @param onResults called with the results when they are there. */
  constructor({ state, errors }, onResults) {
    Object.assign(this, { state, errors, onResults, stream: null, timer: 0, progress: null, hasResults: false, isLoaded: false });
    this.curves = new TrainingCurves(byId("training-curves"));
    this.trials = new TrialsTable((curve) => this._mark(curve));
    for (const radio of byId("metric").querySelectorAll("input")) {
      radio.addEventListener("change", () => state.set({ metric: radio.value }));
    }
    byId("log-scale").addEventListener("change", ({ target }) => state.set({ scale: target.checked ? "log" : "linear" }));
    state.addEventListener("change", () => this.show());
    document.addEventListener("visibilitychange", () => this.show());
    setInterval(() => this._showTimeLeft(), 1000);
  }

  /** Subscribe while the view is visible, and no longer. */
  show() {
    if (this.state.now.view !== "study" || document.hidden) return this._close();
    if (this.isLoaded && !this.stream && !this.timer && this.progress?.state !== "finished") this._open();
    for (const radio of byId("metric").querySelectorAll("input")) radio.checked = radio.value === this.state.now.metric;
    Object.assign(byId("log-scale"), { checked: this.state.now.scale === "log", disabled: this.state.now.metric !== "loss" });
    if (this.progress) this.curves.show(this.progress, this.state.now);
  }

  /** What there is at first. */
  async load() {
    try {
      const { results, progress, has_report: hasReport } = await request("api/study");
      this._showResults(results, hasReport);
      if (progress) this._showProgress(progress);
    } catch (error) {
      this.errors.show(this, error);
    }
    this.isLoaded = true;
    this.show();
  }

  _open() {
    const stream = (this.stream = new EventSource("api/study/events"));
    stream.addEventListener("progress", (event) => {
      this.errors.show(this, null);
      this._showProgress(JSON.parse(event.data));
    });
    stream.addEventListener("error", () => {
      // The run or the server has ended.
      this._close();
      if (this.progress?.state !== "finished") this.timer = setTimeout(() => this.retry(), RECONNECT_DELAY);
      this._checkHealth();
    });
  }

  _close() {
    this.stream?.close();
    this.stream = null;
    clearTimeout(this.timer);
    this.timer = 0;
  }

  /** Subscribe again now. */
  retry() {
    this._close();
    this.show();
  }

  async _checkHealth() {
    try {
      await request("health");
      this.errors.show(this, null);
    } catch (error) {
      this.errors.show(this, error);
    }
  }

  _showProgress(progress) {
    this.progress = progress;
    this.receivedAt = Date.now();
    this._showSummary();
    showItems(byId("running"), progress.running, ({ job }) => job, RunningJob);
    byId("running-part").hidden = !progress.running.length;
    const experiments = progress.experiments.filter(({ total }) => total); // the others compute nothing
    showItems(byId("experiments"), experiments, ({ name }) => name, ExperimentProgress);
    byId("curves-part").hidden = !progress.curves.length;
    this.curves.show(progress, this.state.now);
    byId("trials-part").hidden = !progress.curves.length;
    this.trials.show(progress.curves);
    if (progress.state === "finished") {
      this._close();
      if (!this.hasResults) this._requestResults();
    }
  }

  /** Show the curve of a trial; its loss, if there is no accuracy. */
  _mark(curve) {
    this.curves.marked = curve && keyOf(curve);
    if (curve && !curve.validation_accuracy.length) this.state.set({ metric: "loss" });
    this.curves.show(this.progress, this.state.now);
    byId("training-curves").querySelector(".marked")?.closest("figure").scrollIntoView({ block: "nearest" });
  }

  async _requestResults() {
    try {
      const { results, has_report: hasReport } = await request("api/study");
      this._showResults(results, hasReport);
      if (!results) this.timer ||= setTimeout(() => { this.timer = 0; this._requestResults(); }, RECONNECT_DELAY); // soon written
    } catch (error) {
      this.errors.show(this, error);
    }
  }

  _showResults(results, hasReport) {
    byId("report-link").hidden = !hasReport;
    byId("results-part").hidden = !results;
    if (!results) return;
    this.hasResults = true;
    showResults(results);
    this.onResults(results);
  }

  _showSummary() {
    const { state, done, total } = this.progress;
    const text = { running: "Running", finished: "Finished", stopped: "Stopped" }[state] ?? state;
    setText(byId("state"), `${text}: ${done} of ${total} done`);
    Object.assign(byId("done"), { max: Math.max(1, total), value: done });
    this._showTimeLeft();
  }

  /** Counts down between two events. */
  _showTimeLeft() {
    if (!this.progress || document.hidden) return;
    const { state, seconds_left: left } = this.progress;
    const now = typeof left === "number" ? Math.max(0, left - (Date.now() - this.receivedAt) / 1000) : null;
    const running = now === null ? "The time left is not known yet." : `About ${duration(now)} left.`;
    const stopped = "No process is running it. To continue it, use inklab resume.";
    setText(byId("state-note"), { running, stopped, finished: "" }[state] ?? "");
  }
}

/** Make a list's items those of some records, each shown by an object of a class. */
function showItems(list, records, keyOf, Item) {
  const elements = keyedList(list, records, keyOf, () => new Item().element);
  elements.forEach((element, i) => element.update(records[i]));
}

/** A job that is running. */
class RunningJob {
  constructor() {
    this.label = el("span", { class: "item-title" });
    this.bar = el("progress", { max: 1, "aria-hidden": "true" });
    this.note = el("span", { class: "small" });
    this.element = Object.assign(el("li", {}, this.label, this.bar, this.note), { update: (job) => this.update(job) });
  }

  update({ label, epoch, epochs, train_loss: loss }) {
    setText(this.label, label);
    if (epochs) Object.assign(this.bar, { max: epochs, value: epoch ?? 0 });
    else this.bar.removeAttribute("value");
    const suffix = typeof loss === "number" ? `, training loss ${number(loss, 3)}` : "";
    setText(this.note, epochs ? `epoch ${epoch ?? 0} of ${epochs}${suffix}` : "");
  }
}

/** An experiment and the states of its trials. */
class ExperimentProgress {
  constructor() {
    this.title = el("span", { class: "item-title" });
    this.bar = svg("svg", { class: "outcomes", "aria-hidden": "true", preserveAspectRatio: "none", viewBox: "0 0 100 10" });
    this.note = el("span", { class: "small" });
    this.element = Object.assign(el("li", {}, this.title, this.bar, this.note), { update: (row) => this.update(row) });
  }

  update({ title, name, outcomes, total }) {
    setText(this.title, title || name);
    const counts = STATES.filter((state) => outcomes[state]).map((state) => [state, outcomes[state]]);
    const text = counts.map(([state, n]) => `${n} ${state}`).join(", ");
    if (this.note.textContent === text) return;
    setText(this.note, text);
    let x = 0;
    this.bar.replaceChildren(...counts.map(([state, n]) => {
      const width = (100 * n) / total;
      const part = svg("rect", { class: state, x, y: 0, width, height: 10 });
      x += width;
      return part;
    }));
  }
}
